"""What a scenario says about its residential grid: which SimBench grid, how many homes, which devices, which tariff."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ric.config import FrozenModel

__all__ = ["CarbonSettings", "OutlookSettings", "ResidentialSettings", "StorageSettings", "TariffSettings"]

Share = Annotated[float, Field(ge=0, le=1)]
Price = Annotated[float, Field(ge=-1, le=5)]


class TariffSettings(FrozenModel):
    """Prices that homes pay and receive."""

    kind: Literal["flat", "time_of_use", "day_ahead"] = "day_ahead"
    """flat: `low` always; time_of_use: `low`, and `high` at `peak_hours`; day_ahead: spot + `fee` by the hour."""
    low: Price = 0.24
    """Lower import price [EUR/kWh]."""
    high: Price = 0.38
    """Import price at peak hours [EUR/kWh]."""
    peak_hours: tuple[Annotated[int, Field(ge=0, le=23)], ...] = (7, 8, 9, 17, 18, 19, 20, 21)
    """Hours of the day with `high`."""
    fee: Price = 0.18
    """Grid fees, levies and tax on top of the spot price [EUR/kWh]."""
    spot_mean: Price = 0.09
    """Mean spot price where no file is given [EUR/kWh]."""
    spot_file: Path | None = None
    """CSV whose last column is the hourly spot price [EUR/MWh], from the run's first hour on; repeated when short."""
    feed_in: Price = 0.08
    """Export price [EUR/kWh]; under day_ahead the spot price counts when it is lower, but never less than 0."""


class CarbonSettings(FrozenModel):
    """CO2 intensity of what is imported."""

    mean_g_per_kwh: Annotated[float, Field(ge=0, le=2_000)] = 380.0
    """Mean intensity where no file is given [g/kWh]; low around noon, high in the evening, days differ."""
    file: Path | None = None
    """CSV whose last column is the hourly intensity [g/kWh], from the run's first hour on; repeated when short."""


class StorageSettings(FrozenModel):
    """One community storage at the LV busbar of the transformer; `capacity_kwh: 0` leaves it out."""

    capacity_kwh: Annotated[float, Field(ge=0, le=10_000)] = 200.0
    """Usable capacity [kWh]."""
    max_kw: Annotated[float, Field(ge=0, le=10_000)] = 80.0
    """Power limit, both ways [kW]."""
    efficiency: Annotated[float, Field(ge=0.5, le=1)] = 0.96
    """One-way efficiency [1]."""
    soc: Share = 0.5
    """State of charge at the start [1]."""
    droop_hz: Annotated[float, Field(gt=0, le=2)] = 0.2
    """Frequency deviation at which the whole reserve is delivered [Hz]."""


class OutlookSettings(FrozenModel):
    """Errors of the forecasts that the node hands out; they grow with the square root of the lead time."""

    hours: Annotated[int, Field(ge=1, le=72)] = 36
    """Length of the forecasts [h]."""
    pv_error: Annotated[float, Field(ge=0, le=1)] = 0.15
    """Relative standard deviation of the PV forecast 24 h ahead [1]."""
    wind_error: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Relative standard deviation of the wind forecast 24 h ahead [1]."""
    temperature_error_k: Annotated[float, Field(ge=0, le=10)] = 1.5
    """Standard deviation of the temperature forecast 24 h ahead [K]."""


class ResidentialSettings(FrozenModel):
    """Homes, feeder and community storage of one E2 node."""

    code: str = "1-LV-rural3--2-sw"
    """SimBench code of the LV grid."""
    homes: Annotated[int, Field(ge=1, le=1000)] = 60
    """Homes under control: households of the grid, those with most devices first; the others stay background load."""
    pv_share: Share = 0.5
    """Least share of homes with PV; SimBench's own come first, the rest is added with the run's seed."""
    battery_share: Share = 0.4
    """Least share of homes with a battery."""
    ev_share: Share = 0.4
    """Least share of homes with an EV."""
    heat_pump_share: Share = 0.4
    """Least share of homes with a heat pump."""
    v2g_share: Share = 0.5
    """Share of EV chargers that can discharge."""
    wind_share: Share = 0.1
    """Share of homes with a small wind turbine (SimBench's wind profiles)."""
    appliance_share: Share = 0.4
    """Share of homes that have each kind of appliance that can be shifted (`e2sim/grid/appliances.py`)."""
    connection_kw: Annotated[float, Field(gt=1, le=200)] = 14.5
    """Least contract limit of import at the meter [kW]; larger where a home's devices need more."""
    export_limit_kw: Annotated[float, Field(ge=0, le=200)] = 200.0
    """Contract limit of export at the meter [kW]; never more than that of import."""
    texture: Annotated[float, Field(ge=0, le=1)] = 0.35
    """Relative standard deviation of 1-min load around SimBench's 15-min mean [1]."""
    tariff: TariffSettings = TariffSettings()
    """Prices; those that the feeder and the community storage see too."""
    other_tariffs: Annotated[tuple[TariffSettings, ...], Field(max_length=20)] = ()
    """More tariffs: each home has one of all, drawn with the run's seed."""
    carbon: CarbonSettings = CarbonSettings()
    """CO2 intensity."""
    storage: StorageSettings = StorageSettings()
    """Community storage."""
    outlook: OutlookSettings = OutlookSettings()
    """Forecast errors."""
