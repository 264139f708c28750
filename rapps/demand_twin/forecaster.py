"""Forecasts from windows: quantiles of the load by the learned twin, PV by damped persistence. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rapps.demand_twin.model import QUANTILES, model_inputs, row_scale
from rapps.demand_twin.policy import DemandTwinPolicy
from rapps.demand_twin.state import FIFTEEN_MINUTES, ONE_MINUTE, Resolution, State
from ric.columns import Floats, Table
from ric.decision import Reason
from ric.learned import LearnedModel

__all__ = ["Decision", "Forecast", "forecast_demand", "persist_pv"]

MEDIAN = QUANTILES.index(0.5)


@dataclass(frozen=True)
class Forecast:
    """Quantiles of the load (N, H, 3) [kW] and median PV (N, H) [kW] of the steps after the source time."""

    step_s: int
    load_kw: Floats
    pv_kw: Floats

    def table(self, ids: tuple[str, ...], source_time_ns: int, *, naive: bool) -> Table:
        """The demand_forecast table of a twin record."""
        ones = np.ones(len(ids))
        columns = {
            "step_s": self.step_s * ones,
            "load_p10_kw": self.load_kw[:, :, 0],
            "load_p50_kw": self.load_kw[:, :, 1],
            "load_p90_kw": self.load_kw[:, :, 2],
            "pv_p50_kw": self.pv_kw,
            "seasonal_naive": float(naive) * ones,
        }
        return Table("demand_forecast", ids, columns, source_time_ns)


@dataclass(frozen=True)
class Decision:
    """Forecasts of one node, and why they are as they are."""

    node: str
    ids: tuple[str, ...]
    source_time_ns: int
    quarters: Forecast
    minutes: Forecast | None
    reason: Reason
    naive: bool


def forecast_demand(
    state: State, policy: DemandTwinPolicy, quarter_model: LearnedModel, minute_model: LearnedModel
) -> Decision:
    """Load quantiles at 15 min (to `policy.horizon_h`) and 1 min (one hour) for every home and the feeder.

    The second day is forecast from the first day's median. Quantiles never cross and are never below zero.
    """
    steps = policy.horizon_h * 3600 // FIFTEEN_MINUTES.step_s
    window, quantiles = state.load_kw, np.zeros((len(state.ids), 0, len(QUANTILES)))
    end_ns = state.source_time_ns
    while quantiles.shape[1] < steps:
        day = _quantiles(window, end_ns, FIFTEEN_MINUTES, quarter_model)
        quantiles = np.concatenate([quantiles, day], axis=1)
        window = np.concatenate([window, day[:, :, MEDIAN]], axis=1)[:, -FIFTEEN_MINUTES.history :]
        end_ns += FIFTEEN_MINUTES.horizon * FIFTEEN_MINUTES.step_s * 1_000_000_000
    pv_kw = persist_pv(state.pv_kw, steps)
    quarters = Forecast(FIFTEEN_MINUTES.step_s, quantiles[:, :steps], pv_kw)
    minutes = None
    if policy.one_minute:
        minute_kw = _quantiles(state.minute_load_kw, state.source_time_ns, ONE_MINUTE, minute_model)
        repeat = FIFTEEN_MINUTES.step_s // ONE_MINUTE.step_s
        minute_pv_kw = np.repeat(pv_kw, repeat, axis=1)[:, : ONE_MINUTE.horizon]
        if minute_pv_kw.shape[1] == ONE_MINUTE.horizon:
            minutes = Forecast(ONE_MINUTE.step_s, minute_kw, minute_pv_kw)
    numbers = {
        "homes": float(len(state.ids) - 1),
        "seen_share": state.seen_share,
        "feeder_next_hour_kw": float(quarters.load_kw[-1, :4, MEDIAN].mean()),
        "feeder_peak_p90_kw": float(quarters.load_kw[-1, :, -1].max()),
    }
    reason = Reason("FORECAST", numbers)
    return Decision(state.node, state.ids, state.source_time_ns, quarters, minutes, reason, naive=False)


def _quantiles(load_kw: Floats, end_ns: int, resolution: Resolution, model: LearnedModel) -> Floats:
    past, future = model_inputs(load_kw, end_ns, resolution)
    (raw,) = model.run(past=past, future=future)
    ordered = np.sort(np.maximum(raw.astype(np.float64), 0.0), axis=2)
    return np.asarray(ordered * row_scale(load_kw)[:, :, None])


def persist_pv(pv_kw: Floats, steps: int) -> Floats:
    """PV (N, steps) [kW]: yesterday's course, scaled by today's yield so far against yesterday's over two hours.

    The scale (0..2) fades with a time constant of six hours: weather holds for hours, not for days.
    """
    day, recent = 96, 8
    yesterday = pv_kw[:, -day:]
    now_kwh = pv_kw[:, -recent:].sum(axis=1)
    then_kwh = pv_kw[:, -day - recent : -day].sum(axis=1)
    ratio = np.clip(np.where(then_kwh > 0.05, now_kwh / np.maximum(then_kwh, 0.05), 1.0), 0.0, 2.0)
    fade = np.exp(-np.arange(steps) / 24.0)
    scale = 1.0 + (ratio - 1.0)[:, None] * fade[None, :]
    return np.asarray(yesterday[:, np.arange(steps) % day] * scale)
