"""What happened in a run, as arrays: the same record with the apps and without them, so that the gain is measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from e2sim.network import Network, Node, NodeSample
from ric.columns import Floats, Table

__all__ = ["RunRecord", "Series", "slice_objective"]

SLICE_ROLES = ("control", "protection", "monitoring")
SLOT_MBPS = 5_000.0


@runtime_checkable
class _Accounts(Protocol):
    def totals(self) -> dict[str, Floats]: ...


@dataclass
class Series:
    """Rows that share a time axis [s since the scenario's start]; `array(name)` stacks one quantity (T, ...)."""

    times_s: list[float] = field(default_factory=list)
    rows: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, time_s: float, **values: Any) -> None:
        """One instant."""
        self.times_s.append(time_s)
        for name, value in values.items():
            self.rows.setdefault(name, []).append(value)

    @property
    def time_s(self) -> Floats:
        """(T,)."""
        return np.array(self.times_s)

    def array(self, name: str) -> Floats:
        """(T, ...) of one quantity; empty when it was never added."""
        return np.array(self.rows.get(name, []), dtype=float)

    def between(self, start_s: float, end_s: float) -> NDArray[np.bool_]:
        """Mask (T,) of start < time <= end."""
        return np.asarray((self.time_s > start_s) & (self.time_s <= end_s))


class RunRecord:
    """Listens to a network. `fast` has slices and microgrids inside the windows, `slow` homes, feeder and storage."""

    def __init__(self, network: Network) -> None:
        self.scenario = network.scenario
        self.network = network
        self.fast: dict[str, Series] = {}
        self.slow: dict[str, Series] = {}
        self.home_ids: dict[str, tuple[str, ...]] = {}
        self._stored_kwh = {node: self.stored_kwh(node) for node in network.nodes}
        network.listeners.append(self._listen)

    def _listen(self, node: Node, sample: NodeSample) -> None:
        offset_s = round(sample.end_s - self.scenario.start_s, 3)
        if self.scenario.in_window(sample.end_s):
            self._record_fast(node, sample, offset_s)
        if "home_report" in sample.tables or "feeder_report" in sample.tables:
            self._record_slow(node, sample, offset_s)

    def _record_fast(self, node: Node, sample: NodeSample, offset_s: float) -> None:
        stats = sample.ran.stats
        values: dict[str, Any] = {
            "dt_s": sample.dt_s,
            "slots": sample.ran.flexe_slots.copy(),
            "delay_ms": stats.delay_ms[0],
            "jitter_ms": stats.jitter_ms[0],
            "delay_max_ms": stats.delay_max_ms[0],
            "offered_mbps": stats.offered_mbit[0] / stats.period_s,
            "drop_share": stats.drop_share[0],
        }
        report = sample.tables.get("microgrid_report")
        if report is not None:
            values["contribution"] = report["contribution_factor"]
            values["power_share"] = report["dg_power_kw"] / np.maximum(report["rated_kw"], 1e-9)
            values["bus_voltage_v"] = report["voltage_v"]
        self.fast.setdefault(node.e2_node_id, Series()).add(offset_s, **values)

    def _record_slow(self, node: Node, sample: NodeSample, offset_s: float) -> None:
        values: dict[str, Any] = {"dt_s": sample.grid_dt_s.get("home_report", sample.dt_s)}
        values |= _columns(sample.tables.get("feeder_report"), "feeder_", row=0)
        values |= _columns(sample.tables.get("storage_report"), "storage_")
        homes = sample.tables.get("home_report")
        if homes is not None:
            self.home_ids[node.e2_node_id] = homes.ids
            values |= _columns(homes, "home_")
        self.slow.setdefault(node.e2_node_id, Series()).add(offset_s, **values)

    def stored_kwh(self, node_id: str) -> float:
        """Energy in the batteries of homes, EVs and community storage of one node now [kWh], less what appliances whose
        window is open still have to use.
        """
        totals, residential = self.totals(node_id), self.network.nodes[node_id].parts.residential
        storage = None if residential is None else residential.storage
        community_kwh = 0.0 if storage is None else storage.stored_kwh
        held_kwh = totals.get("battery_stored_kwh", 0.0) + totals.get("ev_stored_kwh", 0.0) + community_kwh
        return held_kwh - totals.get("appliance_pending_kwh", 0.0)

    def gained_kwh(self, node_id: str) -> float:
        """What the batteries of one node hold more than when the record began [kWh]."""
        return self.stored_kwh(node_id) - self._stored_kwh[node_id]

    def totals(self, node_id: str) -> dict[str, float]:
        """Sums over the homes of one node: energies [kWh], cost [EUR], discomfort [K h], EV shortfall [kWh]."""
        for part in self.network.nodes[node_id].parts.slow:
            if isinstance(part, _Accounts):
                return {name: float(values.sum()) for name, values in part.totals().items()}
        return {}


def _columns(table: Table | None, prefix: str, row: int | None = None) -> dict[str, Any]:
    if table is None:
        return {}
    return {f"{prefix}{name}": values if row is None else float(values[row]) for name, values in table.columns.items()}


def slice_objective(series: Series, terms: dict[str, dict[str, float]]) -> tuple[Floats, Floats]:
    """Eq (3) (T,) literally, and the number of broken limits (T,), from measured delays and granted slots.

    Written apart from the app's own objective: this is the account, that is the controller's model. `terms` has alpha,
    beta, gamma, d_max_ms, j_max_ms and b_min_mbps per slice role, in the order of `SLICE_ROLES`. What was dropped was
    not there within D_max.
    """
    total, broken = np.zeros(len(series.times_s)), np.zeros(len(series.times_s))
    delay, jitter, lost, slots = (series.array(name) for name in ("delay_ms", "jitter_ms", "drop_share", "slots"))
    for index, role in enumerate(SLICE_ROLES):
        t = terms[role]
        weight = t["alpha"] + t["beta"] + t["gamma"]
        granted = slots[:, index] * SLOT_MBPS
        total += t["alpha"] / weight * delay[:, index] / t["d_max_ms"]
        total += t["beta"] / weight * jitter[:, index] / t["j_max_ms"]
        total += t["gamma"] / weight * granted / t["b_min_mbps"]
        broken += (delay[:, index] > t["d_max_ms"]) | (lost[:, index] > 0)
        broken += jitter[:, index] > t["j_max_ms"]
        broken += granted < t["b_min_mbps"]
    return total, broken
