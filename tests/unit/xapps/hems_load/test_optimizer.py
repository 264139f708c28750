"""When plans are made, what they do with caps and events, and how they explain themselves."""

from dataclasses import replace

import numpy as np
import pytest

from ric.decision import Reason
from ric.errors import TwinRicError
from xapps.hems_load.horizon import Steps
from xapps.hems_load.optimizer import Limits, Optimizer
from xapps.hems_load.policy import DrEvent, HemsPolicy

NS = 10**9
NOON_NS = 1_460_462_400 * NS
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


def test_optimizer_cap_is_kept_in_real_time(make_state):
    state = make_state(
        6, buy=DAY, load=2.0, inflexible_kw=2.0, pv=0.0, pv_available_kw=0.0, ev_soc=0.4, ev_departure_h=20.0
    )
    free = Optimizer(Limits()).decide(state, HemsPolicy())
    assert free.reason.numbers["planned_net_kw"] > 25
    capped = Optimizer(Limits()).decide(state, HemsPolicy(import_cap_kw=30.0))
    net = 2.0 + capped.homes["hvac_kw"] + capped.homes["ev_kw"] + capped.homes["battery_kw"]
    assert net.sum() <= 30.0 + 1e-6
    assert capped.reason.numbers["cap_kw"] == 30.0


def test_optimizer_impossible_cap_is_told_by_how_much(make_state):
    state = make_state(
        2, load=3.0, inflexible_kw=3.0, pv=0.0, pv_available_kw=0.0, battery_soc=0.0, ev_connected=0.0, indoor_c=18.0
    )
    decision = Optimizer(Limits()).decide(state, HemsPolicy(import_cap_kw=1.0))
    assert decision.reason.code == "CAP_MISSED"
    assert decision.missed_kw["cap"] >= 5.0
    assert decision.reason.numbers["cap_miss_kw"] == pytest.approx(decision.missed_kw["cap"])


def test_optimizer_dr_event_reduces_what_the_plan_would_have_imported(make_state):
    state = make_state(4, buy=np.full(96, 0.3), load=3.0, inflexible_kw=3.0, pv=0.0, pv_available_kw=0.0)
    optimizer = Optimizer(Limits())
    optimizer.decide(state, HemsPolicy())
    before = optimizer.plan.fleet_net_kw
    start_s = state.time_s + 3600
    policy = HemsPolicy(dr_event=DrEvent(reduction_kw=4.0, start_s=start_s, end_s=start_s + 1800))
    optimizer.decide(later(state, 60), policy)
    after = optimizer.plan.fleet_net_kw
    assert after[4:5].max() <= max(before[4:6].mean() - 4.0, 0) + 0.02


def test_optimizer_what_a_decision_told_counts_only_once_it_is_acted_on(make_state):
    """One that came too late is not: its lines are told with the next one, and a ramp counts from the last one."""
    state, policy = make_state(2, buy=DAY, load=2.0, inflexible_kw=2.0), HemsPolicy(ramp_limit_kw_per_min=1.0)
    optimizer = Optimizer(Limits())
    first = optimizer.decide(state, policy)
    assert first.reason.details
    after_discarded = optimizer.decide(later(state, 60), policy)
    assert set(after_discarded.reason.details) == set(first.reason.details)
    assert after_discarded.reason.code == "FOLLOW_PLAN", "the plan was made, late or not"
    optimizer.adopt(after_discarded)
    shifted = optimizer.follow(later(state, 120), policy, Reason("LATE"))
    assert not shifted.reason.details
    assert (after_discarded.told.time_ns, shifted.told.time_ns) == tuple(
        state.source_time_ns + seconds * NS for seconds in (60, 120)
    )


def test_optimizer_plan_that_fails_leaves_the_one_in_force_and_what_its_event_counts_from(make_state, monkeypatch):
    state = make_state(4, buy=np.full(96, 0.3), load=3.0, inflexible_kw=3.0, pv=0.0, pv_available_kw=0.0)
    optimizer = Optimizer(Limits())
    optimizer.decide(state, HemsPolicy())
    plan, event = optimizer.plan, DrEvent(reduction_kw=1.0, start_s=state.time_s, end_s=state.time_s + 3600)

    def fails(*_):
        raise TwinRicError("SOLVE-FAILED", "home", 0, "a problem whose numbers are all finite")

    with monkeypatch.context() as patch:
        patch.setattr("xapps.hems_load.optimizer.plan_under_caps", fails)
        with pytest.raises(TwinRicError, match="SOLVE-FAILED"):
            optimizer.decide(later(state, 60), HemsPolicy(dr_event=event))
    assert optimizer.plan is plan
    assert "cap_kw" not in optimizer.follow(later(state, 60), HemsPolicy(dr_event=event), Reason("LATE")).reason.numbers


def test_optimizer_dr_event_has_until_its_deadline(make_state):
    state = make_state(4, buy=np.full(96, 0.3), load=3.0, inflexible_kw=3.0, pv=0.0, pv_available_kw=0.0)
    event = DrEvent(reduction_kw=6.0, start_s=state.time_s, end_s=state.time_s + 3600, deadline_s=state.time_s + 1800)
    optimizer = Optimizer(Limits())
    optimizer.decide(state, HemsPolicy())
    reference = optimizer.plan.fleet_net_kw[:4].mean()
    policy = HemsPolicy(dr_event=event)
    caps = [optimizer.decide(later(state, seconds), policy).reason.numbers.get("cap_kw") for seconds in (0, 900, 1800)]
    np.testing.assert_allclose(caps, np.maximum(reference - np.array([0.0, 3.0, 6.0]), 0), atol=1e-6)
    assert "cap_kw" not in optimizer.decide(later(state, 3660), policy).reason.numbers


def test_optimizer_says_which_limits_were_relaxed(make_state):
    state = make_state(2, ev_soc=0.4, ev_departure_h=1.0, ev_target_soc=0.9, ev_max_kw=3.7)
    optimizer = Optimizer(Limits())
    decision = optimizer.decide(state, HemsPolicy())
    short = optimizer.plan.relaxed["EV_TARGET_RELAXED"]
    np.testing.assert_allclose(short, 25 - 3.7 * 0.94, atol=0.1)
    assert decision.reason.numbers["ev_target_relaxed_homes"] == 2
    assert "kWh short of the target" in decision.reason.details["node/home-0/ev"]


def test_optimizer_appliance_runs_when_it_is_cheap_and_goes_on_once_begun(make_state, make_jobs):
    prices = np.where((np.arange(96) >= 8) & (np.arange(96) < 16), 0.1, 0.5)
    state = make_state(1, buy=prices, pv=0.0, pv_available_kw=0.0, jobs=make_jobs(closes_h=10.0, left_h=1.5))
    optimizer, policy = Optimizer(Limits()), HemsPolicy(spread_eur_per_kwh=0.0)
    ran = []
    for quarter in range(20):
        job = make_jobs(
            closes_h=10.0 - quarter / 4, left_h=max(1.5 - 0.25 * sum(ran), 0), running=bool(ran and ran[-1])
        )
        prices_now = np.broadcast_to(np.roll(prices, -quarter), (1, 96))
        now = replace(later(state, 900 * quarter), jobs=job, expect=lambda b=prices_now: replace(state.horizon, buy=b))
        table = optimizer.decide(now, policy).appliances
        ran.append(0.0 if table is None else float(table["run"][0]))
    assert sum(ran) == 6
    first = ran.index(1.0)
    assert 8 <= first <= 10
    assert ran[first : first + 6] == [1.0] * 6


def test_optimizer_follows_the_last_plan_when_there_is_no_new_one(make_state):
    optimizer, policy = Optimizer(Limits()), HemsPolicy()
    state = make_state(2, buy=DAY, ev_connected=0.0)
    late = Reason("LATE", {"budget_ms": 1000.0})
    assert optimizer.follow(state, policy, late) is None
    optimizer.decide(state, policy)
    decision = optimizer.follow(later(state, 3600), policy, late)
    assert decision.reason.code == "LATE"
    assert decision.reason.numbers["plan_age_s"] == 3600
    planned = optimizer.plan.hvac_kw[:, 4]
    np.testing.assert_allclose(decision.homes["hvac_kw"], planned, atol=1e-6)
    assert optimizer.follow(later(state, 25 * 3600), policy, late) is None


def test_optimizer_home_with_a_stale_report_gets_the_safe_action_alone(make_state):
    state = make_state(2, buy=DAY, ev_soc=0.5, pv_available_kw=6.0)
    state = replace(state, stale=np.array([True, False]))
    decision = Optimizer(Limits()).decide(state, HemsPolicy())
    assert decision.homes["battery_kw"][0] == 0
    assert decision.homes["ev_kw"][0] == 11.0
    net = 0.6 + decision.homes["hvac_kw"][0] + 11.0 - min(6.0, decision.homes["pv_limit_kw"][0])
    assert net >= -1e-9
    assert decision.homes["ev_kw"][1] != 11.0


@pytest.mark.parametrize("limit", ["ramp_limit_kw_per_min", "reserve_kw"])
def test_optimizer_missed_limit_is_told_with_its_amount(make_state, limit):
    state = make_state(
        2, inflexible_kw=8.0, pv_available_kw=0.0, battery_soc=0.0, battery_kwh=0.0, battery_max_kw=0.0,
        ev_connected=0.0, hvac_max_kw=0.0, import_kw=0.6, export_kw=0.0,
    )  # fmt: skip
    decision = Optimizer(Limits()).decide(state, HemsPolicy(**{limit: 5.0}))
    name = limit.split("_", maxsplit=1)[0]
    assert decision.missed_kw[name] > 4
    assert decision.reason.numbers[f"{name}_miss_kw"] == decision.missed_kw[name]


def test_optimizer_same_inputs_same_decision(make_state):
    state = make_state(3, buy=DAY)
    first, second = (Optimizer(Limits()).decide(state, HemsPolicy(import_cap_kw=8.0)) for _ in range(2))
    for name, values in first.homes.columns.items():
        np.testing.assert_array_equal(values, second.homes[name])


def test_optimizer_appliances_that_get_part_of_their_power_take_turns(make_state, make_jobs):
    homes = 20
    jobs = make_jobs(homes, home=np.arange(homes), interruptible=True, left_h=1.0, closes_h=8.0)
    state = make_state(homes, grid=Steps(), jobs=jobs, pv=0.0, pv_available_kw=0.0)
    optimizer, policy, running = Optimizer(Limits()), HemsPolicy(spread_eur_per_kwh=0.0), []
    for minute in range(15):
        table = optimizer.decide(later(state, 60 * minute), policy).appliances
        running.append(float(table["run"].sum()))
    shares = optimizer.plan.appliance_kw[:, 0, :15] / 2.0
    assert 0.05 < shares.mean() < 0.9
    assert np.mean(running) == pytest.approx(homes * shares.mean(), abs=1.5)
    assert np.ptp(running) <= 3


def test_optimizer_tells_others_its_plan_by_quarters_of_the_clock(make_state):
    state = make_state(3, grid=Steps(), buy=np.linspace(0.2, 0.4, 110), time_ns=NOON_NS + 7 * 60 * NS)
    optimizer = Optimizer(Limits())
    table = optimizer.decide(state, HemsPolicy()).plan
    assert table.source_time_ns == NOON_NS
    assert table["step_s"].tolist() == [900.0]
    assert table["net_kw"].shape == (1, 96)
    planned_kwh = optimizer.plan.fleet_net_kw @ np.diff(state.edges_h)
    assert table["net_kw"][0] @ np.array([8 / 60] + [0.25] * 95) == pytest.approx(planned_kwh)


def jain(share):
    return share.sum() ** 2 / (share.size * (share**2).sum())


def test_optimizer_more_fairness_spreads_a_cap_more_evenly_over_the_plans_of_the_homes(make_state):
    """Homes see the price a little differently, so that at no fairness a few of them give for all the others."""
    homes, rng, fair = 12, np.random.default_rng(7), [0.0, 0.5, 1.0]
    state = make_state(
        homes, grid=Steps(0, 48), buy=np.where(np.arange(48) < 16, 0.2, 0.4), pv=0.0, pv_available_kw=0.0, load=1.0,
        inflexible_kw=1.0, ev_departure_h=11.0, ev_soc=rng.uniform(0.3, 0.6, homes),
        battery_soc=rng.uniform(0.2, 0.8, homes),
    )  # fmt: skip

    def planned(**policy):
        optimizer = Optimizer(Limits(price_rounds=8, threads=1))
        optimizer.decide(state, HemsPolicy(spread_eur_per_kwh=0.03, **policy))
        return optimizer.plan

    free = planned()
    cap_kw = 0.85 * float(free.fleet_net_kw.max())
    called = free.fleet_net_kw > cap_kw
    wanted = np.maximum(free.net_kw, 0)[:, called].sum(axis=1)
    evenness, costs = [], []
    for fairness in fair:
        plan = planned(import_cap_kw=cap_kw, fairness=fairness)
        assert plan.fleet_net_kw.max() <= cap_kw * 1.002
        left = np.minimum(np.maximum(plan.net_kw, 0), np.maximum(free.net_kw, 0))[:, called].sum(axis=1)
        evenness.append(jain(1 - left / wanted))
        costs.append(float(plan.costs.total.sum()))
    assert evenness[0] < 0.4
    assert min(evenness[1:]) > evenness[0] + 0.2
    assert evenness[2] > evenness[1] - 0.05
    assert max(costs) - min(costs) < 0.5
