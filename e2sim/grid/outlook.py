"""Tariffs, and the forecasts of weather and PV that the node hands out, with a seeded error that grows with lead."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from e2sim.grid.settings import OutlookSettings, TariffSettings
from e2sim.grid.traces import Traces
from ric.clock import to_ns
from ric.columns import Table
from ric.errors import TwinRicError

__all__ = ["OUTLOOK_STEP_S", "Outlook", "Tariff"]

Floats = NDArray[np.float64]

OUTLOOK_STEP_S = 900
# Hourly spot price over its mean on a Central European day with two peaks and a midday dip.
_SPOT_SHAPE = np.array([
    0.78, 0.72, 0.69, 0.68, 0.72, 0.85, 1.10, 1.30, 1.28, 1.10, 0.95, 0.85,
    0.74, 0.68, 0.72, 0.86, 1.05, 1.32, 1.55, 1.58, 1.38, 1.15, 0.98, 0.86,
])  # fmt: skip


class Tariff:
    """Import and export price at any time. `tariff(time_s)` -> (buy, sell) [EUR/kWh]."""

    def __init__(self, settings: TariffSettings, *, start_s: float, seed: int) -> None:
        self._settings, self._start_s, self._seed = settings, start_s, seed
        self._spot = None if settings.spot_file is None else _read_spot(settings.spot_file)

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


def _read_spot(path: Path) -> Floats:
    """Prices [EUR/kWh] in the last column. Raises TwinRicError SCENARIO-INVALID naming file and row."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise TwinRicError("SCENARIO-INVALID", "tariff.spot_file", str(path), "a readable CSV file") from error
    prices = []
    for number, line in enumerate(lines, start=1):
        text = line.split(",")[-1].strip()
        try:
            prices.append(float(text) / 1e3)
        except ValueError as error:
            if number > 1:  # the first row may be a header
                field = f"tariff.spot_file:{number}"
                raise TwinRicError("SCENARIO-INVALID", field, text, "a price in EUR/MWh") from error
    if not prices or not np.isfinite(prices).all() or min(prices) < -5 or max(prices) > 20:
        raise TwinRicError("SCENARIO-INVALID", "tariff.spot_file", str(path), "prices of -5000..20000 EUR/MWh")
    return np.array(prices)


class Outlook:
    """A `GridPart` without set-points: every quarter of an hour the table `outlook` for the next hours."""

    set_point_kinds: frozenset[str] = frozenset()

    def __init__(self, tariff: Tariff, traces: Traces, settings: OutlookSettings, *, node_id: str, seed: int) -> None:
        self._tariff, self._traces, self._settings = tariff, traces, settings
        self._node_id, self._seed, self._issued = node_id, seed, False

    def step(self, end_s: float, dt_s: float) -> Sequence[Table]:
        """The table `outlook` where `end_s` begins a quarter of an hour, and at the first step."""
        due = not self._issued or int(end_s // OUTLOOK_STEP_S) > int((end_s - dt_s) // OUTLOOK_STEP_S)
        self._issued = True
        return [self.table(end_s)] if due else []

    def apply(self, set_points: Table, valid_until_s: float) -> Table:
        """Raises TwinRicError E2-RANGE: an outlook takes no set-points."""
        del valid_until_s
        raise TwinRicError("E2-RANGE", "set_points.kind", set_points.kind, "(none)")

    def table(self, now_s: float) -> Table:
        """Prices as they will be; PV and temperature as forecast at `now_s`, means of 15 min from `now_s` on."""
        settings = self._settings
        lead_s: Floats = np.arange(0.0, settings.hours * 3600.0, OUTLOOK_STEP_S)
        times: Floats = now_s + lead_s
        prices = np.array([self._tariff(time) for time in times])
        spread: Floats = np.sqrt(lead_s / 86_400)
        pv = np.array([self._traces.pv_per_kwp(time) for time in times])
        pv = np.clip(pv * (1 + settings.pv_error * spread * self._noise(times, 7)), 0, 1.5)
        outdoor = np.array([self._traces.outdoor_c(time + OUTLOOK_STEP_S / 2) for time in times])
        outdoor = outdoor + settings.temperature_error_k * spread * self._noise(times, 8)
        columns = {
            "step_s": np.array([float(OUTLOOK_STEP_S)]),
            "buy_eur_per_kwh": prices[None, :, 0],
            "sell_eur_per_kwh": prices[None, :, 1],
            "outdoor_c": outdoor[None, :],
            "pv_kw_per_kwp": pv[None, :],
        }
        return Table("outlook", (self._node_id,), columns, to_ns(now_s))

    def _noise(self, times: Floats, stream: int) -> Floats:
        """Standard normal error of each instant, smooth over three hours and the same whenever it is forecast."""
        knots = times / 10_800
        first, last = int(knots[0]), int(knots[-1]) + 1
        values = [np.random.default_rng([self._seed, stream, n]).standard_normal() for n in range(first, last + 1)]
        return np.asarray(np.interp(knots, np.arange(first, last + 1), values))
