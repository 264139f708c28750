"""The A1 policy type of the RIC itself: whose control wins, for how long, and which parameters are coupled. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ric.config import FrozenModel

__all__ = ["POLICY_TYPE_ID", "ConflictPolicy", "Influence", "TrafficDemand"]

POLICY_TYPE_ID = "twinric_conflict_mitigation_1.0.0"

AppId = Annotated[str, Field(min_length=1, max_length=256)]


class TrafficDemand(FrozenModel):
    """What an app's own traffic needs of a slice: its reports and set-points travel there."""

    app_id: AppId
    """App whose traffic it is."""
    s_nssai: str = Field(pattern=r"^\d{1,3}-[0-9a-f]{6}$")
    """Slice that carries it, "<sst>-<sd>"."""
    rate_mbps: float = Field(ge=0, le=1e6)
    """Rate that must fit [Mb/s], 0..1,000,000."""
    e2_node_id: str = Field(default="", max_length=256)
    """Node where it is needed; empty for every node."""
    max_utilisation: float = Field(default=0.8, gt=0, le=1)
    """Share of the slice that it may fill [1], 0..1: above it queues grow."""


class Influence(FrozenModel):
    """One parameter moves one quantity: how far, per unit. Two apps that push it in opposite directions conflict."""

    parameter: str = Field(min_length=1, max_length=128)
    """Class of parameters: "slice" (dedicated ratio [%]), or table and column such as "home_set_point battery_kw"."""
    target: str = Field(min_length=1, max_length=128)
    """Quantity of the same node that it moves, for example "feeder import_kw" or a KPM name."""
    gain: float = Field(ge=-1e6, le=1e6)
    """Change of the target per unit of the parameter [target unit per parameter unit]; its sign is the direction."""
    reference: float | None = 0.0
    """Value of the parameter that moves nothing; null for the value in force before the control."""
    dead_band: float = Field(default=1.0, ge=0, le=1e9)
    """Pushes up to this size [target unit] oppose nobody."""


def _default_influences() -> tuple[Influence, ...]:
    """Electrical power adds up at the feeder: storage is there to be charged or not, demand counts where it changes."""
    signs: tuple[tuple[str, float, float | None], ...] = (
        ("home_set_point battery_kw", 1.0, 0.0), ("home_set_point ev_kw", 1.0, None),
        ("home_set_point hvac_kw", 1.0, None), ("storage_set_point charge_kw", 1.0, 0.0),
        ("storage_set_point discharge_kw", -1.0, 0.0),
    )  # fmt: skip
    return tuple(
        Influence(parameter=name, target="feeder import_kw", gain=gain, reference=reference, dead_band=5.0)
        for name, gain, reference in signs
    )


class ConflictPolicy(FrozenModel):
    """How the RIC settles conflicts between xApps, in force from the next control on."""

    priorities: dict[AppId, Annotated[int, Field(ge=-1_000, le=1_000)]] = Field(default_factory=dict, max_length=256)
    """App -> priority, -1,000..1,000; the larger wins, between equals the holder. Unnamed: as the RIC is set, or 0."""
    hold_s: float | None = Field(default=None, ge=0, le=3_600)
    """How long a parameter stays with the app that set it last [s], 0..3,600; null for the RIC's setting."""
    demands: tuple[TrafficDemand, ...] = Field(default=(), max_length=256)
    """Traffic that no slice control of another app may starve."""
    influences: tuple[Influence, ...] = Field(default_factory=_default_influences, max_length=256)
    """Which parameter moves what; the default says how powers add up at the feeder."""
    link_capacity_mbps: float = Field(default=100_000.0, gt=0, le=1e7)
    """Capacity of a node's transport link [Mb/s]; a slice's ratio is its share of it. Default: 20 slots of 5 Gb/s."""
    on_indirect: Literal["refuse", "report"] = "refuse"
    """What becomes of a control that starves another app's traffic: refused, or admitted and reported."""
    on_implicit: Literal["refuse", "report"] = "refuse"
    """What becomes of a control that pushes against another app's."""
