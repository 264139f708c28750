"""Electromagnetic transients of a radial three-phase feeder: a batched nodal solver on companion models.

One solver steps B feeders of equal topology and different parameters at once. Every section is two halves with a node
between them, where faults strike; a feeder terminal unit (FTU) sits at the head of each section. Branches are R-L,
capacitances to ground stand at the sections' ends, loads hang between the phases, the source's neutral is earthed
through R-L. Mutual coupling between phases is left out: zero- and positive-sequence impedances are equal.

Integration is the theta method, theta 0.5 being the trapezoidal rule; a little more damps the oscillation that the rule
shows after switching.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["FREQUENCY_HZ", "FeederParameters", "FeederSolver"]

Floats = NDArray[np.float64]

FREQUENCY_HZ = 50.0
THETA = 0.55
OPEN_OHM = 1e7
"""Resistance of what is not there: an open conductor, a load or capacitor that is switched off."""


@dataclass(frozen=True)
class FeederParameters:
    """B feeders of S sections. Resistances [ohm], inductances [H], capacitances [F], conductances [S]."""

    emf_v: Floats
    """(B,) peak of the phase-to-neutral source voltage."""
    source_r: Floats
    source_l: Floats
    """(B,) each."""
    neutral_r: Floats
    neutral_l: Floats
    """(B,) each: earthing of the source's neutral."""
    line_r: Floats
    line_l: Floats
    """(B, S, 2, 3) per half section and phase."""
    line_c: Floats
    """(B, S, 3) to ground at the end of each section."""
    load_r: Floats
    load_l: Floats
    """(B, S, 3) between phases ab, bc, ca at the end of each section."""
    extra_r: Floats
    extra_l: Floats
    """(B, S, 3) a second load that can be switched on: motor start, load step."""
    extra_c: Floats
    """(B, S, 3) a capacitor to ground that can be switched on."""
    ground_g: Floats
    """(B, S, 3) fault conductance to ground in the middle of each section."""
    phase_g: Floats
    """(B, S, 3) fault conductance between phases ab, bc, ca in the middle of each section."""

    @property
    def size(self) -> tuple[int, int]:
        """(B, S)."""
        return self.line_c.shape[0], self.line_c.shape[1]


@dataclass
class _Topology:
    """Incidence of all R-L branches and of all conductances over the nodes; the last node is the source's neutral."""

    sections: int
    nodes: int = field(init=False)
    branches: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.nodes = 3 * (1 + 2 * self.sections) + 1
        rows = [self._between(self.nodes - 1, self.node(0, p)) for p in range(3)]
        rows.append(self._between(self.nodes - 1, None))
        for section in range(self.sections):
            for half in range(2):
                rows += [self._between(self.node(2 * section + half, p), self.node(2 * section + half + 1, p))
                         for p in range(3)]  # fmt: skip
        for _ in range(2):  # loads, then extra loads
            for section in range(self.sections):
                rows += [self.delta(2 * section + 2, p) for p in range(3)]
        self.branches = np.array(rows)

    def node(self, place: int, phase: int) -> int:
        """Number of a node: place 0 is the busbar, 2 k + 1 the middle and 2 k + 2 the end of section k."""
        return 3 * place + phase

    def delta(self, place: int, phase: int) -> Floats:
        """Incidence between `phase` and the next one."""
        return self._between(self.node(place, phase), self.node(place, (phase + 1) % 3))

    def _between(self, first: int, second: int | None) -> Floats:
        row = np.zeros(self.nodes)
        row[first] = 1.0
        if second is not None:
            row[second] = -1.0
        return row


class FeederSolver:
    """Steps B feeders. `step` gives what the FTUs measure; `change` swaps parameters and keeps currents and charges."""

    def __init__(self, parameters: FeederParameters, step_s: float) -> None:
        batch, sections = parameters.size
        self._topology = _Topology(sections)
        self._step_s = step_s
        self._batch = batch
        self._ends = np.array([self._topology.node(2 * s + 2, p) for s in range(sections) for p in range(3)])
        self._middles = np.array([self._topology.node(2 * s + 1, p) for s in range(sections) for p in range(3)])
        count = len(self._topology.branches)
        self._current = np.zeros((batch, count))
        self._across = np.zeros((batch, count))
        self._cap_v = np.zeros((batch, 2, len(self._ends)))
        self._cap_i = np.zeros((batch, 2, len(self._ends)))
        self.time_s = 0.0
        self._resistance = np.zeros((batch, count))
        self._inductance = np.zeros((batch, count))
        self._opening = np.zeros((batch, count), dtype=bool)
        # Voltages are where each section begins, currents are those of its first half.
        heads = [self._topology.node(2 * s, p) for s in range(sections) for p in range(3)]
        self._ftu_nodes = np.array(heads)
        self._ftu_branches = np.array([4 + 6 * s + p for s in range(sections) for p in range(3)])
        self.change(parameters)

    def change(self, parameters: FeederParameters) -> None:
        """Other parameters from the next step on."""
        self.parameters = parameters
        p, h, batch = parameters, self._step_s, self._batch
        resistance = _joined(
            batch, np.repeat(p.source_r[:, None], 3, 1), p.neutral_r[:, None], p.line_r, p.load_r, p.extra_r
        )
        inductance = _joined(
            batch, np.repeat(p.source_l[:, None], 3, 1), p.neutral_l[:, None], p.line_l, p.load_l, p.extra_l
        )
        # What opens goes on conducting until its current next passes zero: switches and breaking conductors draw arcs.
        self._opening = (resistance >= OPEN_OHM) & (self._resistance < OPEN_OHM) & (self._current != 0)
        self._resistance = np.where(self._opening, self._resistance, resistance)
        self._inductance = np.where(self._opening, self._inductance, inductance)
        self._set_branches()
        capacitance = np.stack([p.line_c.reshape(batch, -1), p.extra_c.reshape(batch, -1)], axis=1)
        self._cap_g = capacitance / (THETA * h)
        self._cap_v[:, 1][p.extra_c.reshape(batch, -1) == 0] = 0.0
        self._cap_i[:, 1][p.extra_c.reshape(batch, -1) == 0] = 0.0
        self._impedance = np.linalg.inv(self._admittance())

    @property
    def opening(self) -> NDArray[np.bool_]:
        """(B,) True where something that is to open still conducts."""
        return np.asarray(self._opening.any(axis=1))

    def _set_branches(self) -> None:
        """Companion models of the branches. Open ones take backward Euler: it forgets the last of their current at
        once, where the theta method would let it alternate in sign for many steps.
        """
        theta = np.where(self._resistance >= OPEN_OHM, 1.0, THETA)
        per_step = self._inductance / self._step_s
        denominator = per_step + theta * self._resistance
        self._g = theta / denominator
        self._keep = (per_step - (1 - theta) * self._resistance) / denominator
        self._from_v = (1 - theta) / denominator

    def _open_at_zero(self, before: Floats) -> None:
        """Open the branches that wait for it and whose current has changed its sign since `before` (B, branches)."""
        now = self._opening & (before * self._current <= 0)
        if not now.any():
            return
        self._opening &= ~now
        self._resistance[now] = OPEN_OHM
        self._set_branches()
        self._current[now] = 0.0
        self._impedance = np.linalg.inv(self._admittance())

    def _admittance(self) -> Floats:
        p, topology, batch = self.parameters, self._topology, self._batch
        incidence = topology.branches
        matrix = np.einsum("bk,ki,kj->bij", self._g, incidence, incidence)
        diagonal = np.zeros((batch, topology.nodes))
        diagonal[:, self._ends] += self._cap_g.sum(axis=1)
        diagonal[:, self._middles] += p.ground_g.reshape(batch, -1)
        matrix += diagonal[:, :, None] * np.eye(topology.nodes)
        rows = [topology.delta(2 * s + 1, phase) for s in range(p.size[1]) for phase in range(3)]
        faults = np.array(rows)
        matrix += np.einsum("bk,ki,kj->bij", p.phase_g.reshape(batch, -1), faults, faults)
        return np.asarray(matrix)

    def step(self, arc: tuple[NDArray[np.intp], Floats] | None = None) -> tuple[Floats, Floats]:
        """One step: currents (B, S, 3) [A] and phase-to-ground voltages (B, S, 3) [V] at the FTUs.

        `arc` adds conductances (B,) [S] from one node each (B,) to ground, by a rank-one correction: arcs change them
        at every step.
        """
        self.time_s += self._step_s
        angle = 2 * np.pi * FREQUENCY_HZ * self.time_s - 2 * np.pi / 3 * np.arange(3)
        emf = self.parameters.emf_v[:, None] * np.sin(angle)
        history = self._from_v * self._across + self._keep * self._current
        history[:, :3] += self._g[:, :3] * emf
        injected = -history @ self._topology.branches
        charge = self._cap_g * self._cap_v + (1 - THETA) / THETA * self._cap_i
        injected[:, self._ends] += charge.sum(axis=1)
        voltage = (self._impedance @ injected[:, :, None])[:, :, 0]
        if arc is not None:
            voltage = self._with_arc(voltage, *arc)
        across = voltage @ self._topology.branches.T
        before, self._current = self._current, self._g * across + history
        self._across = across
        self._across[:, :3] += emf
        end_v = voltage[:, None, self._ends]
        self._cap_i = self._cap_g * end_v - charge
        self._cap_v = np.broadcast_to(end_v, self._cap_v.shape).copy()
        shape = (self._batch, -1, 3)
        self.middle_v = voltage[:, self._middles].reshape(shape)
        measured = self._current[:, self._ftu_branches].reshape(shape), voltage[:, self._ftu_nodes].reshape(shape)
        if self._opening.any():
            self._open_at_zero(before)
        return measured

    def _with_arc(self, voltage: Floats, node: NDArray[np.intp], conductance: Floats) -> Floats:
        rows = np.arange(self._batch)
        column = self._impedance[rows, :, node]
        share = conductance * voltage[rows, node] / (1 + conductance * column[rows, node])
        return np.asarray(voltage - column * share[:, None])

    def middle_node(self, section: int, phase: int) -> int:
        """Node number of the middle of a section, for `arc`."""
        return self._topology.node(2 * section + 1, phase)


def _joined(batch: int, *parts: Floats) -> Floats:
    return np.concatenate([part.reshape(batch, -1) for part in parts], axis=1)
