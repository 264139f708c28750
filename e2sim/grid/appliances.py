"""Appliances whose runs can be shifted: a job with a window, run in one piece or with interruptions.

Without a set-point an appliance does what people do: it starts when its window opens and runs until it is done. With
one it runs while told to; a run in one piece that has begun cannot be stopped, and at the latest moment that still
meets the deadline the appliance starts by itself, whatever it was told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ric.clock import to_ns
from ric.columns import Table
from ric.errors import Fault, TwinRicError

__all__ = ["KINDS", "ApplianceKind", "Appliances", "Jobs", "make_jobs"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_DAY_S = 86_400
_QUARTER_S = 900
_SLACK_H = 1e-6


@dataclass(frozen=True)
class ApplianceKind:
    """One sort of appliance; hours count from midnight of the day of the job and may pass 24."""

    name: str
    power_kw: float
    run_h: float
    interruptible: bool
    opens_h: float
    closes_h: float
    daily_share: float
    """Share of days with a job."""


# Powers and run times: mean programme energies of the EU energy labels (a dishwasher about 0.95 kWh, a washing machine
# 0.7 kWh, 150 l of hot water 4 kWh); windows are ours: supper to breakfast, morning to evening, night, daylight.
KINDS = (
    ApplianceKind("dishwasher", 0.63, 1.5, False, 19.5, 31.0, 0.8),
    ApplianceKind("washing-machine", 0.47, 1.5, False, 8.0, 18.0, 0.5),
    ApplianceKind("hot-water", 2.0, 2.0, True, 20.0, 30.0, 1.0),
    ApplianceKind("pool-pump", 0.75, 4.0, True, 8.0, 20.0, 1.0),
)


@dataclass(frozen=True)
class Jobs:
    """Jobs of all appliances, (K, D) in order of time: window [s since the epoch] and run time [h]; 0 h is none."""

    opens_s: Floats
    closes_s: Floats
    run_h: Floats


def make_jobs(kind: Ints, first_day_s: float, days: int, seed: int) -> Jobs:
    """Jobs of appliances of `kind` (K,) (rows of KINDS) for `days` days from midnight `first_day_s` on.

    Windows open up to an hour and a half around their kind's usual time, each appliance by its own habit, on whole
    quarters of an hour; run times are whole quarters too, so that a plan in quarters of an hour can hold them.
    """
    rng = np.random.default_rng([seed, 11])
    number = kind.size
    of = {name: np.array([getattr(KINDS[k], name) for k in kind]) for name in ("opens_h", "closes_h", "run_h")}
    share = np.array([KINDS[k].daily_share for k in kind])
    habit = rng.uniform(-1, 1, number)
    opens = of["opens_h"][:, None] + habit[:, None] + rng.uniform(-0.5, 0.5, (number, days))
    midnight = first_day_s + _DAY_S * np.arange(days)
    opens_s = midnight + np.round(opens * 4) * _QUARTER_S
    closes_s = midnight + np.round((of["closes_h"] + 0.5 * habit) * 4)[:, None] * _QUARTER_S
    factor = np.round(of["run_h"][:, None] * rng.choice([0.75, 1.0, 1.0, 1.25], (number, days)) * 4) / 4
    return Jobs(opens_s, closes_s, np.where(rng.random((number, days)) < share[:, None], factor, 0.0))


class Appliances:
    """All appliances of one node, of `kind` (K,) in the homes `home` (K,) of `number` homes."""

    def __init__(self, home: Ints, kind: Ints, home_ids: Sequence[str], jobs: Jobs, start_s: float) -> None:
        self.home, self.number = home, len(home_ids)
        self.ids = tuple(f"{home_ids[h]}/{KINDS[k].name}" for h, k in zip(home, kind, strict=True))
        self.power_kw = np.array([KINDS[k].power_kw for k in kind], dtype=float)
        self.interruptible: Bools = np.array([KINDS[k].interruptible for k in kind], dtype=bool)
        self._jobs, self._all = jobs, np.arange(home.size)
        self._row = {name: index for index, name in enumerate(self.ids)}
        self._last = jobs.run_h.shape[1] - 1
        self._next = np.zeros(home.size, dtype=np.int64)
        self.left_h, self.running = np.zeros(home.size), np.zeros(home.size, dtype=bool)
        self._wanted = np.zeros(home.size, dtype=bool)
        self._valid_until_s = np.full(home.size, -np.inf)
        self._follows = np.zeros(home.size, dtype=bool)
        self.late_h = np.zeros(home.size)
        self._skip_past(start_s)
        self._now_s = start_s

    def __len__(self) -> int:
        return len(self.ids)

    def _skip_past(self, start_s: float) -> None:
        """Jobs whose window opened before the start are done."""
        self._next = (self._jobs.opens_s < start_s).sum(axis=1)
        self._take_jobs()

    def _take_jobs(self) -> None:
        """Where no job is in hand, announce the next one, if there is one."""
        free = (self.left_h <= _SLACK_H) & (self._next <= self._last)
        job = np.minimum(self._next, self._last)
        self.left_h = np.where(free, self._jobs.run_h[self._all, job], self.left_h)

    def _window(self) -> tuple[Floats, Floats]:
        job = np.minimum(self._next, self._last)
        return self._jobs.opens_s[self._all, job], self._jobs.closes_s[self._all, job]

    def running_at(self, now_s: float, dt_s: float) -> Floats:
        """(K,) share of the `dt_s` from `now_s` on during which each appliance runs; the jobs move on with it."""
        if not len(self):
            return self.left_h
        hours = dt_s / 3600
        opens_s, closes_s = self._window()
        has = self.left_h > _SLACK_H
        is_open = has & (opens_s <= now_s + 1e-6)
        told = np.where(self._valid_until_s > now_s, self._wanted, True)
        must = closes_s - now_s <= self.left_h * 3600 + dt_s
        held = self.running & ~self.interruptible
        self.running = is_open & (told | must | held)
        share = np.where(self.running, np.minimum(self.left_h / hours, 1.0), 0.0)
        self.left_h = np.where(has, np.maximum(self.left_h - share * hours, 0), self.left_h)
        over = np.where(has & (now_s + dt_s > closes_s), np.minimum(self.left_h, hours), 0.0)
        self.late_h += over
        done = self.left_h <= _SLACK_H
        self.running &= ~done
        self._follows = is_open & ~must & ~held & ~done
        # A day without a job, or one that is done, gives way to the next once its own window would have opened.
        self._next = np.where(done & (self._next <= self._last) & (opens_s <= now_s + dt_s), self._next + 1, self._next)
        self._take_jobs()
        self._now_s = now_s + dt_s
        return share

    @property
    def pending_kwh(self) -> Floats:
        """(K,) energy of the job whose window is open and that is not done."""
        opens_s, _ = self._window()
        return np.where(opens_s <= self._now_s, self.left_h * self.power_kw, 0.0)

    def by_home(self, values: Floats) -> Floats:
        """(N,) sum of (K,) `values` over each home's appliances."""
        return np.bincount(self.home, weights=values, minlength=self.number).astype(float)

    def apply(self, set_points: Table, valid_until_s: float) -> Table:
        """Put `run` in force; returns what is. Raises TwinRicError E2-RANGE naming the appliance.

        Refused is an unknown appliance, a value other than 0 or 1, and stopping a run that cannot be interrupted.
        """
        unknown = [name for name in set_points.ids if name not in self._row]
        if unknown:
            raise TwinRicError("E2-RANGE", "set_points.ids", unknown[0], f"one of {len(self.ids)} appliances")
        rows = np.array([self._row[name] for name in set_points.ids], dtype=np.intp)
        run = set_points["run"]
        held = self.running[rows] & ~self.interruptible[rows]
        faults = [
            Fault("E2-RANGE", f"set_points[{set_points.ids[n]}].run", float(run[n]), why)
            for bad, why in (
                (~np.isin(run, (0.0, 1.0)), "0 or 1"),
                (held & (run == 0), "1: the run under way cannot be interrupted"),
            )
            for n in np.flatnonzero(bad)
        ]
        if faults:
            raise TwinRicError.of(faults)
        self._wanted[rows] = run > 0.5
        self._valid_until_s[rows] = valid_until_s
        return Table("appliance_set_point", set_points.ids, {"run": run.copy()}, to_ns(self._now_s))

    def in_force(self, end_s: float) -> Table:
        """The table `appliance_in_force` at `end_s`: where a set-point decides whether the appliance runs."""
        return Table("appliance_in_force", self.ids, {"follows": self._follows.astype(float)}, to_ns(end_s))

    def report(self, end_s: float) -> Table:
        """The table `appliance_report` at `end_s`."""
        opens_s, closes_s = self._window()
        has = self.left_h > _SLACK_H
        columns = {
            "home": self.home.astype(float),
            "power_kw": self.power_kw.copy(),
            "left_h": self.left_h.copy(),
            "opens_h": np.where(has, np.clip((opens_s - end_s) / 3600, 0, 48), 0.0),
            "closes_h": np.where(has, np.clip((closes_s - end_s) / 3600, 0, 72), 0.0),
            "interruptible": self.interruptible.astype(float),
            "running": self.running.astype(float),
        }
        return Table("appliance_report", self.ids, columns, to_ns(end_s))
