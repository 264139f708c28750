"""One home's programme: invariants of its plans, and its optimum against an independent formulation by SciPy."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from ric.errors import TwinRicError
from xapps.hems_load.home_lp import HomeLp, HomeProblem

STEPS, HOURS = 16, 0.25


def random_problem(seed, steps=STEPS):
    rng = np.random.default_rng(seed)
    has_battery, has_ev, has_heat_pump = rng.random(3) < 0.7
    buy = rng.uniform(0.1, 0.5, steps)
    stay = int(rng.integers(0, steps + 1))
    capacity = rng.uniform(30, 80)
    now = rng.uniform(0.1, 0.9) * capacity if stay else 0.0
    target = np.where(np.arange(steps) >= stay - 1, rng.uniform(0.3, 0.9) * capacity, 0.0) if stay else np.zeros(steps)
    left, loss = np.exp(-HOURS / rng.uniform(20, 80)), rng.uniform(0.1, 0.3)
    outdoor = rng.uniform(-5, 12, steps)
    low = np.full(steps, 20.0)
    return HomeProblem(
        hours=HOURS,
        load_kw=rng.uniform(0, 3, steps),
        pv_kw=rng.uniform(0, 6, steps) * (rng.random() < 0.6),
        buy=buy,
        sell=buy - rng.uniform(0.01, 0.3),
        connection_kw=float(rng.uniform(4, 12)),
        export_allowed=bool(rng.random() < 0.8),
        has_battery=bool(has_battery),
        has_ev=bool(has_ev),
        has_heat_pump=bool(has_heat_pump),
        battery=(rng.uniform(0, 10), 10.0, 5.0, 0.95),
        ev=(now, capacity, 11.0, float(rng.choice([0.0, 11.0])), 0.94),
        ev_here=(np.arange(steps) < stay).astype(float),
        ev_floor_kwh=np.full(steps, min(0.3 * capacity, now)),
        ev_target_kwh=target,
        heat_pump_kw=3.0,
        indoor_c=float(rng.uniform(19, 22)),
        left=float(left),
        warm_c_per_kw=(1 - left) / loss * rng.uniform(2.5, 4, steps),
        drift_c=(1 - left) * (outdoor + 0.3 / loss),
        low_c=low,
        high_c=low + 3,
        prices=(5.0, 0.02, 0.06, 0.5, 3.0, 0.1),
        end_values=(0.2, 0.3),
    )


def programme(problem):
    lp = HomeLp(
        problem.load_kw.size,
        has_battery=problem.has_battery,
        has_ev=problem.has_ev,
        has_heat_pump=problem.has_heat_pump,
    )
    lp.pose(problem)
    return lp


def powers_only_optimum(problem, price):
    """The same home written without state variables: energies and temperatures are sums of powers. SciPy solves it."""
    p, t, h = problem, problem.load_kw.size, problem.hours
    over, wear, v2g, discomfort, short, held = p.prices
    names = ["imp", "over", "exp", "pv"] + p.has_battery * ["bc", "bd"] + p.has_ev * ["ec", "ed"]
    names += p.has_heat_pump * ["hp", "cold", "hot"]
    at = {name: slice(i * t, (i + 1) * t) for i, name in enumerate(names)}
    n = len(names) * t + 1
    c, top = np.zeros(n), np.full(n, np.inf)
    c[at["imp"]], top[at["imp"]] = h * (p.buy + price), p.connection_kw
    c[at["over"]] = h * (p.buy + price + over)
    c[at["exp"]], top[at["exp"]] = -h * (p.sell + price), p.connection_kw * p.export_allowed
    c[at["pv"]], top[at["pv"]] = -1e-5 * h, p.pv_kw
    c[-1] = short
    a_eq = np.zeros((t, n))
    for name, sign in {"imp": 1, "over": 1, "exp": -1, "pv": 1, "bc": -1, "bd": 1, "ec": -1, "ed": 1, "hp": -1}.items():
        if name in at:
            a_eq[:, at[name]] += sign * np.eye(t)
    a_ub, b_ub, constant = [], [], 0.0
    sums = np.tril(np.ones((t, t)))

    def energy(charge, discharge, efficiency):
        row = np.zeros((t, n))
        row[:, at[charge]], row[:, at[discharge]] = h * efficiency * sums, -h / efficiency * sums
        return row

    if p.has_battery:
        start, capacity, limit, efficiency = p.battery
        row = energy("bc", "bd", efficiency)
        a_ub += [row, -row]
        b_ub += [np.full(t, capacity - start), np.full(t, start)]
        c[at["bc"]] = c[at["bd"]] = h * wear
        top[at["bc"]] = top[at["bd"]] = limit
        c -= p.end_values[0] * row[-1]
        constant -= p.end_values[0] * start
    if p.has_ev:
        start, capacity, charge, discharge, efficiency = p.ev
        row = energy("ec", "ed", efficiency)
        needs = -row.copy()
        needs[:, -1] = -1.0
        a_ub += [row, -row, needs]
        b_ub += [np.full(t, capacity - start), start - p.ev_floor_kwh, start - p.ev_target_kwh]
        c[at["ec"]], c[at["ed"]] = 1e-5 * h, h * v2g
        top[at["ec"]], top[at["ed"]] = charge * p.ev_here, discharge * p.ev_here
        c -= held * row[-1]
        constant -= held * start
    if p.has_heat_pump:
        decay = np.array([[p.left ** (i - j) if j <= i else 0.0 for j in range(t)] for i in range(t)])
        row = np.zeros((t, n))
        row[:, at["hp"]] = decay * p.warm_c_per_kw[None, :]
        free = decay @ p.drift_c + p.indoor_c * p.left ** np.arange(1, t + 1)
        cold, hot = -row.copy(), row.copy()
        cold[:, at["cold"]], hot[:, at["hot"]] = -np.eye(t), -np.eye(t)
        a_ub += [cold, hot]
        b_ub += [free - p.low_c, p.high_c - free]
        top[at["hp"]] = p.heat_pump_kw
        c[at["cold"]] = c[at["hot"]] = h * discomfort
        c -= p.end_values[1] * row[-1]
        constant -= p.end_values[1] * free[-1]
    result = linprog(
        c,
        np.vstack(a_ub) if a_ub else None,
        np.concatenate(b_ub) if b_ub else None,
        a_eq,
        p.load_kw,
        np.column_stack([np.zeros(n), top]),
        method="highs-ipm",
    )
    assert result.status == 0, result.message
    return result.fun + constant


@pytest.mark.parametrize("seed", range(25))
def test_home_lp_against_linprog_without_state_variables(seed):
    problem = random_problem(seed)
    price = np.random.default_rng(seed).uniform(0, 0.3, STEPS) * (seed % 2)
    plan = programme(problem).solve(price)
    own = plan.cost_eur + HOURS * float(price @ plan.net_kw)
    assert own == pytest.approx(powers_only_optimum(problem, price), abs=1e-5)


def test_home_lp_kept_basis_gives_the_optimum_of_a_fresh_one():
    first = replace(random_problem(1), has_battery=True, has_ev=True, has_heat_pump=True)
    kept = programme(first)
    kept.solve(np.zeros(STEPS))
    for seed in range(2, 12):
        problem = replace(random_problem(seed), has_battery=True, has_ev=True, has_heat_pump=True, left=first.left)
        kept.pose(problem)
        assert kept.solve(np.zeros(STEPS)).cost_eur == pytest.approx(
            programme(problem).solve(np.zeros(STEPS)).cost_eur, abs=1e-6
        )


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_home_plan_balances_and_stays_within_its_devices(seed):
    problem = random_problem(seed)
    plan = programme(problem).solve(np.zeros(STEPS))
    tolerance = 1e-6
    balance = problem.load_kw + plan.battery_kw + plan.ev_kw + plan.hvac_kw - plan.pv_kw
    np.testing.assert_allclose(plan.net_kw, balance, atol=1e-6)
    assert (plan.pv_kw <= problem.pv_kw + tolerance).all()
    assert plan.net_kw.max() <= problem.connection_kw + tolerance or plan.over_kwh > 0
    assert (-plan.net_kw).max() <= problem.connection_kw * problem.export_allowed + tolerance
    if problem.has_battery:
        start, capacity, limit, efficiency = problem.battery
        assert (plan.battery_kwh >= -tolerance).all()
        assert (plan.battery_kwh <= capacity + tolerance).all()
        assert np.abs(plan.battery_kw).max() <= limit + tolerance
        stored = np.where(plan.battery_kw > 0, plan.battery_kw * efficiency, plan.battery_kw / efficiency) * HOURS
        np.testing.assert_allclose(plan.battery_kwh, start + np.cumsum(stored), atol=1e-5)
    if problem.has_ev:
        assert (plan.ev_kw[problem.ev_here == 0] == 0).all()
        assert (plan.ev_kwh <= problem.ev[1] + tolerance).all()
        assert (plan.ev_kwh >= problem.ev_floor_kwh - tolerance).all()
        assert (plan.ev_kwh + plan.ev_short_kwh >= problem.ev_target_kwh - 1e-5).all()


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_home_plan_never_imports_and_exports_at_once(seed):
    """If both flowed, the cost at the net power would be lower than the cost of the plan."""
    problem = replace(random_problem(seed), has_heat_pump=False, has_ev=False)
    plan = programme(problem).solve(np.zeros(STEPS))
    bill = HOURS * (problem.buy @ np.maximum(plan.net_kw, 0) - problem.sell @ np.maximum(-plan.net_kw, 0))
    extra = problem.prices[0] * plan.over_kwh - 1e-5 * HOURS * plan.pv_kw.sum()
    if problem.has_battery:
        extra += problem.prices[1] * HOURS * np.abs(plan.battery_kw).sum()
        extra -= problem.end_values[0] * plan.battery_kwh[-1]
    assert plan.cost_eur == pytest.approx(bill + extra, abs=1e-5)


@given(st.integers(0, 10_000), st.floats(0.2, 1.0))
@settings(max_examples=40, deadline=None)
def test_home_plan_ev_target_is_met_when_it_can_be(seed, share):
    """The target is what full power reaches in `share` of the stay, within the contract."""
    problem = random_problem(seed)
    stay = 12
    here = (np.arange(STEPS) < stay).astype(float)
    now, capacity = 15.0, 60.0
    reach = min(capacity, now + share * 3.7 * 0.94 * HOURS * stay)
    target = np.where(np.arange(STEPS) >= stay - 1, reach, 0.0)
    problem = replace(
        problem, has_ev=True, ev=(now, capacity, 3.7, 0.0, 0.94), ev_here=here, ev_target_kwh=target,
        ev_floor_kwh=np.zeros(STEPS), connection_kw=20.0, has_heat_pump=False,
    )  # fmt: skip
    plan = programme(problem).solve(np.zeros(STEPS))
    assert plan.ev_short_kwh == pytest.approx(0, abs=1e-6)
    assert plan.ev_kwh[stay - 1] >= reach - 1e-6


def test_home_plan_impossible_target_is_missed_by_the_least_amount():
    here = np.ones(STEPS)
    problem = replace(
        random_problem(3), has_ev=True, ev=(10.0, 60.0, 3.7, 0.0, 1.0), ev_here=here, connection_kw=50.0,
        ev_target_kwh=np.where(np.arange(STEPS) == STEPS - 1, 55.0, 0.0), ev_floor_kwh=np.zeros(STEPS),
    )  # fmt: skip
    plan = programme(problem).solve(np.zeros(STEPS))
    assert plan.ev_short_kwh == pytest.approx(55 - 10 - 3.7 * HOURS * STEPS, abs=1e-5)


def test_home_plan_headroom_is_kept_where_the_battery_can():
    flat = np.full(STEPS, 0.3)
    problem = replace(
        random_problem(5), has_battery=True, has_ev=False, has_heat_pump=False, load_kw=np.full(STEPS, 2.0),
        pv_kw=np.zeros(STEPS), buy=flat, sell=flat - 0.2, battery=(8.0, 10.0, 5.0, 1.0), connection_kw=20.0,
    )  # fmt: skip
    headroom = np.where(np.arange(STEPS) < 4, 0.5, np.inf)
    plan = programme(problem).solve(np.zeros(STEPS), headroom, 2.0)
    assert plan.net_kw[:4].max() <= 0.5 + 1e-6


def test_home_lp_without_problem_is_refused():
    lp = HomeLp(4, has_battery=True, has_ev=False, has_heat_pump=False)
    with pytest.raises(TwinRicError, match="SOLVE-FAILED"):
        lp.solve(np.zeros(4))
