"""Settings of the slice bandwidth xApp that need a restart."""

from __future__ import annotations

import zlib
from collections import Counter
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from ric.app_spec import AppConfig
from ric.config import FrozenModel

__all__ = ["AggregationLink", "SliceBandwidthConfig"]

MODELS = Path(__file__).parent / "models"
SHOWN = 5


class AggregationLink(FrozenModel):
    """A link that several nodes share behind their own: they decide together so that it does not fill."""

    link_id: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """Name of the link; all its nodes belong to one partition, by this name."""
    e2_node_ids: tuple[str, ...] = Field(min_length=2, max_length=64)
    """E2 nodes on the link, 2..64; a node is on one link at most."""
    capacity_mbps: float = Field(gt=0, le=10_000_000)
    """Rate of the link, downlink [Mb/s]; control passes before protection, protection before monitoring."""
    buffer_mbit: float = Field(default=5_000.0, gt=0, le=1_000_000)
    """Room of its queue [Mbit]; what does not fit is lost, monitoring first."""


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
    aggregation_links: tuple[AggregationLink, ...] = ()
    """Links that nodes share; the same list for every instance. A node that none names decides for itself."""

    def link_of(self, e2_node_id: str) -> AggregationLink | None:
        """The aggregation link that the node is on, if any."""
        return next((link for link in self.aggregation_links if e2_node_id in link.e2_node_ids), None)

    def serves(self, e2_node_id: str) -> bool:
        """True for the nodes of this instance's partition: each node is in exactly one, wherever that is asked.

        Nodes of one aggregation link are in the same one.
        """
        link = self.link_of(e2_node_id)
        key = e2_node_id if link is None else link.link_id
        return zlib.crc32(key.encode()) % self.partitions == self.partition

    @model_validator(mode="after")
    def _is_a_partition(self) -> SliceBandwidthConfig:
        if self.partition >= self.partitions:
            raise ValueError(f"partition below partitions ({self.partitions})")
        return self

    @field_validator("aggregation_links")
    @classmethod
    def _each_once(cls, links: tuple[AggregationLink, ...]) -> tuple[AggregationLink, ...]:
        nodes = Counter(node for link in links for node in link.e2_node_ids)
        for kind, counted in (("link_id", Counter(link.link_id for link in links)), ("e2_node_ids", nodes)):
            twice = [name for name, number in counted.items() if number > 1]
            if twice:
                raise ValueError(f"each {kind} once ({', '.join(twice[:SHOWN])} more than once)")
        return links
