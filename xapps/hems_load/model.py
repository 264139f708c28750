"""The app's own model of homes: what a plan assumes about batteries, EVs, rooms and heat pumps.

Written apart from the simulator's physics; `tests/component/hems_load` holds the two to a stated tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from ric.columns import Table

__all__ = ["Homes", "Jobs", "cop_at", "heat_loss_factor", "indoor_after", "soc_after"]

Floats = NDArray[np.float64]

COP_SLOPE_PER_K = 0.025
"""Relative change of a heat pump's coefficient of performance per kelvin outdoors: the usual data-sheet slope."""


@dataclass(frozen=True)
class Homes:
    """Devices of the homes (N,), named as the columns of `home_static`."""

    ids: tuple[str, ...]
    battery_kwh: Floats
    battery_max_kw: Floats
    battery_efficiency: Floats
    ev_kwh: Floats
    ev_max_kw: Floats
    ev_v2g_kw: Floats
    ev_efficiency: Floats
    hvac_max_kw: Floats
    hvac_cop: Floats
    heat_capacity_kwh_per_k: Floats
    heat_loss_kw_per_k: Floats
    comfort_low_c: Floats
    comfort_high_c: Floats
    connection_kw: Floats
    export_limit_kw: Floats
    pv_kwp: Floats
    wind_rated_kw: Floats
    setback_k: Floats
    ev_floor_soc: Floats
    tariff: Floats

    @classmethod
    def of(cls, table: Table) -> Homes:
        """The homes of a `home_static` table."""
        return cls(table.ids, *(np.asarray(table[column.name], dtype=float) for column in fields(cls)[1:]))

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.intp]) -> Homes:
        """The homes in `rows`."""
        values = (np.asarray(getattr(self, column.name))[rows] for column in fields(self)[1:])
        return Homes(tuple(self.ids[row] for row in rows), *values)


@dataclass(frozen=True)
class Jobs:
    """Appliances (K,) and the job that each has in hand, named as the columns of `appliance_report`."""

    ids: tuple[str, ...] = ()
    home: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    power_kw: Floats = field(default_factory=lambda: np.zeros(0))
    left_h: Floats = field(default_factory=lambda: np.zeros(0))
    opens_h: Floats = field(default_factory=lambda: np.zeros(0))
    closes_h: Floats = field(default_factory=lambda: np.zeros(0))
    interruptible: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    running: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))

    @classmethod
    def of(cls, table: Table) -> Jobs:
        """The appliances of an `appliance_report` table."""
        times = (np.asarray(table[name], dtype=float) for name in ("power_kw", "left_h", "opens_h", "closes_h"))
        switches = (table[name] > 0.5 for name in ("interruptible", "running"))
        return cls(table.ids, table["home"].astype(np.intp), *times, *switches)

    def __len__(self) -> int:
        return len(self.ids)

    def by_home(self, values: Floats, homes: int) -> Floats:
        """(N,) sum of (K,) `values` over the appliances of each of `homes` homes."""
        return np.bincount(self.home, weights=values, minlength=homes).astype(float)


def cop_at(homes: Homes, outdoor_c: Floats) -> Floats:
    """Coefficient of performance (N, T) at `outdoor_c` (T,) [degC]: linear around the rated point at 7 degC, 1..8."""
    factor = 1 + COP_SLOPE_PER_K * (outdoor_c[None, :] - 7)
    return np.clip(homes.hvac_cop[:, None] * factor, 1, 8)


def heat_loss_factor(homes: Homes, step_s: float) -> Floats:
    """(N,) share of the indoor-outdoor difference that is left after `step_s` without heating: exp(-t / tau)."""
    return np.exp(-homes.heat_loss_kw_per_k * step_s / 3600 / homes.heat_capacity_kwh_per_k)


def indoor_after(homes: Homes, indoor_c: Floats, heat_kw: Floats, outdoor_c: Floats, step_s: float) -> Floats:
    """(N,) indoor temperature [degC] after `step_s` with constant `heat_kw` (N,), gains included: exact first order."""
    left = heat_loss_factor(homes, step_s)
    settled = outdoor_c + heat_kw / homes.heat_loss_kw_per_k
    return np.asarray(settled + (indoor_c - settled) * left)


def soc_after(soc: Floats, power_kw: Floats, efficiency: Floats, capacity_kwh: Floats, step_s: float) -> Floats:
    """(N,) state of charge after `step_s` at `power_kw` (> 0 charges); where there is no capacity it stays."""
    stored = np.where(power_kw > 0, power_kw * efficiency, power_kw / efficiency) * step_s / 3600
    return np.asarray(soc + np.divide(stored, capacity_kwh, out=np.zeros_like(soc), where=capacity_kwh > 0))
