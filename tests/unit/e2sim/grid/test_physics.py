"""Device physics: limits by hand, cars that come and go."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2sim.grid.devices import Devices
from e2sim.grid.physics import HomePhysics, heat_pump_cop
from e2sim.grid.traces import Sessions

VALUES = {
    "battery_kwh": 10.0, "battery_max_kw": 5.0, "battery_efficiency": 0.9, "ev_kwh": 50.0, "ev_max_kw": 11.0,
    "ev_v2g_kw": 10.0, "ev_efficiency": 0.9, "hvac_max_kw": 3.0, "hvac_cop": 3.5, "heat_capacity_kwh_per_k": 10.0,
    "heat_loss_kw_per_k": 0.2, "comfort_low_c": 20.0, "comfort_high_c": 24.0, "connection_kw": 14.0, "pv_kwp": 5.0,
    "export_limit_kw": 14.0, "wind_rated_kw": 0.0, "setback_k": 1.0, "ev_floor_soc": 0.1, "tariff": 0.0,
}  # fmt: skip


def one_home(arrivals=(0.0,), departures=(36_000.0,), driven=5.0, start_s=0.0):
    number = len(arrivals)
    sessions = Sessions(
        np.zeros(number, dtype=np.int64), np.array(arrivals), np.array(departures), np.full(number, driven),
        np.full(number, 0.8),
    )  # fmt: skip
    devices = Devices(**{field.name: np.array([VALUES[field.name]]) for field in fields(Devices)})
    return HomePhysics(devices, sessions, start_s, 1)


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=60), st.floats(0, 1))
def test_battery_never_leaves_its_limits_and_never_makes_energy(wanted, soc):
    physics = one_home()
    physics.battery_soc[:] = soc
    meter = 0.0
    for power in wanted:
        meter += physics.drive_battery(np.array([power]), 600)[0] / 6
        assert -1e-9 <= physics.battery_soc[0] <= 1 + 1e-9
    assert (physics.battery_soc[0] - soc) * 10 <= meter * (0.9 if meter > 0 else 1) + 1e-6


def test_car_stops_discharging_at_the_floor_and_charging_when_full():
    physics = one_home()
    physics.ev_soc[:] = 0.21
    for _ in range(10):
        physics.drive_ev(np.array([-10.0]), 600)
    assert physics.ev_soc[0] == pytest.approx(0.2)
    for _ in range(60):
        physics.drive_ev(np.array([11.0]), 600)
    assert physics.ev_soc[0] == pytest.approx(1.0)
    assert physics.drive_ev(np.array([11.0]), 600)[0] == pytest.approx(0)


def test_car_is_not_discharged_below_its_owners_floor():
    physics = one_home()
    physics._own.ev_floor_soc[:] = 0.5
    physics.ev_soc[:] = 0.52
    for _ in range(10):
        physics.drive_ev(np.array([-10.0]), 600)
    assert physics.ev_soc[0] == pytest.approx(0.5)


def test_car_power_tapers_when_nearly_full():
    physics = one_home()
    physics.ev_soc[:] = 0.95
    assert physics.drive_ev(np.array([11.0]), 60)[0] == pytest.approx(11 * 0.65)


def test_car_leaves_short_of_its_target_and_it_is_counted():
    physics = one_home(arrivals=(0.0, 50_000.0), departures=(36_000.0, 90_000.0), driven=10.0)
    physics.ev_soc[:] = 0.5
    physics.move_cars(36_000.0)
    assert not physics.ev_connected[0]
    assert physics.shortfall_kwh[0] == pytest.approx(0.3 * 50)
    assert physics.drive_ev(np.array([11.0]), 60)[0] == 0
    physics.move_cars(50_000.0)
    assert physics.ev_connected[0]
    assert physics.ev_soc[0] == pytest.approx(0.5 - 10 / 50)


def test_car_at_home_before_the_start_has_charged_since():
    fresh, waited = one_home(driven=20.0), one_home(driven=20.0, start_s=7200.0)
    assert fresh.ev_soc[0] == pytest.approx(0.4)
    assert waited.ev_soc[0] == pytest.approx(min(0.8, 0.4 + 2 * 11 * 0.9 / 50))


def test_room_cools_towards_outdoors_and_settles_where_heat_meets_losses():
    physics = one_home()
    physics.indoor_c[:] = 21.0
    for _ in range(8000):
        physics.warm(np.array([1.0]), 7.0, np.array([0.2]), 600)
    assert physics.indoor_c[0] == pytest.approx(7 + (3.5 + 0.2) / 0.2, abs=1e-6)


def test_heat_pump_guards_act_on_their_own():
    physics = one_home()
    physics.indoor_c[:] = 11.0
    assert physics.drive_heat_pump(np.array([0.0]))[0] == 3.0
    physics.indoor_c[:] = 31.0
    assert physics.drive_heat_pump(np.array([3.0]))[0] == 0.0


def test_cop_is_rated_at_seven_degrees_and_falls_with_the_cold():
    rated = np.array([3.5])
    assert heat_pump_cop(rated, 7.0)[0] == pytest.approx(3.5)
    assert heat_pump_cop(rated, -10.0)[0] < 3
    assert heat_pump_cop(rated, 30.0)[0] <= 8
