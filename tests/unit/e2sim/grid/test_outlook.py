"""Tariffs, and forecasts whose error grows with lead."""

import datetime as dt

import numpy as np
import pytest

from e2sim.grid.outlook import Carbon, Outlook, Tariff, prices_of
from e2sim.grid.settings import CarbonSettings, OutlookSettings, TariffSettings
from ric.columns import Table, decode_table, encode_table
from ric.errors import TwinRicError
from ric.schemas import GRID_SCHEMAS

START_S = dt.datetime(2016, 4, 12, tzinfo=dt.UTC).timestamp()


def tariff(**settings):
    return Tariff(TariffSettings(**settings), start_s=START_S, seed=1)


def test_tariff_kinds_by_hand():
    assert tariff(kind="flat", low=0.25, feed_in=0.07)(START_S) == (0.25, 0.07)
    time_of_use = tariff(kind="time_of_use", low=0.2, high=0.4, peak_hours=(18,))
    assert time_of_use(START_S + 18 * 3600) == (0.4, 0.08)
    assert time_of_use(START_S + 19 * 3600) == (0.2, 0.08)


def test_tariff_day_ahead_has_two_peaks_and_never_pays_more_than_it_costs():
    prices = np.array([tariff()(START_S + 3600 * hour) for hour in range(72)])
    assert (prices[:, 1] < prices[:, 0]).all()
    assert (prices[:, 1] >= 0).all()
    day = prices[:24, 0]
    assert day[19] == day.max()
    assert day[8] > day[13] < day[19]


def test_tariff_from_a_file(tmp_path):
    file = tmp_path / "spot.csv"
    file.write_text("hour,price\n0,50\n1,-20\n2,100\n")
    read = tariff(spot_file=file, fee=0.1)
    assert read(START_S)[0] == pytest.approx(0.15)
    assert read(START_S + 3600) == (pytest.approx(0.08), 0.0)
    assert read(START_S + 3 * 3600)[0] == pytest.approx(0.15)


@pytest.mark.parametrize("text", ["", "hour,price\n0,x\n", "0,nan\n", "0,1e9\n"], ids=["empty", "word", "nan", "huge"])
def test_tariff_bad_file_is_refused(tmp_path, text):
    file = tmp_path / "spot.csv"
    file.write_text(text)
    with pytest.raises(TwinRicError, match=r"spot"):
        tariff(spot_file=file)
    with pytest.raises(TwinRicError, match="spot_file"):
        tariff(spot_file=tmp_path / "absent.csv")


def outlook(traces, **settings):
    tariffs = (tariff(), tariff(kind="flat", low=0.25))
    carbon = Carbon(CarbonSettings(), start_s=START_S, seed=1)
    return Outlook(tariffs, carbon, traces, OutlookSettings(**settings), node_id="n", seed=1)


def test_outlook_has_a_row_of_prices_per_tariff(traces):
    table = outlook(traces, hours=24).tariffs_table(START_S)
    assert table["buy_eur_per_kwh"].shape == (2, 96)
    np.testing.assert_array_equal(table["buy_eur_per_kwh"][1], 0.25)
    assert np.ptp(table["buy_eur_per_kwh"][0]) > 0.05
    assert decode_table(encode_table(table), GRID_SCHEMAS, "E2").ids == table.ids


def test_prices_of_homes_follow_each_homes_tariff():
    prices = prices_of((tariff(kind="flat", low=0.2), tariff(kind="flat", low=0.3)), np.array([1.0, 0.0, 1.0]))
    np.testing.assert_allclose(prices(START_S)[0], [0.3, 0.2, 0.3])


def test_carbon_is_low_at_noon_high_in_the_evening_and_can_be_read(tmp_path):
    made = Carbon(CarbonSettings(mean_g_per_kwh=400), start_s=START_S, seed=1)
    day = np.array([made(START_S + 3600 * hour) for hour in range(24)])
    assert day[12] < 0.8 * day[19]
    file = tmp_path / "carbon.csv"
    file.write_text("hour,g\n0,100\n1,300\n")
    read = Carbon(CarbonSettings(file=file), start_s=START_S, seed=1)
    assert [read(START_S), read(START_S + 3600), read(START_S + 7200)] == [100.0, 300.0, 100.0]
    file.write_text("0,9999\n")
    with pytest.raises(TwinRicError, match=r"carbon\.file"):
        Carbon(CarbonSettings(file=file), start_s=START_S, seed=1)


def test_outlook_comes_each_quarter_of_an_hour(traces):
    part = outlook(traces)
    issued = [bool(part.step(START_S + 60 * (n + 1), 60)) for n in range(31)]
    assert [n + 1 for n, given in enumerate(issued) if given] == [1, 15, 30]


def test_outlook_without_error_is_what_comes(traces):
    table = outlook(traces, pv_error=0, temperature_error_k=0, hours=24).table(START_S)
    assert table["pv_kw_per_kwp"].shape == (1, 96)
    truth = [traces.pv_per_kwp(START_S + 900 * n) for n in range(96)]
    np.testing.assert_allclose(table["pv_kw_per_kwp"][0], truth)
    assert decode_table(encode_table(table), GRID_SCHEMAS, "E2").kind == "outlook"


def test_outlook_error_grows_with_lead_and_shrinks_as_time_comes_near(traces):
    part = outlook(traces)
    issues = [part.table(START_S + 86_400 * day) for day in range(20)]
    errors = np.array([
        [issue["outdoor_c"][0, n] - traces.outdoor_c(START_S + 86_400 * day + 900 * n + 450) for n in (0, 8, 96)]
        for day, issue in enumerate(issues)
    ])  # fmt: skip
    spread = errors.std(axis=0)
    assert spread[0] < 1e-9
    assert spread[0] < spread[1] < spread[2]
    assert 0.7 < spread[2] < 2.5


def test_outlook_takes_no_set_points(traces):
    with pytest.raises(TwinRicError, match="E2-RANGE"):
        outlook(traces).apply(Table("home_set_point", (), {}, 0), 1e10)
