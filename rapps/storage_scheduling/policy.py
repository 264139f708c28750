"""What an operator tunes while storage scheduling runs: its A1 policy type."""

from __future__ import annotations

from pydantic import Field, model_validator

from ric.scopes import ScopedPolicy

__all__ = ["POLICY_TYPE_ID", "StorageSchedulingPolicy"]

POLICY_TYPE_ID = "twinric_storage_scheduling_1.0.0"


class StorageSchedulingPolicy(ScopedPolicy):
    """Prices and limits of the storage schedule."""

    reserve_share: float = Field(default=0.1, ge=0, le=1)
    """Share of a unit's power kept free for frequency response [1], 0..1. Acts on the next schedule."""
    reserve_hours: float = Field(default=0.5, ge=0, le=4)
    """Time for which the reserve can be delivered from the energy held [h], 0..4."""
    reserve_price_eur_per_kw_h: float = Field(default=0.0, ge=0, le=1)
    """Payment for reserve beyond the share [EUR per kW and hour], 0..1."""
    wear_eur_per_kwh: float = Field(default=0.02, ge=0, le=1)
    """Ageing cost of each kWh charged or discharged [EUR/kWh], 0..1. High values spare the unit."""
    peak_price_eur_per_kw: float = Field(default=0.3, ge=0, le=10)
    """Price of the horizon's highest import [EUR/kW], 0..10. High values flatten the feeder."""
    losses_per_kw: float = Field(default=1e-4, ge=0, le=0.1)
    """Share of the feeder's exchange that is lost for each kW of it [1/kW], 0..0.1. High values even it out."""
    soc_min: float = Field(default=0.1, ge=0, le=1)
    """Lowest state of charge that a schedule may reach [1]."""
    soc_max: float = Field(default=0.95, ge=0, le=1)
    """Highest state of charge that a schedule may reach [1]."""
    soc_target: float = Field(default=0.5, ge=0, le=1)
    """State of charge to be reached again at the end of each schedule [1], within what the unit can do."""
    feeder_limit_kw: float = Field(default=0.0, ge=0, le=100_000)
    """Import of the feeder above which homes are capped by an A1 policy [kW]; 0 for no cap."""

    @model_validator(mode="after")
    def _ordered(self) -> StorageSchedulingPolicy:
        if self.soc_min >= self.soc_max:
            raise ValueError("soc_min < soc_max")
        return self
