"""Community storage: a battery at the LV busbar that follows set-points and can hold a reserve for the frequency."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from e2sim.grid.settings import StorageSettings
from ric.clock import to_ns
from ric.columns import Table
from ric.errors import Fault, TwinRicError

__all__ = ["CommunityStorage"]

_SLACK = 1e-6
_NAMES = ("charge_kw", "discharge_kw", "reserve_kw")


class CommunityStorage:
    """A `GridPart`. Without set-points in force the unit rests; with a reserve it answers to frequency by droop."""

    set_point_kinds: frozenset[str] = frozenset({"storage_set_point"})

    def __init__(self, settings: StorageSettings, *, start_s: float, seed: int, name: str = "storage-1") -> None:
        self._settings, self._now_s, self._seed, self.id = settings, start_s, seed, name
        self.soc = settings.soc
        self._wanted = dict.fromkeys(_NAMES, 0.0)
        self._valid_until_s = -np.inf
        self._deviation_hz = 0.0
        self._minute = -1
        self._limits_kw = (np.inf, np.inf)
        self.net_kw = 0.0
        self.throughput_kwh = 0.0

    @property
    def stored_kwh(self) -> float:
        """Energy held now [kWh]."""
        return self.soc * self._settings.capacity_kwh

    def apply(self, set_points: Table, valid_until_s: float) -> Table:
        """Put the set-point in force and return it. Raises TwinRicError E2-RANGE naming unit and bound."""
        if set_points.kind not in self.set_point_kinds or set_points.ids != (self.id,):
            raise TwinRicError("E2-RANGE", "set_points", f"{set_points.kind} {set_points.ids}", f"one for {self.id}")
        if not valid_until_s > self._now_s:
            raise TwinRicError("E2-RANGE", "valid_until_s", valid_until_s, f"later than now, {self._now_s}")
        limit = self._settings.max_kw
        wanted = {name: float(set_points[name][0]) for name in _NAMES}
        faults = [
            Fault("E2-RANGE", f"set_points[{self.id}].{name}", value, f"0..{limit:g} kW")
            for name, value in wanted.items()
            if not -_SLACK <= value <= limit + _SLACK
        ]
        both = min(wanted["charge_kw"], wanted["discharge_kw"])
        if both > _SLACK:
            faults.append(Fault("E2-RANGE", f"set_points[{self.id}]", both, "charging or discharging, not both"))
        if faults:
            raise TwinRicError.of(faults)
        self._wanted = {name: min(max(value, 0.0), limit) for name, value in wanted.items()}
        self._valid_until_s = valid_until_s
        columns = {name: np.array([value]) for name, value in self._wanted.items()}
        return Table("storage_set_point", (self.id,), columns, to_ns(self._now_s))

    def step(self, end_s: float, dt_s: float) -> Sequence[Table]:
        """Live through `dt_s` up to `end_s` in sub-steps of at most a minute; tables `storage_report` and
        `storage_in_force`.
        """
        charged = discharged = frequency = 0.0
        self._limits_kw = (np.inf, np.inf)
        now_s = end_s - dt_s
        while now_s < end_s - 1e-9:
            until_s = min(end_s, (now_s // 60 + 1) * 60)
            share = (until_s - now_s) / dt_s
            deviation_hz = self._frequency_deviation(now_s)
            power = self._drive(now_s, deviation_hz, until_s - now_s)
            charged += share * max(power, 0.0)
            discharged += share * max(-power, 0.0)
            frequency += share * (50.0 + deviation_hz)
            now_s = until_s
        self._now_s = end_s
        self.net_kw = charged - discharged
        settings = self._settings
        columns = {
            "charge_kw": charged, "discharge_kw": discharged, "soc": self.soc, "capacity_kwh": settings.capacity_kwh,
            "max_kw": settings.max_kw, "efficiency": settings.efficiency, "frequency_hz": frequency,
        }  # fmt: skip
        table = {name: np.array([value]) for name, value in columns.items()}
        in_force = dict(zip(("charge_limit_kw", "discharge_limit_kw"), self._limits_kw, strict=True))
        in_force["reserve_kw"] = self._wanted["reserve_kw"] if self._valid_until_s > end_s - dt_s else 0.0
        return [
            Table("storage_report", (self.id,), table, to_ns(end_s)),
            Table("storage_in_force", (self.id,), {k: np.array([v]) for k, v in in_force.items()}, to_ns(end_s)),
        ]

    def _drive(self, now_s: float, deviation_hz: float, dt_s: float) -> float:
        settings, hours = self._settings, dt_s / 3600
        wanted = 0.0
        if self._valid_until_s > now_s:
            response = self._wanted["reserve_kw"] * float(np.clip(deviation_hz / settings.droop_hz, -1, 1))
            wanted = self._wanted["charge_kw"] - self._wanted["discharge_kw"] + response
        room = (1 - self.soc) * settings.capacity_kwh / settings.efficiency / hours
        left = self.soc * settings.capacity_kwh * settings.efficiency / hours
        most, least = min(settings.max_kw, room), min(settings.max_kw, left)
        self._limits_kw = min(self._limits_kw[0], most), min(self._limits_kw[1], least)
        power = float(np.clip(wanted, -least, most))
        stored = power * settings.efficiency if power > 0 else power / settings.efficiency
        if settings.capacity_kwh > 0:
            self.soc = float(np.clip(self.soc + stored * hours / settings.capacity_kwh, 0, 1))
        self.throughput_kwh += abs(power) * hours
        return power

    def _frequency_deviation(self, now_s: float) -> float:
        """Minute means of the grid's frequency: a seeded mean-reverting walk of 20 mHz around 50 Hz."""
        minute = int(now_s // 60)
        if minute != self._minute:
            noise = float(np.random.default_rng([self._seed, 9, minute]).standard_normal())
            self._deviation_hz = 0.9 * self._deviation_hz + 0.02 * 0.436 * noise
            self._minute = minute
        return self._deviation_hz
