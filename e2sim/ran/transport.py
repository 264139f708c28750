"""The transport and radio side of one node: traffic -> FlexE queues -> TSN hop -> air, measured per slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from e2sim.ran.bounds import QueueLoad, wait_bound_ms
from e2sim.ran.cells import Cell, prb_used, radio_mbps
from e2sim.ran.encryption import Encryption
from e2sim.ran.flexe import FlexeCalendar
from e2sim.ran.gating import GatedHops
from e2sim.ran.queues import STEP_MS, PeriodStats, SliceQueues, add_fixed, merge
from e2sim.ran.traffic import OfferedTraffic
from e2sim.ran.tsn import TsnHop

__all__ = ["LinkEvent", "RanSample", "SliceTransport", "kpm_values", "merge_samples"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BURSTWISE_S = 2.0
"""Longest step [s] that is simulated burst by burst throughout."""
NO_BOUND_MS = 100_000.0
"""What KPM reports as bound where there is none [ms]."""


@dataclass(frozen=True)
class LinkEvent:
    """The link's degradation during [start_s, end_s)."""

    start_s: float
    end_s: float
    capacity_share: float = 1.0
    extra_delay_ms: float = 0.0
    loss: float = 0.0


@dataclass(frozen=True)
class RanSample:
    """One step of one node: queue statistics, slots in force (S,), blocks in use (S,) and in all."""

    stats: PeriodStats
    flexe_slots: Ints
    prb_used: Floats
    prb_share: Floats
    """Share of the blocks that belong to the slice which are in use (S,), 0..1."""
    delay_bound_ms: Floats
    """Network-calculus bound of the delay (2, S) [ms] for what arrived; infinite where there is none."""


class SliceTransport:
    """All slices of one node. `step` is the only thing that moves it; `calendar` may be re-allocated between steps."""

    def __init__(
        self, calendar: FlexeCalendar, hop: TsnHop, cells: Sequence[Cell], traffic: OfferedTraffic, *,
        buffer_mbit: Floats, encryption: Encryption = Encryption.NONE, link_events: Sequence[LinkEvent] = (),
        sample_s: float = 0.1,
    ) -> None:  # fmt: skip
        self.calendar = calendar
        self.hop = hop
        self.cells = tuple(cells)
        self.traffic = traffic
        self.queues = SliceQueues(buffer_mbit)
        self.hops = tuple(GatedHops(hop, len(self.queues.buffer_mbit)) for _ in range(2))
        self.encryption = encryption
        self.link_events = tuple(link_events)
        self.sample_s = sample_s

    def step(self, end_s: float, dt_s: float) -> RanSample:
        """Advance by `dt_s` [s] to `end_s` [s].

        A step longer than `BURSTWISE_S` is simulated burst by burst in its last `sample_s` only; before that the
        backlog moves at mean rates.
        """
        self.traffic.wander(dt_s)
        if dt_s <= BURSTWISE_S:
            stats, bound_ms = self._burstwise(end_s - dt_s, dt_s)
        else:
            rest_s = dt_s - self.sample_s
            middle_s = end_s - self.sample_s
            at_s = (end_s - dt_s + middle_s) / 2
            mean = self.traffic.mean_mbps(at_s) * self.encryption.growth(self.traffic.packet_octets(at_s))
            capacity = self._radio_limited(self.calendar.capacity_mbps(1, rest_s * 1e3), at_s)[0]
            early = self.queues.drift(mean, capacity, rest_s)
            late, bound_ms = self._burstwise(middle_s, self.sample_s)
            stats = merge(early, late)
        return self._sample(stats, bound_ms)

    def _burstwise(self, start_s: float, dt_s: float) -> tuple[PeriodStats, Floats]:
        """Measure one period; its statistics and delay bound (2, S) [ms]."""
        steps = max(1, round(dt_s * 1e3 / STEP_MS))
        octets = self.traffic.packet_octets(start_s)
        grow = self.encryption.growth(octets)
        arrivals = self.traffic.arrivals_mbit(start_s, steps, STEP_MS) * grow
        capacity = self._radio_limited(self.calendar.capacity_mbps(steps, STEP_MS), start_s)
        burst = self.traffic.burst_mbit(start_s) * grow
        bound_ms = self._bound_ms(arrivals, capacity, burst)
        stats = self.queues.run(arrivals, capacity, burst)
        waits = [hops.run(self.queues.departed_mbit[:, way], STEP_MS) for way, hops in enumerate(self.hops)]
        link = self._link(start_s)
        nr_slot_ms = max(cell.nr_slot_us for cell in self.cells) / 1e3
        fixed_ms = self.encryption.latency_ms(octets) + link.extra_delay_ms
        # Waiting for the next NR slot is uniform in one slot, then the slot itself is sent.
        stats = add_fixed(
            stats, np.stack([wait.mean_ms for wait in waits]) + 1.5 * nr_slot_ms + fixed_ms,
            np.stack([wait.variance_ms2 for wait in waits]) + nr_slot_ms**2 / 12,
            np.stack([wait.max_ms for wait in waits]) + 2 * nr_slot_ms + fixed_ms,
        )  # fmt: skip
        lost = stats.delivered_mbit * link.loss
        stats = replace(stats, delivered_mbit=stats.delivered_mbit - lost, dropped_mbit=stats.dropped_mbit + lost)
        return stats, bound_ms + 2 * nr_slot_ms + fixed_ms

    def _bound_ms(self, arrivals: Floats, capacity: Floats, burst: Floats) -> Floats:
        """Bound (2, S) [ms] of the waits in queues and hops; see :func:`e2sim.ran.bounds.wait_bound_ms`."""
        return wait_bound_ms(self.hop, QueueLoad(
            arrivals, capacity, burst, self.queues.backlog_mbit, self.queues.buffer_mbit,
            np.stack([hops.backlog_mbit.sum(axis=0) for hops in self.hops]), STEP_MS,
        ))  # fmt: skip

    def _link(self, time_s: float) -> LinkEvent:
        """The degradation in force; the first of those that overlap."""
        for event in self.link_events:
            if event.start_s - 1e-6 <= time_s < event.end_s - 1e-6:
                return event
        return LinkEvent(time_s, time_s)

    def _radio_limited(self, capacity_mbps: Floats, time_s: float) -> Floats:
        """FlexE capacity (T, S) of the link as it is, at most what the slice's share of the cells carries."""
        share = self.calendar.slots / len(self.calendar.owners)
        link_mbps = capacity_mbps * self._link(time_s).capacity_share
        return np.asarray(np.minimum(link_mbps, share * radio_mbps(self.cells)))

    def _sample(self, stats: PeriodStats, bound_ms: Floats) -> RanSample:
        slots = self.calendar.slots
        used = prb_used(self.cells, stats.delivered_mbit[0] / stats.period_s)
        owned = slots / len(self.calendar.owners) * sum(cell.prb for cell in self.cells)
        return RanSample(stats, slots, used, np.minimum(used / np.maximum(owned, 1e-9), 1.0), bound_ms)


def merge_samples(first: RanSample, second: RanSample) -> RanSample:
    """Two consecutive periods as one."""
    stats = merge(first.stats, second.stats)
    share = second.stats.period_s / stats.period_s
    used = (1 - share) * first.prb_used + share * second.prb_used
    prb_share = (1 - share) * first.prb_share + share * second.prb_share
    bound_ms = np.maximum(first.delay_bound_ms, second.delay_bound_ms)
    return RanSample(stats, second.flexe_slots, used, prb_share, bound_ms)


def kpm_values(sample: RanSample, granularity_s: float) -> Mapping[str, Floats]:
    """TS 28.552 measurements (S,); names and units as in `ric.e2sm.kpm.MEASUREMENTS`.

    Volumes are those of `granularity_s` [s] at the sample's mean rate, also where the sample is longer (fast-forward).
    """
    stats = sample.stats
    rate = stats.delivered_mbit / stats.period_s * 1e3
    offered = stats.offered_mbit * (granularity_s / stats.period_s)
    return {
        "DRB.UEThpDl": rate[0],
        "DRB.UEThpUl": rate[1],
        "DRB.PdcpSduVolumeDL": offered[0],
        "DRB.PdcpSduVolumeUL": offered[1],
        "DRB.RlcSduDelayDl": stats.delay_ms[0] * 10,
        "DRB.RlcDelayUl": stats.delay_ms[1] * 10,
        "DRB.RlcPacketDropRateDl": stats.drop_share[0] * 1e6,
        "RRU.PrbUsedDl": sample.prb_used,
        "RRU.PrbTotDl": sample.prb_share * 100,
        "TWINRIC.DelayJitterDl": stats.jitter_ms[0] * 10,
        "TWINRIC.DelayJitterUl": stats.jitter_ms[1] * 10,
        "TWINRIC.DelayMaxDl": stats.delay_max_ms[0] * 10,
        "TWINRIC.DelayBoundDl": np.minimum(sample.delay_bound_ms[0], NO_BOUND_MS) * 10,
        "TWINRIC.FlexeSlots": sample.flexe_slots.astype(np.float64),
        "TWINRIC.QueueDl": stats.backlog_mbit[0],
    }
