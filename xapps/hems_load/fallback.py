"""The safe action: rooms stay comfortable, cars charge, nothing is exported. Needs only the last good state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ric.decision import Reason
from xapps.hems_load.decision import Decision
from xapps.hems_load.model import cop_at
from xapps.hems_load.policy import HemsPolicy
from xapps.hems_load.projection import project
from xapps.hems_load.state import State
from xapps.hems_load.tracking import SetPoints

__all__ = ["comfort_points", "hold_comfort"]

ABOVE_LOW_K = 1.0
"""Where in the comfort band the rooms are held, above its lower bound [K]."""
_PULL_KW_PER_K = 1.0
"""Extra heat per kelvin that a room is away from there [kW/K]."""


def hold_comfort(state: State, policy: HemsPolicy, reason: Reason) -> Decision:
    """The projected :func:`comfort_points` as a decision."""
    return Decision.of(state, project(state, comfort_points(state), policy).points, reason=reason)


def comfort_points(state: State) -> SetPoints:
    """Set-points that need no forecast, no price and no fresh report.

    Heat pumps give what holds a room 1 K above its lower bound at the outdoor temperature last seen; cars charge at
    full power up to their target; appliances run in their windows; batteries rest; PV and wind are limited to what is
    used, so that nothing is exported.
    """
    homes, report = state.homes, state.report
    outdoor = np.atleast_1d(np.nan_to_num(report["outdoor_c"].mean()))
    wanted = homes.comfort_low_c + ABOVE_LOW_K
    heat = homes.heat_loss_kw_per_k * (wanted - outdoor) + _PULL_KW_PER_K * (wanted - report["indoor_c"])
    hvac = np.clip(heat / cop_at(homes, outdoor)[:, 0], 0, homes.hvac_max_kw)
    charging = (report["ev_connected"] > 0.5) & (report["ev_soc"] < report["ev_target_soc"])
    ev, none = np.where(charging, homes.ev_max_kw, 0.0), np.zeros(len(homes))
    points = SetPoints(none, ev, hvac, none, none, state.jobs.left_h > 0)
    used = report["inflexible_kw"] + points.appliance_kw(state) + hvac + ev
    wind = np.minimum(report["wind_available_kw"], used)
    return replace(points, wind_limit_kw=wind, pv_limit_kw=used - wind)
