"""Homes of a city for the HEMS benchmarks: SimBench's measured profiles, seeded devices, forecasts that change.

Every home draws one of the household profiles of three SimBench grids, its own size, and its own shift in time by
whole weeks and some quarters of an hour, so that no two homes are alike. `City.problem(step)` is what the HEMS would
be told at that step: measured states, forecasts whose error grows with lead and which are revised from step to step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from e2sim.grid.simbench_profiles import PROFILE_STEPS, load_grid
from xapps.hems_load.fleet_problem import (
    Appliances,
    Battery,
    Ev,
    FleetPlan,
    FleetProblem,
    HeatPump,
    Meter,
    Shiftable,
)

__all__ = ["City"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

GRIDS = ("1-LV-rural3--2-sw", "1-LV-semiurb4--2-sw", "1-LV-urban6--2-sw")
DAY = 96
HOURS = 0.25


@dataclass(frozen=True)
class _Traits:
    """What stays the same about each home, arrays (N,)."""

    load_profile: Ints
    load_kw: Floats
    shift: Ints
    pv_profile: Ints
    pv_kwp: Floats
    wind_profile: Ints
    wind_kw: Floats
    tariff: Ints
    contract_kw: Floats
    departs: Ints
    stays_away: Ints
    trip_kwh: Floats
    low_c: Floats
    loss_kw_per_k: Floats
    capacity_kwh_per_k: Floats


class City:
    """`homes` homes over horizons of `steps` quarters of an hour, from quarter `start` (17:00) of SimBench's year."""

    def __init__(self, homes: int, seed: int, *, steps: int = DAY, start: int = 60 * DAY + 68) -> None:
        self._homes, self._steps, self._start = homes, steps, start
        self._rng = rng = np.random.default_rng([seed, 77])
        grids = [load_grid(code) for code in GRIDS]
        names = [name for grid in grids for name in grid.profile_names]
        self._profiles = np.concatenate([grid.profiles for grid in grids])

        def pick(prefix: str) -> Ints:
            rows = np.flatnonzero([name.startswith(prefix) for name in names])
            return rng.choice(rows, homes)

        self._traits = _Traits(
            load_profile=pick("H0"), load_kw=rng.uniform(2.0, 7.0, homes),
            shift=rng.integers(-4, 5, homes) * 7 * DAY + rng.integers(-3, 4, homes),
            pv_profile=pick("PV"), pv_kwp=self._owned(0.65, 3, 12), wind_profile=pick("WP"),
            wind_kw=self._owned(0.1, 1, 3), tariff=rng.integers(0, 3, homes),
            contract_kw=rng.choice([6.0, 9.0, 12.0, 15.0], homes), departs=rng.integers(26, 36, homes),
            stays_away=rng.integers(24, 44, homes), trip_kwh=rng.uniform(4, 14, homes),
            low_c=rng.uniform(19.0, 21.0, homes), loss_kw_per_k=rng.uniform(0.08, 0.28, homes),
            capacity_kwh_per_k=rng.uniform(2.0, 9.0, homes),
        )  # fmt: skip
        self._battery, self._ev, self._pump = self._make_battery(), self._make_ev(), self._make_pump()
        self._appliances, self._shiftable = self._make_appliances(), self._make_shiftable()
        self._error = np.zeros((3, homes, 1))

    def _owned(self, share: float, low: float, high: float) -> Floats:
        """A size per home, 0 for those who have none."""
        return self._rng.uniform(low, high, self._homes) * (self._rng.random(self._homes) < share)

    def _make_battery(self) -> Battery:
        rng, capacity = self._rng, self._owned(0.6, 4, 14)
        efficiency = rng.uniform(0.92, 0.98, self._homes)
        return Battery(
            energy_kwh=capacity * rng.uniform(0.1, 0.9, self._homes), capacity_kwh=capacity, floor_kwh=0.05 * capacity,
            charge_kw=0.5 * capacity, discharge_kw=0.5 * capacity, charge_efficiency=efficiency,
            discharge_efficiency=efficiency, wear_eur_per_kwh=rng.uniform(0.01, 0.04, self._homes),
            end_value_eur_per_kwh=rng.uniform(0.18, 0.24, self._homes),
        )  # fmt: skip

    def _make_ev(self) -> Ev:
        rng, capacity = self._rng, self._owned(0.6, 35, 80)
        none = np.zeros((self._homes, self._steps))
        return Ev(
            energy_kwh=capacity * rng.uniform(0.35, 0.9, self._homes), capacity_kwh=capacity,
            charge_kw=rng.choice([3.7, 7.4, 11.0], self._homes) * (capacity > 0),
            discharge_kw=np.where(rng.random(self._homes) < 0.5, 5.0, 0.0) * (capacity > 0),
            charge_efficiency=np.full(self._homes, 0.92), discharge_efficiency=np.full(self._homes, 0.92),
            wear_eur_per_kwh=rng.uniform(0.04, 0.08, self._homes), end_value_eur_per_kwh=np.full(self._homes, 0.14),
            here=none, trip_kwh=none, floor_kwh=none, target_kwh=none,
        )  # fmt: skip

    def _make_pump(self) -> HeatPump:
        none, power = np.zeros((self._homes, self._steps)), self._owned(0.65, 2.0, 5.0)
        indoor = self._traits.low_c + self._rng.uniform(-0.3, 2.0, self._homes)
        return HeatPump(
            power, indoor, none, none, none, none, none, np.full(none.shape, 0.6), np.full(self._homes, 0.3)
        )

    def _make_appliances(self) -> Appliances:
        rng, shape = self._rng, (self._homes, 1)
        first = rng.integers(0, 48, shape)
        last = np.minimum(first + rng.integers(16, 48, shape), self._steps - 1)
        power = rng.uniform(0.5, 2.0, shape) * (rng.random(shape) < 0.5)
        return Appliances(power, power * rng.uniform(0.5, 3.0, shape), first, last)

    def _make_shiftable(self) -> Shiftable:
        rng, shape = self._rng, (self._homes, 2)
        first, duration = rng.integers(0, 40, shape), rng.integers(3, 11, shape)
        last = np.minimum(first + rng.integers(8, 48, shape), self._steps - duration)
        power = rng.uniform(0.4, 1.6, shape) * (rng.random(shape) < 0.5)
        return Shiftable(power, np.asarray(duration * HOURS, dtype=np.float64), first, last)

    def problem(self, step: int) -> FleetProblem:
        """What the HEMS is told `step` quarters of an hour after the start."""
        t = self._start + step + np.arange(self._steps)
        traits, rng = self._traits, self._rng
        lead = np.sqrt(np.arange(self._steps) / self._steps)[None, :]
        self._error = 0.9 * self._error + 0.44 * rng.normal(size=self._error.shape)
        load_error, sun_error, wind_error = (
            1 + share * e * lead for share, e in zip((0.3, 0.3, 0.4), self._error, strict=True)
        )
        load = traits.load_kw[:, None] * self._read(traits.load_profile, t, traits.shift) * load_error
        day = np.zeros(self._homes, dtype=np.int64)
        pv = traits.pv_kwp[:, None] * self._read(traits.pv_profile, t, day) * sun_error
        wind = traits.wind_kw[:, None] * self._read(traits.wind_profile, t, day) * wind_error
        buy, sell = self._tariffs(t)
        contract, shape = traits.contract_kw, load.shape
        limit = np.broadcast_to((0.7 * traits.pv_kwp + traits.wind_kw + 1.0)[:, None], shape)
        meter = Meter(np.maximum(load, 0.02), np.maximum(pv, 0), np.maximum(wind, 0), buy, sell, contract, limit)
        return FleetProblem(
            np.full(self._steps, HOURS), meter, self._battery, self._ev_at(t), self._pump_at(t), self._appliances,
            self._shiftable,
        )  # fmt: skip

    def _read(self, profile: Ints, t: Ints, shift: Ints) -> Floats:
        own = self._profiles[profile[:, None], (t[None, :] + shift[:, None]) % PROFILE_STEPS]
        return np.asarray(own, dtype=np.float64)

    def _tariffs(self, t: Ints) -> tuple[Floats, Floats]:
        """Three tariffs: time of use, spot with two peaks, and flat; each with its own feed-in price."""
        hour = (t % DAY) / 4
        spot = 0.11 + 0.05 * np.sin((hour - 15) / 24 * 4 * np.pi) + 0.01 * np.sin(t / DAY)
        buy = np.stack([np.where((hour >= 17) & (hour < 21), 0.38, 0.24), spot + 0.16, np.full(hour.size, 0.30)])
        sell = np.stack([np.full(hour.size, 0.08), 0.8 * spot, np.full(hour.size, 0.11)])
        return buy[self._traits.tariff], sell[self._traits.tariff]

    def _ev_at(self, t: Ints) -> Ev:
        traits, ev = self._traits, self._ev
        clock = t[None, :] % DAY - traits.departs[:, None]
        away = (clock >= 0) & (clock < traits.stays_away[:, None])
        returns = away & np.roll(~away, -1, axis=1)
        returns[:, -1] = False
        leaves = ~away & np.roll(away, -1, axis=1)
        leaves[:, -1] = False
        trip = np.where(returns, np.minimum(traits.trip_kwh, 0.4 * ev.capacity_kwh)[:, None], 0.0)
        wanted = np.where(leaves, 0.8 * ev.capacity_kwh[:, None], 0.0)
        floor = np.where(away, 0.0, np.minimum(0.3 * ev.capacity_kwh, ev.energy_kwh)[:, None])
        return replace(ev, here=(~away).astype(float), trip_kwh=trip, floor_kwh=floor, target_kwh=wanted)

    def _pump_at(self, t: Ints) -> HeatPump:
        traits, pump = self._traits, self._pump
        outdoor = 4 + 5 * np.sin((t % DAY / DAY - 0.4) * 2 * np.pi) + 4 * np.sin(t / DAY / 3)
        left = np.exp(-HOURS * traits.loss_kw_per_k / traits.capacity_kwh_per_k)[:, None]
        cop = np.clip(3.2 * (1 + 0.025 * (outdoor - 7)), 1, 8)[None, :]
        warm = (1 - left) / traits.loss_kw_per_k[:, None] * cop
        drift = (1 - left) * (outdoor[None, :] + (0.3 / traits.loss_kw_per_k)[:, None])
        clock = t[None, :] % DAY - traits.departs[:, None]
        empty = (clock >= 0) & (clock < traits.stays_away[:, None])
        low = traits.low_c[:, None] - 2.0 * empty
        return replace(
            pump, left=np.broadcast_to(left, low.shape), warm_c_per_kw=warm, drift_c=drift, low_c=low,
            high_c=np.broadcast_to(traits.low_c[:, None] + 3.5, low.shape),
        )  # fmt: skip

    def live(self, problem: FleetProblem, plan: FleetPlan) -> None:
        """Let a quarter of an hour pass under `plan`: states end near where it said, appliances have run."""
        rng, ev, appliances = self._rng, problem.ev, problem.appliances
        assert ev is not None
        assert appliances is not None
        self._battery = replace(
            self._battery,
            energy_kwh=self._near(plan.battery_kwh[:, 0], self._battery.capacity_kwh, 0.01),
        )
        self._ev = replace(self._ev, energy_kwh=self._near(plan.ev_kwh[:, 0], self._ev.capacity_kwh, 0.005))
        self._pump = replace(self._pump, indoor_c=plan.indoor_c[:, 0] + rng.normal(0, 0.05, self._homes))
        served = plan.appliance_kw[:, :, 0] * HOURS
        last = appliances.last - 1
        over = last < 0
        self._appliances = Appliances(
            appliances.power_kw, np.where(over, 0, np.maximum(appliances.energy_kwh - served, 0)),
            np.maximum(appliances.first - 1, 0), np.maximum(last, 0),
        )  # fmt: skip
        runs = self._shiftable
        begun = (plan.shiftable_start == 0) | (runs.last <= 0)
        self._shiftable = Shiftable(
            np.where(begun, 0.0, runs.power_kw), runs.duration_h, np.maximum(runs.first - 1, 0),
            np.maximum(runs.last - 1, 0),
        )  # fmt: skip

    def _near(self, energy: Floats, capacity: Floats, share: float) -> Floats:
        return np.clip(energy + self._rng.normal(0, share, self._homes) * capacity, 0, capacity)
