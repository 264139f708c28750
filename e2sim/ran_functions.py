"""Simulated state <-> E2 service models: KPM, CCC, grid and dApp, as the RAN functions of one node."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import numpy as np

from e2sim.network import BY_BUS, Node, NodeSample
from e2sim.ran.transport import RanSample, kpm_values, merge_samples
from ric.clock import to_ns, to_s
from ric.columns import Table
from ric.e2.identities import RanFunction, RicRequestId
from ric.e2.node import NodeSubscription
from ric.e2sm import ccc, dapp, grid, kpm
from ric.errors import Fault, TwinRicError
from ric.schemas import IN_FORCE_SCHEMAS

__all__ = ["CccFunction", "DappFunction", "GridFunction", "Indication", "KpmFunction", "NodeFunction"]

Selection = TypeVar("Selection")


@dataclass(frozen=True)
class Indication:
    """One RIC Indication that is due."""

    ric_request_id: RicRequestId
    ran_function_id: int
    ric_action_id: int
    header: bytes
    message: bytes


class NodeFunction:
    """A RAN function of a simulated node: serves requests (`ric.e2.node.RanFunctionHandler`) and reports samples."""

    def __init__(self, definition: RanFunction) -> None:
        self._definition = definition

    @property
    def definition(self) -> RanFunction:
        """What E2 Setup says about the function."""
        return self._definition

    async def subscribe(self, subscription: NodeSubscription) -> Sequence[int]:
        """Ids of the admitted actions. Raises TwinRicError (E2-ACTION): this function reports nothing."""
        del subscription
        raise TwinRicError("E2-ACTION", "ran_function_id", self._definition.ran_function_id, "a function that reports")

    async def delete(self, subscription: NodeSubscription) -> None:
        """Stop reporting for `subscription`."""
        del subscription

    async def control(self, header: bytes, message: bytes) -> bytes:
        """Put a control in force. Raises TwinRicError (E2-ACTION): this function takes none."""
        del header, message
        raise TwinRicError("E2-ACTION", "ran_function_id", self._definition.ran_function_id, "a function with controls")

    def observe(self, sample: NodeSample) -> list[Indication]:
        """Take a step's sample; the indications that it makes due."""
        del sample
        return []


@dataclass
class _Open(Generic[Selection]):
    """A subscription with its period, the next instant at which it is due, and what has gathered since the last."""

    period_ms: int
    next_ns: int
    actions: Mapping[int, Selection]
    gathered: Any = None


class _PeriodicFunction(NodeFunction, ABC, Generic[Selection]):
    """Reports gather samples and are due when simulated time reaches a multiple of their period.

    A step that jumps over several multiples makes one report, at its end.
    """

    def __init__(self, definition: RanFunction, node: Node, start_s: float) -> None:
        super().__init__(definition)
        self._node = node
        self._now_ns = to_ns(start_s)
        self._open: dict[RicRequestId, _Open[Selection]] = {}

    @abstractmethod
    def _read(self, subscription: NodeSubscription) -> tuple[int, dict[int, Selection]]:
        """Period [ms] and selection per report action."""

    @abstractmethod
    def _gather(self, before: Any, sample: NodeSample) -> Any:
        """What has gathered once `sample` is in."""

    @abstractmethod
    def _report(
        self, gathered: Any, sample: NodeSample, period_ms: int, selection: Selection
    ) -> tuple[bytes, bytes] | None:
        """Indication header and message, or None when there is nothing to report."""

    async def subscribe(self, subscription: NodeSubscription) -> Sequence[int]:
        """Ids of the admitted report actions. Raises TwinRicError for a bad trigger or definition."""
        period_ms, actions = self._read(subscription)
        if actions:
            entry = _Open(period_ms, self._next_multiple_ns(period_ms), actions)
            self._open[subscription.ric_request_id] = entry
        return list(actions)

    async def delete(self, subscription: NodeSubscription) -> None:
        """Stop reporting for `subscription`."""
        self._open.pop(subscription.ric_request_id, None)

    def observe(self, sample: NodeSample) -> list[Indication]:
        """Gather the sample everywhere; one indication per action of every subscription that is due."""
        self._now_ns = to_ns(sample.end_s)
        due: list[Indication] = []
        for request_id, entry in self._open.items():
            entry.gathered = self._gather(entry.gathered, sample)
            if self._now_ns < entry.next_ns:
                continue
            for action_id, selection in entry.actions.items():
                octets = self._report(entry.gathered, sample, entry.period_ms, selection)
                if octets is not None:
                    due.append(Indication(request_id, self.definition.ran_function_id, action_id, *octets))
            entry.gathered = None
            entry.next_ns = self._next_multiple_ns(entry.period_ms)
        return due

    def _next_multiple_ns(self, period_ms: int) -> int:
        period_ns = period_ms * 1_000_000
        return (self._now_ns // period_ns + 1) * period_ns


def _report_actions(subscription: NodeSubscription) -> dict[int, bytes]:
    return {action.ric_action_id: action.definition for action in subscription.actions if action.type == "report"}


class KpmFunction(_PeriodicFunction[tuple[str, ...]]):
    """E2SM-KPM: one row per slice, the node's cells together; `nr_cgi` names the node's first cell."""

    def __init__(self, node: Node, start_s: float) -> None:
        super().__init__(RanFunction(kpm.RAN_FUNCTION_ID, kpm.OID), node, start_s)
        self._items = tuple(kpm.KpmItem(node.nr_cgi, name) for name in node.s_nssai)

    def _read(self, subscription: NodeSubscription) -> tuple[int, dict[int, tuple[str, ...]]]:
        actions = {key: kpm.decode_action(octets) for key, octets in _report_actions(subscription).items()}
        return kpm.decode_trigger(subscription.event_trigger), actions

    def _gather(self, before: RanSample | None, sample: NodeSample) -> RanSample:
        return sample.ran if before is None else merge_samples(before, sample.ran)

    def _report(
        self, gathered: RanSample, sample: NodeSample, period_ms: int, selection: tuple[str, ...]
    ) -> tuple[bytes, bytes]:
        values = kpm_values(gathered, period_ms / 1e3)
        names = selection or tuple(values)
        stacked = np.stack([values[name] for name in names])
        stamp_ns = to_ns(sample.stamp_s)
        return kpm.encode_indication(
            kpm.KpmReport(self._node.e2_node_id, stamp_ns, period_ms, names, self._items, stacked)
        )


class CccFunction(NodeFunction):
    """E2SM-CCC: the dedicated ratio of a slice is its share of the FlexE calendar.

    A slice has its slots for itself and never more, so its minimum may be at most and its maximum must be at least the
    dedicated ratio; both are kept and answered.
    """

    def __init__(self, node: Node) -> None:
        super().__init__(RanFunction(ccc.RAN_FUNCTION_ID, ccc.OID))
        self._node = node

    async def control(self, header: bytes, message: bytes) -> bytes:
        """Set slots; the outcome is the ratios in force of the slices asked for. Raises TwinRicError."""
        ratios = ccc.decode_control(header, message)
        calendar = self._node.ran.calendar
        slot_percent = 100 / len(calendar.owners)
        wanted: dict[str, int] = {}
        faults: list[Fault] = []
        for ratio in ratios:
            asked = ratio.rrm_policy_dedicated_ratio
            slots = round(asked / slot_percent)
            where = f"rrm_policy_dedicated_ratio[{ratio.s_nssai}]"
            if abs(slots * slot_percent - asked) > 1e-9:
                faults.append(Fault("E2-RANGE", where, asked, f"multiples of {slot_percent:g} % (one FlexE slot)"))
            if ratio.rrm_policy_min_ratio > asked:
                where = f"rrm_policy_min_ratio[{ratio.s_nssai}]"
                remedy = "FlexE slots are dedicated, so only they are guaranteed."
                faults.append(Fault("E2-RANGE", where, ratio.rrm_policy_min_ratio, f"0..{asked} %", remedy))
            wanted[ratio.s_nssai] = slots
        if faults:
            raise TwinRicError.of(faults)
        self._node.allocate(wanted)
        slots_of = dict(zip(self._node.s_nssai, calendar.slots.tolist(), strict=True))
        in_force = tuple(replace_ratio(ratio, round(slots_of[ratio.s_nssai] * slot_percent)) for ratio in ratios)
        return ccc.encode_outcome(in_force)


def replace_ratio(ratio: ccc.SliceRatio, dedicated: int) -> ccc.SliceRatio:
    """`ratio` with the dedicated ratio that the calendar holds [%]."""
    return ratio.model_copy(update={"rrm_policy_dedicated_ratio": dedicated})


_MEANS: Mapping[str, frozenset[str]] = {
    "home_report": frozenset({
        "inflexible_kw", "pv_available_kw", "pv_kw", "wind_available_kw", "wind_kw", "appliance_kw", "battery_kw",
        "ev_kw", "hvac_kw", "import_kw", "export_kw",
    }),
    "storage_report": frozenset({"charge_kw", "discharge_kw", "frequency_hz"}),
    "feeder_report": frozenset({"import_kw", "loading_pct", "losses_kw"}),
}  # fmt: skip
"""Columns that are means over the period; the others are what holds at its end."""
_EXTREMES = {
    "voltage_min_pu": np.minimum, "voltage_max_pu": np.maximum,
    "battery_low_kw": np.maximum, "battery_high_kw": np.minimum, "ev_low_kw": np.maximum, "ev_high_kw": np.minimum,
    "hvac_low_kw": np.maximum, "hvac_high_kw": np.minimum, "charge_limit_kw": np.minimum,
    "discharge_limit_kw": np.minimum,
}  # fmt: skip
_STANDING = ("home_static", "outlook", "tariffs")
"""Tables that hold until replaced: they go out with every report of the residential grid, so that an app that starts
late has them."""


@dataclass
class _Gathered:
    tables: dict[str, Table] = field(default_factory=dict)
    spans_s: dict[str, float] = field(default_factory=dict)


class GridFunction(_PeriodicFunction[tuple[str, ...]]):
    """TwinRIC's grid service model: the tables of all grid parts of the node, and their set-points."""

    def __init__(self, node: Node, start_s: float) -> None:
        super().__init__(RanFunction(grid.RAN_FUNCTION_ID, grid.OID), node, start_s)
        self._standing: dict[str, Table] = {}
        self._skew_ns = 0

    async def control(self, header: bytes, message: bytes) -> bytes:
        """Set-points; the outcome is the values in force and since when by the node's clock, be it right or not.

        Raises TwinRicError naming the bound that is broken.
        """
        request = grid.decode_control(header, message)
        kind = request.set_points.kind
        if self._node.spec.desired_by_bus and kind in BY_BUS:
            raise TwinRicError("E2-RANGE", "control_header.kind", kind, "nothing: this node's homes obey twin.desired")
        in_force = self._node.apply(request.set_points, to_s(request.valid_until_ns))
        return grid.encode_outcome(replace(in_force, source_time_ns=in_force.source_time_ns + self._skew_ns))

    def observe(self, sample: NodeSample) -> list[Indication]:
        """Remember standing tables and the clock's error, then as every periodic function."""
        self._skew_ns = to_ns(sample.stamp_s) - to_ns(sample.end_s)
        self._standing.update({kind: sample.tables[kind] for kind in _STANDING if kind in sample.tables})
        return super().observe(sample)

    def _read(self, subscription: NodeSubscription) -> tuple[int, dict[int, tuple[str, ...]]]:
        actions = {key: grid.decode_action(octets) for key, octets in _report_actions(subscription).items()}
        return grid.decode_trigger(subscription.event_trigger), actions

    def _gather(self, before: _Gathered | None, sample: NodeSample) -> _Gathered:
        gathered = before or _Gathered()
        for kind, table in sample.tables.items():
            span_s = sample.grid_dt_s[kind]
            if kind in gathered.tables:
                table = _joined(gathered.tables[kind], table, gathered.spans_s[kind], span_s)
            gathered.tables[kind] = table
            gathered.spans_s[kind] = gathered.spans_s.get(kind, 0.0) + span_s
        return gathered

    def _report(
        self, gathered: _Gathered, sample: NodeSample, period_ms: int, selection: tuple[str, ...]
    ) -> tuple[bytes, bytes] | None:
        del period_ms
        tables = dict(gathered.tables)
        if "home_report" in tables:
            tables |= self._standing
        in_force = {kind: tables.pop(kind) for kind in IN_FORCE_SCHEMAS if kind in tables}
        chosen = {kind: table for kind, table in tables.items() if not selection or kind in selection}
        if not chosen:
            return None
        in_force = {k: t for k, t in in_force.items() if k.replace("_in_force", "_report") in chosen}
        starts_ns = {k: to_ns(sample.end_s - gathered.spans_s[k]) for k in chosen if k in gathered.spans_s}
        if self._skew_ns:
            chosen, in_force = self._skewed(chosen), self._skewed(in_force)
            starts_ns = {kind: start_ns + self._skew_ns for kind, start_ns in starts_ns.items()}
        report = grid.GridReport(self._node.e2_node_id, to_ns(sample.stamp_s), chosen, in_force, starts_ns)
        return grid.encode_indication(report)

    def _skewed(self, tables: Mapping[str, Table]) -> dict[str, Table]:
        return {k: replace(t, source_time_ns=t.source_time_ns + self._skew_ns) for k, t in tables.items()}


def _joined(first: Table, second: Table, first_s: float, second_s: float) -> Table:
    """Two consecutive tables of one kind as one: means by time, extremes, else the later value."""
    if first.ids != second.ids:
        return second
    means = _MEANS.get(second.kind, frozenset())
    share = second_s / (first_s + second_s)
    columns = dict(second.columns)
    for name, values in second.columns.items():
        if name in means:
            columns[name] = (1 - share) * first[name] + share * values
        elif name in _EXTREMES:
            columns[name] = _EXTREMES[name](first[name], values)
    return replace(second, columns=columns)


class DappFunction(NodeFunction):
    """TwinRIC's dApp service model: passes dApp reports on to whoever subscribed, at once."""

    def __init__(self) -> None:
        super().__init__(RanFunction(dapp.RAN_FUNCTION_ID, dapp.OID))
        self._open: dict[RicRequestId, list[int]] = {}
        self._openings = itertools.count(1)
        self.opened: dict[RicRequestId, int] = {}
        """Who is told of dApp reports now; the number tells a subscription from one of the same id before it."""
        self.on_control: Callable[[dapp.DAppControl], Awaitable[None]] | None = None
        """Hands a control on to its dApp and returns when that has accepted it; TwinRicError refuses."""

    async def subscribe(self, subscription: NodeSubscription) -> Sequence[int]:
        """Ids of the admitted report actions; trigger and definitions may be anything."""
        actions = list(_report_actions(subscription))
        if actions:
            self._open[subscription.ric_request_id] = actions
            self.opened[subscription.ric_request_id] = next(self._openings)
        return actions

    async def delete(self, subscription: NodeSubscription) -> None:
        """Stop passing reports on to `subscription`."""
        self._open.pop(subscription.ric_request_id, None)
        self.opened.pop(subscription.ric_request_id, None)

    async def control(self, header: bytes, message: bytes) -> bytes:
        """Hand a control on to its dApp; the outcome is the data that the dApp has accepted."""
        request = dapp.decode_control(header, message)
        if self.on_control is None:
            raise TwinRicError("E2-ACTION", "dapp_identifier", request.dapp_identifier, "a node with an E3 agent")
        await self.on_control(request)
        return request.data

    def indications(self, report: dapp.DAppReport) -> list[Indication]:
        """The indications that carry `report`, one per open action."""
        header, message = dapp.encode_indication(report)
        return [
            Indication(request_id, dapp.RAN_FUNCTION_ID, action_id, header, message)
            for request_id, actions in self._open.items()
            for action_id in actions
        ]
