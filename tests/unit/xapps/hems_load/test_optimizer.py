"""When plans are made, what they do with caps and events, and how they explain themselves."""

from dataclasses import replace

import numpy as np
import pytest

from xapps.hems_load.optimizer import Limits, Optimizer
from xapps.hems_load.policy import DrEvent, HemsPolicy

NS = 10**9
DAY = np.where(np.arange(96) % 48 < 24, 0.2, 0.4)


def later(state, seconds, **report):
    changed = {name: np.broadcast_to(value, len(state.homes)).astype(float) for name, value in report.items()}
    return replace(state, source_time_ns=state.source_time_ns + int(seconds * NS), report=dict(state.report) | changed)


def test_optimizer_plans_first_then_follows_then_plans_again(make_state):
    optimizer, policy = Optimizer(Limits()), HemsPolicy()
    state = make_state(2, buy=DAY)
    codes = [optimizer.decide(later(state, seconds), policy).reason.code for seconds in (0, 60, 840, 900, 960)]
    assert codes == ["FIRST_PLAN", "FOLLOW_PLAN", "FOLLOW_PLAN", "PLAN_AGED", "FOLLOW_PLAN"]


def test_optimizer_plans_at_once_on_policy_change_and_new_forecast(make_state):
    optimizer, state = Optimizer(Limits()), make_state(2, buy=DAY)
    optimizer.decide(state, HemsPolicy())
    changed = HemsPolicy(comfort_eur_per_k_h=1.0)
    assert optimizer.decide(later(state, 60), changed).reason.code == "POLICY_CHANGED"
    newer = replace(later(state, 120), forecast_ns=state.source_time_ns)
    assert optimizer.decide(newer, changed).reason.code == "NEW_FORECAST"


def test_optimizer_car_that_arrives_between_plans_gets_a_plan(make_state):
    cheap_now = np.where(np.arange(96) < 8, 0.1, 0.5)
    optimizer, policy = Optimizer(Limits()), HemsPolicy()
    away = make_state(1, buy=cheap_now, pv=0.0, pv_available_kw=0.0, ev_connected=0.0, ev_soc=0.0, ev_departure_h=0.0)
    assert optimizer.decide(away, policy).homes["ev_kw"][0] == 0
    here = later(away, 60, ev_connected=1.0, ev_soc=0.4, ev_departure_h=9.0)
    decision = optimizer.decide(here, policy)
    assert decision.reason.code == "FOLLOW_PLAN"
    assert decision.homes["ev_kw"][0] > 1


def test_optimizer_charges_when_cheap_and_discharges_when_dear(make_state):
    prices = np.where(np.arange(96) < 12, 0.1, 0.6)
    common = {"pv": 0.0, "pv_available_kw": 0.0, "ev_connected": 0.0, "hvac_max_kw": 0.0, "load": 1.0}
    cheap = make_state(1, buy=prices, battery_soc=0.2, **common)
    assert Optimizer(Limits()).decide(cheap, HemsPolicy()).homes["battery_kw"][0] > 0
    falling = np.where(np.arange(96) < 4, 0.7, 0.3)
    dear = make_state(1, buy=falling, battery_soc=0.8, **common)
    assert Optimizer(Limits()).decide(dear, HemsPolicy()).homes["battery_kw"][0] < 0


def test_optimizer_cap_is_kept_now_and_in_the_plan(make_state):
    state = make_state(
        6, buy=DAY, load=2.0, inflexible_kw=2.0, pv=0.0, pv_available_kw=0.0, ev_soc=0.4, ev_departure_h=20.0
    )
    free = Optimizer(Limits()).decide(state, HemsPolicy())
    assert free.reason.numbers["planned_net_kw"] > 25
    capped = Optimizer(Limits()).decide(state, HemsPolicy(import_cap_kw=30.0))
    net = 2.0 + capped.homes["hvac_kw"] + capped.homes["ev_kw"] + capped.homes["battery_kw"]
    assert net.sum() <= 30.0 + 1e-6
    assert capped.cap_miss_kw == 0
    assert capped.reason.numbers["cap_kw"] == 30.0


def test_optimizer_impossible_cap_is_told_by_how_much(make_state):
    state = make_state(
        2, load=3.0, inflexible_kw=3.0, pv=0.0, pv_available_kw=0.0, battery_soc=0.0, ev_connected=0.0, indoor_c=18.0
    )
    decision = Optimizer(Limits()).decide(state, HemsPolicy(import_cap_kw=1.0))
    assert decision.reason.code == "CAP_MISSED"
    assert decision.cap_miss_kw >= 5.0
    assert decision.reason.numbers["cap_miss_kw"] == pytest.approx(decision.cap_miss_kw)


def test_optimizer_dr_event_reduces_what_the_plan_would_have_imported(make_state):
    state = make_state(4, buy=np.full(96, 0.3), load=3.0, inflexible_kw=3.0, pv=0.0, pv_available_kw=0.0)
    optimizer = Optimizer(Limits())
    optimizer.decide(state, HemsPolicy())
    before = optimizer._standing.plan.net_kw
    start_s = state.time_s + 3600
    policy = HemsPolicy(dr_event=DrEvent(reduction_kw=4.0, start_s=start_s, end_s=start_s + 1800))
    optimizer.decide(later(state, 60), policy)
    after = optimizer._standing.plan.net_kw
    assert after[4:5].max() <= max(before[4:6].mean() - 4.0, 0) + 0.02


def test_optimizer_explains_one_home_and_knows_no_others(make_state):
    state = make_state(2, ev_soc=0.4, ev_departure_h=1.0, ev_target_soc=0.9, ev_max_kw=3.7)
    optimizer = Optimizer(Limits())
    decision = optimizer.decide(state, HemsPolicy())
    reason = optimizer.explain(state, "home-0")
    assert reason.code == "EV_TARGET_RELAXED"
    assert float(reason.details["ev_short_kwh"]) == pytest.approx(25 - 3.7 * 0.94, abs=0.1)
    assert "EV_TARGET_RELAXED" in decision.reason.details["home-0"]
    with pytest.raises(KeyError):
        optimizer.explain(state, "home-9")


def test_optimizer_same_inputs_same_decision(make_state):
    state = make_state(3, buy=DAY)
    first, second = (Optimizer(Limits()).decide(state, HemsPolicy(import_cap_kw=8.0)) for _ in range(2))
    for name, values in first.homes.columns.items():
        np.testing.assert_array_equal(values, second.homes[name])
