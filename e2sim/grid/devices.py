"""The homes of one LV grid: their devices, from SimBench where it has them, else added with the run's seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2sim.grid.appliances import KINDS
from e2sim.grid.settings import ResidentialSettings
from e2sim.grid.simbench_profiles import LvGrid

__all__ = ["Devices", "Fleet", "make_fleet"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DESIGN_OUTDOOR_C, DESIGN_INDOOR_C = -12.0, 20.5
HOME_HEAT_PUMP_KW = 12.0
"""Heat pumps beyond this heat more than one home and stay background load [kW]."""
_EV_PROFILES = ("HLS_A_3.7", "HLS_B_3.7", "HLS_C_3.7", "HLS_A_11.0", "HLS_B_11.0")


@dataclass(frozen=True)
class Devices:
    """Columns (N,) of the table `home_static`; a capacity of 0 means that the home has no such device."""

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


@dataclass(frozen=True)
class Fleet:
    """The homes under control and what drives them."""

    ids: tuple[str, ...]
    node: Ints
    """(N,) node of the grid."""
    devices: Devices
    load_kw: Floats
    """(N,) rating of the household profile [kW]."""
    load_profile: Ints
    pv_profile: Ints
    """(N,) profile numbers; -1 without PV."""
    wind_profile: Ints
    """(N,) profile numbers; -1 without wind turbine."""
    ev_profile: Ints
    appliance_home: Ints
    appliance_kind: Ints
    """(K,) home and kind (row of `KINDS`) of each appliance that can be shifted."""
    shift_steps: Ints
    """(N,) steps of 15 min by which a home reads its household and EV profiles later than the calendar: weeks and some
    quarters of an hour, because SimBench gives the same few profiles to many homes."""
    background: tuple[Ints, ...]
    """Numbers of the grid's loads and of its generators that are not part of a home."""


def make_fleet(grid: LvGrid, settings: ResidentialSettings, seed: int) -> Fleet:
    """`settings.homes` homes of `grid`, fewer where it has fewer households. Same arguments, same homes."""
    rng = np.random.default_rng([seed, 1])
    names = np.array([grid.profile_names[index] for index in grid.loads.profile])
    household = np.flatnonzero(np.char.startswith(names, "H0"))
    pv_of = _by_node(grid.generators.node, np.arange(len(grid.generators)))
    battery_of = _by_node(grid.storage.node, np.arange(len(grid.storage)))
    heat_of = _by_node(
        grid.loads.node, np.flatnonzero(_starts(names, "Air", "Soil") & (grid.loads.p_kw <= HOME_HEAT_PUMP_KW))
    )
    ev_of = _by_node(grid.loads.node, np.flatnonzero(_starts(names, "HLS")))
    node_of = grid.loads.node[household]
    _, first = np.unique(node_of, return_index=True)
    household = household[np.sort(first)]
    node_of = grid.loads.node[household]
    richness = [sum(node in of for of in (pv_of, battery_of, heat_of, ev_of)) for node in node_of]
    chosen = np.sort(np.argsort(-np.array(richness), kind="stable")[: settings.homes])
    household, node = household[chosen], grid.loads.node[household[chosen]]
    parts = _Parts(grid, node, rng)
    stored = np.array([float(int(n) in battery_of) for n in node])
    pv, pv_profile = parts.pv(pv_of, settings.pv_share, stored)
    battery, battery_kw = parts.battery(battery_of, settings.battery_share, pv)
    ev, ev_kw, ev_v2g_kw, ev_profile = parts.ev(ev_of, settings.ev_share, settings.v2g_share)
    heat_kw = parts.heat(heat_of, settings.heat_pump_share)
    # Their own stream: homes with and without these are otherwise the same homes.
    extra = np.random.default_rng([seed, 12])
    wind_kw, wind_profile = _wind(grid, extra, node.size, settings.wind_share)
    devices = _devices(
        rng, settings, extra, pv=pv, wind_kw=wind_kw, battery=(battery, battery_kw), ev=(ev, ev_kw, ev_v2g_kw),
        heat_kw=heat_kw,
    )  # fmt: skip
    owned = np.argwhere(extra.random((node.size, len(KINDS))) < settings.appliance_share)
    used = {int(load) for of in (heat_of, ev_of) for home, load in of.items() if home in set(node.tolist())}
    used |= set(household.tolist())
    own_pv = {int(unit) for home, unit in pv_of.items() if home in set(node.tolist())}
    return Fleet(
        ids=tuple(f"home-{index:03d}" for index in household + 1),
        node=node,
        devices=devices,
        load_kw=grid.loads.p_kw[household],
        load_profile=grid.loads.profile[household],
        pv_profile=pv_profile,
        wind_profile=wind_profile,
        ev_profile=ev_profile,
        appliance_home=owned[:, 0].astype(np.int64),
        appliance_kind=owned[:, 1].astype(np.int64),
        shift_steps=rng.integers(-2, 3, node.size) * 7 * 96 + rng.integers(-3, 4, node.size),
        background=(
            np.array([n for n in range(len(grid.loads)) if n not in used], dtype=np.int64),
            np.array([n for n in range(len(grid.generators)) if n not in own_pv], dtype=np.int64),
        ),
    )


def _starts(names: NDArray[np.str_], *heads: str) -> NDArray[np.bool_]:
    return np.array([name.startswith(heads) for name in names.tolist()], dtype=bool)


def _by_node(nodes: Ints, numbers: Ints) -> dict[int, int]:
    return {int(nodes[n]): int(n) for n in reversed(numbers.tolist())}


def _wind(grid: LvGrid, rng: np.random.Generator, homes: int, share: float) -> tuple[Floats, Ints]:
    """Rated power (N,) [kW] and profile (N,) of small turbines in a share of the homes."""
    chosen = rng.permutation(homes)[: round(share * homes)]
    rated, profile = np.zeros(homes), np.full(homes, -1, dtype=np.int64)
    choice = [n for n, name in enumerate(grid.profile_names) if name.startswith("WP")]
    rated[chosen] = rng.choice([1.5, 2.5, 5.0], chosen.size)
    profile[chosen] = rng.choice(choice, chosen.size)
    return rated, profile


class _Parts:
    """Draws one kind of device at a time: the grid's own first, then additions up to the share asked for."""

    def __init__(self, grid: LvGrid, node: Ints, rng: np.random.Generator) -> None:
        self.grid, self.node, self.rng = grid, node, rng

    def _own(self, of: dict[int, int]) -> Ints:
        return np.array([of.get(int(node), -1) for node in self.node], dtype=np.int64)

    def _added(self, own: Ints, share: float, preferred: Floats | None = None) -> Ints:
        missing = max(0, round(share * own.size) - int((own >= 0).sum()))
        free = np.flatnonzero(own < 0)
        order = self.rng.permutation(free.size)
        if preferred is not None:
            order = order[np.argsort(-preferred[free[order]], kind="stable")]
        return free[order[:missing]]

    def pv(self, of: dict[int, int], share: float, preferred: Floats) -> tuple[Floats, Ints]:
        """SimBench's home storages are PV storages, but stand at nodes without PV: PV is added there first."""
        own = self._own(of)
        has = own >= 0
        kwp = np.where(has, self.grid.generators.p_kw[own] if len(self.grid.generators) else 0.0, 0.0)
        profile = np.where(has, self.grid.generators.profile[own] if len(self.grid.generators) else -1, -1)
        added = self._added(own, share, preferred)
        kwp[added] = self.rng.uniform(4, 10, added.size).round(1)
        choice = [n for n, name in enumerate(self.grid.profile_names) if name.startswith("PV")]
        profile[added] = self.rng.choice(choice, added.size)
        return kwp, profile

    def battery(self, of: dict[int, int], share: float, pv_kwp: Floats) -> tuple[Floats, Floats]:
        own = self._own(of)
        has = own >= 0
        kwh = np.where(has, self.grid.storage_kwh[own] if has.any() else 0.0, 0.0)
        power = np.where(has, self.grid.storage.p_kw[own] if has.any() else 0.0, 0.0)
        added = self._added(own, share, pv_kwp)
        kwh[added] = np.where(pv_kwp[added] > 0, pv_kwp[added] * 1.1, 6.0).round(1)
        power[added] = kwh[added] / 2
        return kwh, power

    def ev(self, of: dict[int, int], share: float, v2g_share: float) -> tuple[Floats, Floats, Floats, Ints]:
        own = self._own(of)
        added = self._added(own, share)
        has = own >= 0
        profile = np.where(has, self.grid.loads.profile[own], -1)
        choice = [self.grid.profile_names.index(name) for name in _EV_PROFILES]
        profile[added] = self.rng.choice(choice, added.size)
        has[added] = True
        names = [self.grid.profile_names[number] if number >= 0 else "_0" for number in profile]
        power = np.array([float(name.rsplit("_", 1)[1]) for name in names])
        kwh = np.where(has, self.rng.choice([42.0, 58.0, 77.0], has.size), 0.0)
        v2g = np.where(has & (self.rng.random(has.size) < v2g_share), np.minimum(power, 11.0), 0.0)
        return kwh, power, v2g, profile

    def heat(self, of: dict[int, int], share: float) -> Floats:
        own = self._own(of)
        added = self._added(own, share)
        power = np.where(own >= 0, self.grid.loads.p_kw[own], 0.0)
        power[added] = self.rng.choice([2.0, 3.0, 4.0], added.size)
        return power


def _devices(
    rng: np.random.Generator,
    settings: ResidentialSettings,
    extra: np.random.Generator,
    *,
    pv: Floats,
    wind_kw: Floats,
    battery: tuple[Floats, Floats],
    ev: tuple[Floats, Floats, Floats],
    heat_kw: Floats,
) -> Devices:
    number = pv.size
    cop = rng.uniform(3.2, 4.2, number)
    # Sized to hold the indoor design temperature on the design day with a tenth of the power to spare.
    design_cop = cop * (1 + 0.022 * (DESIGN_OUTDOOR_C - 7))
    loss = np.where(heat_kw > 0, 0.9 * heat_kw * design_cop / (DESIGN_INDOOR_C - DESIGN_OUTDOOR_C), 0.15)
    low = rng.choice([19.5, 20.0, 20.5], number)
    needed = 3 + np.maximum(ev[1] + heat_kw, 0.8 * pv + wind_kw)
    connection = np.maximum(settings.connection_kw, needed.round(1))
    return Devices(
        battery_kwh=battery[0],
        battery_max_kw=battery[1],
        battery_efficiency=np.full(number, 0.95),
        ev_kwh=ev[0],
        ev_max_kw=ev[1],
        ev_v2g_kw=ev[2],
        ev_efficiency=np.full(number, 0.94),
        hvac_max_kw=heat_kw,
        hvac_cop=cop,
        heat_capacity_kwh_per_k=loss * rng.uniform(45, 80, number),
        heat_loss_kw_per_k=loss,
        comfort_low_c=low,
        comfort_high_c=low + 4.0,
        connection_kw=connection,
        export_limit_kw=np.minimum(connection, settings.export_limit_kw),
        pv_kwp=pv,
        wind_rated_kw=wind_kw,
        setback_k=extra.choice([0.5, 1.0, 1.5, 2.0], number),
        ev_floor_soc=np.where(ev[0] > 0, extra.choice([0.3, 0.4, 0.5], number), 0.0),
        tariff=extra.integers(0, 1 + len(settings.other_tariffs), number).astype(float),
    )
