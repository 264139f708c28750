"""Homes: SimBench's own devices first, then shares; nothing lost, nothing twice."""

import numpy as np
import pytest

from e2sim.grid.devices import make_fleet
from e2sim.grid.settings import ResidentialSettings


def test_fleet_same_seed_same_homes_and_another_seed_others(grid):
    first, again, other = (make_fleet(grid, ResidentialSettings(homes=30), seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.devices.pv_kwp, again.devices.pv_kwp)
    np.testing.assert_array_equal(first.shift_steps, again.shift_steps)
    assert not np.array_equal(first.shift_steps, other.shift_steps)


def test_fleet_without_shares_has_exactly_the_devices_of_the_grid(grid):
    settings = ResidentialSettings(homes=1000, pv_share=0, battery_share=0, ev_share=0, heat_pump_share=0)
    fleet = make_fleet(grid, settings, 1)
    assert len(fleet.ids) == 113
    homes = set(fleet.node.tolist())
    own = [kw for node, kw in zip(grid.generators.node, grid.generators.p_kw, strict=True) if node in homes]
    assert fleet.devices.pv_kwp.sum() == pytest.approx(sum(own))
    assert (fleet.devices.battery_kwh > 0).sum() == 16


def test_fleet_shares_are_met(grid):
    settings = ResidentialSettings(homes=60, pv_share=0.7, battery_share=0.5, ev_share=0.6, heat_pump_share=0.5)
    devices = make_fleet(grid, settings, 1).devices
    for values, share in (
        (devices.pv_kwp, 0.7), (devices.battery_kwh, 0.5), (devices.ev_kwh, 0.6), (devices.hvac_max_kw, 0.5),
    ):  # fmt: skip
        assert (values > 0).sum() == round(60 * share)


def test_fleet_extra_devices_leave_the_others_as_they_were(grid):
    plain = make_fleet(grid, ResidentialSettings(homes=40, wind_share=0, appliance_share=0), 1)
    rich = make_fleet(grid, ResidentialSettings(homes=40, wind_share=0.5, appliance_share=1), 1)
    assert (plain.devices.wind_rated_kw > 0).sum() == 0
    assert plain.appliance_home.size == 0
    assert (rich.devices.wind_rated_kw > 0).sum() == 20
    assert rich.appliance_home.size == 40 * 4
    for name in ("pv_kwp", "battery_kwh", "ev_kwh", "hvac_max_kw", "comfort_low_c"):
        np.testing.assert_array_equal(getattr(plain.devices, name), getattr(rich.devices, name))


def test_fleet_homes_have_one_of_the_tariffs(grid):
    settings = ResidentialSettings(homes=60, other_tariffs=({"kind": "flat"}, {"kind": "time_of_use"}))
    assert set(make_fleet(grid, settings, 1).devices.tariff.tolist()) == {0.0, 1.0, 2.0}


def test_fleet_and_background_share_out_every_load_once(grid):
    fleet = make_fleet(grid, ResidentialSettings(homes=25), 1)
    background_nodes = grid.loads.node[fleet.background[0]]
    assert len(fleet.background[0]) + len(fleet.ids) <= len(grid.loads)
    household = [n for n, p in enumerate(grid.loads.profile) if grid.profile_names[p].startswith("H0")]
    assert len(set(household) - set(fleet.background[0].tolist())) == 25
    assert (background_nodes > 0).all()


def test_fleet_heat_pumps_hold_the_design_day(grid):
    devices = make_fleet(grid, ResidentialSettings(homes=60), 1).devices
    heated = devices.hvac_max_kw > 0
    need = devices.heat_loss_kw_per_k * 32.5
    heat = devices.hvac_max_kw * devices.hvac_cop * (1 + 0.022 * -19)
    assert (heat[heated] > need[heated]).all()
