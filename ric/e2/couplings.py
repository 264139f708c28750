"""What else a control touches: slices against declared traffic, and pushes on a shared quantity. Pure.

Which parameter influences which is data (:class:`~ric.e2.conflict_policy.ConflictPolicy`). A parameter's name has a
class and an owner: "slice 1-000003" is of class "slice", "home_set_point h17 battery_kw" of class "home_set_point
battery_kw".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from ric.e2.conflict_policy import ConflictPolicy, Influence, TrafficDemand

__all__ = ["Couplings", "Push", "Pushes", "SliceLoad", "class_of"]

SLICE = "slice"


@lru_cache(maxsize=65_536)
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


class Pushes(NamedTuple):
    """What one control would do to one quantity: the app's push afterwards, its parts by parameter, the dead band."""

    amount: float
    by_parameter: Mapping[str, float]
    dead_band: float


class Couplings:
    """One policy's couplings, indexed for the check of a control."""

    def __init__(self, policy: ConflictPolicy) -> None:
        self.link_capacity_mbps = policy.link_capacity_mbps
        self._demands: dict[str, list[TrafficDemand]] = {}
        for demand in policy.demands:
            self._demands.setdefault(f"{SLICE} {demand.s_nssai}", []).append(demand)
        self._influences: dict[str, list[Influence]] = {}
        for influence in policy.influences:
            self._influences.setdefault(influence.parameter, []).append(influence)

    @property
    def has_demands(self) -> bool:
        """Whether any traffic is declared."""
        return bool(self._demands)

    def needs_value_in_force(self, parameter: str) -> bool:
        """Whether a later check will ask for the value that this parameter has now."""
        kind = class_of(parameter)
        return kind == SLICE or any(each.reference is None for each in self._influences.get(kind, ()))

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
        parts: dict[str, dict[str, float]] = {}
        dead_bands: dict[str, float] = {}
        for parameter, value, influence in self._influenced(quantities):
            before = value_in_force(parameter) if influence.reference is None else influence.reference
            if before is None:
                continue  # nobody knows yet which way this moves
            push = influence.gain * (value - before)
            by_parameter = parts.setdefault(influence.target, {})
            if influence.reference is None:
                push += mine(influence.target).by_parameter.get(parameter, 0.0)
            by_parameter[parameter] = push
            dead_bands[influence.target] = max(dead_bands.get(influence.target, 0.0), influence.dead_band)
        found = {}
        for target, by_parameter in parts.items():
            now = mine(target)
            replaced = sum(map(now.by_parameter.get, by_parameter, [0.0] * len(by_parameter)))
            amount = now.amount - replaced + sum(by_parameter.values())
            found[target] = Pushes(amount, by_parameter, dead_bands[target])
        return found

    def _influenced(self, quantities: Mapping[str, float]) -> Iterator[tuple[str, float, Influence]]:
        if not self._influences:
            return
        for parameter, value in quantities.items():
            for influence in self._influences.get(class_of(parameter), ()):
                yield parameter, value, influence
