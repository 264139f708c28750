"""Physics of home devices, all homes at once: what a device does with the power that it is asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from e2sim.grid.devices import Devices
from e2sim.grid.traces import Sessions

__all__ = ["HomePhysics", "heat_pump_cop"]

Floats = NDArray[np.float64]

V2G_FLOOR_SOC = 0.2
"""State of charge at which a charger stops discharging a car, unless the owner's floor is higher."""
TAPER_SOC = 0.9
"""State of charge from which a car's battery takes less and less power."""
FROST_C, HOT_C = 12.0, 30.0
"""Indoor temperatures at which a heat pump's own guard switches it on or off."""
_FLOW_K = 308.15


def heat_pump_cop(rated_cop: Floats, outdoor_c: float) -> Floats:
    """(N,) coefficient of performance: the Carnot factor to 35 degC flow, scaled to the rated value at 7 degC, 1..8."""
    lift_k = max(_FLOW_K - (outdoor_c + 273.15), 8.0)
    return np.clip(rated_cop * (_FLOW_K - 280.15) / lift_k, 1.0, 8.0)


class HomePhysics:
    """State of batteries, cars and rooms. `drive_*` take powers (N,) [kW] and return those that really flow."""

    def __init__(self, devices: Devices, sessions: Sessions, start_s: float, seed: int) -> None:
        rng = np.random.default_rng([seed, 5])
        number = devices.battery_kwh.size
        self._own, self._sessions = devices, sessions
        self._next, self._until_s = 0, start_s
        self.battery_soc = np.where(devices.battery_kwh > 0, rng.uniform(0.15, 0.35, number), 0.0)
        self.ev_soc = np.where(devices.ev_kwh > 0, 0.8, 0.0)
        self.ev_connected = np.zeros(number, dtype=bool)
        self.departure_s = np.full(number, np.inf)
        self.target_soc = np.zeros(number)
        self.indoor_c = devices.comfort_low_c + rng.uniform(0.3, 1.3, number)
        self.shortfall_kwh = np.zeros(number)
        none = np.zeros(number)
        self.limits_kw: dict[str, tuple[Floats, Floats]] = dict.fromkeys(("battery", "ev", "hvac"), (none, none))
        """Least and greatest power (N,) that each device could take when it was last driven [kW]."""
        self._settle_cars(start_s)

    def _settle_cars(self, start_s: float) -> None:
        """Cars that came home before the start have charged at full power since."""
        self.move_cars(start_s)
        self.shortfall_kwh[:] = 0.0
        for home in np.flatnonzero(self.ev_connected):
            mine = (self._sessions.home == home) & (self._sessions.arrival_s <= start_s)
            hours = (start_s - self._sessions.arrival_s[mine].max()) / 3600
            gain = hours * self._own.ev_max_kw[home] * self._own.ev_efficiency[home] / self._own.ev_kwh[home]
            self.ev_soc[home] = min(max(self.target_soc[home], self.ev_soc[home]), self.ev_soc[home] + gain)

    def move_cars(self, now_s: float) -> None:
        """Let cars leave and arrive that are due by `now_s`; an energy short of the target at departure is counted."""
        sessions, own = self._sessions, self._own
        while True:
            arrival_s = sessions.arrival_s[self._next] if self._next < sessions.home.size else np.inf
            leaving_s = float(np.min(self.departure_s, where=self.ev_connected, initial=np.inf))
            if min(arrival_s, leaving_s) > now_s:
                return
            if leaving_s <= arrival_s:
                leaving = self.ev_connected & (self.departure_s == leaving_s)
                short = np.maximum(self.target_soc - self.ev_soc, 0) * own.ev_kwh
                self.shortfall_kwh += np.where(leaving, short, 0.0)
                self.ev_connected &= ~leaving
                continue
            home, drive = sessions.home[self._next], sessions.driven_kwh[self._next]
            self.ev_soc[home] = max(0.05, self.ev_soc[home] - drive / own.ev_kwh[home])
            self.ev_connected[home] = True
            self.departure_s[home] = sessions.departure_s[self._next]
            self.target_soc[home] = sessions.target_soc[self._next]
            self._next += 1

    def uncontrolled_ev_kw(self) -> Floats:
        """(N,) full power until the target is reached."""
        return np.where(self.ev_connected & (self.ev_soc < self.target_soc), self._own.ev_max_kw, 0.0)

    def drive_battery(self, wanted_kw: Floats, dt_s: float) -> Floats:
        """Charge (> 0) or discharge within power and energy limits; SoC follows with the one-way efficiency."""
        own, hours = self._own, dt_s / 3600
        room = (1 - self.battery_soc) * own.battery_kwh / own.battery_efficiency / hours
        left = self.battery_soc * own.battery_kwh * own.battery_efficiency / hours
        low, high = -np.minimum(own.battery_max_kw, left), np.minimum(own.battery_max_kw, room)
        self.limits_kw["battery"] = low, high
        power = np.clip(wanted_kw, low, high)
        self.battery_soc = _moved(self.battery_soc, power, own.battery_efficiency, own.battery_kwh, hours)
        return power

    def drive_ev(self, wanted_kw: Floats, dt_s: float) -> Floats:
        """As the battery, while plugged in; power tapers off above TAPER_SOC, discharging ends at the owner's floor."""
        own, hours = self._own, dt_s / 3600
        taper = np.clip(1 - 0.7 * (self.ev_soc - TAPER_SOC) / (1 - TAPER_SOC), 0.3, 1.0)
        room = np.maximum(1 - self.ev_soc, 0) * own.ev_kwh / own.ev_efficiency / hours
        floor = np.maximum(own.ev_floor_soc, V2G_FLOOR_SOC)
        left = np.maximum(self.ev_soc - floor, 0) * own.ev_kwh * own.ev_efficiency / hours
        low = np.where(self.ev_connected, -np.minimum(own.ev_v2g_kw, left), 0.0)
        high = np.where(self.ev_connected, np.minimum(own.ev_max_kw * taper, room), 0.0)
        self.limits_kw["ev"] = low, high
        power = np.clip(wanted_kw, low, high)
        self.ev_soc = _moved(self.ev_soc, power, own.ev_efficiency, own.ev_kwh, hours)
        return power

    def drive_heat_pump(self, wanted_kw: Floats) -> Floats:
        """Any power up to the limit (the compressors modulate), unless the device's own frost or heat guard acts."""
        most = self._own.hvac_max_kw
        low, high = np.where(self.indoor_c < FROST_C, most, 0.0), np.where(self.indoor_c > HOT_C, 0.0, most)
        self.limits_kw["hvac"] = low, high
        return np.clip(wanted_kw, low, high)

    def warm(self, hvac_kw: Floats, outdoor_c: float, gains_kw: Floats, dt_s: float) -> None:
        """One heat capacity per home: heat pump, losses, gains; homes without heat pump are heated by other means."""
        own = self._own
        heat = heat_pump_cop(own.hvac_cop, outdoor_c) * hvac_kw + gains_kw
        change = (heat - own.heat_loss_kw_per_k * (self.indoor_c - outdoor_c)) / own.heat_capacity_kwh_per_k
        self.indoor_c = np.where(own.hvac_max_kw > 0, self.indoor_c + change * dt_s / 3600, self.indoor_c)


def _moved(soc: Floats, power_kw: Floats, efficiency: Floats, capacity_kwh: Floats, hours: float) -> Floats:
    stored = np.where(power_kw > 0, power_kw * efficiency, power_kw / efficiency) * hours
    return np.clip(soc + np.divide(stored, capacity_kwh, out=np.zeros_like(soc), where=capacity_kwh > 0), 0, 1)
