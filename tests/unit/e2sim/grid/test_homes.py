"""Homes: energy balance, set-points in force or refused, local control without them, counters."""

import datetime as dt

import numpy as np
import pytest

from e2sim.grid.homes import SET_POINTS, HomeFleet
from ric.columns import Table, decode_table, encode_table
from ric.errors import TwinRicError
from ric.schemas import GRID_SCHEMAS, IN_FORCE_SCHEMAS

START_S = dt.datetime(2016, 4, 12, 11, tzinfo=dt.UTC).timestamp()


@pytest.fixture
def homes(fleet, traces):
    return HomeFleet(fleet, traces, lambda _: (0.3, 0.08), start_s=START_S, days=2, seed=3)


def run(homes, minutes, start_s=START_S, dt_s=60):
    return [homes.step(start_s + dt_s * (n + 1), dt_s)[0] for n in range(minutes)]


def set_points(ids, **values):
    columns = {name: np.broadcast_to(np.asarray(values.get(name, 0.0), float), len(ids)).copy() for name in SET_POINTS}
    return Table("home_set_point", tuple(ids), columns, 0)


def test_home_meter_balances_its_devices_each_minute(homes):
    for report in run(homes, 90):
        used = ("inflexible_kw", "appliance_kw", "hvac_kw", "ev_kw", "battery_kw")
        net = sum(report[name] for name in used) - report["pv_kw"] - report["wind_kw"]
        np.testing.assert_allclose(report["import_kw"] - report["export_kw"], net, atol=1e-9)
        assert np.minimum(report["import_kw"], report["export_kw"]).max() == 0
        assert (report["pv_kw"] <= report["pv_available_kw"] + 1e-12).all()
        assert (report["wind_kw"] <= report["wind_available_kw"] + 1e-12).all()


def test_home_battery_soc_follows_its_power(homes):
    before = run(homes, 1)[0]
    after = run(homes, 1, START_S + 60)[0]
    own = homes.devices
    has = own.battery_kwh > 0
    power = after["battery_kw"][has]
    stored = np.where(power > 0, power * 0.95, power / 0.95) / 60
    np.testing.assert_allclose(
        after["battery_soc"][has], before["battery_soc"][has] + stored / own.battery_kwh[has], atol=1e-9
    )


def test_home_without_apps_uses_its_own_surplus(homes):
    reports = run(homes, 60)
    own = homes.devices
    for report in reports:
        room = (own.battery_kwh > 0) & (report["battery_soc"] < 0.99) & (report["battery_soc"] > 0.01)
        free = room & (np.abs(report["battery_kw"]) < own.battery_max_kw - 1e-6)
        np.testing.assert_allclose((report["import_kw"] - report["export_kw"])[free], 0, atol=1e-9)


def test_home_set_points_act_until_they_expire(homes):
    run(homes, 1)
    ids = [homes.ids[n] for n in np.flatnonzero(homes.devices.battery_kwh > 0)[:3]]
    rows = [homes.ids.index(name) for name in ids]
    wanted = set_points(ids, battery_kw=0.5, pv_limit_kw=0.0, wind_limit_kw=0.0)
    in_force = homes.apply(wanted, START_S + 180)
    np.testing.assert_array_equal(in_force["battery_kw"], 0.5)
    reports = run(homes, 4, START_S + 60)
    for report in reports[:2]:
        np.testing.assert_allclose(report["battery_kw"][rows], 0.5)
        np.testing.assert_allclose(report["pv_kw"][rows], 0.0)
        np.testing.assert_allclose(report["wind_kw"][rows], 0.0)
    assert reports[2]["pv_kw"].sum() > 0
    assert not np.allclose(reports[3]["battery_kw"][rows], 0.5)


@pytest.mark.parametrize(
    ("column", "value"),
    [("battery_kw", 1e3), ("battery_kw", float("nan")), ("ev_kw", -60.0), ("hvac_kw", -0.1), ("pv_limit_kw", -1.0)],
    ids=["too much charge", "not a number", "too much discharge", "negative heat", "negative limit"],
)
def test_home_set_point_beyond_the_device_is_refused_by_home_and_bound(homes, column, value):
    good = homes.ids[0]
    table = set_points([good, homes.ids[1]], **{column: np.array([0.0, value])})
    with pytest.raises(TwinRicError) as caught:
        homes.apply(table, START_S + 600)
    assert caught.value.code == "E2-RANGE"
    assert homes.ids[1] in caught.value.faults[0].field
    assert column in caught.value.faults[0].field
    assert "kW" in caught.value.faults[0].accepted
    assert (homes._valid_until_s == -np.inf).all()


def test_home_set_points_for_strangers_or_the_past_are_refused(homes):
    with pytest.raises(TwinRicError, match="ids"):
        homes.apply(set_points(["home-999"]), START_S + 600)
    with pytest.raises(TwinRicError, match="valid_until_s"):
        homes.apply(set_points(homes.ids), START_S)
    with pytest.raises(TwinRicError, match="kind"):
        homes.apply(Table("storage_set_point", (), {}, 0), START_S + 600)


def test_home_long_step_equals_many_short_ones(fleet, traces):
    one, other = (HomeFleet(fleet, traces, lambda _: (0.3, 0.08), start_s=START_S, seed=3) for _ in range(2))
    long = one.step(START_S + 900, 900)[0]
    short = run(other, 15)
    for name in ("import_kw", "battery_kw", "hvac_kw", "ev_kw"):
        np.testing.assert_allclose(long[name], np.mean([report[name] for report in short], axis=0), atol=1e-9)
    np.testing.assert_allclose(long["indoor_c"], short[-1]["indoor_c"])


def test_home_totals_are_the_integral_of_the_reports(homes):
    reports = run(homes, 120)
    totals = homes.totals()
    imported = sum(report["import_kw"] for report in reports) / 60
    exported = sum(report["export_kw"] for report in reports) / 60
    np.testing.assert_allclose(totals["import_kwh"], imported, atol=1e-9)
    np.testing.assert_allclose(totals["cost_eur"], 0.3 * imported - 0.08 * exported, atol=1e-9)


def test_home_day_without_apps_is_comfortable_and_charges_its_cars(homes):
    run(homes, 96 * 2, dt_s=900)
    totals = homes.totals()
    assert totals["comfort_degree_h"].sum() < 0.5
    assert totals["ev_shortfall_kwh"].max() == 0
    assert totals["pv_curtailed_kwh"].sum() == totals["wind_curtailed_kwh"].sum() == 0
    assert totals["appliance_kwh"].sum() > 10
    assert totals["appliance_late_h"].sum() == 0


def test_home_reports_are_valid_tables(homes):
    tables = homes.step(START_S + 60, 60)
    assert [table.kind for table in tables] == [
        "home_report", "home_static", "home_in_force", "appliance_report", "appliance_in_force",
    ]  # fmt: skip
    for table in tables:
        again = decode_table(encode_table(table), {**GRID_SCHEMAS, **IN_FORCE_SCHEMAS}, "E2")
        assert again.ids == (homes.appliances.ids if table.kind.startswith("appliance") else homes.ids)


def test_home_appliances_are_told_by_set_point_and_counted_at_the_meter(homes):
    told = Table("appliance_set_point", homes.appliances.ids, {"run": np.zeros(len(homes.appliances))}, 0)
    homes.apply(told, START_S + 3600 * 3)
    waiting = homes.appliances.left_h > 0
    assert sum(report["appliance_kw"].sum() for report in run(homes, 60)) == 0
    assert (homes.appliances.left_h[waiting] > 0).all()


def test_home_co2_is_what_its_imports_emit(fleet, traces):
    homes = HomeFleet(fleet, traces, lambda _: (0.3, 0.08), carbon=lambda _: 400.0, start_s=START_S, days=2, seed=3)
    run(homes, 30)
    totals = homes.totals()
    np.testing.assert_allclose(totals["co2_kg"], 0.4 * totals["import_kwh"])
