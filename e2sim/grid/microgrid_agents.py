"""The microgrids' consensus agents and the PCC agent, (13)-(15) of the DoS paper, over the electrical plant.

What an attack does to an agent and what a substitution puts in its place happens here; batched over runs: (B, ...).
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from e2sim.grid.microgrid_plant import STEP_S, MicrogridConfig, Plant, PlantConfig
from ric.config import FrozenModel

__all__ = ["ConsensusConfig", "Network"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class ConsensusConfig(FrozenModel):
    """Gains of the agents; all agents hear each other and the PCC agent."""

    neighbour_per_s: Annotated[float, Field(gt=0, le=5)] = 0.5
    """a_ij of (13) and (15) [1/s]."""
    leader_per_s: Annotated[tuple[Annotated[float, Field(gt=0, le=10)], ...], Field(min_length=2)] = (2.0, 1.6, 2.4)
    """b_i of (13) and (15) [1/s]; they differ, so that the agents' transients do."""
    kp_v_per_kws: Annotated[float, Field(ge=0, le=100)] = 0.2
    """k_p of (14) [V/(kW s)]."""
    kv_per_s: Annotated[float, Field(gt=0, le=5)] = 0.5
    """k_v of (14) [1/s]."""
    demand_filter_s: Annotated[float, Field(gt=0.02, le=10)] = 0.2
    """Time constant of the demand measurement behind R [s]."""


class Network:
    """Plant, agents and PCC agent of B runs, without reports or clocks."""

    def __init__(
        self,
        microgrids: tuple[MicrogridConfig, ...],
        plant: PlantConfig,
        gains: ConsensusConfig,
        batch: int = 1,
    ) -> None:
        m = len(microgrids)
        self.gains, self.plant = gains, Plant(microgrids, plant, batch)
        self.rated_w = 1e3 * np.array([sum(mg.generators_kw) for mg in microgrids])
        self.leader = np.array(gains.leader_per_s)
        self.r = np.zeros((batch, m))
        self.reference_r = np.zeros((batch, 1))
        self.x = np.zeros((batch, m))
        self.x_0 = np.zeros((batch, 1))
        self.dos: Bools = np.zeros((batch, m), dtype=np.bool_)
        self.bias = np.zeros((batch, m))
        self.substitute = np.zeros((batch, m))
        self.in_local: Bools = np.zeros((batch, m), dtype=np.bool_)
        self.in_consensus: Bools = np.zeros((batch, m), dtype=np.bool_)

    @property
    def stated_r(self) -> Floats:
        """Contribution factors (B, M) as the agents state them: 0 under DoS, shifted under false data."""
        return np.where(self.dos, 0.0, self.r + self.bias)

    def silence(self, attacked: Bools) -> None:
        """Set which agents (B, M) are under DoS; theirs fall to 0 and start from there when they are back."""
        self.dos = attacked
        self.r = np.where(attacked, 0.0, self.r)

    def references(self) -> tuple[Floats, Floats]:
        """Voltage references (B, M) [V] and power references (B, K) [W] of the local controllers."""
        share = np.where(self.in_local, self.substitute, self.stated_r)
        plant = self.plant
        p_ref = np.clip(share, 0.0, 1.1)[:, plant.home] * (1e3 * plant.rated_kw)
        v = plant.config.voltage_v
        return v + np.clip(self.x, -0.05 * v, 0.05 * v), p_ref

    def advance(self, load_w: Floats) -> None:
        """Move STEP_S on under loads (B, M+1) [W]: agents by (13)-(15), then the plant."""
        gains, h = self.gains, STEP_S
        flows = self.plant.flows()
        missing_kw = (load_w[:, -1] - flows.arriving_w) / 1e3
        sag_v = self.plant.config.voltage_v - flows.voltage_v[:, -1]
        self.x_0 += h * (gains.kp_v_per_kws * missing_kw + gains.kv_per_s * sag_v)[:, None]
        demand = load_w.sum(axis=1, keepdims=True) / self.rated_w.sum()
        self.reference_r += h / gains.demand_filter_s * (demand - self.reference_r)
        heard = np.where(self.in_consensus, self.substitute, self.stated_r)
        moved_r = self.r + h * self._consensus(heard, self.r, self.reference_r)
        moved_x = self.x + h * self._consensus(self.x, self.x, self.x_0)
        self.r = np.where(self.dos, 0.0, moved_r)
        self.x = np.where(self.dos, self.x, moved_x)
        self.plant.advance(load_w, *self.references())

    def _consensus(self, heard: Floats, own: Floats, leader: Floats) -> Floats:
        """Right-hand side of (13) and (15): neighbours' values as heard, own value, the leader's."""
        a, others = self.gains.neighbour_per_s, heard.shape[1] - 1
        rates: Floats = a * (heard.sum(axis=1, keepdims=True) - heard - others * own) + self.leader * (leader - own)
        return rates

    def settle(self, load_w: Floats) -> None:
        """Go to the equilibrium under constant loads (B, M+1) [W]: r of (15) at rest, PCC voltage restored by (14)."""
        m = self.r.shape[1]
        self.reference_r = load_w.sum(axis=1, keepdims=True) / self.rated_w.sum()
        fixed = self.in_consensus | self.dos
        known = np.where(self.in_consensus, self.substitute, np.where(self.dos, 0.0, self.bias))
        self.r = np.where(self.dos, 0.0, self._at_rest(known, fixed, self.reference_r))
        held, gain = np.where(self.dos, self.x, 0.0), np.ones_like(self.x_0)
        before_v, moved_v = np.zeros_like(self.x_0), np.zeros_like(self.x_0)
        for turn in range(5):
            self.x = np.where(self.dos, self.x, self._at_rest(held, self.dos, self.x_0))
            self.plant.settle(load_w, *self.references())
            pcc_v = self.plant.state[:, m : m + 1]
            # A secant finds how far the PCC follows x_0: less than all the way while an agent holds its correction.
            if turn and (np.abs(moved_v) > 1e-9).all():
                gain = np.clip((pcc_v - before_v) / moved_v, 0.1, 2.0)
            moved_v = (self.plant.config.voltage_v - pcc_v) / gain
            before_v = pcc_v.copy()
            self.x_0 = self.x_0 + moved_v

    def _at_rest(self, known: Floats, fixed: Bools, leader: Floats) -> Floats:
        """Where `_consensus` is 0 (B, M); agent j tells `known[j]` if `fixed[j]`, else its value plus `known[j]`."""
        a, m = self.gains.neighbour_per_s, known.shape[1]
        loose = np.where(fixed, 0.0, a)[:, None, :] * (1 - np.eye(m))
        system = np.diag(a * (m - 1) + self.leader) - loose
        drive = self.leader * leader + a * (known.sum(axis=1, keepdims=True) - known)
        at_rest: Floats = np.linalg.solve(system, drive[:, :, None])[:, :, 0]
        return at_rest
