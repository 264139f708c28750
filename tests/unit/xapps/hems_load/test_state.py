"""From indications to a state: series on the plan's grid, memory of the last day, learnt gains, bad input."""

from dataclasses import replace

import numpy as np
import pytest

from ric.columns import Table
from ric.errors import TwinRicError
from xapps.hems_load.horizon import NS, Steps
from xapps.hems_load.model import cop_at, indoor_after
from xapps.hems_load.state import NodeMemory, check_series

NOW_NS = 1_460_462_400 * 10**9
QUARTERS = Steps(0, 96)


def test_memory_without_forecast_expects_yesterday(tables):
    memory = NodeMemory()
    for quarter in range(96):
        load = 2.0 if 70 <= quarter < 80 else 0.5
        memory.add(tables(time_ns=NOW_NS + (quarter * 900 + 60) * NS, inflexible_kw=load))
    state = memory.state("node", QUARTERS)
    quarter_now = 95 + 48
    ahead = [(quarter_now + step) % 96 for step in range(96)]
    busy = np.array([70 <= (q - 48) % 96 < 80 for q in ahead])
    assert state.horizon.load_kw[0, 8:][busy[8:]] == pytest.approx(2.0, abs=0.1)
    assert state.horizon.load_kw[0, 8:][~busy[8:]] == pytest.approx(0.5, abs=0.1)
    assert state.forecast_ns == 0


def test_memory_prefers_a_fresh_forecast_and_drops_an_old_one(tables):
    memory = NodeMemory()
    memory.add(tables())
    ids = memory.homes.ids
    series = {"step_s": np.full(2, 900.0), "load_p50_kw": np.full((2, 192), 3.0)}
    memory.forecast = Table("demand_forecast", ids, series, NOW_NS - 3600 * NS)
    assert memory.state("node", QUARTERS).horizon.load_kw[:, -1] == pytest.approx(3.0, abs=1e-3)
    memory.forecast = replace(memory.forecast, source_time_ns=NOW_NS - 7 * 3600 * NS)
    state = memory.state("node", QUARTERS)
    assert state.forecast_ns == 0
    assert state.horizon.load_kw[:, -1] == pytest.approx(0.6)


def test_memory_takes_the_homes_rows_of_a_forecast_that_holds_more(tables):
    memory = NodeMemory()
    memory.add(tables(2))
    series = {"step_s": np.full(3, 900.0), "load_p50_kw": np.repeat([[9.0], [2.0], [1.0]], 96, axis=1)}
    memory.forecast = Table("demand_forecast", ("feeder", "home-1", "home-0"), series, NOW_NS)
    state = memory.state("node", QUARTERS)
    assert state.forecast_ns == NOW_NS
    np.testing.assert_allclose(state.horizon.load_kw[:, -1], [1.0, 2.0], atol=1e-6)
    memory.forecast = replace(memory.forecast, ids=("feeder", "home-1", "home-7"))
    assert memory.state("node", QUARTERS).forecast_ns == 0


def test_memory_learns_the_heat_that_explains_the_rooms(tables):
    memory = NodeMemory()
    memory.add(tables(1))
    homes, indoor, gains = memory.homes, np.array([21.0]), np.array([1.1])
    for minute in range(1, 400):
        hvac = np.array([1.0 if minute % 60 < 20 else 0.0])
        heat = cop_at(homes, np.array([7.0]))[:, 0] * hvac + gains
        indoor = indoor_after(homes, indoor, heat, np.array([7.0]), 60)
        memory.add(tables(1, NOW_NS + minute * 60 * NS, indoor_c=indoor, hvac_kw=hvac))
    assert memory.gains_kw[0] == pytest.approx(1.1, abs=0.01)


def test_memory_repeated_or_older_report_is_not_new(tables):
    memory = NodeMemory()
    assert memory.add(tables())
    assert not memory.add(tables())
    assert not memory.add(tables(time_ns=NOW_NS - NS))


def test_memory_without_prices_has_no_state(tables):
    memory = NodeMemory()
    given_tables = tables()
    del given_tables["outlook"]
    memory.add(given_tables)
    assert memory.state("node", QUARTERS) is None


def test_memory_with_feeder_tariff_only_plans_with_constant_prices(tables):
    memory = NodeMemory()
    given_tables = tables()
    del given_tables["outlook"]
    prices = {"buy_price": np.array([0.31]), "sell_price": np.array([0.07])}
    memory.add(given_tables | {"feeder_report": Table("feeder_report", ("node",), prices, NOW_NS)})
    horizon = memory.state("node", QUARTERS).horizon
    assert set(horizon.buy.ravel()) == {0.31}
    assert set(horizon.sell.ravel()) == {0.07}


def test_memory_report_of_other_homes_is_refused(tables):
    memory = NodeMemory()
    memory.add(tables(2))
    strange = tables(3)
    del strange["home_static"]
    with pytest.raises(TwinRicError, match=r"home_report\.ids"):
        memory.add(strange)


def test_memory_expects_a_home_empty_when_it_was_so_on_the_last_workday(tables):
    memory = NodeMemory()
    midnight_ns = NOW_NS - NOW_NS % (86_400 * NS)  # Tuesday
    for minute in range(0, 1440, 5):
        away = 9 * 60 <= minute < 16 * 60
        memory.add(tables(1, midnight_ns + (minute + 5) * 60 * NS, occupied=0.0 if away else 1.0))
    occupied = memory.state("node", QUARTERS).horizon.occupied[0]
    hour = np.arange(96) / 4
    assert not occupied[(hour >= 10) & (hour < 15)].any()
    assert occupied[(hour < 9) | (hour >= 16)].all()


def test_memory_knows_nothing_of_weekends_from_workdays(tables):
    memory = NodeMemory()
    friday_ns = NOW_NS - NOW_NS % (86_400 * NS) + 3 * 86_400 * NS
    for minute in range(0, 1440, 5):
        memory.add(tables(1, friday_ns + (minute + 5) * 60 * NS, occupied=0.0))
    assert memory.state("node", QUARTERS).horizon.occupied[0, 2:].all()


@pytest.mark.parametrize(
    ("change", "field"),
    [({"step_s": np.array([600.0])}, "step_s"), ({"buy_eur_per_kwh": np.ones((1, 0))}, "buy_eur_per_kwh")],
    ids=["wrong step", "no values"],
)
def test_series_that_cannot_be_planned_with_are_refused_by_field(tables, change, field):
    outlook = tables()["outlook"]
    bad = replace(outlook, columns=dict(outlook.columns) | change)
    with pytest.raises(TwinRicError, match=field):
        check_series(bad, ("buy_eur_per_kwh",), "E2-RANGE")
    with pytest.raises(TwinRicError, match=field):
        NodeMemory().add(tables() | {"outlook": bad})


def test_memory_takes_the_minutes_forecast_for_the_minutes_and_blends_in_what_is_measured(tables):
    memory = NodeMemory()
    memory.add(tables(1, inflexible_kw=2.0))
    ids = memory.homes.ids
    by_quarter = {"step_s": np.array([900.0]), "load_p50_kw": np.full((1, 192), 1.0)}
    by_minute = {"step_s": np.array([60.0]), "load_p50_kw": np.linspace(2.0, 3.0, 60)[None, :]}
    memory.forecast = Table("demand_forecast", ids, by_quarter, NOW_NS)
    memory.minutes = Table("demand_forecast", ids, by_minute, NOW_NS)
    state = memory.state("node", Steps(15, 95))
    load = state.horizon.load_kw[0]
    np.testing.assert_allclose(load[:15], by_minute["load_p50_kw"][0, :15], atol=1e-9)
    assert load[15] == pytest.approx(by_minute["load_p50_kw"][0, 15:30].mean())
    assert load[-1] == pytest.approx(1.0)
    memory.add(tables(1, NOW_NS + 60 * NS, inflexible_kw=6.0))
    seen = memory.state("node", Steps(15, 95)).horizon.load_kw[0]
    above = seen[:15] - by_minute["load_p50_kw"][0, 1:16]
    assert above[0] > 2.0
    assert (np.diff(above) < 0).all()
    memory.minutes = replace(memory.minutes, source_time_ns=NOW_NS - 7 * 3600 * NS)
    assert memory.state("node", Steps(15, 95)).horizon.load_kw[0, 20] < 1.3
