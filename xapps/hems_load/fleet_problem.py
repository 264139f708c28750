"""What a fleet of homes is to decide, and what was decided: columns with homes first, steps last.

Every home is an inflexible load with curtailable PV and wind behind one meter, and may have a battery, an EV, a heat
pump, interruptible and shiftable appliances. The steps may differ in length. Arrays (N, T) may be broadcast views, so
that one tariff or one outdoor temperature is held once. A device that a home lacks has zero power and capacity.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Appliances",
    "Battery",
    "Costs",
    "Ev",
    "FleetPlan",
    "FleetProblem",
    "HeatPump",
    "Meter",
    "Penalties",
    "Shiftable",
    "relaxation_of",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Meter:
    """What flows without a decision, and what it costs; arrays (N, T) unless said otherwise."""

    load_kw: Floats
    pv_kw: Floats
    """PV power available; the plan may use less."""
    wind_kw: Floats
    buy: Floats
    """Import tariff [EUR/kWh], a carbon price included where one is wanted."""
    sell: Floats
    """Export tariff [EUR/kWh]; where it is above `buy` it counts as `buy`, or power would run in circles."""
    import_limit_kw: Floats
    """(N,) contract power. More may be planned at `Penalties.over_eur_per_kwh`, and is then told."""
    export_limit_kw: Floats
    """(N, T) most that may be exported; 0 forbids it. Never exceeded: PV and wind are curtailed instead."""


@dataclass(frozen=True)
class Battery:
    """Arrays (N,). Absent where `capacity_kwh` is 0."""

    energy_kwh: Floats
    """Energy held now."""
    capacity_kwh: Floats
    floor_kwh: Floats
    """Energy kept in reserve; a battery that holds less now need not be charged, but goes no lower."""
    charge_kw: Floats
    discharge_kw: Floats
    charge_efficiency: Floats
    discharge_efficiency: Floats
    wear_eur_per_kwh: Floats
    """Ageing per kWh charged or discharged at the terminals."""
    end_value_eur_per_kwh: Floats
    """Worth of energy held at the end of the horizon."""


@dataclass(frozen=True)
class Ev:
    """Arrays (N,) or (N, T). Absent where `capacity_kwh` is 0. Several stays: `here` is 0 in between."""

    energy_kwh: Floats
    """(N,) energy held now; expected at the first arrival, where the car is away now."""
    capacity_kwh: Floats
    charge_kw: Floats
    discharge_kw: Floats
    """(N,) V2G power; 0 for none."""
    charge_efficiency: Floats
    discharge_efficiency: Floats
    wear_eur_per_kwh: Floats
    """(N,) price of V2G per kWh discharged."""
    end_value_eur_per_kwh: Floats
    here: Floats
    """(N, T) 1 while plugged in, else 0."""
    trip_kwh: Floats
    """(N, T) energy that driving takes in the step."""
    floor_kwh: Floats
    """(N, T) least energy at the end of the step (V2G floor). What is out of reach is lowered, and not told."""
    target_kwh: Floats
    """(N, T) energy wanted at the end of the step, 0 where none: set it at the last step before each departure."""


@dataclass(frozen=True)
class HeatPump:
    """One room, one time constant; arrays (N, T) unless said otherwise. Absent where `power_kw` is 0."""

    power_kw: Floats
    """(N,) electrical."""
    indoor_c: Floats
    """(N,) now."""
    left: Floats
    """Share of the indoor temperature that is left after the step: exp(-hours / tau)."""
    warm_c_per_kw: Floats
    """Rise over the step per kW electrical, COP included; negative where it cools."""
    drift_c: Floats
    """What outdoors and gains add in the step: indoor' = left indoor + warm power + drift."""
    low_c: Floats
    high_c: Floats
    """Comfort band at the end of the step; by occupancy."""
    discomfort_eur_per_k_h: Floats
    """Price of one kelvin outside the band for one hour."""
    end_value_eur_per_k: Floats
    """(N,) worth of one kelvin of warmth at the end of the horizon."""


@dataclass(frozen=True)
class Appliances:
    """Interruptible: `energy_kwh` in all, at up to `power_kw`, in the steps `first`..`last`. Arrays (N, K)."""

    power_kw: Floats
    energy_kwh: Floats
    """Still to be served; 0 for none."""
    first: Ints
    last: Ints
    """Last step of the window, included. A window that ends beyond the horizon: give T - 1 and less energy."""


@dataclass(frozen=True)
class Shiftable:
    """Runs that are not interrupted; arrays (N, K). A run that has begun: its rest belongs to `Meter.load_kw`."""

    power_kw: Floats
    """Mean power while it runs; 0 for none."""
    duration_h: Floats
    first: Ints
    last: Ints
    """Steps at whose beginning the run may start, both included; it ends within the horizon."""


@dataclass(frozen=True)
class Penalties:
    """Prices of what a plan should keep and may have to relax, the dearest last to give way."""

    over_eur_per_kwh: float = 5.0
    """Import beyond the contract, on top of the tariff: kept before an EV's target."""
    ev_short_eur_per_kwh: float = 3.0
    appliance_short_eur_per_kwh: float = 2.0
    bound_eur_per_kwh: float = 8.0
    """Storage bounds; relaxed only where the energy now lies outside them."""


@dataclass(frozen=True)
class FleetProblem:
    """N homes over T steps of `hours` (T,) [h]. Kinds that no home has are None."""

    hours: Floats
    meter: Meter
    battery: Battery | None = None
    ev: Ev | None = None
    heat_pump: HeatPump | None = None
    appliances: Appliances | None = None
    shiftable: Shiftable | None = None
    fleet_price: Floats | None = None
    """(T,) or (N, T) shadow price of net import [EUR/kWh], on both tariffs; the coordination sets it."""
    fleet_curvature: Floats | None = None
    """(T,) rise of the import's price with its own power [EUR/kWh per kW]: no cost, it spreads what may be spread."""
    penalties: Penalties = Penalties()

    @property
    def homes(self) -> int:
        """N."""
        return int(self.meter.load_kw.shape[0])

    @property
    def steps(self) -> int:
        """T."""
        return int(self.hours.size)

    def take(self, rows: Ints) -> FleetProblem:
        """The problem of the homes in `rows` alone."""
        parts = {name: _rows(getattr(self, name), rows) for name in _KINDS}
        price = self.fleet_price
        own = price[rows] if price is not None and price.ndim == 2 else price
        return replace(self, **parts, fleet_price=own)


_KINDS = ("meter", "battery", "ev", "heat_pump", "appliances", "shiftable")


def _rows(part: Any, rows: Ints) -> Any:
    if part is None:
        return None
    return type(part)(*(getattr(part, field.name)[rows] for field in fields(part)))


@dataclass(frozen=True)
class Costs:
    """Parts of a plan's objective, arrays (N,) [EUR]; the fleet's price is not among them."""

    energy: Floats
    wear: Floats
    discomfort: Floats
    penalty: Floats
    """Priced relaxations but discomfort."""
    end_value: Floats
    """Worth of what the storages hold at the end; counts against the cost."""

    @property
    def total(self) -> Floats:
        """(N,) the objective [EUR]."""
        return self.energy + self.wear + self.discomfort + self.penalty - self.end_value


@dataclass(frozen=True)
class FleetPlan:
    """Set-points of every device in every step; arrays (N, T) unless said otherwise. Projected into all limits."""

    net_kw: Floats
    """At the meter: > 0 imports, < 0 exports; never both."""
    pv_kw: Floats
    wind_kw: Floats
    """Used, not curtailed."""
    battery_kw: Floats
    """> 0 charges."""
    ev_kw: Floats
    hvac_kw: Floats
    appliance_kw: Floats
    """(N, K, T) interruptible appliances."""
    shiftable_kw: Floats
    """(N, T) all runs together."""
    shiftable_start: Ints
    """(N, K) step in which each run starts; -1 where there is none."""
    battery_kwh: Floats
    ev_kwh: Floats
    indoor_c: Floats
    """States at the end of each step."""
    marginal_price: Floats
    """What one more kWh would cost the home in that step [EUR/kWh]."""
    costs: Costs
    relaxed: dict[str, Floats]
    """By reason code (N,): how much of a limit could not be kept. EV_TARGET_RELAXED, APPLIANCE_RELAXED and
    CONTRACT_RELAXED [kWh], COMFORT_RELAXED [K h], BATTERY_BOUND_RELAXED [kWh h]."""
    fleet_price: Floats
    """(T,) [EUR/kWh]; 0 where no fleet limit binds."""
    miss_kw: Floats
    """(T,) power beyond the fleet's cap."""
    rounds: int = 0
    """Rounds of the fleet's price."""

    @property
    def fleet_net_kw(self) -> Floats:
        """(T,) planned import of all homes together, exports counted against it."""
        return np.asarray(self.net_kw.sum(axis=0))


RELAXATION_FLOORS = {
    "CONTRACT_RELAXED": 0.01,
    "EV_TARGET_RELAXED": 0.05,
    "APPLIANCE_RELAXED": 0.05,
    "BATTERY_BOUND_RELAXED": 0.01,
    "COMFORT_RELAXED": 0.25,
}
"""Amounts below which a relaxation is not worth telling, the gravest code first."""


def relaxation_of(plan: FleetPlan, home: int) -> tuple[str, dict[str, float]]:
    """Gravest reason code of what the plan of `home` could not keep ("" where all is kept), and all amounts by code."""
    amounts = {
        code: float(plan.relaxed[code][home])
        for code, floor in RELAXATION_FLOORS.items()
        if code in plan.relaxed and plan.relaxed[code][home] > floor
    }
    return next(iter(amounts), ""), amounts
