"""Tariffs, CO2 intensity, and the node's forecasts of weather, PV and wind: their seeded error grows with lead."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from e2sim.grid.settings import CarbonSettings, OutlookSettings, TariffSettings
from e2sim.grid.traces import Traces
from ric.clock import to_ns
from ric.columns import Table
from ric.errors import TwinRicError

__all__ = ["OUTLOOK_STEP_S", "Carbon", "Outlook", "Tariff", "prices_of"]

Floats = NDArray[np.float64]

OUTLOOK_STEP_S = 900
# Hourly spot price over its mean on a Central European day with two peaks and a midday dip.
_SPOT_SHAPE = np.array([
    0.78, 0.72, 0.69, 0.68, 0.72, 0.85, 1.10, 1.30, 1.28, 1.10, 0.95, 0.85,
    0.74, 0.68, 0.72, 0.86, 1.05, 1.32, 1.55, 1.58, 1.38, 1.15, 0.98, 0.86,
])  # fmt: skip
# Hourly CO2 intensity over its mean: solar at noon, thermal plants in the evening.
_CARBON_SHAPE = np.array([
    1.02, 1.00, 0.99, 0.99, 1.01, 1.05, 1.10, 1.10, 1.02, 0.92, 0.84, 0.80,
    0.78, 0.79, 0.83, 0.90, 1.01, 1.13, 1.20, 1.22, 1.18, 1.12, 1.08, 1.05,
])  # fmt: skip


class Tariff:
    """Import and export price at any time. `tariff(time_s)` -> (buy, sell) [EUR/kWh]."""

    def __init__(self, settings: TariffSettings, *, start_s: float, seed: int) -> None:
        self._settings, self._start_s, self._seed = settings, start_s, seed
        self._spot = None
        if settings.spot_file is not None:
            self._spot = _read_series(settings.spot_file, "tariff.spot_file", (-5_000.0, 20_000.0), "EUR/MWh") / 1e3

    def __call__(self, time_s: float) -> tuple[float, float]:
        """Import and export price [EUR/kWh] at `time_s`."""
        settings = self._settings
        if settings.kind == "flat":
            return settings.low, min(settings.feed_in, settings.low)
        if settings.kind == "time_of_use":
            peak = int(time_s % 86_400 // 3600) in settings.peak_hours
            return (settings.high if peak else settings.low), min(settings.feed_in, settings.low)
        spot = self._spot_price(time_s)
        return spot + settings.fee, max(0.0, min(settings.feed_in, spot))

    def _spot_price(self, time_s: float) -> float:
        if self._spot is not None:
            return float(self._spot[int((time_s - self._start_s) // 3600) % self._spot.size])
        day = int(time_s // 86_400)
        rng = np.random.default_rng([self._seed, 6, day])
        weekend = dt.datetime.fromtimestamp(time_s, dt.UTC).weekday() >= 5
        level = float(np.clip(rng.normal(0.8 if weekend else 1.0, 0.12), 0.4, 1.8))
        return self._settings.spot_mean * level * float(_SPOT_SHAPE[int(time_s % 86_400 // 3600)])


class Carbon:
    """CO2 intensity of imports at any time. `carbon(time_s)` -> [g/kWh]."""

    def __init__(self, settings: CarbonSettings, *, start_s: float, seed: int) -> None:
        self._mean, self._start_s, self._seed = settings.mean_g_per_kwh, start_s, seed
        self._recorded = None
        if settings.file is not None:
            self._recorded = _read_series(settings.file, "carbon.file", (0.0, 5_000.0), "g/kWh")

    def __call__(self, time_s: float) -> float:
        """CO2 intensity [g/kWh] at `time_s`."""
        if self._recorded is not None:
            return float(self._recorded[int((time_s - self._start_s) // 3600) % self._recorded.size])
        rng = np.random.default_rng([self._seed, 10, int(time_s // 86_400)])
        level = float(np.clip(rng.normal(1.0, 0.15), 0.4, 1.6))
        return self._mean * level * float(_CARBON_SHAPE[int(time_s % 86_400 // 3600)])


def prices_of(tariffs: Sequence[Tariff], of: Floats) -> Callable[[float], tuple[Floats, Floats]]:
    """Import and export price (N,) [EUR/kWh] of homes with the tariffs number `of` (N,), by time."""
    number = of.astype(np.intp)

    def prices(time_s: float) -> tuple[Floats, Floats]:
        table = np.array([tariff(time_s) for tariff in tariffs])
        return table[number, 0], table[number, 1]

    return prices


def _read_series(path: Path, field: str, bounds: tuple[float, float], unit: str) -> Floats:
    """Numbers in the last column. Raises TwinRicError SCENARIO-INVALID naming file and row."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise TwinRicError("SCENARIO-INVALID", field, str(path), "a readable CSV file") from error
    values = []
    for number, line in enumerate(lines, start=1):
        text = line.split(",")[-1].strip()
        try:
            values.append(float(text))
        except ValueError as error:
            if number > 1:  # the first row may be a header
                raise TwinRicError("SCENARIO-INVALID", f"{field}:{number}", text, f"a number in {unit}") from error
    if not values or not np.isfinite(values).all() or min(values) < bounds[0] or max(values) > bounds[1]:
        raise TwinRicError("SCENARIO-INVALID", field, str(path), f"values of {bounds[0]:g}..{bounds[1]:g} {unit}")
    return np.array(values)


class Outlook:
    """A `GridPart` without set-points: every quarter of an hour the tables `outlook` and `tariffs`, hours ahead."""

    set_point_kinds: frozenset[str] = frozenset()

    def __init__(
        self, tariffs: Sequence[Tariff], carbon: Carbon, traces: Traces, settings: OutlookSettings, *, node_id: str,
        seed: int,
    ) -> None:  # fmt: skip
        self._tariffs, self._carbon, self._traces, self._settings = tuple(tariffs), carbon, traces, settings
        self._node_id, self._seed, self._issued = node_id, seed, False

    def step(self, end_s: float, dt_s: float) -> Sequence[Table]:
        """The tables where `end_s` begins a quarter of an hour, and at the first step."""
        due = not self._issued or int(end_s // OUTLOOK_STEP_S) > int((end_s - dt_s) // OUTLOOK_STEP_S)
        self._issued = True
        return [self.table(end_s), self.tariffs_table(end_s)] if due else []

    def apply(self, set_points: Table, valid_until_s: float) -> Table:
        """Raises TwinRicError E2-RANGE: an outlook takes no set-points."""
        del valid_until_s
        raise TwinRicError("E2-RANGE", "set_points.kind", set_points.kind, "(none)")

    def table(self, now_s: float) -> Table:
        """Prices of the first tariff as they will be; weather, PV and wind as forecast at `now_s`, means of 15 min."""
        settings, times = self._settings, self._times(now_s)
        prices = np.array([self._tariffs[0](time) for time in times])
        spread: Floats = np.sqrt((times - now_s) / 86_400)
        pv = np.array([self._traces.pv_per_kwp(time) for time in times])
        pv = np.clip(pv * (1 + settings.pv_error * spread * self._noise(times, 7)), 0, 1.5)
        outdoor = np.array([self._traces.outdoor_c(time + OUTLOOK_STEP_S / 2) for time in times])
        outdoor = outdoor + settings.temperature_error_k * spread * self._noise(times, 8)
        wind = np.array([self._traces.wind_per_kw(time) for time in times])
        wind = np.clip(wind * (1 + settings.wind_error * spread * self._noise(times, 13)), 0, 1.5)
        columns = {
            "step_s": np.array([float(OUTLOOK_STEP_S)]),
            "buy_eur_per_kwh": prices[None, :, 0],
            "sell_eur_per_kwh": prices[None, :, 1],
            "outdoor_c": outdoor[None, :],
            "pv_kw_per_kwp": pv[None, :],
            "wind_kw_per_kw": wind[None, :],
            "carbon_g_per_kwh": np.array([[self._carbon(time) for time in times]]),
        }
        return Table("outlook", (self._node_id,), columns, to_ns(now_s))

    def tariffs_table(self, now_s: float) -> Table:
        """Prices of every tariff as they will be, from `now_s` on."""
        prices = np.array([[tariff(time) for time in self._times(now_s)] for tariff in self._tariffs])
        columns = {
            "step_s": np.full(len(self._tariffs), float(OUTLOOK_STEP_S)),
            "buy_eur_per_kwh": prices[:, :, 0],
            "sell_eur_per_kwh": prices[:, :, 1],
        }
        return Table("tariffs", tuple(f"tariff-{n}" for n in range(len(self._tariffs))), columns, to_ns(now_s))

    def _times(self, now_s: float) -> Floats:
        return np.asarray(now_s + np.arange(0.0, self._settings.hours * 3600.0, OUTLOOK_STEP_S))

    def _noise(self, times: Floats, stream: int) -> Floats:
        """Standard normal error of each instant, smooth over three hours and the same whenever it is forecast."""
        knots = times / 10_800
        first, last = int(knots[0]), int(knots[-1]) + 1
        values = [np.random.default_rng([self._seed, stream, n]).standard_normal() for n in range(first, last + 1)]
        return np.asarray(np.interp(knots, np.arange(first, last + 1), values))
