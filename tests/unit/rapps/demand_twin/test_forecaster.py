"""Forecasts with the shipped models: shape, order, units, and better than the seasonal-naive on data not trained on."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rapps.demand_twin.config import MODELS
from rapps.demand_twin.fallback import seasonal_naive
from rapps.demand_twin.forecaster import forecast_demand, persist_pv
from rapps.demand_twin.model import load_forecaster
from rapps.demand_twin.policy import DemandTwinPolicy
from rapps.demand_twin.state import FIFTEEN_MINUTES, ONE_MINUTE, State
from ric.decision import Reason
from ric.errors import TwinRicError


@pytest.fixture(scope="module")
def models():
    return (
        load_forecaster(MODELS / "demand_15min.onnx", FIFTEEN_MINUTES),
        load_forecaster(MODELS / "demand_1min.onnx", ONE_MINUTE),
    )


def make_state(load_kw):
    load_kw = np.vstack([load_kw, load_kw.sum(axis=0)])
    ids = (*(f"h{i}" for i in range(len(load_kw) - 1)), "feeder")
    minutes = np.repeat(load_kw[:, -12:], 15, axis=1)
    return State("node", ids, 1_000 * 900 * 10**9, load_kw, np.zeros_like(load_kw), minutes, 1.0)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), scale=st.floats(1e-3, 1e3))
def test_forecast_demand_quantiles_are_ordered_and_positive(models, seed, scale):
    state = make_state(np.random.default_rng(seed).gamma(2.0, scale, (3, 192)))
    decision = forecast_demand(state, DemandTwinPolicy(), *models)
    assert decision.quarters.load_kw.shape == (4, 192, 3)
    assert (np.diff(decision.quarters.load_kw, axis=2) >= 0).all()
    assert (decision.quarters.load_kw >= 0).all()
    assert decision.minutes is not None
    assert decision.minutes.load_kw.shape == (4, 60, 3)


def test_forecast_demand_scales_with_the_load(models):
    load_kw = np.random.default_rng(3).gamma(2.0, 1.0, (2, 192))
    one = forecast_demand(make_state(load_kw), DemandTwinPolicy(), *models).quarters.load_kw
    ten = forecast_demand(make_state(10 * load_kw), DemandTwinPolicy(), *models).quarters.load_kw
    assert ten == pytest.approx(10 * one, rel=1e-3, abs=1e-3)


def test_forecast_demand_daily_course_is_found(models):
    hours = np.arange(192) / 4
    load_kw = (1 + 0.8 * np.sin(2 * np.pi * hours / 24))[None, :]
    decision = forecast_demand(make_state(load_kw), DemandTwinPolicy(horizon_h=24), *models)
    assert np.corrcoef(decision.quarters.load_kw[0, :, 1], load_kw[0, :96])[0, 1] > 0.9


def test_seasonal_naive_repeats_yesterday_and_says_so():
    load_kw = np.r_[np.zeros(96), np.arange(96.0)][None, :]
    decision = seasonal_naive(make_state(load_kw), DemandTwinPolicy(horizon_h=48), Reason("MODEL_MISSING"))
    assert decision.quarters.load_kw[0, :96, 1].tolist() == list(range(96))
    assert decision.naive
    assert decision.quarters.table(decision.ids, 0, naive=True)["seasonal_naive"].all()


def test_persist_pv_cloudier_today_scales_down_and_fades():
    yesterday = np.r_[np.zeros(96), np.ones(88), np.full(8, 0.5)]
    yesterday[88:96] = 1.0
    ahead = persist_pv(yesterday[None, :], 96)[0]
    assert ahead[0] == pytest.approx(0.5)
    assert ahead[80] > 0.9


def test_load_forecaster_missing_file_names_it(tmp_path):
    with pytest.raises(TwinRicError, match="MODEL-MISSING"):
        load_forecaster(tmp_path / "none.onnx", FIFTEEN_MINUTES)


def test_load_forecaster_other_resolution_is_refused():
    with pytest.raises(TwinRicError, match="MODEL-SHAPE"):
        load_forecaster(MODELS / "demand_1min.onnx", FIFTEEN_MINUTES)


@pytest.mark.parametrize("name", ["demand_15min", "demand_1min"])
def test_model_card_held_out_error_is_below_seasonal_naive(name):
    card = json.loads((MODELS / f"{name}.card.json").read_text())
    metrics = [value for key, value in card.items() if key.endswith("_metrics")]
    assert metrics
    assert all(each["pinball"] < each["pinball_seasonal_naive"] for each in metrics)
