"""Each device's line: right code, numbers and words, and only when it changes."""

import re
from dataclasses import replace

import numpy as np
import pytest

from xapps.hems_load.caps import capped_of
from xapps.hems_load.horizon import Steps
from xapps.hems_load.optimizer import Limits, Optimizer
from xapps.hems_load.policy import HemsPolicy

LINE = re.compile(r"[A-Z_]+( [a-z0-9_]+=[-+.e0-9]+)* ?: \S.*")
DEAR_NOW = np.where(np.arange(96) < 12, 0.6, 0.1)
NS = 10**9
NOON_NS = 1_460_462_400 * NS


def lines_of(state, policy=None, optimizer=None):
    optimizer = optimizer or Optimizer(Limits())
    decision = optimizer.decide(state, policy or HemsPolicy())
    optimizer.adopt(decision)
    return decision.reason.details


@pytest.fixture
def home(make_state):
    def make(**changes):
        usual = {"buy": DEAR_NOW, "pv": 0.0, "pv_available_kw": 0.0, "ev_departure_h": 12.0, "ev_v2g_kw": 0.0}
        return make_state(1, **{**usual, **changes})

    return make


def test_explain_ev_that_waits_says_price_target_and_when_it_goes_on(home):
    line = lines_of(home(ev_soc=0.5))["node/home-0/ev"]
    assert line.startswith("EV_WAITS ")
    assert "buy_eur_per_kwh=0.6" in line
    assert "0.60 EUR/kWh now; 50% now, 80% wanted at 00:00, it charges from 15:00 on, at 0.10 EUR/kWh" in line


@pytest.mark.parametrize(
    ("changes", "policy", "code"),
    [
        ({"ev_soc": 0.85}, {}, "EV_READY"),
        ({"ev_connected": 0.0}, {}, "EV_AWAY"),
        ({"ev_soc": 0.3, "ev_departure_h": 1.0}, {}, "EV_MUST_CHARGE"),
        ({"buy": np.where(np.arange(96) < 12, 0.1, 0.6)}, {}, "EV_CHARGES"),
        (
            {"ev_v2g_kw": 10.0, "ev_soc": 0.9, "load": 6.0, "inflexible_kw": 6.0, "battery_kwh": 0.0},
            {},
            "EV_GIVES_BACK",
        ),
    ],
    ids=["ready", "away", "in a hurry", "cheap now", "V2G"],
)
def test_explain_ev_codes(home, changes, policy, code):
    line = lines_of(home(**changes), HemsPolicy(**policy))["node/home-0/ev"]
    assert line.split(" ")[0].rstrip(":") == code
    assert LINE.fullmatch(line)


def test_explain_ev_that_a_cap_stopped_names_the_cap(home):
    state = home(buy=np.where(np.arange(96) < 12, 0.1, 0.6), battery_kwh=0.0, hvac_max_kw=0.0)
    optimizer = Optimizer(Limits(plan_every_s=3600))
    optimizer.decide(state, HemsPolicy())
    louder = replace(state, report=dict(state.report) | {"inflexible_kw": np.array([9.0])})
    capped = capped_of(state, HemsPolicy(import_cap_kw=9.0), {})
    optimizer._standing = replace(optimizer._standing, capped=capped)
    line = lines_of(louder, HemsPolicy(import_cap_kw=9.0), optimizer)["node/home-0/ev"]
    assert line.startswith("EV_STOPPED_FOR_CAP")
    assert "may import 9 kW" in line


def test_explain_tells_every_device_at_first_and_then_only_what_changes(make_state, make_jobs):
    state = make_state(2, buy=DEAR_NOW, wind_rated_kw=1.0, jobs=make_jobs(home=1))
    optimizer = Optimizer(Limits())
    first = lines_of(state, None, optimizer)
    devices = {f"node/home-{n}/{device}" for n in (0, 1) for device in ("ev", "battery", "heat", "generation")}
    assert set(first) == devices | {"node/home-1/0"}
    assert all(LINE.fullmatch(line) for line in first.values())
    later = replace(state, source_time_ns=state.source_time_ns + 60 * NS)
    assert lines_of(later, None, optimizer) == {}
    gone = replace(later, report=dict(state.report) | {"ev_connected": np.array([0.0, 1.0])})
    assert set(lines_of(gone, None, optimizer)) >= {"node/home-0/ev"}


def test_explain_another_appliance_in_the_place_of_one_that_went_is_told_and_the_one_that_stays_is_not(
    make_state, make_jobs
):
    state = make_state(2, buy=DEAR_NOW, jobs=make_jobs(2, opens_h=2.0))
    optimizer = Optimizer(Limits())
    first = lines_of(state, None, optimizer)
    assert {"node/home-0/0", "node/home-0/1"} <= set(first)
    other = replace(state, jobs=replace(state.jobs, ids=("home-0/1", "home-0/new")))
    assert set(lines_of(other, None, optimizer)) == {"node/home-0/new"}


def test_explain_stale_home_says_that_it_is_stale(make_state):
    state = replace(make_state(2), stale=np.array([True, False]))
    lines = lines_of(state)
    assert lines["node/home-0/ev"].startswith("EV_STALE_REPORT")
    assert not lines["node/home-1/ev"].startswith("EV_STALE")


def test_explain_ev_that_the_cap_of_its_group_stopped_names_the_group(make_state):
    state = make_state(
        2, buy=np.where(np.arange(96) < 12, 0.1, 0.6), battery_kwh=0.0, hvac_max_kw=0.0, ev_departure_h=20.0,
        ev_soc=0.5, ev_v2g_kw=0.0,
    )  # fmt: skip
    state = replace(state, groups={"street": np.array([True, False])})
    optimizer = Optimizer(Limits(plan_every_s=3600))
    optimizer.adopt(optimizer.decide(state, HemsPolicy()))
    asks = {"street": HemsPolicy(import_cap_kw=3.0)}
    louder = replace(state, report=dict(state.report) | {"inflexible_kw": np.array([9.0, 9.0])})
    optimizer._standing = replace(optimizer._standing, capped=capped_of(state, HemsPolicy(), asks))
    details = optimizer.decide(louder, HemsPolicy(), groups=asks).reason.details
    assert details["node/home-0/ev"].startswith("EV_STOPPED_FOR_CAP")
    assert "the homes of street together may import 3 kW" in details["node/home-0/ev"]
    assert "node/home-1/ev" not in details, "nothing changed there"


@pytest.mark.parametrize("minute", [0, 7, 14])
def test_explain_ev_that_waits_says_when_by_the_clock_wherever_the_plan_begins(make_state, minute):
    """Cheap from 15:00 to 18:00, and the plan's minutes begin anywhere in the quarter."""
    grid, start_ns = Steps(), NOON_NS + minute * 60 * NS
    hours = 12 + minute / 60 + grid.edges_h(start_ns)[:-1]
    state = make_state(
        1, grid=grid, time_ns=start_ns, buy=np.where((hours >= 15) & (hours < 18), 0.1, 0.6), pv=0.0,
        pv_available_kw=0.0, ev_soc=0.7, ev_departure_h=12.0, battery_kwh=0.0, hvac_max_kw=0.0,
        ev_v2g_kw=0.0,
    )  # fmt: skip
    optimizer = Optimizer(Limits())
    line = optimizer.decide(state, HemsPolicy(spread_eur_per_kwh=0.0)).reason.details["node/home-0/ev"]
    assert line.startswith("EV_WAITS")
    assert "it charges from 15:00 on, at 0.10 EUR/kWh" in line
