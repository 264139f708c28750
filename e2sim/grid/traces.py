"""What happens to the homes whatever anybody decides: household load, PV power, weather, occupancy, EV trips.

SimBench gives means of 15 min. Between them each minute is the mean times a seeded factor whose mean over the quarter
of an hour is exactly 1: the energy is SimBench's, the texture is ours. Any minute can be asked for in any order.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2sim.grid.devices import Fleet
from e2sim.grid.simbench_profiles import PROFILE_STEP_S, PROFILE_STEPS, LvGrid

__all__ = ["MINUTES", "Sessions", "Traces", "profile_index"]

Floats = NDArray[np.float64]
MINUTES = PROFILE_STEP_S // 60
_DAY_S = 86_400


def profile_index(time_s: float) -> int:
    """Number of SimBench's 15-min step that holds at `time_s`, by month, day and time of day (its year is 2016)."""
    now = dt.datetime.fromtimestamp(time_s, dt.UTC)
    start = dt.datetime(now.year, 1, 1, tzinfo=dt.UTC).timestamp()
    return int((time_s - start) // PROFILE_STEP_S) % PROFILE_STEPS


@dataclass(frozen=True)
class Sessions:
    """EV stays at home of all homes, ordered by arrival: home number, arrival and departure [s], energy driven before
    [kWh], state of charge wanted at departure [1]; all (K,).
    """

    home: NDArray[np.int64]
    arrival_s: Floats
    departure_s: Floats
    driven_kwh: Floats
    target_soc: Floats


class Traces:
    """Load, PV, weather, occupancy and EV stays of `fleet`. Same grid, fleet and seed, same traces."""

    def __init__(self, grid: LvGrid, fleet: Fleet, *, texture: float, seed: int) -> None:
        self._grid, self._fleet, self._texture, self._seed = grid, fleet, texture, seed
        self._block = -1
        self._load = np.zeros((len(fleet.ids), MINUTES))
        self._pv = np.zeros((len(fleet.ids), MINUTES))
        self._wind = np.zeros((len(fleet.ids), MINUTES))
        rng = np.random.default_rng([seed, 2])
        number = len(fleet.ids)
        self._leaves_h = rng.normal(8.0, 0.7, number)
        self._returns_h = rng.normal(16.8, 1.2, number)
        self._works = rng.random(number) < 0.65
        self._daily_c = _daily_temperature(grid)

    def power_kw(self, minute_s: float) -> tuple[Floats, Floats]:
        """Household load and available PV power (N,) [kW] in the minute that begins at `minute_s`."""
        block = int(minute_s // PROFILE_STEP_S)
        if block != self._block:
            self._fill(block)
        minute = int(minute_s - block * PROFILE_STEP_S) // 60
        return self._load[:, minute], self._pv[:, minute]

    def wind_kw(self, minute_s: float) -> Floats:
        """Available wind power (N,) [kW] in the minute that begins at `minute_s`."""
        self.power_kw(minute_s)
        return self._wind[:, int(minute_s % PROFILE_STEP_S) // 60]

    def mean_kw(self, block_s: float) -> tuple[Floats, Floats]:
        """Household load and available PV power (N,) [kW], mean of the quarter of an hour that begins at `block_s`."""
        fleet, index = self._fleet, profile_index(block_s)
        own = (index + fleet.shift_steps) % PROFILE_STEPS
        load = self._grid.profiles[fleet.load_profile, own] * fleet.load_kw
        pv = np.where(fleet.pv_profile >= 0, self._grid.profiles[fleet.pv_profile, index], 0.0) * fleet.devices.pv_kwp
        return load.astype(np.float64), pv.astype(np.float64)

    def mean_wind_kw(self, block_s: float) -> Floats:
        """Available wind power (N,) [kW], mean of the quarter of an hour that begins at `block_s`."""
        profile = self._fleet.wind_profile
        share = np.where(profile >= 0, self._grid.profiles[profile, profile_index(block_s)], 0.0)
        return np.asarray(share * self._fleet.devices.wind_rated_kw, dtype=np.float64)

    def _fill(self, block: int) -> None:
        rng = np.random.default_rng([self._seed, 3, block])
        load, pv = self.mean_kw(block * PROFILE_STEP_S)
        # Appliances: a first-order process per home; clouds: one for all homes, which stand close together.
        self._load = load[:, None] * _factors(rng, load.size, self._texture)
        self._pv = np.minimum(pv[:, None] * _factors(rng, 1, 0.12), np.maximum(self._fleet.devices.pv_kwp, pv)[:, None])
        wind, rated = self.mean_wind_kw(block * PROFILE_STEP_S)[:, None], self._fleet.devices.wind_rated_kw[:, None]
        # Drawn after the others, so that a grid with turbines has the same load and clouds as one without.
        self._wind = np.minimum(wind * _factors(rng, 1, 0.25), np.maximum(rated, wind))
        self._block = block

    def background_kw(self, time_s: float) -> tuple[Floats, Floats]:
        """Power (L,) [kW] of all loads and (G,) of all generators of the grid that are no part of a home."""
        index = profile_index(time_s)
        loads, units = self._fleet.background
        return (
            self._grid.profiles[self._grid.loads.profile[loads], index] * self._grid.loads.p_kw[loads],
            self._grid.profiles[self._grid.generators.profile[units], index] * self._grid.generators.p_kw[units],
        )

    def pv_per_kwp(self, time_s: float) -> float:
        """Mean PV power per peak power of the grid's PV profiles [kW/kW]."""
        used = sorted(set(self._fleet.pv_profile[self._fleet.pv_profile >= 0].tolist()))
        return float(self._grid.profiles[used, profile_index(time_s)].mean()) if used else 0.0

    def wind_per_kw(self, time_s: float) -> float:
        """Mean wind power per rated power of the grid's turbines [kW/kW]."""
        used = sorted(set(self._fleet.wind_profile[self._fleet.wind_profile >= 0].tolist()))
        return float(self._grid.profiles[used, profile_index(time_s)].mean()) if used else 0.0

    def outdoor_c(self, time_s: float) -> float:
        """Outdoor temperature [degC]: the day's mean that SimBench's heat pumps answer to, and a daily swing."""
        day = (profile_index(time_s) * PROFILE_STEP_S + time_s % PROFILE_STEP_S) / _DAY_S - 0.5
        mean = np.interp(day % 366, np.arange(366), self._daily_c, period=366)
        hour = time_s % _DAY_S / 3600
        return float(mean + 3.0 * np.cos(2 * np.pi * (hour - 15) / 24))

    def occupied(self, time_s: float) -> NDArray[np.bool_]:
        """(N,) whether somebody is at home: those who work leave on weekdays, by their own clock."""
        hour = time_s % _DAY_S / 3600
        weekday = dt.datetime.fromtimestamp(time_s, dt.UTC).weekday() < 5
        away = (hour >= self._leaves_h) & (hour < self._returns_h)
        return ~(self._works & away & weekday)

    def sessions(self, start_s: float, days: int) -> Sessions:
        """EV stays from the evening before `start_s` on, for `days` days.

        A car comes home every day. On days on which SimBench's charging profile of the home has a session, arrival and
        energy are the profile's; on the others the arrival is drawn and the energy is that of a short drive.
        """
        rng = np.random.default_rng([self._seed, 4])
        rows: list[tuple[float, float, float, float, float]] = []
        first = int(start_s // _DAY_S) - 1
        for home in np.flatnonzero(self._fleet.devices.ev_kwh > 0):
            usual_h, leaves_h = rng.normal(17.5, 1.0), np.clip(rng.normal(7.4, 0.6), 5, 9.5)
            target = float(rng.choice([0.8, 0.8, 0.9]))
            for day in range(first, first + days + 2):
                drawn = (usual_h + rng.normal(0, 0.5), rng.lognormal(np.log(3.5), 0.5), rng.normal(0, 0.25))
                hour, energy = self._profile_session(int(home), day * _DAY_S) or drawn[:2]
                arrival = day * _DAY_S + np.clip(hour, 10, 22) * 3600
                departure = (day + 1) * _DAY_S + (leaves_h + drawn[2]) * 3600
                rows.append((float(home), arrival // 60 * 60, departure // 60 * 60, energy, target))
        rows.sort(key=lambda row: row[1])
        table = np.array(rows, dtype=np.float64).reshape(-1, 5)
        return Sessions(table[:, 0].astype(np.int64), *(table[:, n] for n in range(1, 5)))

    def _profile_session(self, home: int, day_s: float) -> tuple[float, float] | None:
        """Start [h] and energy [kWh] of the day's charging in the home's SimBench profile."""
        fleet = self._fleet
        where = (profile_index(day_s) + fleet.shift_steps[home] + np.arange(96)) % PROFILE_STEPS
        power = self._grid.profiles[fleet.ev_profile[home], where] * fleet.devices.ev_max_kw[home]
        energy = float(power.sum()) * PROFILE_STEP_S / 3600
        return (float(np.argmax(power > 0)) / 4, energy * 0.94) if energy > 0.2 else None


def _factors(rng: np.random.Generator, rows: int, sigma: float) -> Floats:
    """(rows, MINUTES) positive factors, autocorrelated, with mean 1 along each row."""
    noise = rng.standard_normal((rows, MINUTES))
    for minute in range(1, MINUTES):
        noise[:, minute] = 0.7 * noise[:, minute - 1] + 0.714 * noise[:, minute]
    factors = np.exp(sigma * noise)
    return np.asarray(factors / factors.mean(axis=1, keepdims=True))


def _daily_temperature(grid: LvGrid) -> Floats:
    """(366,) mean outdoor temperature by day [degC].

    SimBench has no weather, but its heat pumps follow one: their daily mean power, 0 at the heating limit
    of 15 degC and full at -15 degC, is read as temperature; without heating, a seasonal mean stands in.
    """
    profile = grid.profiles[grid.profile_names.index("Soil_Alternative_1")].reshape(366, 96).mean(axis=1)
    days = np.arange(366)
    seasonal = np.maximum(15.0, 10 + 9 * np.cos(2 * np.pi * (days - 201) / 366))
    heating = 15.0 - 30.0 * np.minimum(profile, 1.0)
    return np.asarray(np.where(profile > 0.01, heating, seasonal), dtype=np.float64)
