"""The safe action: yesterday's course as the median, the spread of the last two days around it. Cannot fail."""

from __future__ import annotations

import numpy as np

from rapps.demand_twin.forecaster import Decision, Forecast, persist_pv
from rapps.demand_twin.policy import DemandTwinPolicy
from rapps.demand_twin.state import FIFTEEN_MINUTES, State
from ric.decision import Reason

__all__ = ["seasonal_naive"]


def seasonal_naive(state: State, policy: DemandTwinPolicy, reason: Reason) -> Decision:
    """Seasonal-naive forecast of one node, marked as such; no 1-min forecast is made."""
    day = FIFTEEN_MINUTES.lag
    steps = policy.horizon_h * 3600 // FIFTEEN_MINUTES.step_s
    where = np.arange(steps) % day
    yesterday, before = state.load_kw[:, -day:][:, where], state.load_kw[:, -2 * day : -day][:, where]
    spread = np.abs(yesterday - before)
    quantiles = np.stack([np.maximum(yesterday - spread, 0.0), yesterday, yesterday + spread], axis=2)
    quarters = Forecast(FIFTEEN_MINUTES.step_s, quantiles, persist_pv(state.pv_kw, steps))
    return Decision(state.node, state.ids, state.source_time_ns, quarters, None, reason, naive=True)
