"""The schedule: least cost of the feeder's exchange, losses, wear and peak, with reserve held. Pure.

A linear programme over H steps of a quarter of an hour and U units, solved by HiGHS through SciPy. Losses rise with the
square of the exchange (chords stand for the curve): of plans that cost the same the even one is taken, so that the
schedule neither jumps within a flat tariff nor from one plan to the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from rapps.storage_scheduling.policy import StorageSchedulingPolicy
from rapps.storage_scheduling.state import STEP_S, State
from ric.columns import Floats, Table
from ric.decision import Reason
from ric.errors import TwinRicError

__all__ = ["Decision", "ImportCap", "plan_cost_eur", "schedule_storage"]

STEP_H = STEP_S / 3600
RELAX_EUR_PER_KWH = 10.0
CHORDS = 20
"""Of the losses' curve, from no exchange to the most that the feeder could see."""


@dataclass(frozen=True)
class ImportCap:
    """A cap on the homes' import [kW] from `start_ns` to `end_ns`, to be sent to the HEMS as an A1 policy."""

    import_cap_kw: float
    start_ns: int
    end_ns: int


@dataclass(frozen=True)
class Decision:
    """Schedules (U, H) of one node, why, and the cap that the homes should keep, if any."""

    node: str
    unit_ids: tuple[str, ...]
    source_time_ns: int
    charge_kw: Floats
    discharge_kw: Floats
    reserve_kw: Floats
    soc: Floats
    cap: ImportCap | None
    reason: Reason

    def table(self) -> Table:
        """The storage_schedule table of a twin record."""
        columns = {
            "step_s": np.full(len(self.unit_ids), float(STEP_S)),
            "charge_kw": self.charge_kw,
            "discharge_kw": self.discharge_kw,
            "reserve_kw": self.reserve_kw,
            "soc": np.clip(self.soc, 0.0, 1.0),
        }
        return Table("storage_schedule", self.unit_ids, columns, self.source_time_ns)


def schedule_storage(state: State, policy: StorageSchedulingPolicy) -> Decision:
    """Charge, discharge and reserve of every unit over the horizon at least cost.

    minimise  sum_t h (buy_t (i_t + losses |i_t - x_t|^2) - sell_t x_t) + wear sum h (c + d)
              - reserve price sum h r + peak price p
    subject to  i_t - x_t = net_t + sum_u (c_ut - d_ut),  p >= i_t,
                e_ut = e_u,t-1 + h (eta c_ut - d_ut / eta),  soc_min E <= e <= soc_max E,  e_uH >= soc_target E,
                d_ut - c_ut + r_ut <= P_u,  r_ut >= share P_u,  eta e_ut >= r_ut reserve_hours.
    Energy bounds give way to the starting state, and the reserve's energy to a price, so there is always a plan.
    Raises TwinRicError SOLVE-FAILED when HiGHS stops without one. Against: a dynamic programme.
    """
    units, steps = len(state.unit_ids), len(state.net_kw)
    layout = _Layout(units, steps)
    result = linprog(
        _cost(state, policy, layout),
        A_ub=_inequalities(policy, state, layout),
        b_ub=np.concatenate([np.zeros(steps), np.repeat(state.max_kw, steps), np.zeros(units * steps)]),
        A_eq=_equalities(state, layout),
        b_eq=np.concatenate([state.net_kw, _first_energy(state, layout), np.zeros(steps)]),
        bounds=_bounds(state, policy, layout),
        method="highs",
    )
    if result.status != 0:
        raise TwinRicError("SOLVE-FAILED", "schedule", result.message, "an optimal schedule")
    charge, discharge, reserve, energy = (
        result.x[part].reshape(units, steps)
        for part in (layout.charge, layout.discharge, layout.reserve, layout.energy)
    )
    # Both at once only burns energy; where prices make the solver indifferent, the net power is what is meant.
    both = np.minimum(charge, discharge)
    reason = _reason(state, result.x, layout)
    cap = _import_cap(state, policy, charge - discharge)
    soc = energy / state.capacity_kwh[:, None]
    return Decision(
        state.node, state.unit_ids, state.source_time_ns, charge - both, discharge - both, reserve, soc, cap, reason
    )


class _Layout:
    """Where each variable lies: c, d, r, e, reserve slack (U x H each), i, x (H), p, chords (H x CHORDS)."""

    def __init__(self, units: int, steps: int) -> None:
        self.units, self.steps = units, steps
        block = units * steps
        self.charge, self.discharge, self.reserve, self.energy, self.below = (
            slice(index * block, (index + 1) * block) for index in range(5)
        )
        start = 5 * block
        self.imported, self.exported = slice(start, start + steps), slice(start + steps, start + 2 * steps)
        self.peak = start + 2 * steps
        self.chords = slice(self.peak + 1, self.peak + 1 + steps * CHORDS)
        self.size = self.chords.stop

    def pick(self, part: slice) -> sparse.csr_array:
        """Matrix that picks `part` of the vector."""
        length = part.stop - part.start
        return sparse.csr_array((np.ones(length), (np.arange(length), np.arange(part.start, part.stop))),
                                shape=(length, self.size))  # fmt: skip

    def sum_units(self) -> sparse.csr_array:
        """Matrix (H, U H) that sums a block over units."""
        return sparse.csr_array(sparse.hstack([sparse.identity(self.steps)] * self.units))


def _cost(state: State, policy: StorageSchedulingPolicy, layout: _Layout) -> Floats:
    cost = np.zeros(layout.size)
    cost[layout.charge] = cost[layout.discharge] = policy.wear_eur_per_kwh * STEP_H
    cost[layout.reserve] = -policy.reserve_price_eur_per_kw_h * STEP_H
    cost[layout.below] = RELAX_EUR_PER_KWH
    cost[layout.imported] = state.buy_eur_per_kwh * STEP_H
    # Selling dearer than buying would be unbounded: import and export at once. The meter allows only one of them.
    cost[layout.exported] = -np.minimum(state.sell_eur_per_kwh, state.buy_eur_per_kwh) * STEP_H
    cost[layout.peak] = policy.peak_price_eur_per_kw
    # Chord k of n^2 between k w and (k + 1) w rises by (2 k + 1) w for each kW.
    slope = policy.losses_per_kw * _chord_kw(state) * (2 * np.arange(CHORDS) + 1)
    cost[layout.chords] = np.outer(np.maximum(state.buy_eur_per_kwh, 0) * STEP_H, slope).ravel()
    return cost


def _chord_kw(state: State) -> float:
    """Length of a chord of the losses' curve [kW]."""
    return max(float(np.abs(state.net_kw).max() + state.max_kw.sum()) / CHORDS, 1e-6)


def _inequalities(policy: StorageSchedulingPolicy, state: State, layout: _Layout) -> sparse.csr_array:
    peak_column = sparse.csr_array(
        (np.ones(layout.steps), (np.arange(layout.steps), np.full(layout.steps, layout.peak))),
        shape=(layout.steps, layout.size),
    )
    peak = layout.pick(layout.imported) - peak_column
    power = layout.pick(layout.discharge) - layout.pick(layout.charge) + layout.pick(layout.reserve)
    eta = sparse.diags(np.repeat(state.efficiency, layout.steps))
    energy = layout.pick(layout.reserve) * policy.reserve_hours - eta @ layout.pick(layout.energy)
    # The unit may start too empty for its reserve; what it lacks is relaxed with the energy bound.
    energy = energy - layout.pick(layout.below)
    return sparse.csr_array(sparse.vstack([peak, power, energy]))


def _equalities(state: State, layout: _Layout) -> sparse.csr_array:
    total = layout.sum_units()
    exchange = layout.pick(layout.imported) - layout.pick(layout.exported)
    balance = exchange - total @ (layout.pick(layout.charge) - layout.pick(layout.discharge))
    step = sparse.identity(layout.steps) - sparse.eye(layout.steps, k=-1)
    chain = sparse.kron(sparse.identity(layout.units), step) @ layout.pick(layout.energy)
    eta = np.repeat(state.efficiency, layout.steps)
    gained = sparse.diags(eta) @ layout.pick(layout.charge) - sparse.diags(1 / eta) @ layout.pick(layout.discharge)
    filled = sparse.kron(sparse.identity(layout.steps), np.ones((1, CHORDS))) @ layout.pick(layout.chords)
    either = layout.pick(layout.imported) + layout.pick(layout.exported)
    return sparse.csr_array(sparse.vstack([balance, chain - gained * STEP_H, filled - either]))


def _first_energy(state: State, layout: _Layout) -> Floats:
    first = np.zeros((layout.units, layout.steps))
    first[:, 0] = state.soc * state.capacity_kwh
    return first.ravel()


def _bounds(state: State, policy: StorageSchedulingPolicy, layout: _Layout) -> Floats:
    low, high = np.zeros(layout.size), np.full(layout.size, np.inf)
    power = np.repeat(state.max_kw, layout.steps)
    high[layout.charge] = high[layout.discharge] = power
    low[layout.reserve], high[layout.reserve] = policy.reserve_share * power, power
    high[layout.chords].reshape(-1, CHORDS)[:, :-1] = _chord_kw(state)
    # The power limit holds with the reserve: discharge + reserve <= limit + charge, so the share is always feasible.
    start = state.soc * state.capacity_kwh
    floor = np.minimum(policy.soc_min * state.capacity_kwh, start)
    ceiling = np.maximum(policy.soc_max * state.capacity_kwh, start)
    energy_low = np.repeat(floor, layout.steps).reshape(layout.units, layout.steps)
    # The target may be out of reach; a twentieth of the way is left for what else the power is needed for.
    reach = start + 0.95 * STEP_H * layout.steps * state.efficiency * state.max_kw
    highest = np.minimum(reach, policy.soc_max * state.capacity_kwh)
    energy_low[:, -1] = np.clip(policy.soc_target * state.capacity_kwh, floor, np.maximum(highest, floor))
    low[layout.energy], high[layout.energy] = energy_low.ravel(), np.repeat(ceiling, layout.steps)
    return np.stack([low, high], axis=1)


def _reason(state: State, x: Floats, layout: _Layout) -> Reason:
    steps = layout.steps
    net_kw = state.net_kw + (x[layout.charge] - x[layout.discharge]).reshape(-1, steps).sum(axis=0)
    relaxed_kwh = float(x[layout.below].max(initial=0.0))
    numbers = {
        "cost_eur": plan_cost_eur(net_kw, state),
        "cost_without_storage_eur": plan_cost_eur(state.net_kw, state),
        "peak_kw": float(net_kw.max()),
        "peak_without_storage_kw": float(state.net_kw.max()),
        "throughput_kwh": float((x[layout.charge] + x[layout.discharge]).sum() * STEP_H),
        "reserve_kw": float(x[layout.reserve].reshape(-1, steps)[:, 0].sum()),
        "reserve_relaxed_kwh": relaxed_kwh,
    }
    return Reason("RESERVE_RELAXED" if relaxed_kwh > 1e-6 else "OPTIMAL", numbers)


def plan_cost_eur(net_kw: Floats, state: State) -> float:
    """Cost of exchanging net_kw (H,) [kW] with the grid at the state's tariffs [EUR]."""
    bought = np.maximum(net_kw, 0) @ state.buy_eur_per_kwh
    sold = np.maximum(-net_kw, 0) @ state.sell_eur_per_kwh
    return float((bought - sold) * STEP_H)


def _import_cap(state: State, policy: StorageSchedulingPolicy, storage_kw: Floats) -> ImportCap | None:
    """The window in which the cautious forecast breaks the feeder's limit, and what is left for the homes in it."""
    if policy.feeder_limit_kw <= 0:
        return None
    over = state.net_p90_kw + storage_kw.sum(axis=0) > policy.feeder_limit_kw
    if not over.any():
        return None
    first = int(over.argmax())
    last = first + int((~over[first:]).argmax()) if not over[first:].all() else len(over)
    step_ns = STEP_S * 1_000_000_000
    left_kw = policy.feeder_limit_kw - float(storage_kw.sum(axis=0)[first:last].max())
    start_ns = state.source_time_ns + first * step_ns
    return ImportCap(max(left_kw, 0.0), start_ns, state.source_time_ns + last * step_ns)
