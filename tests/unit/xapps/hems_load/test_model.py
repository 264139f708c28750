"""The app's model of rooms and batteries: limit cases by hand."""

import numpy as np
import pytest

from xapps.hems_load.model import cop_at, heat_loss_factor, indoor_after, soc_after


def test_soc_after_charges_and_discharges_with_the_one_way_efficiency():
    soc = soc_after(
        np.array([0.5, 0.5, 0.5]), np.array([4.0, -4.0, 1.0]), np.full(3, 0.8), np.array([10.0, 10, 0]), 3600
    )
    np.testing.assert_allclose(soc, [0.5 + 0.32, 0.5 - 0.5, 0.5])


def test_indoor_after_many_short_steps_equals_one_long_step(make_state):
    homes = make_state(3).homes
    heat, outdoor = np.array([0.0, 2.0, 5.0]), np.full(3, 3.0)
    long = indoor_after(homes, np.full(3, 20.0), heat, outdoor, 3600)
    short = np.full(3, 20.0)
    for _ in range(60):
        short = indoor_after(homes, short, heat, outdoor, 60)
    np.testing.assert_allclose(short, long, atol=1e-9)


def test_indoor_after_a_long_time_settles_where_heat_meets_losses(make_state):
    homes = make_state(1).homes
    settled = indoor_after(homes, np.array([20.0]), np.array([3.0]), np.array([5.0]), 1e8)
    assert settled[0] == pytest.approx(5 + 3 / 0.2)


def test_cop_is_rated_at_seven_degrees_falls_in_the_cold_and_stays_in_range(make_state):
    homes = make_state(1, hvac_cop=3.5).homes
    cop = cop_at(homes, np.array([-40.0, -5.0, 7.0, 60.0]))[0]
    assert cop[2] == 3.5
    assert cop[0] == 1.0
    assert 1 < cop[1] < 3.5 < cop[3] <= 8


def test_heat_loss_factor_is_one_for_no_time_and_falls(make_state):
    homes = make_state(1).homes
    assert heat_loss_factor(homes, 0)[0] == 1
    assert heat_loss_factor(homes, 7200)[0] == pytest.approx(heat_loss_factor(homes, 3600)[0] ** 2)
