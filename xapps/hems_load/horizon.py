"""The time that a plan looks ahead: minutes first, then quarters of an hour of the clock; and series on that grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["MINUTE_S", "NS", "STEP_S", "Horizon", "Steps", "means_between", "resample"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NS = 1_000_000_000
MINUTE_S, STEP_S = 60, 900
_MINUTE_NS, _STEP_NS = MINUTE_S * NS, STEP_S * NS


@dataclass(frozen=True)
class Steps:
    """The steps of every plan, wherever it begins: `minutes` of MINUTE_S, then `quarters` that end with the clock's.

    So tariffs, forecasts and the schedules of others change between two steps and never inside one. The first quarter
    is what the minutes leave of theirs, or the whole next one where that is less than a minute: 1 to 16 min.
    """

    minutes: int = 15
    quarters: int = 95

    @property
    def count(self) -> int:
        """T."""
        return self.minutes + self.quarters

    def edges_ns(self, start_ns: int) -> Ints:
        """(T + 1,) where the steps of a plan that begins at `start_ns` begin and end [ns since the Unix epoch]."""
        minutes = start_ns + _MINUTE_NS * np.arange(self.minutes + 1)
        return np.concatenate([minutes, self._first_end_ns(start_ns) + _STEP_NS * np.arange(self.quarters)])

    def edges_h(self, start_ns: int) -> Floats:
        """The same [h after `start_ns`]."""
        return (self.edges_ns(start_ns) - start_ns) / (3600 * NS)

    def at(self, start_ns: Ints, now_ns: int) -> Ints:
        """(N,) step that holds at `now_ns` in plans that begin at `start_ns` (N,).

        Before its beginning a plan is at its first step, after its end at its last.
        """
        minute = np.clip((now_ns - start_ns) // _MINUTE_NS, 0, self.minutes)
        quarter = np.clip((now_ns - self._first_end_ns(start_ns)) // _STEP_NS + 1, 0, self.quarters - 1)
        return np.asarray(np.where(minute < self.minutes, minute, self.minutes + quarter))

    def _first_end_ns(self, start_ns: Ints | int) -> Ints:
        """Where the first quarter ends: at least a minute after the minutes, with a quarter of the clock."""
        least = np.asarray(start_ns, dtype=np.int64) + (self.minutes + 1) * _MINUTE_NS
        return np.asarray(-(-least // _STEP_NS) * _STEP_NS)


@dataclass(frozen=True)
class Horizon:
    """Expected inputs of the steps ahead: means over each step."""

    load_kw: Floats
    """(N, T) uncontrollable load."""
    pv_kw: Floats
    """(N, T) available PV power."""
    wind_kw: Floats
    """(N, T) available wind power."""
    occupied: Floats
    """(N, T) 1 where somebody may be at home."""
    outdoor_c: Floats
    """(T,)."""
    buy: Floats
    """(N, T) import price of each home's tariff [EUR/kWh]."""
    sell: Floats
    """(N, T) export price [EUR/kWh]."""
    carbon_g_per_kwh: Floats
    """(T,) CO2 intensity of imports; 0 where it is not known."""


def resample(values: Floats, start_ns: int, step_s: float, edges_ns: Ints) -> Floats:
    """(..., T) means between `edges_ns` (T + 1,) of a step-wise series (..., K) that begins at `start_ns`.

    Beyond its ends the series is held.
    """
    at = (edges_ns - start_ns) / (step_s * NS)
    whole = np.clip(np.floor(at), 0, values.shape[-1] - 1).astype(np.int64)
    before = np.cumsum(values, axis=-1) - values
    total = before[..., whole] + (at - whole) * values[..., whole]
    return np.asarray(np.diff(total, axis=-1) / np.diff(at))


def means_between(values: Floats, old_ns: Ints, new_ns: Ints) -> Floats:
    """(K,) means between `new_ns` (K + 1,) of a series (T,) whose steps lie between `old_ns` (T + 1,)."""
    total = np.concatenate([[0.0], np.cumsum(values * np.diff(old_ns))])
    return np.asarray(np.diff(np.interp(new_ns, old_ns, total)) / np.diff(new_ns))
