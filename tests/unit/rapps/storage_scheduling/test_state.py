"""Alignment of twins in the storage scheduler's state."""

import numpy as np
import pytest

from rapps.storage_scheduling.state import FlexibleDay, NodeTwins, State
from ric.columns import Table

QUARTER_NS = 900 * 10**9


def fleet(end_ns, ev_kw):
    return Table(
        "home_report", ("h1",), {"ev_kw": np.array([ev_kw]), "hvac_kw": np.zeros(1), "battery_kw": np.zeros(1)}, end_ns
    )


def test_flexible_day_ahead_repeats_yesterdays_quarter():
    day = FlexibleDay()
    for quarter in range(96):
        day.add(fleet((quarter + 1) * QUARTER_NS, float(quarter)))
    ahead = day.ahead(96 * QUARTER_NS + 5 * QUARTER_NS, 3)
    assert ahead.tolist() == [5.0, 6.0, 7.0]


def test_flexible_day_ahead_nothing_seen_is_zero():
    assert not FlexibleDay().ahead(0, 4).any()


def test_state_of_outlook_made_earlier_is_shifted():
    steps = 8
    outlook = Table(
        "outlook",
        ("lv",),
        {"buy_eur_per_kwh": np.arange(steps + 2.0)[None], "sell_eur_per_kwh": np.zeros((1, steps + 2))},
        0,
    )
    quantiles = {f"load_p{p}_kw": np.full((1, steps), float(p)) for p in (10, 50, 90)}
    forecast = Table("demand_forecast", ("feeder",), {**quantiles, "pv_p50_kw": np.ones((1, steps))}, 2 * QUARTER_NS)
    unit = {"soc": 0.5, "capacity_kwh": 10.0, "max_kw": 5.0, "efficiency": 0.9}
    storage = Table("storage_report", ("s1",), {k: np.array([v]) for k, v in unit.items()}, 0)
    state = State.of("n", NodeTwins(storage, outlook, forecast))
    assert state is not None
    assert state.buy_eur_per_kwh.tolist() == [2, 3, 4, 5, 6, 7, 8, 9]
    assert state.net_kw == pytest.approx(np.full(8, 49.0))
    assert state.net_p90_kw == pytest.approx(np.full(8, 89.0))


def test_state_of_missing_twin_is_none():
    assert State.of("n", NodeTwins()) is None


def test_state_of_homes_plan_takes_the_place_of_load_and_flexibility():
    steps = 8
    outlook = Table("outlook", ("lv",), {"buy_eur_per_kwh": np.ones((1, 12)), "sell_eur_per_kwh": np.zeros((1, 12))}, 0)
    quantiles = {f"load_p{p}_kw": np.full((1, steps), float(p)) for p in (10, 50, 90)}
    forecast = Table("demand_forecast", ("feeder",), {**quantiles, "pv_p50_kw": np.ones((1, steps))}, 2 * QUARTER_NS)
    unit = {"soc": 0.5, "capacity_kwh": 10.0, "max_kw": 5.0, "efficiency": 0.9}
    storage = Table("storage_report", ("s1",), {k: np.array([v]) for k, v in unit.items()}, 0)
    plan = Table("fleet_plan", ("homes",), {"step_s": np.array([900.0]), "net_kw": np.arange(6.0)[None]}, 0)
    state = State.of("n", NodeTwins(storage, outlook, forecast, plan))
    assert state is not None
    assert state.net_kw == pytest.approx([2, 3, 4, 5, 49, 49, 49, 49])
    assert state.net_p90_kw - state.net_kw == pytest.approx(np.full(8, 40.0))
