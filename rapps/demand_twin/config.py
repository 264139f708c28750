"""Settings of the demand twin that need a restart."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from ric.app_spec import AppConfig

__all__ = ["DemandTwinConfig"]

MODELS = Path(__file__).parent / "models"


class DemandTwinConfig(AppConfig):
    """Where the models lie and when input counts as stale."""

    model_15min_path: Path = Field(default_factory=lambda: MODELS / "demand_15min.onnx")
    """ONNX file of the 15-min LSTM."""
    model_1min_path: Path = Field(default_factory=lambda: MODELS / "demand_1min.onnx")
    """ONNX file of the 1-min LSTM."""
    stale_after_s: float = Field(default=1_800.0, gt=0, le=86_400)
    """No input for this long [s] leads to the seasonal-naive forecast."""
