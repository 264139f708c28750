"""Plans of all homes under a cap on all of them and caps on groups, and plans of some homes put among the others'."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.caps import Cap
from xapps.hems_load.fleet_problem import Costs, FleetPlan, FleetProblem
from xapps.hems_load.solver import Effort, WarmStart, coordinate_fleet, solve_fleet
from xapps.hems_load.solver.coordination import EVENNESS_EUR

__all__ = ["Coordination", "Elsewhere", "joined", "plan_under_caps", "with_rows"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


OF_THE_FLEET = ("fleet_price", "miss_kw", "rounds")
"""What a plan has of all homes together."""
FEW_HOMES, MOST_MORE = 64, 8
"""Fewer homes than this get more rounds, so many times as many go into it, up to the second."""


Elsewhere = Callable[[FleetProblem, Floats, Mapping[str, Any]], FleetPlan | None]
"""Has all homes planned in other processes under a cap (T,) [kW] on all of them, with options of `coordinate_shards`;
None where these are not to be had now."""


@dataclass(frozen=True)
class Coordination:
    """How a cap is agreed on."""

    rounds: int
    may_go_on: Callable[[float], bool]
    effort: Effort
    elsewhere: Elsewhere | None = None


def plan_under_caps(
    problem: FleetProblem, caps: Sequence[Cap], warm: WarmStart | None, how: Coordination
) -> tuple[FleetPlan, WarmStart | None, Floats]:
    """Plans, a start for the next ones, and the price (T,) or (N, T) [EUR/kWh] that each home saw beside its tariff.

    Plans made elsewhere leave no start here: that is None.

    `caps`: groups, then all homes. All homes are planned under their own cap first. The homes of a group that then
    imports too much are planned anew at the price so far, within the group's cap and without taking more of any other
    cap than it leaves free, the largest group first. So a group within another keeps both. One that shares only some
    homes with another may upset it; the second time round, it leaves those homes as they are.
    """
    *groups, whole = caps
    plan, warm = _of_all(problem, whole, warm, how)
    price = plan.fleet_price
    for apart in (False, True):
        for group in reversed(groups):
            if group.is_over(plan.net_kw).any():
                rows = _apart(group, caps) if apart else group.rows
                own = np.flatnonzero(rows)
                if own.size:
                    limit = replace(group, kw=_room_kw(plan, rows, group, caps))
                    plan, price = _hold(problem, (plan, price), own, limit, how)
    return plan, warm, price


def _of_all(
    problem: FleetProblem, whole: Cap, warm: WarmStart | None, how: Coordination
) -> tuple[FleetPlan, WarmStart | None]:
    cap_kw = np.asarray(whole.kw)
    if how.elsewhere is not None:
        plan = how.elsewhere(problem, cap_kw, _options(problem, how, whole.fairness))
        if plan is not None:
            return plan, None
    if np.isfinite(cap_kw).any():
        return _coordinated(problem, cap_kw, warm, how, whole.fairness)
    return solve_fleet(problem, warm, effort=how.effort)


def _apart(group: Cap, caps: Sequence[Cap]) -> Bools:
    """(N,) homes of the group but for those that it shares with one that neither holds it nor lies in it."""
    rows = group.rows.copy()
    for cap in caps:
        if (group.rows & ~cap.rows).any() and (cap.rows & ~group.rows).any():
            rows &= ~cap.rows
    return rows


def _room_kw(plan: FleetPlan, rows: Bools, group: Cap, caps: Sequence[Cap]) -> Floats:
    """(T,) most that the homes in `rows` may import for the group to keep its cap and for others to be no worse."""
    own_kw = plan.net_kw[rows].sum(axis=0)
    limit = own_kw - group.over_kw(plan.net_kw)
    for cap in caps:
        if (cap.rows & rows).any():
            limit = np.minimum(limit, own_kw + np.maximum(-cap.over_kw(plan.net_kw), 0))
    return np.asarray(limit)


def _coordinated(
    problem: FleetProblem, cap_kw: Floats, warm: WarmStart | None, how: Coordination, fairness: float
) -> tuple[FleetPlan, WarmStart]:
    return coordinate_fleet(problem, cap_kw, warm, effort=how.effort, **_options(problem, how, fairness))


def _options(problem: FleetProblem, how: Coordination, fairness: float) -> dict[str, Any]:
    # Few homes have few plans to mix, and a round of theirs costs next to nothing.
    more = min(max(FEW_HOMES // problem.homes, 1), MOST_MORE)
    return {"rounds": how.rounds * more, "may_go_on": how.may_go_on, "evenness_eur": 2 * EVENNESS_EUR * fairness}


def _hold(
    problem: FleetProblem, stands: tuple[FleetPlan, Floats], rows: Ints, limit: Cap, how: Coordination
) -> tuple[FleetPlan, Floats]:
    """Plans in which the homes of `rows` keep `limit`, and the price with theirs on top for them."""
    plan, price = stands
    seen = price[rows] if price.ndim == 2 else price
    part = problem.take(rows)
    meter = part.meter
    dearer = replace(part, meter=replace(meter, buy=meter.buy + seen, sell=meter.sell + seen))
    fresh, _ = _coordinated(dearer, np.asarray(limit.kw), None, how, limit.fairness)
    paid = (fresh.net_kw * seen) @ problem.hours
    fresh = replace(fresh, costs=replace(fresh.costs, energy=fresh.costs.energy - paid))
    prices = np.array(np.broadcast_to(price, plan.net_kw.shape))
    prices[rows] += fresh.fleet_price
    return with_rows(plan, rows, fresh), prices


def with_rows(plan: FleetPlan, rows: Ints, fresh: FleetPlan) -> FleetPlan:
    """`plan` with the homes in `rows` replaced; appliance slots that only one of the two has are filled up."""
    changed: dict[str, Any] = {}
    for field in fields(FleetPlan):
        old, new = getattr(plan, field.name), getattr(fresh, field.name)
        if field.name in ("appliance_kw", "shiftable_start"):
            changed[field.name] = _widened(old, rows, new, -1 if field.name == "shiftable_start" else 0)
        elif field.name == "relaxed":
            changed["relaxed"] = {code: _put(values, rows, new[code]) for code, values in old.items()}
        elif field.name == "costs":
            changed["costs"] = replace(
                old, **{part.name: _put(getattr(old, part.name), rows, getattr(new, part.name)) for part in fields(old)}
            )
        elif field.name not in OF_THE_FLEET:
            changed[field.name] = _put(old, rows, new)
    return replace(plan, **changed)


def joined(plans: Sequence[FleetPlan], rows: Sequence[Ints]) -> FleetPlan:
    """One plan of the homes of all `plans`, which stand in `rows` of it."""

    def together(parts: Sequence[Any]) -> Any:
        result = np.empty((sum(len(own) for own in rows), *parts[0].shape[1:]), parts[0].dtype)
        for own, part in zip(rows, parts, strict=True):
            result[own] = part
        return result

    first, changed = plans[0], dict[str, Any]()
    for field in fields(FleetPlan):
        parts = [getattr(plan, field.name) for plan in plans]
        if field.name == "relaxed":
            changed["relaxed"] = {code: together([part[code] for part in parts]) for code in first.relaxed}
        elif field.name == "costs":
            names = [part.name for part in fields(first.costs)]
            changed["costs"] = Costs(**{name: together([getattr(part, name) for part in parts]) for name in names})
        elif field.name not in OF_THE_FLEET:
            changed[field.name] = together(parts)
    return replace(first, **changed)


def _put(old: Any, rows: Ints, new: Any) -> Any:
    result = old.copy()
    result[rows] = new
    return result


def _widened(old: Any, rows: Ints, new: Any, nothing: int) -> Any:
    slots = max(old.shape[1], new.shape[1])
    result = np.full((old.shape[0], slots, *old.shape[2:]), nothing, dtype=old.dtype)
    result[:, : old.shape[1]] = old
    result[rows] = nothing
    result[rows, : new.shape[1]] = new
    return result
