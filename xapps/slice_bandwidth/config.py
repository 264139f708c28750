"""Settings of the slice bandwidth xApp that need a restart."""

from __future__ import annotations

import zlib
from pathlib import Path

from pydantic import Field, model_validator

from ric.app_spec import AppConfig

__all__ = ["SliceBandwidthConfig"]

MODELS = Path(__file__).parent / "models"


class SliceBandwidthConfig(AppConfig):
    """Cadence, model file, link figures and alarm sources of the slice bandwidth xApp."""

    granularity_period_ms: int = Field(default=100, ge=10, le=60_000)
    """Period of the KPM subscription [ms], 10..60,000: a decision is due with each report."""
    model_path: Path = Field(default_factory=lambda: MODELS / "actor.onnx")
    """ONNX file of the trained actor."""
    forecaster_path: Path = Field(default_factory=lambda: MODELS / "forecaster.onnx")
    """ONNX file of the load forecaster, trained with the actor."""
    control_deadline_s: float = Field(default=1.0, gt=0, le=30)
    """How long a RIC Control may take to be confirmed [s]; later its value counts as unknown."""
    twin_valid_for_ms: int = Field(default=10_000, ge=0, le=86_400_000)
    """How long a `slice/<node>` twin may be used [ms]; 0 for always."""
    alarm_applications: tuple[str, ...] = ("fault_alarm",)
    """Applications whose alarms put protection and control first."""
    base_delay_ms: tuple[float, float, float] = (0.4, 0.2, 0.4)
    """Delay without queueing of control, protection, monitoring [ms], for the analytic queue."""
    burst_mbit: tuple[float, float, float] = (1.2, 1.2, 3.6)
    """Size of a burst that arrives at once, per slice [Mbit], for the analytic queue."""
    buffer_mbit: tuple[float, float, float] = (2_500.0, 2_500.0, 2_500.0)
    """Backlog at which the slice's queue drops [Mbit], for the analytic queue."""
    partitions: int = Field(default=1, ge=1, le=1_000)
    """How many instances of the app share the nodes between them [1], 1..1,000."""
    partition: int = Field(default=0, ge=0, le=999)
    """Which share of the nodes this instance serves [1], 0 up to partitions - 1."""

    def serves(self, e2_node_id: str) -> bool:
        """True for the nodes of this instance's partition: each node is in exactly one, wherever that is asked."""
        return zlib.crc32(e2_node_id.encode()) % self.partitions == self.partition

    @model_validator(mode="after")
    def _is_a_partition(self) -> SliceBandwidthConfig:
        if self.partition >= self.partitions:
            raise ValueError(f"partition below partitions ({self.partitions})")
        return self
