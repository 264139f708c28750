"""What a cycle of the HEMS decides: set-points as tables, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ric.columns import Table
from ric.decision import Reason
from xapps.hems_load.explain import Explainer
from xapps.hems_load.horizon import NS, STEP_S
from xapps.hems_load.state import State
from xapps.hems_load.tracking import SetPoints

__all__ = ["Decision", "Told"]


@dataclass(frozen=True)
class Told:
    """What a node's homes and the operator were told last: the next decision begins there."""

    explainer: Explainer = field(default_factory=Explainer)
    time_ns: int = 0
    """Source time of the last decision that was acted on, 0 for none."""


@dataclass(frozen=True)
class Decision:
    """Set-points of one node's homes and, where a schedule is in force, of its community storage."""

    node: str
    source_time_ns: int
    homes: Table
    appliances: Table | None
    """Kind appliance_set_point; None where no appliance has a job in hand."""
    storage: Table | None
    reason: Reason
    missed_kw: Mapping[str, float] = field(default_factory=dict)
    """By how much the fleet's limits are missed [kW]: cap (or demand-response target, now or planned), ramp, reserve; 0
    where they are kept."""
    plan: Table | None = None
    """What the homes plan to import together, kind fleet_plan, where this cycle made new plans for all of them."""
    told: Told | None = None
    """What has been told once this decision is acted on; None for a safe action, which tells nothing of devices."""

    @classmethod
    def of(
        cls,
        state: State,
        points: SetPoints,
        *,
        reason: Reason,
        missed_kw: Mapping[str, float] | None = None,
        plan: Table | None = None,
        told: Told | None = None,
    ) -> Decision:
        """The decision that puts `points` and the storage schedule in force."""
        columns = {
            "battery_kw": points.battery_kw, "ev_kw": points.ev_kw, "hvac_kw": points.hvac_kw,
            "pv_limit_kw": points.pv_limit_kw, "wind_limit_kw": points.wind_limit_kw,
        }  # fmt: skip
        table = Table("home_set_point", state.homes.ids, columns, state.source_time_ns)
        appliances, storage = appliance_set_point(state, points), storage_set_point(state)
        return cls(state.node, state.source_time_ns, table, appliances, storage, reason, missed_kw or {}, plan, told)


def appliance_set_point(state: State, points: SetPoints) -> Table | None:
    """What the appliances with a job in an open window are told."""
    jobs = state.jobs
    rows = np.flatnonzero((jobs.left_h > 0) & (jobs.opens_h <= 1e-6))
    if not rows.size:
        return None
    ids = tuple(jobs.ids[row] for row in rows)
    return Table("appliance_set_point", ids, {"run": points.run[rows].astype(float)}, state.source_time_ns)


def storage_set_point(state: State) -> Table | None:
    """The step of the storage schedule that holds now, inside the unit's limits; None without a schedule or unit.

    A schedule that has run out is no schedule: the unit then rests by itself.
    """
    schedule, unit = state.schedule, state.storage
    if schedule is None or unit is None or schedule.ids != unit.ids:
        return None
    # The set-point is for the time from now on, and a schedule's first value holds from its source time on.
    step = int((state.source_time_ns - schedule.source_time_ns) // (STEP_S * NS))
    if not 0 <= step < schedule["charge_kw"].shape[1]:
        return None
    limit = unit["max_kw"]
    net = np.clip(schedule["charge_kw"][:, step] - schedule["discharge_kw"][:, step], -limit, limit)
    columns = {
        "charge_kw": np.maximum(net, 0), "discharge_kw": np.maximum(-net, 0),
        "reserve_kw": np.clip(schedule["reserve_kw"][:, step], 0, limit),
    }  # fmt: skip
    return Table("storage_set_point", unit.ids, columns, state.source_time_ns)
