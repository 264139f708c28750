"""Plants that the slice controllers are judged on beside their own surrogate: the simulator's queues and recorded runs.

Each looks to a rule of `xapps.slice_bandwidth.evaluation` like a `VectorSliceEnv`; the app itself never sees them.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from e2sim.ran.catalogue import CATALOGUE, DEFAULT_TERMINALS
from e2sim.ran.plant import PlantSettings, PlantState, SharedLinks, pass_shared_links, serve
from e2sim.ran.situations import SITUATIONS, PeriodLoad, PlantTraffic
from xapps.slice_bandwidth.calibration import Served, calibrated
from xapps.slice_bandwidth.environment import TAIL, VectorSliceEnv
from xapps.slice_bandwidth.model import SLICES, LinkModel, Prediction
from xapps.slice_bandwidth.policy import SlicePolicy
from xapps.slice_bandwidth.policy_draws import PolicyBatch, policies_like
from xapps.slice_bandwidth.state import HISTORY
from xapps.slice_bandwidth.traffic import TrafficBatch

__all__ = [
    "SETTLING_S", "CoupledSituationEnv", "RecordedEnv", "SituationEnv", "catalogue_policy", "recorded_loads",
    "tightest_ms",
]  # fmt: skip

Floats = NDArray[np.float64]

SETTLING_S = 0.5
"""What a controller has to clear what the static split left before longest delays are held against budgets [s]."""


def tightest_ms() -> tuple[float, ...]:
    """The shortest latency that a service of each slice asks for [ms]."""
    return tuple(min(CATALOGUE[name].latency_ms for name in DEFAULT_TERMINALS[role]) for role in SLICES)


def catalogue_policy() -> SlicePolicy:
    """The default policy with D_max and packet delay budget of each slice as its most demanding service asks."""
    limits = dict(zip(SLICES, tightest_ms(), strict=True))
    return SlicePolicy.model_validate(
        {name: {"d_max_ms": limit, "packet_delay_budget_ms": limit} for name, limit in limits.items()}
    )


@lru_cache(maxsize=1)
def _loads(situation: str, seeds: tuple[int, ...], periods: int, period_s: float) -> list[PeriodLoad]:
    """What one node per seed is offered; kept until others are drawn, because all controllers play the same."""
    traffic = PlantTraffic(situation, seeds, periods=periods, period_s=period_s)
    return [traffic.next_period() for _ in range(periods)]


class SituationEnv(VectorSliceEnv):
    """Nodes of the simulator in one named situation: arrivals burst by burst, delays as its queues measure them."""

    def __init__(self, situation: str, number: int, steps: int, *, cells: int = 1, period_s: float = 0.1) -> None:
        self.situation_name = situation
        self.plant = PlantSettings(encryption=SITUATIONS[situation].encryption)
        super().__init__(number, steps, random_policies=False, period_s=period_s, cells=cells)

    def _draw(self, generator: np.random.Generator) -> None:
        number, periods = self.number, self.steps + HISTORY + TAIL
        period_s = self._fixed_period_s or 0.1
        self.period_s = np.full(number, period_s)
        nodes = tuple(generator.integers(2**31, size=number).tolist())
        self.loads = _loads(self.situation_name, nodes, periods, period_s)
        # KPM counts what is on the link, with what encryption adds to it.
        growth = self.plant.encryption.growth(self.plant.packet_octets)
        offered = np.stack([load.mean_mbps * growth for load in self.loads])
        self.traffic = TrafficBatch(offered, np.stack([load.alarm for load in self.loads]))
        self.policies: PolicyBatch = policies_like(catalogue_policy(), number)
        self.plant_state = PlantState.empty(number)
        self.longest_ms: list[Floats] = []

    def _serve(self, step: int, slots: NDArray[np.int64]) -> Prediction:
        load = self.loads[step]
        self.plant_state, stats = serve(self.plant_state, load.arrivals_mbit, load.burst_mbit, slots, self.plant)
        self._stats = stats
        if step >= HISTORY:
            self.longest_ms.append(stats.delay_max_ms)
        return Prediction(stats.delay_ms, stats.jitter_ms, stats.backlog_mbit, stats.dropped_mbit)

    def _put_in_force(self, step: int, slots: NDArray[np.int64]) -> None:
        super()._put_in_force(step, slots)
        # Nobody knows a link that these queues follow exactly: oracles plan with what was measured of it until then.
        self.link = self.believed


class CoupledSituationEnv(SituationEnv):
    """As :class:`SituationEnv`, and every `cells` nodes share an aggregation link as the simulator has it."""

    def __init__(self, situation: str, number: int, steps: int, cells: int, share: float) -> None:
        """The shared link has `share` of the rate of its nodes' links together."""
        self.share = share
        super().__init__(situation, number, steps, cells=cells)

    def _draw(self, generator: np.random.Generator) -> None:
        super()._draw(generator)
        groups = self.number // self.cells
        rate = self.share * self.cells * self.plant.calendar_slots * self.plant.slot_mbps
        self.shared_mbps = np.full(groups, rate)
        self._links = SharedLinks(np.repeat(np.arange(groups), self.cells), self.shared_mbps)
        self._own = LinkModel(*(np.tile(value, (self.number, 1)) for value in vars(LinkModel()).values()))

    def _pass_shared(self, own: Prediction, offered: Floats, before: Floats, slots: NDArray[np.int64]) -> Prediction:
        served = Served(offered, before, slots, self.period_s[:, None], own.delay_ms, own.jitter_ms)
        self._own = calibrated(self._own, served)
        self.shared_mbit, stats = pass_shared_links(self.shared_mbit, self._stats, self._links)
        return Prediction(stats.delay_ms, stats.jitter_ms, stats.backlog_mbit, stats.dropped_mbit)

    def _put_in_force(self, step: int, slots: NDArray[np.int64]) -> None:
        super()._put_in_force(step, slots)
        self.link = self._own  # the joint oracle adds the shared link's waits itself


class RecordedEnv(VectorSliceEnv):
    """The surrogate's queues under recorded loads; every reset cuts other stretches out of the recordings."""

    def __init__(self, loads: dict[str, Floats], number: int, steps: int, period_s: float) -> None:
        self.recorded = loads
        super().__init__(number, steps, random_policies=False, period_s=period_s)

    def _draw(self, generator: np.random.Generator) -> None:
        periods, number = self.steps + HISTORY + TAIL, self.number
        offered = np.empty((periods, number, len(SLICES)))
        for index, name in enumerate(SLICES):
            whole = self.recorded[name]
            for node in range(number):
                start = int(generator.integers(len(whole) - periods))
                offered[:, node, index] = whole[start : start + periods]
        super()._draw(generator)
        self.traffic = TrafficBatch(offered, np.zeros((periods, number), dtype=np.bool_))


CLASS_OF = {"control": "mmtc", "protection": "urllc", "monitoring": "embb"}
MEAN_GBPS = {"control": 8.0, "protection": 4.0, "monitoring": 10.0}
FLOOR_GBPS = 0.3
USERS = 40
"""Users that share a slice: each a run's user at another time; their sum is as smooth as aggregation makes it."""


def recorded_loads(path: Path) -> dict[str, Floats]:
    """Load (T,) [Mb/s] per slice, 250 ms apart, from TRACTOR's KPM; no run of it is used in training.

    Phone traffic at Mb/s is scaled to the mean of a slice of this house; its ups and downs are kept as they are.
    """
    import pandas as pd

    frame = pd.read_csv(path, usecols=["run", "ue", "traffic_class", "sample", "dl_mbps"], dtype={"traffic_class": str})
    generator = np.random.default_rng(7)
    out = {}
    for name, kind in CLASS_OF.items():
        mine = frame[frame["traffic_class"] == kind]
        series = [group["dl_mbps"].to_numpy() for _, group in mine.groupby(["run", "ue"]) if len(group) > 600]
        length = 8_000
        total = np.zeros(length)
        for _ in range(USERS):
            one = series[int(generator.integers(len(series)))]
            turned = np.roll(one, int(generator.integers(len(one))))
            total += np.tile(turned, -(-length // len(one)))[:length]
        out[name] = (FLOOR_GBPS + total / total.mean() * (MEAN_GBPS[name] - FLOOR_GBPS)) * 1e3
    return out
