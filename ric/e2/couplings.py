"""What else a control touches: slices against declared traffic, and pushes on a shared quantity. Pure.

Which parameter influences which is data (:class:`~ric.e2.conflict_policy.ConflictPolicy`). A parameter's name has a
class and an owner: "slice 1-000003" is of class "slice", "home_set_point h17 battery_kw" of class "home_set_point
battery_kw".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ric.e2.conflict_policy import ConflictPolicy, TrafficDemand

__all__ = ["Couplings", "Push", "Pushes", "SliceLoad", "class_of"]

SLICE = "slice"
MAX_KNOWN = 262_144


def class_of(parameter: str) -> str:
    """The class of a parameter: its name without the slice, home or unit that it belongs to."""
    kind, _, rest = parameter.partition(" ")
    column = rest.rpartition(" ")[2] if " " in rest else ""
    return f"{kind} {column}" if column else kind


class SliceLoad(NamedTuple):
    """A slice as a control would leave it: rate granted and needed [Mb/s], and the apps whose traffic does not fit."""

    granted_mbps: float
    needed_mbps: float
    needed_percent: float
    starved: tuple[str, ...]


@dataclass
class Push:
    """What one app's controls do to one quantity of one node, in the quantity's unit, until `until_s`."""

    until_s: float
    amount: float = 0.0
    by_parameter: dict[str, float] = field(default_factory=dict)


@dataclass
class Pushes:
    """What one control would do to one quantity: the app's push afterwards, its parts by parameter, the dead band."""

    dead_band: float
    amount: float = 0.0
    by_parameter: dict[str, float] = field(default_factory=dict)


class _Row(NamedTuple):
    """An influence, unpacked for the loop over a fleet's parameters."""

    target: str
    gain: float
    reference: float | None
    dead_band: float


class Couplings:
    """One policy's couplings, indexed for the check of a control."""

    def __init__(self, policy: ConflictPolicy) -> None:
        self.link_capacity_mbps = policy.link_capacity_mbps
        self._demands: dict[str, list[TrafficDemand]] = {}
        for demand in policy.demands:
            self._demands.setdefault(f"{SLICE} {demand.s_nssai}", []).append(demand)
        self._influences: dict[str, tuple[_Row, ...]] = {}
        for each in policy.influences:
            row = _Row(each.target, each.gain, each.reference, each.dead_band)
            self._influences[each.parameter] = (*self._influences.get(each.parameter, ()), row)
        self._rows: dict[str, tuple[_Row, ...]] = {}

    @property
    def has_demands(self) -> bool:
        """Whether any traffic is declared."""
        return bool(self._demands)

    def needs_value_in_force(self, parameter: str) -> bool:
        """Whether a later check will ask for the value that this parameter has now."""
        return class_of(parameter) == SLICE or any(row.reference is None for row in self._rows_of(parameter))

    def slice_load(self, app_id: str, e2_node_id: str, parameter: str, percent: float) -> SliceLoad | None:
        """The slice at `percent` of the link [%]; None where no demand is declared. Own traffic is one's own affair.

        A demand fits when all declared traffic of the slice fills at most its `max_utilisation`.
        """
        here = [d for d in self._demands.get(parameter, ()) if d.e2_node_id in ("", e2_node_id)]
        if not here:
            return None
        total_mbps = sum(demand.rate_mbps for demand in here)
        granted_mbps = self.link_capacity_mbps * percent / 100
        others = [demand for demand in here if demand.app_id != app_id]
        starved = [d for d in others if total_mbps > granted_mbps * d.max_utilisation + 1e-9]
        needed_mbps = max((total_mbps / d.max_utilisation for d in others), default=0.0)
        names = tuple(sorted({demand.app_id for demand in starved}))
        return SliceLoad(granted_mbps, needed_mbps, 100 * needed_mbps / self.link_capacity_mbps, names)

    def pushes(
        self,
        quantities: Mapping[str, float],
        value_in_force: Callable[[str], float | None],
        mine: Callable[[str], Push],
    ) -> dict[str, Pushes]:
        """What a control would do, by target, on top of what `mine(target)` says the app does already."""
        found: dict[str, Pushes] = {}
        known = self._rows
        for parameter, value in quantities.items() if self._influences else ():
            rows = known.get(parameter)
            for target, gain, reference, dead_band in self._rows_of(parameter) if rows is None else rows:
                if reference is not None:
                    part = gain * (value - reference)
                elif (before := value_in_force(parameter)) is not None:
                    part = gain * (value - before) + mine(target).by_parameter.get(parameter, 0.0)
                else:
                    continue  # nobody knows yet which way this moves
                push = found.get(target)
                if push is None:
                    push = found[target] = Pushes(dead_band)
                push.by_parameter[parameter] = part
                if dead_band > push.dead_band:
                    push.dead_band = dead_band
        for target, push in found.items():
            now = mine(target)
            replaced = sum(filter(None, map(now.by_parameter.get, push.by_parameter)))
            push.amount = now.amount - replaced + sum(push.by_parameter.values())
        return found

    def _rows_of(self, parameter: str) -> tuple[_Row, ...]:
        rows = self._rows.get(parameter)
        if rows is None:
            if len(self._rows) >= MAX_KNOWN:
                self._rows.clear()
            rows = self._rows[parameter] = self._influences.get(class_of(parameter), ())
        return rows
