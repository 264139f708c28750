"""The safe action: comfort, charged cars, no export; never an exception."""

import numpy as np
import pytest

from ric.decision import Reason
from xapps.hems_load.fallback import hold_comfort
from xapps.hems_load.model import cop_at, indoor_after
from xapps.hems_load.policy import HemsPolicy

WHY = Reason("STALE_INPUT", {"age_s": 200.0})


def test_fallback_exports_nothing_and_charges_cars(make_state):
    state = make_state(2, inflexible_kw=1.0, pv_available_kw=8.0, ev_soc=np.array([0.3, 0.9]), ev_target_soc=0.8)
    decision = hold_comfort(state, HemsPolicy(), WHY)
    points = decision.homes
    np.testing.assert_array_equal(points["ev_kw"], [11.0, 0.0])
    np.testing.assert_array_equal(points["battery_kw"], 0)
    net = 1.0 + points["hvac_kw"] + points["ev_kw"] - np.minimum(8.0, points["pv_limit_kw"])
    assert net.min() >= -1e-9
    assert decision.reason is WHY


@pytest.mark.parametrize("indoor", [16.0, 20.5, 26.0], ids=["cold", "comfortable", "hot"])
def test_fallback_held_for_hours_brings_rooms_into_the_band(make_state, indoor):
    state = make_state(1, indoor_c=indoor, outdoor_c=0.0)
    rooms = np.array([indoor])
    for _ in range(100):
        state.report["indoor_c"][:] = rooms
        hvac = hold_comfort(state, HemsPolicy(), WHY).homes["hvac_kw"]
        heat = cop_at(state.homes, np.array([0.0]))[:, 0] * hvac
        rooms = indoor_after(state.homes, rooms, heat, np.array([0.0]), 900)
    assert 20.0 <= rooms[0] <= 24.0


def test_fallback_with_broken_report_still_gives_finite_set_points(make_state):
    nan = float("nan")
    state = make_state(1, indoor_c=nan, inflexible_kw=nan, outdoor_c=nan, battery_soc=nan, ev_soc=nan)
    decision = hold_comfort(state, HemsPolicy(), WHY)
    for name in ("battery_kw", "ev_kw", "hvac_kw", "pv_limit_kw"):
        assert np.isfinite(decision.homes[name]).all(), name
