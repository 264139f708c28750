"""What an operator tunes while the HEMS runs: its A1 policy type."""

from __future__ import annotations

from pydantic import Field, model_validator

from ric.config import FrozenModel
from ric.scopes import ScopedPolicy

__all__ = ["POLICY_TYPE_ID", "DrEvent", "HemsPolicy", "import_cap_kw"]

POLICY_TYPE_ID = "twinric_hems_load_1.0.0"
GROUP_FIELDS = frozenset({
    "scope", "e2_node_id", "import_cap_kw", "import_cap_start_s", "import_cap_end_s", "dr_event", "fairness",
})  # fmt: skip
"""What a policy for a group of homes may set: limits on their import together. The rest is for whole nodes."""


class DrEvent(FrozenModel):
    """A demand-response event: by a deadline the homes together import less than they would have, and keep to it."""

    reduction_kw: float = Field(ge=0, le=100_000)
    """Reduction below the plan that stood when the event became known [kW]."""
    start_s: float = Field(ge=0, le=1e11)
    """Begin [s since the Unix epoch]; until the deadline the reduction grows from nothing."""
    end_s: float = Field(ge=0, le=1e11)
    """End [s since the Unix epoch]."""
    deadline_s: float | None = Field(default=None, ge=0, le=1e11)
    """When the whole reduction must be there [s since the Unix epoch]; null for at the begin."""

    @model_validator(mode="after")
    def _ordered(self) -> DrEvent:
        if self.start_s >= self.end_s:
            raise ValueError("start_s < end_s")
        if self.deadline_s is not None and not self.start_s <= self.deadline_s <= self.end_s:
            raise ValueError("start_s <= deadline_s <= end_s")
        return self

    def due_kw(self, time_s: float) -> float | None:
        """Reduction due at `time_s` [kW]; None outside the event."""
        if not self.start_s <= time_s < self.end_s:
            return None
        if self.deadline_s is None or time_s >= self.deadline_s:
            return self.reduction_kw
        return self.reduction_kw * (time_s - self.start_s) / (self.deadline_s - self.start_s)


class HemsPolicy(ScopedPolicy):
    """Limits and weights of the home plans. A change acts on the next cycle, which then plans anew."""

    e2_node_id: str = Field(default="", max_length=128)
    """E2 node that this policy is for, as `scope.e2_node_id`; empty for all nodes."""
    import_cap_kw: float | None = Field(default=None, ge=0, le=100_000)
    """Most that the homes of a node, or of the home group in `scope`, may import together, exports counted against
    imports [kW]; null for no cap. Caps on a node and on its groups, nested or overlapping, hold at the same time."""
    import_cap_start_s: float = Field(default=0.0, ge=0, le=1e11)
    """Begin of the cap [s since the Unix epoch]."""
    import_cap_end_s: float = Field(default=0.0, ge=0, le=1e11)
    """End of the cap [s since the Unix epoch]; 0 for no end."""
    dr_event: DrEvent | None = None
    """Demand-response event; null for none."""
    ramp_limit_kw_per_min: float | None = Field(default=None, gt=0, le=100_000)
    """Most by which the import of a node's homes together may change [kW/min]; null for no limit."""
    reserve_kw: float = Field(default=0.0, ge=0, le=100_000)
    """Power by which a node's homes together must be able to lower their import at once, for the frequency [kW]. It is
    given in proportion to the deviation, from 20 mHz below 50 Hz on, all of it at 200 mHz."""
    reserve_hold_min: float = Field(default=15.0, ge=1, le=240)
    """How long the reserve must last [min]."""
    fairness: float = Field(default=0.5, ge=0, le=1)
    """Who gives when a cap binds in real time [1]: 1 takes from each home in proportion to what it could give, 0 takes
    the mildest measure from all homes first (batteries, appliances, cars, V2G, heat). In the plan: how much evenly
    curtailed shares may cost, half the square of a home's difference from the common share times 2 EUR at 1."""
    shed_below_k: float = Field(default=0.5, ge=0, le=10)
    """How far below its comfort bound an occupied room may fall for a cap [K]."""
    carbon_eur_per_t: float = Field(default=0.0, ge=0, le=2_000)
    """Price of the CO2 of imports in the plan [EUR/t]; 0 plans for the tariff alone."""
    spread_eur_per_kwh: float = Field(default=0.015, ge=0, le=1)
    """By how much each home's own view of the price may differ from the tariff [EUR/kWh]. Homes that all see one price
    all charge in its cheapest quarter of an hour, and their peak moves there; 0 lets them."""
    export_allowed: bool = True
    """False keeps every home from exporting: PV is stored, used or curtailed."""
    price_weight: float = Field(default=1.0, ge=0, le=10)
    """Weight of energy cost at tariff [1], 0..10. 0 plans for comfort and wear alone."""
    comfort_eur_per_k_h: float = Field(default=0.6, ge=0, le=100)
    """Price of one kelvin outside the comfort band for one hour [EUR/K h]. High values heat whatever it costs."""
    setback_k: float = Field(default=1.5, ge=0, le=10)
    """How far an empty home may leave its comfort band [K], where its owner allows as much."""
    wear_eur_per_kwh: float = Field(default=0.02, ge=0, le=1)
    """Ageing of a home battery per kWh charged or discharged [EUR/kWh]."""
    v2g_wear_eur_per_kwh: float = Field(default=0.06, ge=0, le=1)
    """Payment to an EV's owner per kWh discharged [EUR/kWh]; 1 in effect switches V2G off."""
    v2g_floor_soc: float = Field(default=0.4, ge=0, le=1)
    """State of charge below which an EV is never discharged [1], so that nobody is stranded; its owner's floor counts
    where it is higher."""

    @model_validator(mode="after")
    def _of_a_group(self) -> HemsPolicy:
        beyond = self.model_fields_set - GROUP_FIELDS
        if self.scope.home_group and beyond:
            taken = ", ".join(sorted(GROUP_FIELDS - {"scope"}))
            raise ValueError(f"for a home group only {taken}; not {', '.join(sorted(beyond))}")
        return self

    @model_validator(mode="after")
    def _ordered(self) -> HemsPolicy:
        if self.import_cap_end_s and self.import_cap_start_s >= self.import_cap_end_s:
            raise ValueError("import_cap_start_s < import_cap_end_s")
        return self


def import_cap_kw(policy: HemsPolicy, time_s: float) -> float:
    """The cap [kW] that holds at `time_s`; infinite where there is none."""
    if policy.import_cap_kw is None or time_s < policy.import_cap_start_s:
        return float("inf")
    ended = policy.import_cap_end_s and time_s >= policy.import_cap_end_s
    return float("inf") if ended else policy.import_cap_kw
