"""Settings of storage scheduling that need a restart."""

from __future__ import annotations

from pydantic import Field

from ric.app_spec import AppConfig

__all__ = ["StorageSchedulingConfig"]


class StorageSchedulingConfig(AppConfig):
    """When input counts as stale, and which policy type receives import caps."""

    stale_after_s: float = Field(default=3_600.0, gt=0, le=86_400)
    """No input for this long [s] leads to holding the state of charge."""
    hems_policy_type_id: str = "twinric_hems_load_1.0.0"
    """A1 policy type of the HEMS xApp, which import caps are sent to."""
