"""What a run was worth: every figure beside the same run without the apps. Pure: records in, plain values out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from e2sim.record import SLICE_ROLES, RunRecord, Series, slice_objective
from e2sim.scenario_parts import AttackSpec, FaultSpec
from ric.clock import to_s
from ric.columns import Floats, Table
from ric.pb.twinric.bus.v1.record_pb2 import Alarm, DecisionRecord, PerceivedSeverity

__all__ = ["Journal", "PolicyChange", "summarise"]

SliceTerms = Mapping[str, dict[str, float]]
QUARTER_S = 900
DECIMALS = 6


@dataclass
class PolicyChange:
    """One A1 policy event of the scenario and what became of it."""

    at_s: float
    policy_type_id: str
    policy_id: str
    put_ms: float
    """Wall time of the REST call."""
    enforced_at_s: float | None = None
    status: str = ""


@dataclass
class Journal:
    """What the apps said while they ran: decisions, alarms, forecasts of the feeder, policies."""

    decisions: list[DecisionRecord] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)
    forecasts: dict[str, list[Table]] = field(default_factory=lambda: defaultdict(list))
    history: dict[str, Table] = field(default_factory=dict)
    policies: list[PolicyChange] = field(default_factory=list)
    budgets_ms: dict[str, float] = field(default_factory=dict)
    elapsed_ms: dict[str, list[float]] = field(default_factory=dict)
    late: dict[str, int] = field(default_factory=dict)


def summarise(with_apps: RunRecord, without: RunRecord, journal: Journal, terms: SliceTerms) -> dict[str, Any]:
    """All figures of one run as plain values. `terms` are eq (3)'s default weights and limits: one yardstick for both.

    A section is absent when the scenario has nothing of its kind.
    """
    nodes = list(with_apps.network.nodes)
    summary: dict[str, Any] = {"scenario": _scenario(with_apps)}
    homes = [node for node in nodes if with_apps.totals(node)]
    if homes:
        summary["homes"] = _pairs(*(_home_figures(run, homes) for run in (with_apps, without)))
        summary["forecast"] = [_forecast_figures(with_apps, journal, node) for node in homes if journal.forecasts[node]]
    fast = [node for node in nodes if node in with_apps.fast]
    if fast:
        summary["slices"] = _pairs(*(_slice_figures(run, fast, terms) for run in (with_apps, without)))
        summary["congestion"] = _congestion(with_apps, without)
    if with_apps.scenario.faults:
        summary["faults"] = [_fault_figures(with_apps, journal, fault) for fault in with_apps.scenario.faults]
        summary["false_fault_alarms"] = _false_alarms(with_apps, journal)
    attacks = [attack for attack in with_apps.scenario.attacks if attack.kind == "dos"]
    if attacks:
        summary["attacks"] = [_attack_figures(with_apps, without, journal, attack) for attack in attacks]
    summary["policies"] = [vars(change) for change in journal.policies]
    summary["loops"] = _loop_figures(journal)
    return summary


def _scenario(run: RunRecord) -> dict[str, Any]:
    scenario = run.scenario
    return {
        "name": scenario.name,
        "seed": scenario.seed,
        "start": scenario.start.isoformat(),
        "duration_h": scenario.duration_s / 3600,
        "real_time_windows_s": sum(window.duration_s for window in scenario.windows),
        "homes": sum(len(ids) for ids in run.home_ids.values()),
        "nodes": len(scenario.nodes),
    }


def _pairs(ours: Mapping[str, float], baseline: Mapping[str, float]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "with_apps": round(value, DECIMALS),
            "without_apps": round(baseline[name], DECIMALS),
            "change": round(value - baseline[name], DECIMALS),
        }
        for name, value in ours.items()
    }


def _home_figures(run: RunRecord, nodes: Sequence[str]) -> dict[str, float]:
    figures: dict[str, float] = defaultdict(float)
    lowest_pu, highest_pct, peaks = [], [], []
    for node in nodes:
        totals, slow = run.totals(node), run.slow[node]
        dt_h = slow.array("dt_s") / 3600
        import_kw, buy = slow.array("feeder_import_kw"), slow.array("feeder_buy_price")
        generated_kwh = float((slow.array("home_pv_kw").sum(axis=1) * dt_h).sum())
        for name, value in (
            ("homes_cost_eur", totals["cost_eur"]),
            ("stored_energy_gained_kwh", run.gained_kwh(node)),
            ("comfort_degree_h", totals["comfort_degree_h"]),
            ("ev_shortfall_kwh", totals["ev_shortfall_kwh"]),
            ("pv_generated_kwh", generated_kwh),
            ("exported_kwh", totals["export_kwh"]),
            ("losses_kwh", float((slow.array("feeder_losses_kw") * dt_h).sum())),
            ("mean_price_eur_per_kwh", float(buy.mean()) / len(nodes)),
        ):
            figures[name] += value
        storage_kw = slow.array("storage_charge_kw") - slow.array("storage_discharge_kw")
        if storage_kw.size:
            figures["storage_cost_eur"] += float((storage_kw.sum(axis=1) * buy * dt_h).sum())
        peaks.append(float(_quarter_means(slow, import_kw).max()))
        lowest_pu.append(float(slow.array("feeder_voltage_min_pu").min()))
        highest_pct.append(float(slow.array("feeder_loading_pct").max()))
    result = dict(figures)
    result |= {"voltage_min_pu": min(lowest_pu), "loading_max_pct": max(highest_pct)}
    result["peak_import_kw"] = sum(peaks)
    # Energy gained in batteries is worth what importing it would have cost on average.
    gained_eur = result["stored_energy_gained_kwh"] * result["mean_price_eur_per_kwh"]
    result["net_cost_eur"] = result["homes_cost_eur"] + result.get("storage_cost_eur", 0.0) - gained_eur
    return result


def _quarter_means(slow: Series, values: Floats) -> Floats:
    quarter = np.ceil(slow.time_s / QUARTER_S - 1e-9).astype(int)
    return np.array([values[quarter == index].mean() for index in np.unique(quarter)])


def _forecast_figures(run: RunRecord, journal: Journal, node: str) -> dict[str, Any]:
    """Median absolute errors of the feeder's load: one hour and up to a day ahead, beside yesterday's course."""
    slow, start_s = run.slow[node], run.scenario.start_s
    truth = _quarter_means(slow, slow.array("home_inflexible_kw").sum(axis=1))
    yesterday = journal.history[node]["load_kw"][:, -96:].sum(axis=0) if node in journal.history else None
    errors: dict[str, list[float]] = defaultdict(list)
    for table in journal.forecasts[node]:
        first = round((to_s(table.source_time_ns) - start_s) / QUARTER_S)
        row = table.ids.index("feeder")
        median, low, high = (table[f"load_{p}_kw"][row] for p in ("p50", "p10", "p90"))
        for lead in range(min(96, len(truth) - first, len(median))):
            real = truth[first + lead]
            error = abs(median[lead] - real)
            errors["day"].append(error)
            errors["covered"].append(float(low[lead] <= real <= high[lead]))
            if lead < 4:
                errors["hour"].append(error)
            if yesterday is not None and first + lead < 96:
                errors["naive"].append(abs(yesterday[first + lead] - real))
    means = {name: float(np.mean(values)) for name, values in errors.items()}
    return {
        "node": node,
        "forecasts": len(journal.forecasts[node]),
        "mean_load_kw": float(truth.mean()),
        "mae_hour_ahead_kw": means.get("hour"),
        "mae_day_ahead_kw": means.get("day"),
        "mae_yesterday_kw": means.get("naive"),
        "coverage_p10_p90": means.get("covered"),
    }


def _slice_figures(run: RunRecord, nodes: Sequence[str], terms: SliceTerms) -> dict[str, float]:
    totals, broken, steps = 0.0, 0.0, 0
    for node in nodes:
        objective, violations = slice_objective(run.fast[node], dict(terms))
        totals, broken, steps = totals + objective.sum(), broken + violations.sum(), steps + len(objective)
    return {"objective_eq3_mean": float(totals / steps), "limits_broken_per_1000_steps": float(broken / steps * 1000)}


def _congestion(with_apps: RunRecord, without: RunRecord) -> list[dict[str, Any]]:
    found = []
    for event in with_apps.scenario.traffic_events:
        node = event.node or with_apps.scenario.nodes[0].e2_node_id
        index = SLICE_ROLES.index(event.slice)
        figures: dict[str, Any] = {"slice": event.slice, "at_s": event.at_s, "factor": event.factor}
        for name, run in (("with_apps", with_apps), ("without_apps", without)):
            if node not in run.fast:
                continue
            series = run.fast[node]
            rows = series.between(event.at_s, event.end_s)
            if rows.any():
                delay = series.array("delay_ms")[rows, index]
                figures[name] = {
                    "delay_mean_ms": float(delay.mean()),
                    "delay_p99_ms": float(np.percentile(delay, 99)),
                    "delay_max_ms": float(series.array("delay_max_ms")[rows, index].max()),
                    "dropped_share": float(series.array("drop_share")[rows, index].mean()),
                    "slots_mean": float(series.array("slots")[rows, index].mean()),
                }
        found.append(figures)
    return found


def _raised(journal: Journal, application: str) -> list[Alarm]:
    cleared = PerceivedSeverity.PERCEIVED_SEVERITY_CLEARED
    return [a for a in journal.alarms if a.application == application and a.perceived_severity != cleared]


def _fault_figures(run: RunRecord, journal: Journal, fault: FaultSpec) -> dict[str, Any]:
    start_s = run.scenario.start_s + fault.at_s
    figures: dict[str, Any] = {
        "at_s": fault.at_s, "kind": fault.kind, "section": fault.section, "detected": False,
        "without_apps": "no alarm: nothing else in the scenario watches the waveforms",
    }  # fmt: skip
    for alarm in _raised(journal, "fault_alarm"):
        latency_s = to_s(alarm.detected_time_ns) - start_s
        if 0 <= latency_s <= fault.cleared_after_s:
            figures |= {
                "detected": True,
                "alarm_kind": alarm.specific_problem,
                "kind_correct": alarm.specific_problem == fault.kind,
                "managed_object": alarm.managed_object,
                "section_correct": alarm.managed_object.endswith(f"/{fault.section}"),
                "latency_ms": latency_s * 1e3,
                "compute_ms": alarm.compute_ms,
                "severity": PerceivedSeverity.Name(alarm.perceived_severity).removeprefix("PERCEIVED_SEVERITY_"),
            }
            break
    return figures


def _false_alarms(run: RunRecord, journal: Journal) -> int:
    spans = [
        (run.scenario.start_s + f.at_s, run.scenario.start_s + f.at_s + f.cleared_after_s + 1)
        for f in run.scenario.faults
    ]
    times = [to_s(alarm.detected_time_ns) for alarm in _raised(journal, "fault_alarm")]
    return sum(not any(first <= time <= last for first, last in spans) for time in times)


def _attack_figures(with_apps: RunRecord, without: RunRecord, journal: Journal, attack: AttackSpec) -> dict[str, Any]:
    start_s = with_apps.scenario.start_s + attack.at_s
    alarms = [
        to_s(alarm.detected_time_ns) - start_s
        for alarm in _raised(journal, "microgrid_guard")
        if attack.target in alarm.managed_object and to_s(alarm.detected_time_ns) >= start_s
    ]
    node = attack.node or with_apps.scenario.nodes[0].e2_node_id
    figures: dict[str, Any] = {"at_s": attack.at_s, "target": attack.target}
    figures["detection_s"] = min(alarms) if alarms else None
    for name, run in (("with_apps", with_apps), ("without_apps", without)):
        series = run.fast[node]
        rows = series.between(attack.at_s, attack.at_s + attack.duration_s)
        share = series.array("power_share")[rows]
        figures[name] = {
            "sharing_spread_mean": float((share.max(axis=1) - share.min(axis=1)).mean()) if rows.any() else None,
            "sharing_spread_end": float((share.max(axis=1) - share.min(axis=1))[-10:].mean()) if rows.any() else None,
        }
    return figures


def _loop_figures(journal: Journal) -> dict[str, Any]:
    loops = {}
    for app in sorted(journal.budgets_ms):
        mine = [decision for decision in journal.decisions if decision.app == app]
        elapsed = np.array(journal.elapsed_ms.get(app, ()))
        loops[app] = {
            "budget_ms": journal.budgets_ms[app],
            "cycles": len(elapsed),
            "published": len(mine),
            "p50_ms": float(np.percentile(elapsed, 50)) if elapsed.size else None,
            "p99_ms": float(np.percentile(elapsed, 99)) if elapsed.size else None,
            "late": journal.late.get(app, 0),
            "safe_actions": sum(decision.safe_action for decision in mine),
            "reasons": dict(Counter(decision.reason_code for decision in mine)),
        }
    return loops
