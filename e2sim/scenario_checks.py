"""What a scenario's parts must agree on with each other; every disagreement is a fault with its path."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from e2sim.ran.catalogue import CATALOGUE
from e2sim.scenario_parts import MILLISECONDS, AttackSpec, NodeSpec, TrafficEventSpec
from ric.errors import Fault, nearest

if TYPE_CHECKING:
    from e2sim.scenario import Scenario

__all__ = ["CODE", "inconsistencies"]

CODE = "SCENARIO-INVALID"


def inconsistencies(scenario: Scenario) -> list[Fault]:
    """All faults of a scenario whose parts are valid one by one."""
    faults = [*_clock_faults(scenario), *_window_faults(scenario)]
    seen: set[str] = set()
    for index, node in enumerate(scenario.nodes):
        path = f"nodes.{index}"
        if node.e2_node_id in seen:
            faults.append(Fault(CODE, f"{path}.gnb_id", node.e2_node_id, "a node id that no other node has"))
        seen.add(node.e2_node_id)
        faults.extend([*_slice_faults(node, path), *_gate_faults(node, path)])
    return [*faults, *_aggregation_faults(scenario), *_event_faults(scenario), *_other_event_faults(scenario)]


def _clock_faults(scenario: Scenario) -> Iterator[Fault]:
    start = scenario.start
    if start.tzinfo is None:
        yield Fault(CODE, "start", start.isoformat(), "a time with its offset, for example 2016-06-15T00:00:00Z")
    elif not datetime(1990, 1, 1, tzinfo=UTC) <= start < datetime(2100, 1, 1, tzinfo=UTC):
        yield Fault(CODE, "start", start.isoformat(), "a time of 1990 .. 2099")
    if round(scenario.duration_s * MILLISECONDS) % scenario.kpm_period_ms:
        yield Fault(CODE, "duration_s", scenario.duration_s, f"a multiple of {scenario.kpm_period_ms} ms")
    grid_ms = round(scenario.grid_step_s * MILLISECONDS)
    if grid_ms % scenario.kpm_period_ms:
        yield Fault(CODE, "kpm_period_ms", scenario.kpm_period_ms, f"a divisor of the grid step's {grid_ms} ms")


def _window_faults(scenario: Scenario) -> Iterator[Fault]:
    last_s = 0.0
    for index, window in enumerate(scenario.windows):
        path = f"windows.{index}"
        if window.start_s < last_s:
            yield Fault(CODE, f"{path}.start_s", window.start_s, f">= {last_s:g}: in order, none overlapping")
        if window.end_s > scenario.duration_s:
            accepted = f"an end within duration_s = {scenario.duration_s:g}"
            yield Fault(CODE, f"{path}.duration_s", window.duration_s, accepted)
        if round(window.start_s * MILLISECONDS) % scenario.kpm_period_ms:
            yield Fault(CODE, f"{path}.start_s", window.start_s, f"a multiple of {scenario.kpm_period_ms} ms")
        last_s = max(last_s, window.end_s)


def _slice_faults(node: NodeSpec, path: str) -> Iterator[Fault]:
    slots = sum(entry.flexe_slots for entry in node.slices)
    if slots > node.transport.calendar_slots:
        yield Fault(CODE, f"{path}.slices", slots, f"at most {node.transport.calendar_slots} FlexE slots together")
    for row, entry in enumerate(node.slices):
        where = f"{path}.slices.{row}"
        if entry.flexe_slots % entry.granularity:
            yield Fault(CODE, f"{where}.flexe_slots", entry.flexe_slots, f"a multiple of {entry.granularity}")
        for service in entry.services:
            if service not in CATALOGUE:
                accepted = nearest(service, CATALOGUE)
                yield Fault(CODE, f"{where}.services.{service}", service, "a catalogue service", accepted)
    names = [entry.s_nssai for entry in node.slices]
    if len(set(names)) != len(names) or len({entry.role for entry in node.slices}) != len(names):
        yield Fault(CODE, f"{path}.slices", names, "each s_nssai and each role once")


def _gate_faults(node: NodeSpec, path: str) -> Iterator[Fault]:
    roles = {entry.role for entry in node.slices}
    for role in sorted(roles - {role for gate in node.transport.gates for role in gate}):
        yield Fault(CODE, f"{path}.transport.gates", role, "at least one open window per slice")


def _aggregation_faults(scenario: Scenario) -> Iterator[Fault]:
    ids = [node.e2_node_id for node in scenario.nodes]
    taken: set[str] = set()
    for index, link in enumerate(scenario.aggregation):
        path = f"aggregation.{index}.nodes"
        members = link.nodes or tuple(ids)
        for name in members:
            if name not in ids:
                yield Fault(CODE, path, name, "nodes of this scenario", nearest(name, ids))
            elif name in taken:
                yield Fault(CODE, path, name, "each node on one aggregation link, once")
            taken.add(name)
        roles = {tuple(entry.role for entry in node.slices) for node in scenario.nodes if node.e2_node_id in members}
        if len(roles) > 1:
            yield Fault(CODE, path, str(sorted(roles)), "nodes with the same slices in the same order")


def _event_faults(scenario: Scenario) -> Iterator[Fault]:
    ids = [node.e2_node_id for node in scenario.nodes]
    groups: dict[str, Any] = {
        "faults": scenario.faults, "attacks": scenario.attacks, "traffic_events": scenario.traffic_events,
        "link_events": scenario.link_events,
        "impairments.node_restarts": scenario.impairments.node_restarts,
    }  # fmt: skip
    for group, events in groups.items():
        for index, event in enumerate(events):
            path = f"{group}.{index}"
            if event.at_s > scenario.duration_s:
                yield Fault(CODE, f"{path}.at_s", event.at_s, f"0..{scenario.duration_s:g} s")
            if event.node and event.node not in ids:
                yield Fault(CODE, f"{path}.node", event.node, "a node of this scenario", nearest(event.node, ids))
            else:
                yield from _target_faults(scenario.node(event.node), path, event)


def _other_event_faults(scenario: Scenario) -> Iterator[Fault]:
    for index, fault in enumerate(scenario.faults):
        if not any(window.start_s <= fault.at_s < window.end_s for window in scenario.windows):
            yield Fault(CODE, f"faults.{index}.at_s", fault.at_s, "a time inside a window: waveforms exist only there")
    for index, policy in enumerate(scenario.policies):
        if policy.at_s > scenario.duration_s:
            yield Fault(CODE, f"policies.{index}.at_s", policy.at_s, f"0..{scenario.duration_s:g} s")


def _target_faults(node: NodeSpec, path: str, event: object) -> Iterator[Fault]:
    if isinstance(event, TrafficEventSpec):
        roles = [entry.role for entry in node.slices]
        if event.slice not in roles:
            yield Fault(CODE, f"{path}.slice", event.slice, "a slice of the node", nearest(event.slice, roles))
        for service in event.services:
            if service not in CATALOGUE:
                remedy = nearest(service, CATALOGUE)
                yield Fault(CODE, f"{path}.services", service, "a catalogue service", remedy)
    if isinstance(event, AttackSpec) and event.kind != "clock_skew":
        known = [] if node.microgrids is None else [mg.id for mg in node.microgrids.microgrids]
        if event.target not in known:
            remedy = nearest(event.target, known) if known else "The node has no microgrids."
            yield Fault(CODE, f"{path}.target", event.target, "a microgrid of the node", remedy)
