"""Settings of the microgrid guard; a change needs a restart."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from ric.app_spec import AppConfig
from xapps.microgrid_guard.model import MODEL_PATH

__all__ = ["GuardConfig"]


class GuardConfig(AppConfig):
    """Settings of `xapps.microgrid_guard`."""

    model_path: Path = Field(default_factory=lambda: MODEL_PATH)
    """ONNX file of the agents' twin; missing or of another shape, the app holds last good values instead."""
    warm_up_s: float = Field(default=3.0, ge=0, le=60)
    """Time after a gap in the reports in which the twin settles and raises no alarm [s], 0..60."""
    longest_gap_s: float = Field(default=0.55, ge=0.1, le=5)
    """Reports further apart than this [s], 0.1..5, are a gap: the twin starts anew. Shorter gaps are interpolated."""
    control_deadline_s: float = Field(default=1.0, gt=0, le=60)
    """Time for a node to put a substitution in force [s]."""
    stale_after_s: float = Field(default=2.0, gt=0, le=86_400)
    """No report for this long [s] leads to the safe action; above the coarsest report period of the nodes."""
