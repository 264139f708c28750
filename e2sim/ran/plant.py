"""The transport of many nodes at once, as pure functions on arrays (N nodes, S slices): to train and evaluate on.

The queues are those of the simulator (`e2sim/ran/kernels.py`), downlink only; the wait at the TSN gates is the closed
form of `e2sim/ran/tsn.py`, where the simulator measures it. A step does not change the state that it is given, so the
same period can be served under other slots: that is what an oracle does.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from e2sim.ran import kernels
from e2sim.ran.encryption import Encryption
from e2sim.ran.queues import STEP_MS, PeriodStats, add_fixed, stats_of
from e2sim.ran.tsn import TsnHop, default_gates, gate_delay

__all__ = [
    "STATIC_SLOTS", "PlantSettings", "PlantState", "SharedLinks", "pass_shared_links", "serve", "serve_drawn",
    "stream_keys",
]  # fmt: skip

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]

LEAST_MBPS = 100.0
"""A slice starved on a shared link counts as served by this, so that its wait stays a number."""
STATIC_SLOTS = (5, 10, 5)
"""The static 25/50/25 split [slot]."""


@dataclass(frozen=True)
class PlantSettings:
    """The transport that all nodes have; the defaults are the scenario's."""

    slot_mbps: float = 5_000.0
    switch_outage_ms: float = 2.0
    buffer_mbit: float = 2_500.0
    hop: TsnHop = field(default_factory=lambda: TsnHop(default_gates()))
    nr_slot_ms: float = 0.125
    encryption: Encryption = Encryption.NONE
    packet_octets: float = 600.0
    """Mean packet, for what encryption adds."""
    radio_mbps: float = 102_400.0
    """What the cells carry; a slice has its share of it."""
    calendar_slots: int = 20


@dataclass(frozen=True)
class PlantState:
    """Backlogs (N, S) [Mbit] and the FlexE slots in force (N, S)."""

    backlog_mbit: Floats
    slots: Ints

    @classmethod
    def empty(cls, number: int, slots: tuple[int, ...] = STATIC_SLOTS) -> PlantState:
        """Empty queues and the same split everywhere."""
        return cls(np.zeros((number, len(slots))), np.tile(np.array(slots, dtype=np.int64), (number, 1)))


def serve(
    state: PlantState, arrivals_mbit: Floats, burst_mbit: Floats, slots: Ints, settings: PlantSettings | None = None
) -> tuple[PlantState, PeriodStats]:
    """One period under `slots` (N, S) with given `arrivals_mbit` (T, N, S) [Mbit per 0.2 ms] in bursts of (N, S).

    Returns the state after it and what was measured, (N, S) each. Slots that change hands carry nothing at first.
    """
    settings = settings or PlantSettings()
    steps = len(arrivals_mbit)
    grow = settings.encryption.growth(settings.packet_octets)
    full, gained = _capacity(state, slots, settings)
    ends_ms = np.arange(1, steps + 1) * STEP_MS
    out = np.clip((settings.switch_outage_ms - (ends_ms - STEP_MS)) / STEP_MS, 0.0, 1.0)
    service = full.ravel() - out[:, None] * gained.ravel()
    fixed = np.stack([burst_mbit.ravel() * grow, np.full(full.size, settings.buffer_mbit)])
    level = state.backlog_mbit.ravel().copy()
    volumes = np.ascontiguousarray(arrivals_mbit.reshape(steps, -1) * grow)
    sums = kernels.serve(volumes, service, fixed, level, np.empty_like(volumes), STEP_MS)
    return _measured(state, sums, level, slots, steps, settings)


def serve_drawn(
    state: PlantState, mean_mbps: Floats, burst_mbit: Floats, slots: Ints, keys: Keys, *,
    settings: PlantSettings | None = None, period_s: float = 0.1, threads: int = 2,
) -> tuple[PlantState, PeriodStats]:  # fmt: skip
    """As :func:`serve`, with Poisson bursts of `burst_mbit` (N, S) around `mean_mbps` (N, S) drawn on the way.

    `keys` (N, S) of :func:`stream_keys` fix the draws: equal keys and loads give equal arrivals, whatever the slots.
    """
    settings = settings or PlantSettings()
    steps = max(1, round(period_s * 1e3 / STEP_MS))
    grow = settings.encryption.growth(settings.packet_octets)
    full, gained = _capacity(state, slots, settings)
    load = np.stack([np.maximum(mean_mbps * (STEP_MS / 1e3), 1e-9).ravel(), burst_mbit.ravel()]) * grow
    buffers, outage = np.full(full.size, settings.buffer_mbit), np.full(full.size, settings.switch_outage_ms)
    given = np.stack([full.ravel(), gained.ravel(), buffers, outage])
    flat, level, sums = keys.ravel(), state.backlog_mbit.ravel().copy(), np.zeros((kernels.SUMS, full.size))

    def run(part: slice) -> None:
        some = np.zeros((kernels.SUMS, part.stop - part.start))
        kernels.serve_drawn(load[:, part], given[:, part], flat[part], level[part], some, steps, STEP_MS)
        sums[:, part] = some

    parts = _parts(full.size, threads)
    if len(parts) == 1:
        run(parts[0])
    else:
        list(_pool(threads).map(run, parts))
    return _measured(state, sums, level, slots, steps, settings)


@dataclass(frozen=True)
class SharedLinks:
    """G aggregation links: which one each node is on (N,), their rates (G,) [Mb/s], and the room of each [Mbit]."""

    group: Ints
    capacity_mbps: Floats
    buffer_mbit: float = 5_000.0


def pass_shared_links(backlog_mbit: Floats, stats: PeriodStats, links: SharedLinks) -> tuple[Floats, PeriodStats]:
    """Pass what nodes delivered over the links that they share; backlogs (G, S) [Mbit] before and after.

    Fluid at the period's mean rates, slices in strict priority: waits below saturation are left out. What does not fit
    is lost, the last slices' first. `e2sim/ran/aggregation.py` measures the same burst by burst.
    """
    period_s, slices = stats.period_s, backlog_mbit.shape[-1]
    came = np.zeros_like(backlog_mbit)
    np.add.at(came, links.group, stats.delivered_mbit)
    free = np.array(links.capacity_mbps, dtype=np.float64)
    after, mean, square, longest = (np.zeros_like(backlog_mbit) for _ in range(4))
    for s in range(slices):
        served = np.maximum(free, LEAST_MBPS)
        before = backlog_mbit[:, s]
        change = came[:, s] - free * period_s
        after[:, s] = np.maximum(before + change, 0.0)
        # The backlog moves in a straight line for this share of the period, then stays.
        moving = np.minimum(1.0, np.abs(after[:, s] - before) / np.maximum(np.abs(change), 1e-9))
        mean[:, s] = (moving * (before + after[:, s]) / 2 + (1 - moving) * after[:, s]) / served * 1e3
        both = before**2 + before * after[:, s] + after[:, s] ** 2
        square[:, s] = (moving * both / 3 + (1 - moving) * after[:, s] ** 2) / served**2 * 1e6
        longest[:, s] = np.maximum(before, after[:, s]) / served * 1e3
        free = np.maximum(free - (before + came[:, s] - after[:, s]) / period_s, 0.0)
    # The room goes to the first slices.
    kept = np.minimum(after, np.maximum(links.buffer_mbit - (np.cumsum(after, axis=1) - after), 0.0))
    share = np.divide(stats.delivered_mbit, came[links.group], out=np.zeros_like(stats.delivered_mbit),
                      where=came[links.group] > 0)  # fmt: skip
    lost = np.minimum((after - kept)[links.group] * share, stats.delivered_mbit)
    variance = np.maximum(square - mean**2, 0.0)
    stats = add_fixed(stats, mean[links.group], variance[links.group], longest[links.group])
    passed = replace(stats, delivered_mbit=stats.delivered_mbit - lost, dropped_mbit=stats.dropped_mbit + lost)
    return kept, passed


def stream_keys(seeds: Keys, period: int, slices: int = 3) -> Keys:
    """Names (N, slices) of the random streams of one period, from a seed per node."""
    number = np.arange(slices, dtype=np.uint64) + np.uint64(period) * np.uint64(slices) + np.uint64(1)
    with np.errstate(over="ignore"):
        return _mixed(_mixed(seeds.astype(np.uint64))[:, None] + number * np.uint64(0x9E3779B97F4A7C15))


def _mixed(value: Keys) -> Keys:
    """Finaliser of SplitMix64 (Steele, Lea, Flood 2014): equal bits in, unlike bits out."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(value ^ (value >> np.uint64(31)), dtype=np.uint64)


def _capacity(state: PlantState, slots: Ints, settings: PlantSettings) -> tuple[Floats, Floats]:
    """Volume per inner step (N, S) of all slots, and of those just gained [Mbit]."""
    per_slot = min(settings.slot_mbps, settings.radio_mbps / settings.calendar_slots) * STEP_MS / 1e3
    return np.asarray(slots * per_slot, dtype=np.float64), np.maximum(slots - state.slots, 0) * per_slot


def _measured(
    state: PlantState, sums: Floats, level: Floats, slots: Ints, steps: int, settings: PlantSettings
) -> tuple[PlantState, PeriodStats]:
    shape = state.backlog_mbit.shape
    after = level.reshape(shape)
    stats = stats_of(sums.reshape(-1, *shape), state.backlog_mbit, after, steps * STEP_MS / 1e3)
    gates = gate_delay(settings.hop, stats.delivered_mbit / stats.period_s)
    nr_ms, cipher_ms = settings.nr_slot_ms, settings.encryption.latency_ms(settings.packet_octets)
    stats = add_fixed(
        stats, gates.mean_ms + 1.5 * nr_ms + cipher_ms, gates.variance_ms2 + nr_ms**2 / 12,
        gates.max_ms + 2 * nr_ms + cipher_ms,
    )  # fmt: skip
    return PlantState(after, np.array(slots, dtype=np.int64)), stats


def _parts(size: int, threads: int) -> list[slice]:
    """Whole blocks of queues per thread."""
    blocks = -(-size // kernels.LANES)
    edges = [min(size, kernels.LANES * (blocks * k // threads)) for k in range(threads)] + [size]
    return [slice(a, b) for a, b in itertools.pairwise(edges) if b > a]


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "plant")
