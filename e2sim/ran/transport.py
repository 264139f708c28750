"""The transport and radio side of one node: traffic -> FlexE queues -> TSN hop -> air, measured per slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from e2sim.ran.cells import Cell, prb_used, radio_mbps
from e2sim.ran.flexe import FlexeCalendar
from e2sim.ran.queues import STEP_MS, PeriodStats, SliceQueues, add_fixed, merge
from e2sim.ran.traffic import OfferedTraffic
from e2sim.ran.tsn import TsnHop, gate_delay

__all__ = ["Encryption", "RanSample", "SliceTransport", "kpm_values", "merge_samples"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BURSTWISE_S = 2.0
"""Longest step [s] that is simulated burst by burst throughout."""


class Encryption(Enum):
    """How the transport is encrypted: name -> (latency per pass [ms], octets added per 1,000), assumed figures."""

    NONE = "none"
    MACSEC = "macsec_aes_gcm"
    IPSEC = "ipsec"

    @property
    def latency_ms(self) -> float:
        """Latency of enciphering and deciphering together [ms]."""
        return {"none": 0.0, "macsec_aes_gcm": 0.004, "ipsec": 0.08}[self.value]

    @property
    def volume_factor(self) -> float:
        """Growth of the volume on the link, for frames of about 1,200 octets."""
        return {"none": 1.0, "macsec_aes_gcm": 1.027, "ipsec": 1.061}[self.value]


@dataclass(frozen=True)
class RanSample:
    """One step of one node: queue statistics, slots in force (S,), blocks in use (S,) and in all."""

    stats: PeriodStats
    flexe_slots: Ints
    prb_used: Floats
    prb_share: Floats
    """Share of the blocks that belong to the slice which are in use (S,), 0..1."""


class SliceTransport:
    """All slices of one node. `step` is the only thing that moves it; `calendar` may be re-allocated between steps."""

    def __init__(
        self, calendar: FlexeCalendar, hop: TsnHop, cells: Sequence[Cell], traffic: OfferedTraffic, *,
        buffer_mbit: Floats, encryption: Encryption = Encryption.NONE, sample_s: float = 0.1,
    ) -> None:  # fmt: skip
        self.calendar = calendar
        self.hop = hop
        self.cells = tuple(cells)
        self.traffic = traffic
        self.queues = SliceQueues(buffer_mbit)
        self.encryption = encryption
        self.sample_s = sample_s

    def step(self, end_s: float, dt_s: float) -> RanSample:
        """Advance by `dt_s` [s] to `end_s` [s].

        A step longer than `BURSTWISE_S` is simulated burst by burst in its last `sample_s` only; before that the
        backlog moves at mean rates.
        """
        self.traffic.wander(dt_s)
        if dt_s <= BURSTWISE_S:
            stats = self._burstwise(end_s - dt_s, dt_s)
        else:
            rest_s = dt_s - self.sample_s
            middle_s = end_s - self.sample_s
            mean = self.traffic.mean_mbps((end_s - dt_s + middle_s) / 2) * self.encryption.volume_factor
            capacity = self._radio_limited(self.calendar.capacity_mbps(1, rest_s * 1e3))[0]
            early = self.queues.drift(mean, capacity, rest_s)
            stats = merge(early, self._burstwise(middle_s, self.sample_s))
        return self._sample(stats)

    def _burstwise(self, start_s: float, dt_s: float) -> PeriodStats:
        steps = max(1, round(dt_s * 1e3 / STEP_MS))
        grow = self.encryption.volume_factor
        arrivals = self.traffic.arrivals_mbit(start_s, steps, STEP_MS) * grow
        capacity = self._radio_limited(self.calendar.capacity_mbps(steps, STEP_MS))
        stats = self.queues.run(arrivals, capacity, self.traffic.burst_mbit(start_s) * grow)
        gates = gate_delay(self.hop, stats.delivered_mbit / stats.period_s)
        nr_slot_ms = max(cell.nr_slot_us for cell in self.cells) / 1e3
        # Waiting for the next NR slot is uniform in one slot, then the slot itself is sent.
        fixed_ms = 1.5 * nr_slot_ms + self.encryption.latency_ms
        return add_fixed(
            stats, gates.mean_ms + fixed_ms, gates.variance_ms2 + nr_slot_ms**2 / 12,
            gates.max_ms + 2 * nr_slot_ms + self.encryption.latency_ms,
        )  # fmt: skip

    def _radio_limited(self, capacity_mbps: Floats) -> Floats:
        """FlexE capacity (T, S), at most what the slice's share of the cells carries."""
        share = self.calendar.slots / len(self.calendar.owners)
        return np.asarray(np.minimum(capacity_mbps, share * radio_mbps(self.cells)))

    def _sample(self, stats: PeriodStats) -> RanSample:
        slots = self.calendar.slots
        used = prb_used(self.cells, stats.delivered_mbit[0] / stats.period_s)
        owned = slots / len(self.calendar.owners) * sum(cell.prb for cell in self.cells)
        return RanSample(stats, slots, used, np.minimum(used / np.maximum(owned, 1e-9), 1.0))


def merge_samples(first: RanSample, second: RanSample) -> RanSample:
    """Two consecutive periods as one."""
    stats = merge(first.stats, second.stats)
    share = second.stats.period_s / stats.period_s
    used = (1 - share) * first.prb_used + share * second.prb_used
    return RanSample(stats, second.flexe_slots, used, (1 - share) * first.prb_share + share * second.prb_share)


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
        "DRB.RlcPacketDropRateDl": stats.drop_share[0] * 1e6,
        "RRU.PrbUsedDl": sample.prb_used,
        "RRU.PrbTotDl": sample.prb_share * 100,
        "TWINRIC.DelayJitterDl": stats.jitter_ms[0] * 10,
        "TWINRIC.DelayMaxDl": stats.delay_max_ms[0] * 10,
        "TWINRIC.FlexeSlots": sample.flexe_slots.astype(np.float64),
        "TWINRIC.QueueDl": stats.backlog_mbit[0],
    }
