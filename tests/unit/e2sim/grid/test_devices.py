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
