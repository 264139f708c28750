"""What storage scheduling knows at one instant, made from twin records. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ric.columns import Floats, Table

__all__ = ["FlexibleDay", "NodeTwins", "State", "STEP_S"]

STEP_S = 900
DAY_STEPS = 96
NS_PER_S = 1_000_000_000
FEEDER = "feeder"


class FlexibleDay:
    """Mean of what homes draw beyond their forecast load (EV, heat pump, battery) per quarter of the day [kW]."""

    def __init__(self) -> None:
        self.kw = np.zeros(DAY_STEPS)
        self._seen = np.zeros(DAY_STEPS, dtype=bool)

    def add(self, fleet: Table) -> None:
        """Take a home report into its quarter, new weight one fifteenth: minutes average out, days are followed."""
        flexible_kw = float((fleet["ev_kw"] + fleet["hvac_kw"] + fleet["battery_kw"]).sum())
        # The report is of the time before its source time.
        quarter = ((fleet.source_time_ns - 1) // (STEP_S * NS_PER_S)) % DAY_STEPS
        weight = 1 / 15 if self._seen[quarter] else 1.0
        self.kw[quarter] += weight * (flexible_kw - self.kw[quarter])
        self._seen[quarter] = True

    def ahead(self, source_time_ns: int, steps: int) -> Floats:
        """The coming `steps` quarters (steps,) [kW]; quarters never seen take the mean of those seen."""
        mean = float(self.kw[self._seen].mean()) if self._seen.any() else 0.0
        known = np.where(self._seen, self.kw, mean)
        first = source_time_ns // (STEP_S * NS_PER_S)
        return np.asarray(known[(first + np.arange(steps)) % DAY_STEPS])


@dataclass
class NodeTwins:
    """Newest twins of one E2 node."""

    storage: Table | None = None
    outlook: Table | None = None
    forecast: Table | None = None
    plan: Table | None = None
    flexible: FlexibleDay = field(default_factory=FlexibleDay)


@dataclass(frozen=True)
class State:
    """Units (U,) and the feeder's coming steps (H,) of one node; the first step begins at `source_time_ns`."""

    node: str
    source_time_ns: int
    unit_ids: tuple[str, ...]
    soc: Floats
    capacity_kwh: Floats
    max_kw: Floats
    efficiency: Floats
    net_kw: Floats
    """Net demand without storage [kW]: as the homes plan it; beyond their plan load + flexible load - PV."""
    net_p90_kw: Floats
    """The same with the load's 90 % quantile."""
    buy_eur_per_kwh: Floats
    sell_eur_per_kwh: Floats

    @classmethod
    def of(cls, node: str, twins: NodeTwins) -> State | None:
        """The state, or None while a twin is missing or the node has no storage."""
        if twins.storage is None or twins.outlook is None or twins.forecast is None or not twins.storage.ids:
            return None
        forecast, storage = twins.forecast, twins.storage
        row = int(forecast.rows([FEEDER])[0])
        step_ns = STEP_S * NS_PER_S
        late = max(round((forecast.source_time_ns - twins.outlook.source_time_ns) / step_ns), 0)
        buy, sell = (twins.outlook[name][0, late:] for name in ("buy_eur_per_kwh", "sell_eur_per_kwh"))
        steps = min(forecast["load_p50_kw"].shape[1], len(buy), DAY_STEPS)
        if steps == 0:
            return None
        load_kw, cautious_kw = forecast["load_p50_kw"][row, :steps], forecast["load_p90_kw"][row, :steps]
        flexible_kw = twins.flexible.ahead(forecast.source_time_ns, steps)
        net_kw = load_kw + flexible_kw - forecast["pv_p50_kw"][row, :steps]
        planned_kw = _planned(twins.plan, forecast.source_time_ns)[:steps]
        net_kw[: len(planned_kw)] = planned_kw
        return cls(
            node,
            forecast.source_time_ns,
            storage.ids,
            storage["soc"],
            storage["capacity_kwh"],
            storage["max_kw"],
            storage["efficiency"],
            net_kw,
            net_kw + cautious_kw - load_kw,
            buy[:steps],
            sell[:steps],
        )


def _planned(plan: Table | None, source_time_ns: int) -> Floats:
    """What the homes plan to import from `source_time_ns` on [kW]; empty without a plan that reaches there."""
    if plan is None:
        return np.zeros(0)
    passed = round((source_time_ns - plan.source_time_ns) / (STEP_S * NS_PER_S))
    return np.asarray(plan["net_kw"][0, max(passed, 0) :])
