"""Homes, community storage, feeder and outlook of one E2 node, joined."""

from __future__ import annotations

from dataclasses import dataclass

from e2sim.grid.devices import make_fleet
from e2sim.grid.feeder import Feeder, FeederInputs
from e2sim.grid.homes import HomeFleet
from e2sim.grid.outlook import Carbon, Outlook, Tariff, prices_of
from e2sim.grid.settings import ResidentialSettings
from e2sim.grid.simbench_profiles import load_grid
from e2sim.grid.storage import CommunityStorage
from e2sim.grid.traces import Traces

__all__ = ["Residential", "make_residential"]


@dataclass(frozen=True)
class Residential:
    """The grid parts of one node; `parts` is the order in which they step: the feeder sees what the homes did."""

    fleet: HomeFleet
    storage: CommunityStorage | None
    feeder: Feeder
    outlook: Outlook
    tariff: Tariff
    traces: Traces

    @property
    def parts(self) -> tuple[HomeFleet | CommunityStorage | Feeder | Outlook, ...]:
        """All parts, each with `step`, `apply` and `set_point_kinds`."""
        storage = () if self.storage is None else (self.storage,)
        return (self.fleet, *storage, self.feeder, self.outlook)


def make_residential(
    settings: ResidentialSettings, *, node_id: str, start_s: float, days: int = 14, seed: int = 0
) -> Residential:
    """The parts for a run of at most `days` days from `start_s`. Same arguments, same run.

    Raises TwinRicError SCENARIO-INVALID or CONFIG-MISSING.
    """
    grid = load_grid(settings.code)
    fleet = make_fleet(grid, settings, seed)
    traces = Traces(grid, fleet, texture=settings.texture, seed=seed)
    tariff = Tariff(settings.tariff, start_s=start_s, seed=seed)
    tariffs = (tariff, *(Tariff(other, start_s=start_s, seed=seed) for other in settings.other_tariffs))
    carbon = Carbon(settings.carbon, start_s=start_s, seed=seed)
    price = prices_of(tariffs, fleet.devices.tariff)
    homes = HomeFleet(fleet, traces, price, carbon=carbon, start_s=start_s, days=days, seed=seed)
    storage = None
    if settings.storage.capacity_kwh > 0:
        storage = CommunityStorage(settings.storage, start_s=start_s, seed=seed)
    inputs = FeederInputs(
        home_node=fleet.node,
        home_kw=lambda: homes.meter_kw,
        other_kw=traces.background_kw,
        other_nodes=(grid.loads.node[fleet.background[0]], grid.generators.node[fleet.background[1]]),
        storage_kw=lambda: 0.0 if storage is None else storage.net_kw,
        price=tariff,
    )
    feeder = Feeder(grid, inputs, node_id=node_id)
    outlook = Outlook(tariffs, carbon, traces, settings.outlook, node_id=node_id, seed=seed)
    return Residential(homes, storage, feeder, outlook, tariff, traces)
