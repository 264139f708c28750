"""What the app knows of each E2 node at one instant, and the window of KPM reports and alarms that it is made from."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ric.e2sm.dapp import DAppReport
from ric.e2sm.kpm import KpmReport
from ric.errors import Fault, TwinRicError
from ric.pb.twinric.bus.v1.record_pb2 import PERCEIVED_SEVERITY_CLEARED
from xapps.slice_bandwidth.calibration import Served, calibrated
from xapps.slice_bandwidth.model import S_NSSAI, STATIC_SLOTS, LinkModel

__all__ = ["HISTORY", "MEASUREMENT_NAMES", "FleetState", "NodeWindow", "SliceState"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HISTORY = 32
"""Periods of offered load that a decision sees."""

VOLUME, QUEUE, SLOTS = "DRB.PdcpSduVolumeDL", "TWINRIC.QueueDl", "TWINRIC.FlexeSlots"
DELAY, JITTER, DELAY_MAX = "DRB.RlcSduDelayDl", "TWINRIC.DelayJitterDl", "TWINRIC.DelayMaxDl"
MEASUREMENT_NAMES = (VOLUME, QUEUE, SLOTS, DELAY, JITTER, DELAY_MAX)
"""What the KPM subscription asks for."""

TENTH_MS = 0.1
NS = 1_000_000_000


@dataclass(frozen=True)
class SliceState:
    """One node at `source_time_ns`; slices in the order control, protection, monitoring."""

    e2_node_id: str
    source_time_ns: int
    period_s: float
    offered_mbps: Floats
    """(HISTORY, 3) [Mb/s], oldest first; a short history repeats its oldest row."""
    queue_mbit: Floats
    delay_ms: Floats
    jitter_ms: Floats
    delay_max_ms: Floats
    """(3,) each, of the newest period."""
    slots: Ints
    """(3,) FlexE slots in force."""
    alarm_active: bool = False
    """True while a fault alarm of this node is raised."""
    alarm_cleared_s: float = float("inf")
    """Seconds since the last fault alarm cleared [s]; infinite when there was none."""
    link: LinkModel = field(default_factory=LinkModel)
    """What the analytic queue takes the node's link for, after what was measured so far."""


@dataclass(frozen=True)
class FleetState:
    """All nodes that have reported, and those that have something new since the last decision."""

    nodes: tuple[SliceState, ...]
    due: frozenset[str]

    @property
    def source_time_ns(self) -> int:
        """Source time of the newest input."""
        return max((node.source_time_ns for node in self.nodes), default=0)


@dataclass
class NodeWindow:
    """The newest KPM reports and the fault alarms of one node."""

    e2_node_id: str
    link: LinkModel = field(default_factory=LinkModel)
    rows: deque[Floats] = field(default_factory=lambda: deque(maxlen=HISTORY))
    slots: Ints = field(default_factory=lambda: STATIC_SLOTS.copy())
    period_s: float = 0.1
    source_time_ns: int = 0
    measured: Floats = field(default_factory=lambda: np.zeros((4, 3)))
    alarms: set[tuple[str, str, str]] = field(default_factory=set)
    cleared_ns: int = 0
    alarm_time_ns: int = 0

    def add_report(self, report: KpmReport) -> bool:
        """Take a report in; False for one that is older than the newest, or a duplicate.

        Rows of several cells add up per slice (volume, backlog), delays are weighted by volume. Raises TwinRicError
        (E2-RANGE) when a measurement or a slice is absent.
        """
        if report.source_time_ns <= self.source_time_ns:
            return False
        volume, queue, slots, delay, jitter, longest = _per_slice(report)
        self.period_s = report.granularity_period_ms / 1e3
        offered, held = volume / self.period_s, np.rint(slots).astype(np.int64)
        if self.rows:
            before = self.measured[0]
            served = Served(offered, before, held, self.period_s, delay * TENTH_MS, jitter * TENTH_MS)
            self.link = calibrated(self.link, served)
        self.rows.append(offered)
        self.slots = held
        self.measured = np.stack([queue, delay * TENTH_MS, jitter * TENTH_MS, longest * TENTH_MS])
        self.source_time_ns = report.source_time_ns
        return True

    def add_alarm(self, report: DAppReport) -> None:
        """Note that a fault alarm was raised or cleared; raising twice is one alarm."""
        alarm = report.alarm
        identity = (alarm.managed_object, alarm.specific_problem, alarm.identifying_info)
        self.alarm_time_ns = max(self.alarm_time_ns, report.source_time_ns)
        if alarm.perceived_severity != PERCEIVED_SEVERITY_CLEARED:
            self.alarms.add(identity)
        elif identity in self.alarms:
            self.alarms.remove(identity)
            self.cleared_ns = report.source_time_ns

    def state(self, now_ns: int) -> SliceState | None:
        """The node's state at `now_ns`, or None before the first report."""
        if not self.rows:
            return None
        missing = HISTORY - len(self.rows)
        offered = np.stack([self.rows[0]] * missing + list(self.rows))
        queue, delay, jitter, longest = self.measured
        since_s = (now_ns - self.cleared_ns) / NS if self.cleared_ns else float("inf")
        newest_ns = max(self.source_time_ns, self.alarm_time_ns)
        return SliceState(
            self.e2_node_id, newest_ns, self.period_s, offered, queue, delay, jitter, longest, self.slots.copy(),
            bool(self.alarms), max(since_s, 0.0), self.link,
        )  # fmt: skip


def _per_slice(report: KpmReport) -> list[Floats]:
    """(3,) of volume [Mbit], queue [Mbit], slots, delay, jitter, longest delay [0.1 ms] from slice-level rows."""
    faults = [
        Fault("E2-RANGE", "indication_message.measurement_names", "(absent)", name)
        for name in MEASUREMENT_NAMES
        if name not in report.measurement_names
    ]
    rows = [[k for k, item in enumerate(report.items) if item.s_nssai == name and not item.ue_id] for name in S_NSSAI]
    faults += [
        Fault("E2-RANGE", "indication_message.items", "(absent)", f"a slice-level row of {name}")
        for name, found in zip(S_NSSAI, rows, strict=True)
        if not found
    ]
    if faults:
        raise TwinRicError.of(faults)
    values = {name: report.of(name) for name in MEASUREMENT_NAMES}
    summed = [np.array([values[name][found].sum() for found in rows]) for name in (VOLUME, QUEUE)]
    slots = np.array([values[SLOTS][found].max() for found in rows])
    weights = [values[VOLUME][found] + 1e-9 for found in rows]
    means = [
        np.array([np.average(values[name][found], weights=weight) for found, weight in zip(rows, weights, strict=True)])
        for name in (DELAY, JITTER)
    ]
    longest = np.array([values[DELAY_MAX][found].max() for found in rows])
    return [*summed, slots, *means, longest]
