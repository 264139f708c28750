"""Homes with all their devices: their physics, their meters and the control that they have of their own.

Without set-points (or once they have expired) a home does what an ordinary one does: the battery follows the meter to
keep it at zero, the EV charges at full power from arrival until its target, the thermostat switches the heat pump,
appliances start when their window opens, PV and wind feed in all they can. That is also the baseline against which the
apps are measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from e2sim.grid.appliances import Appliances, make_jobs
from e2sim.grid.devices import Devices, Fleet
from e2sim.grid.physics import HomePhysics, heat_pump_cop
from e2sim.grid.traces import Traces
from ric.clock import to_ns
from ric.columns import Table
from ric.errors import Fault, TwinRicError

__all__ = ["SET_POINTS", "HomeFleet"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SET_POINTS = ("battery_kw", "ev_kw", "hvac_kw", "pv_limit_kw", "wind_limit_kw")
Price = float | NDArray[np.float64]
_SLACK = 1e-6
_MEANS = (
    "inflexible_kw", "pv_available_kw", "pv_kw", "wind_available_kw", "wind_kw", "appliance_kw", "battery_kw", "ev_kw",
    "hvac_kw", "import_kw", "export_kw",
)  # fmt: skip


class HomeFleet:
    """All homes of one E2 node; a `GridPart`: `step`, `apply`, `set_point_kinds`.

    `price(time_s)` gives import and export price [EUR/kWh], of each home (N,) or of all, and `carbon(time_s)` the CO2
    intensity of imports [g/kWh] at which :meth:`totals` counts.
    """

    set_point_kinds: frozenset[str] = frozenset({"home_set_point", "appliance_set_point"})

    def __init__(
        self,
        fleet: Fleet,
        traces: Traces,
        price: Callable[[float], tuple[Price, Price]],
        *,
        start_s: float,
        carbon: Callable[[float], float] = lambda _: 0.0,
        days: int = 14,
        seed: int = 0,
        sub_step_s: int = 60,
    ) -> None:
        """Homes from `start_s` on, for at most `days` days, in sub-steps of `sub_step_s` at most."""
        self.ids = fleet.ids
        self.devices: Devices = fleet.devices
        self._traces, self._price, self._carbon, self._now_s = traces, price, carbon, start_s
        self._sub_step_s = sub_step_s
        self._row = {name: index for index, name in enumerate(fleet.ids)}
        self._physics = HomePhysics(fleet.devices, traces.sessions(start_s, days), start_s, seed)
        first_day_s = start_s // 86_400 * 86_400
        jobs = make_jobs(fleet.appliance_kind, first_day_s, days + 2, seed)
        self.appliances = Appliances(fleet.appliance_home, fleet.appliance_kind, fleet.ids, jobs, start_s)
        number = len(fleet.ids)
        self._wanted = np.zeros((number, len(SET_POINTS)))
        self._valid_until_s = np.full(number, -np.inf)
        self._heating = np.zeros(number, dtype=bool)
        self._net_kw = np.zeros(number)
        self._limits_kw: dict[str, Floats] = {}
        self._totals = {name: np.zeros(number) for name in (
            "import_kwh", "export_kwh", "cost_eur", "comfort_degree_h", "pv_curtailed_kwh", "battery_throughput_kwh",
            "v2g_kwh", "heat_pump_kwh", "over_connection_kwh", "wind_curtailed_kwh", "generated_kwh", "appliance_kwh",
            "co2_kg",
        )}  # fmt: skip

    @property
    def meter_kw(self) -> Floats:
        """(N,) mean power at the meters in the last step [kW], > 0 imports."""
        return self._net_kw.copy()

    def static_table(self) -> Table:
        """The table `home_static`."""
        columns = {field.name: getattr(self.devices, field.name) for field in fields(Devices)}
        return Table("home_static", self.ids, columns, to_ns(self._now_s))

    def totals(self) -> dict[str, Floats]:
        """(N,) per home since the start: energies [kWh], cost at tariff [EUR], CO2 of imports [kg], comfort below or
        above the bounds while occupied [K h], EV energy short of the target at departure [kWh], run time of appliances
        after their deadline [h], what appliances still have to use of jobs begun or open, and what is stored now [kWh].
        """
        physics, devices = self._physics, self.devices
        return self._totals | {
            "ev_shortfall_kwh": physics.shortfall_kwh.copy(),
            "appliance_late_h": self.appliances.by_home(self.appliances.late_h),
            "appliance_pending_kwh": self.appliances.by_home(self.appliances.pending_kwh),
            "battery_stored_kwh": physics.battery_soc * devices.battery_kwh,
            "ev_stored_kwh": physics.ev_soc * devices.ev_kwh,
            "heat_stored_kwh": np.where(
                devices.hvac_max_kw > 0,
                (physics.indoor_c - devices.comfort_low_c) * devices.heat_capacity_kwh_per_k,
                0.0,
            ),
        }

    def apply(self, set_points: Table, valid_until_s: float) -> Table:
        """Put `set_points` (of any of the homes or appliances) in force until `valid_until_s`; returns them.

        Raises TwinRicError E2-RANGE, naming home and bound, when one home is unknown or one value is beyond its device
        (or not a number); then nothing changes. Without EV at home its set-point waits for the next arrival.
        """
        if set_points.kind not in self.set_point_kinds:
            raise TwinRicError("E2-RANGE", "set_points.kind", set_points.kind, ", ".join(self.set_point_kinds))
        if not valid_until_s > self._now_s:
            raise TwinRicError("E2-RANGE", "valid_until_s", valid_until_s, f"later than now, {self._now_s}")
        if set_points.kind == "appliance_set_point":
            return self.appliances.apply(set_points, valid_until_s)
        unknown = [name for name in set_points.ids if name not in self._row]
        if unknown:
            raise TwinRicError("E2-RANGE", "set_points.ids", unknown[0], f"one of {len(self.ids)} homes of the node")
        rows = np.array([self._row[name] for name in set_points.ids], dtype=np.intp)
        values = np.stack([set_points[name] for name in SET_POINTS], axis=1).reshape(rows.size, len(SET_POINTS))
        faults = self._beyond(set_points.ids, rows, values)
        if faults:
            raise TwinRicError.of(faults)
        low, high = self._bounds(rows)
        self._wanted[rows] = np.clip(values, low, high)
        self._valid_until_s[rows] = valid_until_s
        in_force = {name: self._wanted[rows, index] for index, name in enumerate(SET_POINTS)}
        return Table("home_set_point", set_points.ids, in_force, to_ns(self._now_s))

    def _bounds(self, rows: NDArray[np.intp]) -> tuple[Floats, Floats]:
        own = self.devices
        none, most = np.zeros(len(self.ids)), np.full(len(self.ids), 100.0)
        low = np.stack([-own.battery_max_kw, -own.ev_v2g_kw, none, none, none], axis=1)
        high = np.stack([own.battery_max_kw, own.ev_max_kw, own.hvac_max_kw, most, most], axis=1)
        return low[rows], high[rows]

    def _beyond(self, ids: Sequence[str], rows: NDArray[np.intp], values: Floats) -> list[Fault]:
        low, high = self._bounds(rows)
        bad = np.argwhere(~((values >= low - _SLACK) & (values <= high + _SLACK)))
        return [
            Fault(
                "E2-RANGE",
                f"set_points[{ids[home]}].{SET_POINTS[column]}",
                float(values[home, column]),
                f"{low[home, column]:g}..{high[home, column]:g} kW",
            )
            for home, column in bad
        ]

    def step(self, end_s: float, dt_s: float) -> Sequence[Table]:
        """Live through `dt_s` up to `end_s`; tables `home_report`, `home_static`, `home_in_force` and, if there are
        any appliances, `appliance_report` and `appliance_in_force`.
        """
        means = {name: np.zeros(len(self.ids)) for name in _MEANS}
        self._limits_kw = {}
        now_s = end_s - dt_s
        while now_s < end_s - 1e-9:
            until_s = min(end_s, (math.floor(now_s / self._sub_step_s + 1e-9) + 1) * self._sub_step_s)
            self._sub_step(now_s, until_s - now_s, means, (until_s - now_s) / dt_s)
            now_s = until_s
        self._now_s = end_s
        self._physics.move_cars(end_s)
        self._net_kw = means["import_kw"] - means["export_kw"]
        appliances = (self.appliances.report(end_s), self.appliances.in_force(end_s)) if len(self.appliances) else ()
        in_force = Table("home_in_force", self.ids, self._limits_kw, to_ns(end_s))
        return [self._report(means), self.static_table(), in_force, *appliances]

    def _sub_step(self, now_s: float, dt_s: float, means: Mapping[str, Floats], share: float) -> None:
        physics, own = self._physics, self.devices
        physics.move_cars(now_s)
        load, available = self._traces.power_kw(now_s)
        outdoor, occupied = self._traces.outdoor_c(now_s), self._traces.occupied(now_s)
        ours = self._valid_until_s > now_s
        local_hvac = self._thermostat()
        hvac = physics.drive_heat_pump(np.where(ours, self._wanted[:, 2], local_hvac))
        ev = physics.drive_ev(np.where(ours, self._wanted[:, 1], physics.uncontrolled_ev_kw()), dt_s)
        pv = np.where(ours, np.minimum(available, self._wanted[:, 3]), available)
        wind_available = self._traces.wind_kw(now_s)
        wind = np.where(ours, np.minimum(wind_available, self._wanted[:, 4]), wind_available)
        appliance = self.appliances.by_home(self.appliances.running_at(now_s, dt_s) * self.appliances.power_kw)
        rest = load + appliance + hvac + ev - pv - wind
        battery = physics.drive_battery(np.where(ours, self._wanted[:, 0], -rest), dt_s)
        net = rest + battery
        gains = 0.15 + 0.3 * load + 0.2 * appliance + 1.2 * self._traces.pv_per_kwp(now_s)
        self._narrow_limits()
        physics.warm(hvac, outdoor, gains, dt_s)
        drawn, fed = np.maximum(net, 0), np.maximum(-net, 0)
        values = (load, available, pv, wind_available, wind, appliance, battery, ev, hvac, drawn, fed)
        for name, value in zip(_MEANS, values, strict=True):
            means[name][:] += share * value
        hours = dt_s / 3600
        buy, sell = self._price(now_s)
        cold = np.maximum(own.comfort_low_c - physics.indoor_c, 0) + np.maximum(
            physics.indoor_c - own.comfort_high_c, 0
        )
        for name, rate in (
            ("import_kwh", drawn),
            ("export_kwh", fed),
            ("cost_eur", buy * drawn - sell * fed),
            ("co2_kg", self._carbon(now_s) / 1e3 * drawn),
            ("comfort_degree_h", np.where(occupied & (own.hvac_max_kw > 0), cold, 0.0)),
            ("pv_curtailed_kwh", available - pv),
            ("wind_curtailed_kwh", wind_available - wind),
            ("generated_kwh", available + wind_available),
            ("appliance_kwh", appliance),
            ("battery_throughput_kwh", np.abs(battery)),
            ("v2g_kwh", np.maximum(-ev, 0)),
            ("heat_pump_kwh", hvac),
            (
                "over_connection_kwh",
                np.maximum(drawn - own.connection_kw, 0) + np.maximum(fed - own.export_limit_kw, 0),
            ),
        ):
            self._totals[name] += hours * rate

    def _narrow_limits(self) -> None:
        """Keep the highest lower and the lowest upper limit of the step's sub-steps."""
        limits = self._limits_kw
        for name, (low, high) in self._physics.limits_kw.items():
            known = f"{name}_low_kw" in limits
            limits[f"{name}_low_kw"] = np.maximum(limits[f"{name}_low_kw"], low) if known else low
            limits[f"{name}_high_kw"] = np.minimum(limits[f"{name}_high_kw"], high) if known else high

    def _thermostat(self) -> Floats:
        """Two-point control around 0.8 K above the lower comfort bound, day and night."""
        indoor, low = self._physics.indoor_c, self.devices.comfort_low_c
        self._heating = np.where(indoor < low + 0.3, True, np.where(indoor > low + 1.3, False, self._heating))
        return np.where(self._heating, self.devices.hvac_max_kw, 0.0)

    def _report(self, means: Mapping[str, Floats]) -> Table:
        physics, end_s = self._physics, self._now_s
        columns = dict(means) | {
            "battery_soc": np.where(self.devices.battery_kwh > 0, physics.battery_soc, 0.0),
            "ev_soc": np.where(physics.ev_connected, physics.ev_soc, 0.0),
            "ev_connected": physics.ev_connected.astype(np.float64),
            "ev_departure_h": np.where(physics.ev_connected, np.clip((physics.departure_s - end_s) / 3600, 0, 48), 0.0),
            "ev_target_soc": np.where(physics.ev_connected, physics.target_soc, 0.0),
            "indoor_c": physics.indoor_c.copy(),
            "outdoor_c": np.full(len(self.ids), self._traces.outdoor_c(end_s)),
            "occupied": self._traces.occupied(end_s).astype(np.float64),
        }
        return Table("home_report", self.ids, columns, to_ns(end_s))

    def cop(self, outdoor_c: float) -> Floats:
        """(N,) coefficient of performance of the heat pumps at `outdoor_c` [degC]."""
        return heat_pump_cop(self.devices.hvac_cop, outdoor_c)
