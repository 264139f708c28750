"""Settings of the fault alarm that need a restart."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from ric.app_spec import AppConfig

__all__ = ["FaultAlarmConfig"]

MODELS = Path(__file__).parent / "models"


class FaultAlarmConfig(AppConfig):
    """Where the model lies, which feeder the DU serves, and when input counts as stale."""

    model_path: Path = Field(default_factory=lambda: MODELS / "fault.onnx")
    """ONNX file of the fault classifier."""
    feeder: str = Field(default="feeder-1", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """Name of the feeder in alarms: feeder/<name>/section/<n>."""
    busy_poll: bool = False
    """Keep asking for windows instead of sleeping between them: for a core of its own; about a third off the loop."""
    lock_memory: bool = False
    """Keep the whole process in memory (mlockall): pages that the system has taken back cost tens of ms when needed."""
    stale_after_s: float = Field(default=1.0, gt=0, le=86_400)
    """No window for this long [s] is told as stale; alarms stay as they are."""
