"""Plans of all homes under a cap on what they import together: Dantzig-Wolfe decomposition by the cap's shadow price.

Each home answers a price series with its best plan. A small master programme mixes the plans that each home has
offered (any mix is feasible for the home, since its set is convex) so that the sum respects the cap at least cost, and
its duals are the next price series. A plain price iteration would jump, since a linear home switches at a threshold.
It can stop after any round and has a plan. What the mix then still misses is settled home by home: each in turn plans
anew with the headroom that the others leave it, which never makes the fleet's objective worse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import highspy
import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.home_lp import HomeLp, HomePlan

__all__ = ["FleetPlan", "coordinate"]

Floats = NDArray[np.float64]

MISS_EUR_PER_KWH = 2.0
"""Price of each kWh beyond the cap: above any tariff, below a stranded EV, about that of 3 K of discomfort."""
FIRST_PRICE = 0.1
"""First guess of the shadow price where the free plans pass the cap [EUR/kWh]: the usual spread of a day's tariffs."""
SETTLE_PASSES = 2
_WEIGHT_TOLERANCE = 1e-6
_MISS_TOLERANCE_KW = 0.01


@dataclass(frozen=True)
class FleetPlan:
    """Plans (one per home), the shadow price (T,) [EUR/kWh], power beyond the cap (T,) [kW], rounds taken."""

    homes: tuple[HomePlan, ...]
    price: Floats
    miss_kw: Floats
    rounds: int

    @property
    def net_kw(self) -> Floats:
        """(T,) planned import of all homes together, exports counted against it."""
        return np.asarray(sum(plan.net_kw for plan in self.homes))


def coordinate(
    programmes: tuple[HomeLp, ...],
    cap_kw: Floats,
    price: Floats,
    hours: float,
    *,
    rounds: int,
    may_go_on: Callable[[], bool] = lambda: True,
) -> FleetPlan:
    """Plans of the posed `programmes` whose sum stays within `cap_kw` (T,) (infinite where there is none).

    `price` (T,) is the shadow price to start from. Stops when no home offers anything better, after `rounds`, or when
    `may_go_on` says no. Raises TwinRicError SOLVE-FAILED. Against: one programme for all homes, tests/unit.
    """
    nothing = np.zeros(cap_kw.size)
    offers = [[lp.solve(nothing)] for lp in programmes]
    free = FleetPlan(tuple(offer[0] for offer in offers), nothing, nothing, 0)
    over = free.net_kw > cap_kw + _MISS_TOLERANCE_KW
    if not over.any():
        return free
    capped = np.flatnonzero(np.isfinite(cap_kw))
    dual = np.where(np.isfinite(cap_kw), price, 0.0)
    dual = dual if dual.any() else np.where(over, FIRST_PRICE, 0.0)
    weights = [np.ones(1) for _ in offers]
    taken = 0
    while taken < rounds and may_go_on():
        if not _offer(programmes, offers, dual) and taken:
            break
        weights, dual = _mix(offers, cap_kw, capped, hours)
        taken += 1
    homes = [_mixed(offer, weight) for offer, weight in zip(offers, weights, strict=True)]
    _settle(programmes, homes, cap_kw)
    plan = FleetPlan(tuple(homes), dual, nothing, taken)
    miss = np.maximum(plan.net_kw - cap_kw, 0)
    return FleetPlan(plan.homes, dual, np.where(miss > _MISS_TOLERANCE_KW, miss, 0.0), taken)


def _settle(programmes: tuple[HomeLp, ...], homes: list[HomePlan], cap_kw: Floats) -> None:
    """Replace plans, one home after the other, by the best answer to what the others leave, until none is missing."""
    total = np.asarray(sum(plan.net_kw for plan in homes))
    for _ in range(SETTLE_PASSES):
        before = float(np.maximum(total - cap_kw, 0).sum())
        for row, lp in enumerate(programmes):
            if not np.any(total > cap_kw + _MISS_TOLERANCE_KW):
                return
            if not lp.flexible:
                continue
            headroom = cap_kw - (total - homes[row].net_kw)
            plan = lp.solve(np.zeros(cap_kw.size), headroom, MISS_EUR_PER_KWH)
            total = total - homes[row].net_kw + plan.net_kw
            homes[row] = plan
        if float(np.maximum(total - cap_kw, 0).sum()) > 0.9 * before:
            return


def _offer(programmes: tuple[HomeLp, ...], offers: list[list[HomePlan]], price: Floats) -> bool:
    """Let each home add its best plan at `price`; False when none of them is better than what it offered before."""
    better = False
    for lp, mine in zip(programmes, offers, strict=True):
        if not lp.flexible:
            continue
        plan = lp.solve(price)
        value = plan.cost_eur + lp.hours * float(price @ plan.net_kw)
        best = min(old.cost_eur + lp.hours * float(price @ old.net_kw) for old in mine)
        if value < best - 1e-5:
            mine.append(plan)
            better = True
    return better


def _mix(
    offers: list[list[HomePlan]], cap_kw: Floats, capped: NDArray[np.intp], hours: float
) -> tuple[list[Floats], Floats]:
    """Shares of each home's offers, and the shadow price (T,) of the cap."""
    plans = [(home, plan) for home, mine in enumerate(offers) for plan in mine]
    number, homes, caps = len(plans), len(offers), capped.size
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = number + caps, homes + caps
    model.col_cost_ = np.concatenate([[plan.cost_eur for _, plan in plans], np.full(caps, hours * MISS_EUR_PER_KWH)])
    model.col_lower_ = np.zeros(number + caps)
    model.col_upper_ = np.full(number + caps, highspy.kHighsInf)
    model.row_lower_ = np.concatenate([np.ones(homes), np.full(caps, -highspy.kHighsInf)])
    model.row_upper_ = np.concatenate([np.ones(homes), cap_kw[capped]])
    net = np.array([plan.net_kw[capped] for _, plan in plans])
    rows = np.concatenate(
        [
            np.column_stack(
                [[home for home, _ in plans], np.tile(np.arange(homes, homes + caps), (number, 1))]
            ).ravel(),
            np.arange(homes, homes + caps),
        ]
    )
    matrix = model.a_matrix_
    matrix.format_ = highspy.MatrixFormat.kColwise
    matrix.num_col_, matrix.num_row_ = number + caps, homes + caps
    starts = np.arange(number + 1) * (caps + 1)
    matrix.start_ = np.concatenate([starts, starts[-1] + 1 + np.arange(caps)]).astype(np.int32)
    matrix.index_ = rows.astype(np.int32)
    matrix.value_ = np.concatenate([np.column_stack([np.ones(number), net]).ravel(), -np.ones(caps)])
    solver = highspy.Highs()
    solver.silent()
    solver.setOptionValue("threads", 1)
    solver.passModel(model)
    solver.run()
    solution = solver.getSolution()
    share = np.maximum(np.array(solution.col_value)[:number], 0.0)
    price = np.zeros(cap_kw.size)
    price[capped] = np.maximum(-np.array(solution.row_dual)[homes:], 0.0) / hours
    weights: list[Floats] = []
    first = 0
    for mine in offers:
        own = share[first : first + len(mine)]
        weights.append(own / own.sum())
        first += len(mine)
    return weights, price


def _mixed(offer: list[HomePlan], weights: Floats) -> HomePlan:
    used = [(float(weight), plan) for weight, plan in zip(weights, offer, strict=True) if weight > _WEIGHT_TOLERANCE]
    used.sort(key=lambda pair: -pair[0])
    share, main = used[0]
    return main if len(used) == 1 else main.mixed(used[1:], share)
