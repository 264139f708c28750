"""Plans under a cap: against one programme for all homes, and what happens when the cap cannot be kept."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog

from xapps.hems_load.coordination import MISS_EUR_PER_KWH, coordinate
from xapps.hems_load.home_lp import HomeLp, HomeProblem

STEPS, HOURS = 12, 0.25


def battery_home(seed):
    """A home with load, PV and battery only, so that the oracle stays readable."""
    rng = np.random.default_rng(seed)
    buy = np.random.default_rng(99).uniform(0.15, 0.45, STEPS)
    none = np.zeros(STEPS)
    return HomeProblem(
        hours=HOURS, load_kw=rng.uniform(0.5, 4, STEPS), pv_kw=rng.uniform(0, 2, STEPS), buy=buy, sell=buy - 0.1,
        connection_kw=15.0, export_allowed=True, has_battery=True, has_ev=False, has_heat_pump=False,
        battery=(rng.uniform(1, 6), 8.0, 4.0, 0.95), ev=(0, 0, 0, 0, 1), ev_here=none, ev_floor_kwh=none,
        ev_target_kwh=none,
        heat_pump_kw=0, indoor_c=20, left=0.99, warm_c_per_kw=none, drift_c=none, low_c=none, high_c=none,
        prices=(5.0, 0.02, 0.06, 0.5, 3.0, 0.0), end_values=(0.25, 0.0),
    )  # fmt: skip


def posed(problems):
    programmes = tuple(HomeLp(STEPS, has_battery=True, has_ev=False, has_heat_pump=False) for _ in problems)
    for lp, problem in zip(programmes, problems, strict=True):
        lp.pose(problem)
    return programmes


def joint_optimum(problems, cap):
    """All homes and the cap in one programme (variables import, export, pv, charge, discharge per home; miss)."""
    t, n = STEPS, len(problems)
    size = 5 * t * n + t
    c, top = np.zeros(size), np.full(size, np.inf)
    a_eq, b_eq = np.zeros((t * n, size)), np.concatenate([p.load_kw for p in problems])
    rows, sides, constant = [], [], 0.0
    coupling = np.zeros((t, size))
    for i, p in enumerate(problems):
        imp, exp, pv, bc, bd = (slice((5 * i + k) * t, (5 * i + k + 1) * t) for k in range(5))
        c[imp], c[exp], c[pv], c[bc], c[bd] = HOURS * p.buy, -HOURS * p.sell, -1e-5 * HOURS, HOURS * 0.02, HOURS * 0.02
        top[imp] = top[exp] = 15.0
        top[pv], top[bc], top[bd] = p.pv_kw, 4.0, 4.0
        for part, sign in ((imp, 1), (exp, -1), (pv, 1), (bc, -1), (bd, 1)):
            a_eq[i * t : (i + 1) * t, part] = sign * np.eye(t)
        energy = np.zeros((t, size))
        energy[:, bc] = HOURS * 0.95 * np.tril(np.ones((t, t)))
        energy[:, bd] = -HOURS / 0.95 * np.tril(np.ones((t, t)))
        rows += [energy, -energy]
        sides += [np.full(t, 8.0 - p.battery[0]), np.full(t, p.battery[0])]
        c -= 0.25 * energy[-1]
        constant -= 0.25 * p.battery[0]
        coupling[:, imp], coupling[:, exp] = np.eye(t), -np.eye(t)
    c[-t:] = HOURS * MISS_EUR_PER_KWH
    coupling[:, -t:] = -np.eye(t)
    finite = np.isfinite(cap)
    rows.append(coupling[finite])
    sides.append(cap[finite])
    result = linprog(c, np.vstack(rows), np.concatenate(sides), a_eq, b_eq, np.column_stack([np.zeros(size), top]))
    assert result.status == 0
    return result.fun + constant


def fleet_cost(plan):
    return sum(home.cost_eur for home in plan.homes) + HOURS * MISS_EUR_PER_KWH * plan.miss_kw.sum()


@pytest.mark.parametrize("seed", range(8))
def test_coordination_against_one_programme_for_all_homes(seed):
    problems = [battery_home(10 * seed + n) for n in range(5)]
    free = coordinate(posed(problems), np.full(STEPS, np.inf), np.zeros(STEPS), HOURS, rounds=0)
    cap = np.where(np.arange(STEPS) % 12 < 8, 0.7 * free.net_kw.max(), np.inf)
    plan = coordinate(posed(problems), cap, np.zeros(STEPS), HOURS, rounds=60)
    best = joint_optimum(problems, cap)
    assert fleet_cost(plan) >= best - 1e-5
    assert fleet_cost(plan) <= best + 0.01 * abs(best) + 0.01


def test_coordination_without_binding_cap_leaves_every_home_its_best_plan():
    problems = [battery_home(n) for n in range(4)]
    plan = coordinate(posed(problems), np.full(STEPS, 100.0), np.zeros(STEPS), HOURS, rounds=10)
    assert plan.rounds == 0
    assert not plan.price.any()
    for home, lp in zip(plan.homes, posed(problems), strict=True):
        assert home.cost_eur == pytest.approx(lp.solve(np.zeros(STEPS)).cost_eur, abs=1e-7)


@pytest.mark.parametrize("rounds", [0, 1, 3, 20], ids=["no round", "one round", "three rounds", "twenty rounds"])
def test_coordination_keeps_a_feasible_cap_after_any_number_of_rounds(rounds):
    problems = [battery_home(n) for n in range(6)]
    free = coordinate(posed(problems), np.full(STEPS, np.inf), np.zeros(STEPS), HOURS, rounds=0)
    cap = np.full(STEPS, np.inf)
    cap[:3] = 0.5 * free.net_kw[:3].max()
    plan = coordinate(posed(problems), cap, np.zeros(STEPS), HOURS, rounds=rounds)
    assert plan.net_kw[:3].max() <= cap[0] + 0.011
    assert not plan.miss_kw.any()


def test_coordination_stops_when_time_is_up_and_still_has_a_plan():
    problems = [battery_home(n) for n in range(4)]
    plan = coordinate(posed(problems), np.full(STEPS, 2.0), np.zeros(STEPS), HOURS, rounds=50, may_go_on=lambda: False)
    assert plan.rounds == 0
    assert len(plan.homes) == 4


def test_coordination_impossible_cap_is_missed_by_what_is_told():
    problems = [replace(battery_home(n), pv_kw=np.zeros(STEPS), battery=(0.0, 8.0, 4.0, 0.95)) for n in range(3)]
    cap = np.full(STEPS, 0.1)
    plan = coordinate(posed(problems), cap, np.zeros(STEPS), HOURS, rounds=10)
    np.testing.assert_allclose(plan.miss_kw, np.maximum(plan.net_kw - cap, 0), atol=0.011)
    load = sum(problem.load_kw for problem in problems)
    assert plan.miss_kw.sum() >= (load - cap).sum() - 1e-6
