"""The learned twin's inputs and outputs: an LSTM over the window and a decoder over the coming steps.

One network shape serves both resolutions. Loads are divided by their row's mean, so that one model fits a flat and a
feeder; the calendar enters as hour of day and weekend. Source: DT-6G paper (demand twin by LSTM at 1 min and 15 min).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rapps.demand_twin.state import Resolution
from ric.columns import Floats
from ric.learned import LearnedModel, load_model

__all__ = ["FEATURES", "QUANTILES", "load_forecaster", "model_inputs", "row_scale"]

QUANTILES = (0.1, 0.5, 0.9)
FEATURES = 5
NS_PER_S = 1_000_000_000
DAY_S = 86_400
SMALLEST_SCALE_KW = 0.02


def load_forecaster(path: Path, resolution: Resolution) -> LearnedModel:
    """The ONNX model of one resolution. Raises TwinRicError MODEL-MISSING, MODEL-SHAPE."""
    inputs = {"past": (-1, resolution.past, FEATURES), "future": (-1, resolution.horizon, FEATURES)}
    return load_model(path, inputs, {"quantiles": (-1, resolution.horizon, len(QUANTILES))})


def row_scale(load_kw: Floats) -> Floats:
    """Mean of each row (N, 1) [kW], kept off zero."""
    return np.asarray(np.maximum(load_kw.mean(axis=1, keepdims=True), SMALLEST_SCALE_KW))


def model_inputs(
    load_kw: Floats, end_ns: int, resolution: Resolution
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Inputs (N, past, 5) and (N, horizon, 5) from a window load_kw (N, history) [kW] that ends at `end_ns`.

    Features: the load and the load one lag before it (both over the row's scale), sine and cosine of the hour of day,
    weekend. For coming steps the two loads are those one and two lags before.
    """
    if load_kw.shape[1] != resolution.history:
        raise ValueError(f"the window has {load_kw.shape[1]} steps, {resolution.history} are needed")
    scaled = load_kw / row_scale(load_kw)
    past, lag, horizon = resolution.past, resolution.lag, resolution.horizon
    steps = np.arange(-past, horizon)
    starts_s = end_ns // NS_PER_S + steps * resolution.step_s
    calendar = _calendar(starts_s)
    now = scaled.shape[1]
    seen = np.stack([scaled[:, now - past :], scaled[:, now - past - lag : now - lag]], axis=2)
    ahead = np.arange(horizon)
    lagged = np.stack([scaled[:, now + ahead % lag - lag], scaled[:, now + ahead % lag - 2 * lag]], axis=2)
    return _joined(seen, calendar[:past]), _joined(lagged, calendar[past:])


def _calendar(starts_s: NDArray[np.int64]) -> Floats:
    angle = 2 * np.pi * (starts_s % DAY_S) / DAY_S
    weekday = (starts_s // DAY_S + 3) % 7  # the epoch was a Thursday
    return np.stack([np.sin(angle), np.cos(angle), (weekday >= 5).astype(float)], axis=1)


def _joined(loads: Floats, calendar: Floats) -> NDArray[np.float32]:
    repeated = np.broadcast_to(calendar, (loads.shape[0], *calendar.shape))
    return np.concatenate([loads, repeated], axis=2).astype(np.float32)
