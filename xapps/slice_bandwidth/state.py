"""What the app knows of each E2 node at one instant, and the window of KPM reports and alarms that it is made from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ric.e2sm.dapp import DAppReport
from ric.e2sm.kpm import KpmItem, KpmReport
from ric.errors import Fault, TwinRicError
from ric.pb.twinric.bus.v1.record_pb2 import PERCEIVED_SEVERITY_CLEARED
from xapps.slice_bandwidth.aggregation import SharedWait, observed, pass_link, passed_mbit, without_wait
from xapps.slice_bandwidth.calibration import Served, calibrated
from xapps.slice_bandwidth.model import S_NSSAI, STATIC_SLOTS, LinkModel

__all__ = ["HISTORY", "MEASUREMENT_NAMES", "FleetState", "LinkState", "LinkWindow", "NodeWindow", "SliceState"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HISTORY = 192
"""Periods of offered load that a decision sees."""

VOLUME, QUEUE, SLOTS = "DRB.PdcpSduVolumeDL", "TWINRIC.QueueDl", "TWINRIC.FlexeSlots"
DELAY, JITTER, DELAY_MAX = "DRB.RlcSduDelayDl", "TWINRIC.DelayJitterDl", "TWINRIC.DelayMaxDl"
MEASUREMENT_NAMES = (VOLUME, QUEUE, SLOTS, DELAY, JITTER, DELAY_MAX)
"""What the KPM subscription asks for."""

IN_STEP = 0.1
"""Share of a period by which the times of nodes in step may differ."""
TENTH_MS = 0.1
NS = 1_000_000_000


def _no_wait() -> SharedWait:
    return SharedWait(np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3))


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
    is_alarm_new: bool = False
    """True while one of them was raised in the newest period or after it."""
    alarm_cleared_s: float = float("inf")
    """Seconds since the last fault alarm cleared [s]; infinite when there was none."""
    link: LinkModel = field(default_factory=LinkModel)
    """What the analytic queue takes the node's link for, after what was measured so far."""
    shared: SharedWait | None = None
    """What of the newest delay and jitter is put down to the aggregation link behind it; None where there is none."""

    @property
    def own_ms(self) -> tuple[Floats, Floats]:
        """Delay and jitter (3,) [ms] of the newest period without the aggregation link's part."""
        if self.shared is None:
            return self.delay_ms, self.jitter_ms
        return without_wait(self.delay_ms, self.jitter_ms, self.shared)


@dataclass(frozen=True)
class LinkState:
    """An aggregation link: its nodes, rate [Mb/s], buffer [Mbit], and the backlog (3,) [Mbit] that it should have."""

    link_id: str
    e2_node_ids: tuple[str, ...]
    capacity_mbps: float
    buffer_mbit: float
    queue_mbit: Floats


@dataclass(frozen=True)
class FleetState:
    """All nodes that have reported, those that have something new since the last decision, links that nodes share."""

    nodes: tuple[SliceState, ...]
    due: frozenset[str]
    links: tuple[LinkState, ...] = ()
    """Those of which a whole period is known."""

    @property
    def source_time_ns(self) -> int:
        """Source time of the newest input."""
        return max((node.source_time_ns for node in self.nodes), default=0)


@dataclass
class NodeWindow:
    """The newest KPM reports and the fault alarms of one node."""

    e2_node_id: str
    link: LinkModel = field(default_factory=LinkModel)
    offered_mbps: Floats | None = None
    """(HISTORY, 3) as :class:`SliceState` has it, a new array with every report; None before the first."""
    slots: Ints = field(default_factory=lambda: STATIC_SLOTS.copy())
    period_s: float = 0.1
    source_time_ns: int = 0
    measured: Floats = field(default_factory=lambda: np.zeros((4, 3)))
    alarms: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """Source time at which each alarm that stands was raised [ns]."""
    cleared_ns: int = 0
    alarm_time_ns: int = 0
    shared: LinkWindow | None = None
    """The aggregation link that the node is on, if one is configured."""
    shared_wait: SharedWait | None = None
    _layout: _Layout | None = None

    def add_report(self, report: KpmReport) -> bool:
        """Take a report in; False for one that is older than the newest, or a duplicate.

        Rows of several cells add up per slice (volume, backlog), delays are weighted by volume. Raises TwinRicError
        (E2-RANGE) when a measurement or a slice is absent.
        """
        if report.source_time_ns <= self.source_time_ns:
            return False
        if self._layout is None or not self._layout.fits(report):
            self._layout = _Layout.of(report)
        volume, queue, slots, delay, jitter, longest = _per_slice(report, self._layout)
        self.period_s = report.granularity_period_ms / 1e3
        offered, held = volume / self.period_s, np.rint(slots).astype(np.int64)
        if self.shared is not None:
            self.shared.times_ns[self.e2_node_id] = report.source_time_ns
        if self.offered_mbps is not None:
            before = self.measured[0]
            served = Served(offered, before, held, self.period_s, delay * TENTH_MS, jitter * TENTH_MS)
            if self.shared is None:
                self.link = calibrated(self.link, served)
            else:
                self.shared.add(self, served, queue, report.source_time_ns)
        older = np.tile(offered, (HISTORY, 1)) if self.offered_mbps is None else self.offered_mbps
        self.offered_mbps = np.concatenate((older[1:], offered[None]))
        self.slots = held
        self.measured = np.stack([queue, delay * TENTH_MS, jitter * TENTH_MS, longest * TENTH_MS])
        self.source_time_ns = report.source_time_ns
        return True

    def due(self) -> frozenset[str]:
        """Nodes whose decision is due now that this one has reported: itself, but on an aggregation link."""
        name = self.e2_node_id
        return frozenset({name}) if self.shared is None else self.shared.due_with(name, self.period_s)

    def add_alarm(self, report: DAppReport) -> None:
        """Note that a fault alarm was raised or cleared; raising twice is one alarm."""
        alarm = report.alarm
        identity = (alarm.managed_object, alarm.specific_problem, alarm.identifying_info)
        self.alarm_time_ns = max(self.alarm_time_ns, report.source_time_ns)
        if alarm.perceived_severity != PERCEIVED_SEVERITY_CLEARED:
            self.alarms.setdefault(identity, report.source_time_ns)
        elif identity in self.alarms:
            del self.alarms[identity]
            self.cleared_ns = report.source_time_ns

    def state(self, now_ns: int) -> SliceState | None:
        """The node's state at `now_ns`, or None before the first report."""
        if self.offered_mbps is None:
            return None
        queue, delay, jitter, longest = self.measured
        since_s = (now_ns - self.cleared_ns) / NS if self.cleared_ns else float("inf")
        newest_ns = max(self.source_time_ns, self.alarm_time_ns)
        period_began_ns = self.source_time_ns - self.period_s * NS
        is_new = any(raised_ns > period_began_ns for raised_ns in self.alarms.values())
        return SliceState(
            self.e2_node_id, newest_ns, self.period_s, self.offered_mbps, queue, delay, jitter, longest,
            self.slots.copy(), bool(self.alarms), is_new, max(since_s, 0.0), self.link, self.shared_wait,
        )  # fmt: skip

    def learn(self, served: Served, wait: SharedWait) -> None:
        """Correct the link by the period `served`, of which the aggregation link made `wait`."""
        delay, jitter = without_wait(served.delay_ms, served.jitter_ms, wait)
        self.link = calibrated(self.link, replace(served, delay_ms=delay, jitter_ms=jitter))
        self.shared_wait = wait


@dataclass
class LinkWindow:
    """What an aggregation link holds, from what its nodes let through: nothing reports of the link itself.

    A period is over when every node that is awaited has told of it, or one of them tells of the next.
    """

    link_id: str
    e2_node_ids: tuple[str, ...]
    capacity_mbps: float
    buffer_mbit: float
    wait: SharedWait = field(default_factory=_no_wait)
    told: dict[str, tuple[NodeWindow, Served]] = field(default_factory=dict)
    sent_mbit: dict[str, Floats] = field(default_factory=dict)
    """Volume (3,) that each node let through when it told last."""
    awaited: set[str] = field(default_factory=set)
    times_ns: dict[str, int] = field(default_factory=dict)
    """Source time of each node's newest report."""
    held: set[str] = field(default_factory=set)
    """Nodes whose decision waits for the reports of nodes in step with them."""
    newest_ns: int = 0
    passed_ns: int = 0
    """Source time of the newest report, and of the newest in the last period that is over."""

    def __post_init__(self) -> None:
        self.awaited.update(self.e2_node_ids)

    def add(self, node: NodeWindow, served: Served, after_mbit: Floats, source_time_ns: int) -> None:
        """Take a node's period in, with the backlog (3,) [Mbit] that it left on the node's own link."""
        name = node.e2_node_id
        if name in self.told:
            self._pass()
        self.sent_mbit[name] = passed_mbit(
            served.offered_mbps, served.queue_mbit, after_mbit, served.slots, served.period_s
        )
        self.awaited.add(name)
        if source_time_ns <= self.passed_ns:
            node.learn(served, self.wait)  # late: that period is over
            return
        self.told[name] = node, served
        self.newest_ns = max(self.newest_ns, source_time_ns)
        if self.awaited <= self.told.keys():
            self._pass()

    def due_with(self, e2_node_id: str, period_s: float) -> frozenset[str]:
        """Nodes whose decision is due now that one has reported: all in step with it, or none while some are to come.

        In step are nodes whose reports bear the same times; one that reports at other times never waits. A report that
        is lost costs the others this decision, not the next.
        """
        now_ns, period_ns = self.times_ns[e2_node_id], period_s * NS
        self.held.add(e2_node_id)
        if any(abs(then_ns + period_ns - now_ns) <= IN_STEP * period_ns for then_ns in self.times_ns.values()):
            return frozenset()
        due = frozenset(self.held)
        self.held.clear()
        return due

    def _pass(self) -> None:
        """End a period. Who did not tell counts with what it sent last, and is not awaited from then on."""
        # In one order whoever told first: equal runs stay equal to the last bit.
        volume = np.sum([self.sent_mbit.get(name, np.zeros(3)) for name in sorted(self.awaited)], axis=0)
        period_s = max(float(served.period_s) for _, served in self.told.values())
        wait = pass_link(volume, self.wait.queue_mbit, self.capacity_mbps, period_s, self.buffer_mbit)
        delays = np.stack([served.delay_ms for _, served in self.told.values()])
        self.wait = observed(wait, delays, np.stack([self.sent_mbit[name] for name in self.told]))
        for node, served in self.told.values():
            node.learn(served, self.wait)
        self.awaited, self.passed_ns = set(self.told), self.newest_ns
        self.told.clear()

    def state(self) -> LinkState:
        """The link as decisions see it."""
        return LinkState(self.link_id, self.e2_node_ids, self.capacity_mbps, self.buffer_mbit, self.wait.queue_mbit)


@dataclass(frozen=True)
class _Layout:
    """Where a report holds what: rows of measurements (6, 1), columns by slice and where each slice's begin (3,)."""

    measurement_names: tuple[str, ...]
    items: tuple[KpmItem, ...]
    rows: Ints
    columns: Ints
    starts: Ints

    def fits(self, report: KpmReport) -> bool:
        """True when `report` holds the same in the same places."""
        return self.items is report.items and self.measurement_names == report.measurement_names

    @classmethod
    def of(cls, report: KpmReport) -> _Layout:
        """Raises TwinRicError (E2-RANGE) naming every measurement and slice that is absent."""
        names, items = report.measurement_names, report.items
        faults = [
            Fault("E2-RANGE", "indication_message.measurement_names", "(absent)", name)
            for name in MEASUREMENT_NAMES
            if name not in names
        ]
        found = [[k for k, item in enumerate(items) if item.s_nssai == name and not item.ue_id] for name in S_NSSAI]
        faults += [
            Fault("E2-RANGE", "indication_message.items", "(absent)", f"a slice-level row of {name}")
            for name, columns in zip(S_NSSAI, found, strict=True)
            if not columns
        ]
        if faults:
            raise TwinRicError.of(faults)
        starts = np.cumsum([0, *map(len, found[:-1])])
        rows = np.array([[names.index(name)] for name in MEASUREMENT_NAMES])
        return cls(names, items, rows, np.concatenate(found), starts)


def _per_slice(report: KpmReport, layout: _Layout) -> Floats:
    """(6, 3): volume [Mbit], queue [Mbit], slots, delay, jitter, longest delay [0.1 ms] from slice-level rows."""
    values = report.values[layout.rows, layout.columns]
    if len(layout.columns) == len(layout.starts):
        return values
    weights = values[0] + 1e-9
    means = np.add.reduceat(values[3:5] * weights, layout.starts, axis=1) / np.add.reduceat(weights, layout.starts)
    sums = np.add.reduceat(values[:2], layout.starts, axis=1)
    slots, longest = (np.maximum.reduceat(values[k], layout.starts)[None] for k in (2, 5))
    return np.concatenate([sums, slots, means, longest])
