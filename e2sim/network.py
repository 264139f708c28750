"""Scenario -> E2 nodes with their slices and grid devices, coupled and stepped together.

Simulated time comes from outside: whoever drives the network calls `advance(end_s)`. Everything random is drawn from
streams that no control reaches, so a run without apps sees the same traffic, weather, loads, faults and attacks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from e2sim.attacks import AgentAttack, attack_on, clock_offset_s, under_way
from e2sim.grid.microgrids import Microgrids
from e2sim.grid.residential import Residential, make_residential
from e2sim.ran.aggregation import AggregationLink
from e2sim.ran.cells import Cell
from e2sim.ran.encryption import Encryption
from e2sim.ran.flexe import FlexeCalendar
from e2sim.ran.traffic import OfferedTraffic, TrafficEvent
from e2sim.ran.transport import LinkEvent, RanSample, SliceTransport
from e2sim.ran.tsn import GateControlList, TsnHop
from e2sim.recordings import read_recording
from e2sim.scenario import Scenario
from e2sim.scenario_parts import AttackSpec, NodeSpec, TransportSpec
from e2sim.streams import Streams
from ric.clock import to_ns
from ric.columns import Table
from ric.errors import TwinRicError

__all__ = ["AttackablePart", "GridPart", "GridParts", "Network", "Node", "NodeSample", "build_transport"]


class GridPart(Protocol):
    """One kind of grid device of a node, all its entities at once."""

    @property
    def set_point_kinds(self) -> frozenset[str]:
        """Kinds of set-point tables that `apply` takes."""
        ...

    def step(self, end_s: float, dt_s: float) -> Sequence[Table]:
        """Advance by `dt_s` [s] to `end_s` [s since the epoch]; the tables that describe the elapsed time."""
        ...

    def apply(self, set_points: Table, valid_until_s: float) -> Table:
        """Put set-points in force until `valid_until_s`; returns the values in force, same ids and columns.

        Raises TwinRicError (E2-RANGE) naming the bound that a value breaks; nothing is clipped in silence.
        """
        ...


class AttackablePart(GridPart, Protocol):
    """A grid part whose agents can be attacked, such as the microgrids."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Its agents' ids."""
        ...

    def attack(self, agent_index: int, kind: str = "dos", on: bool = True, *, bias: float = 0.3) -> None:
        """Begin or end an attack on one agent: "dos", or "false_data" that adds `bias` to what it states."""
        ...


@dataclass
class GridParts:
    """Grid parts of one node: `slow` ones step with the grid step, `fast` ones with every step."""

    slow: list[GridPart] = field(default_factory=list)
    fast: list[GridPart] = field(default_factory=list)
    attackable: AttackablePart | None = None
    residential: Residential | None = None
    """The residential parts by name, for reports; they are among the slow ones."""


@dataclass(frozen=True)
class NodeSample:
    """What one step of one node left behind. `grid_dt_s` is the time that each table describes, by kind [s]."""

    end_s: float
    dt_s: float
    stamp_s: float
    """Time that the node states as source time: `end_s`, but for a clock skew."""
    ran: RanSample
    tables: Mapping[str, Table]
    grid_dt_s: Mapping[str, float]


QUARTER_S = 900.0
BY_BUS = frozenset({"home_set_point", "appliance_set_point"})
"""Kinds of set-points that a node told over the bus takes from there."""

Listener = Callable[["Node", NodeSample], None]


class Node:
    """One E2 node: its slices on the transport, and its grid parts."""

    def __init__(self, spec: NodeSpec, ran: SliceTransport, parts: GridParts) -> None:
        self.spec = spec
        self.e2_node_id = spec.e2_node_id
        self.ran = ran
        self.parts = parts
        self.s_nssai = tuple(entry.s_nssai for entry in spec.slices)
        self.nr_cgi = f"{spec.plmn_id}-{spec.cells[0].cell_id:09x}"
        self.latest: NodeSample | None = None
        self._suffered: dict[str, AgentAttack] = {}

    def allocate(self, slots: Mapping[str, int]) -> int:
        """Give slices of `slots` (by s_nssai) that many FlexE slots; the others keep theirs. Returns the slots moved.

        Raises TwinRicError (E2-RANGE) with every fault.
        """
        unknown = set(slots) - set(self.s_nssai)
        if unknown:
            raise TwinRicError("E2-RANGE", "s_nssai", min(unknown), f"one of {', '.join(self.s_nssai)}")
        present = self.ran.calendar.slots
        wanted = [slots.get(name, int(now)) for name, now in zip(self.s_nssai, present, strict=True)]
        return self.ran.calendar.allocate(wanted, [f"flexe_slots[{name}]" for name in self.s_nssai])

    def suffer(self, attacks: Sequence[AttackSpec]) -> None:
        """Let exactly `attacks` act on the agents from now on."""
        part = self.parts.attackable
        for index, name in enumerate(() if part is None else part.ids):
            before, now = self._suffered.get(name, AgentAttack()), attack_on(attacks, name)
            if part is not None and now.silenced != before.silenced:
                part.attack(index, "dos", on=now.silenced)
            if part is not None and now.bias != before.bias:
                part.attack(index, "false_data", on=now.bias != 0, bias=now.bias)
            self._suffered[name] = now

    @property
    def set_point_kinds(self) -> frozenset[str]:
        """Kinds of set-points that the node's grid parts take."""
        return frozenset().union(*(part.set_point_kinds for part in (*self.parts.slow, *self.parts.fast)))

    def apply(self, set_points: Table, valid_until_s: float) -> Table:
        """Hand set-points to the grid part that takes their kind. Raises TwinRicError (E2-RANGE)."""
        for part in (*self.parts.slow, *self.parts.fast):
            if set_points.kind in part.set_point_kinds:
                return part.apply(set_points, valid_until_s)
        accepted = ", ".join(sorted(self.set_point_kinds)) or "no set-points at this node"
        raise TwinRicError("E2-RANGE", "control_header.kind", set_points.kind, accepted)


class Network:
    """All nodes of a scenario at one simulated time.

    `listeners` are called with every node's sample of every step: for records and reports.
    """

    def __init__(self, scenario: Scenario, parts: Mapping[str, GridParts] | None = None) -> None:
        """`parts` overrides the grid parts per node id (tests); without it they are built from the scenario.

        Raises TwinRicError when a recording or a grid cannot be read.
        """
        self.scenario = scenario
        self.now_s = scenario.start_s
        self.listeners: list[Listener] = []
        self._instants: Iterator[float] = scenario.instants()
        self._next_s: float | None = next(self._instants, None)
        self._slow_s = scenario.start_s
        streams = Streams(scenario.seed)
        self._links = [
            (entry.nodes or tuple(node.e2_node_id for node in scenario.nodes), AggregationLink(
                entry.capacity_gbps, len(scenario.nodes[0].slices), buffer_mbit=entry.buffer_mbit,
            ))
            for entry in scenario.aggregation
        ]  # fmt: skip
        self.nodes: dict[str, Node] = {}
        for spec in scenario.nodes:
            given = None if parts is None else parts.get(spec.e2_node_id, GridParts())
            grid = build_parts(scenario, spec, streams) if given is None else given
            self.nodes[spec.e2_node_id] = Node(spec, build_transport(scenario, spec, streams), grid)

    @property
    def finished(self) -> bool:
        """True once the scenario's end is reached."""
        return self._next_s is None

    def demand_history(self, days: int = 2) -> dict[str, Table]:
        """What a meter archive holds of the `days` before the start: the table `demand_history` per node with homes.

        15-min means that end with the last whole quarter of an hour, from the traces that the run goes on with.
        """
        end_s = self.scenario.start_s // QUARTER_S * QUARTER_S
        starts = end_s - QUARTER_S * np.arange(days * 96, 0, -1)
        history = {}
        for name, node in self.nodes.items():
            residential = node.parts.residential
            if residential is None:
                continue
            means = np.array([residential.traces.mean_kw(start_s) for start_s in starts])
            ids = residential.fleet.ids
            columns = {
                "step_s": np.full(len(ids), QUARTER_S), "load_kw": means[:, 0].T.copy(), "pv_kw": means[:, 1].T.copy(),
            }  # fmt: skip
            history[name] = Table("demand_history", ids, columns, to_ns(end_s))
        return history

    def advance(self, end_s: float) -> list[NodeSample]:
        """Take all steps of the scenario that end by `end_s` [s since the epoch]; their samples, in order."""
        samples: list[NodeSample] = []
        while self._next_s is not None and self._next_s <= end_s + 1e-6:
            samples.extend(self.step(self._next_s, self._next_s - self.now_s))
            self._next_s = next(self._instants, None)
        return samples

    def step(self, end_s: float, dt_s: float) -> list[NodeSample]:
        """One step of `dt_s` [s] to `end_s` for all nodes. Slow parts step when a grid step is complete."""
        scenario = self.scenario
        offset_s = round(end_s - scenario.start_s, 3)
        on_grid = abs(offset_s / scenario.grid_step_s - round(offset_s / scenario.grid_step_s)) < 1e-9
        slow_dt_s = end_s - self._slow_s if on_grid or end_s >= scenario.end_s - 1e-6 else 0.0
        ran = self._step_ran(end_s, dt_s)
        samples = [self._step_node(node, end_s, dt_s, slow_dt_s, ran[name]) for name, node in self.nodes.items()]
        if slow_dt_s:
            self._slow_s = end_s
        self.now_s = end_s
        return samples

    def _step_ran(self, end_s: float, dt_s: float) -> dict[str, RanSample]:
        """Slices of all nodes, then the links that nodes share."""
        samples = {name: node.ran.step(end_s, dt_s) for name, node in self.nodes.items()}
        for names, link in self._links:
            departed = [self.nodes[name].ran.queues.departed_mbit for name in names]
            samples |= dict(zip(names, link.join([samples[name] for name in names], departed), strict=True))
        return samples

    def _step_node(self, node: Node, end_s: float, dt_s: float, slow_dt_s: float, ran: RanSample) -> NodeSample:
        first_id = self.scenario.nodes[0].e2_node_id
        mine = [attack for attack in self.scenario.attacks if (attack.node or first_id) == node.e2_node_id]
        attacks = under_way(mine, end_s - dt_s - self.scenario.start_s)
        node.suffer(attacks)
        tables: dict[str, Table] = {}
        spans: dict[str, float] = {}
        for group, span_s in ((node.parts.slow, slow_dt_s), (node.parts.fast, dt_s)):
            for part in group if span_s > 0 else ():
                for table in part.step(end_s, span_s):
                    tables[table.kind] = table
                    spans[table.kind] = span_s
        stamp_s = end_s + clock_offset_s(attacks)
        node.latest = NodeSample(end_s, dt_s, stamp_s, ran, tables, spans)
        for listener in self.listeners:
            listener(node, node.latest)
        return node.latest


def build_transport(scenario: Scenario, spec: NodeSpec, streams: Streams) -> SliceTransport:
    """The slices of one node. Raises TwinRicError when a recording cannot be read."""
    start_s, first_id = scenario.start_s, scenario.nodes[0].e2_node_id
    roles: list[str] = [entry.role for entry in spec.slices]
    events = [
        TrafficEvent(
            start_s + event.at_s, start_s + event.end_s, roles.index(event.slice), event.factor, event.rise_s,
            event.services, event.in_step, event.spread_ms,
        )
        for event in scenario.traffic_events if (event.node or first_id) == spec.e2_node_id
    ]  # fmt: skip
    faults = [
        (start_s + fault.at_s, start_s + fault.at_s + fault.cleared_after_s)
        for fault in scenario.faults if (fault.node or first_id) == spec.e2_node_id
    ]  # fmt: skip
    recorded = {
        index: read_recording(
            entry.recording.file, start_s=start_s, mean_mbps=entry.recording.mean_gbps * 1e3,
            traffic_class=entry.recording.traffic_class, rows=entry.recording.rows,
        ).at
        for index, entry in enumerate(spec.slices) if entry.recording is not None
    }  # fmt: skip
    traffic = OfferedTraffic(
        [entry.services for entry in spec.slices], streams.generator(f"node/{spec.e2_node_id}/traffic"),
        events=events, fault_spans_s=faults, recorded=recorded,
    )  # fmt: skip
    transport = spec.transport
    calendar = FlexeCalendar(
        [entry.flexe_slots for entry in spec.slices], [entry.granularity for entry in spec.slices],
        calendar_slots=transport.calendar_slots, slot_gbps=transport.slot_gbps,
        switch_outage_ms=transport.switch_outage_ms,
    )  # fmt: skip
    link_events = [
        LinkEvent(
            start_s + event.at_s, start_s + event.end_s, event.capacity_share, event.extra_delay_ms, event.loss
        )
        for event in scenario.link_events if (event.node or first_id) == spec.e2_node_id
    ]  # fmt: skip
    buffer_mbit = [entry.buffer_mbit for entry in spec.slices]
    cells = [Cell(f"{spec.plmn_id}-{c.cell_id:09x}", c.prb, c.mbps_per_prb, c.nr_slot_us) for c in spec.cells]
    return SliceTransport(
        calendar, _hop(transport, roles), cells, traffic,
        buffer_mbit=np.array(buffer_mbit), encryption=Encryption(transport.encryption), link_events=link_events,
    )  # fmt: skip


def _hop(spec: TransportSpec, roles: Sequence[str]) -> TsnHop:
    gates = np.array([[role in gate for role in roles] for gate in spec.gates], dtype=np.bool_)
    return TsnHop(
        GateControlList(spec.window_us, gates), line_gbps=spec.calendar_slots * spec.slot_gbps, hops=spec.hops,
        preemption=spec.preemption, sync_error_ns=spec.sync_error_ns,
    )  # fmt: skip


def build_parts(scenario: Scenario, spec: NodeSpec, streams: Streams) -> GridParts:
    """The grid parts that the scenario gives the node. Raises TwinRicError when a grid's data cannot be read."""
    parts = GridParts()
    if spec.residential is not None:
        parts.residential = make_residential(
            spec.residential, node_id=spec.e2_node_id, start_s=scenario.start_s,
            days=math.ceil(scenario.duration_s / 86_400) + 2,
            seed=streams.seed_of(f"node/{spec.e2_node_id}/residential"),
        )  # fmt: skip
        parts.slow.extend(parts.residential.parts)
    if spec.microgrids is not None:
        generator = streams.generator(f"node/{spec.e2_node_id}/microgrids")
        parts.attackable = Microgrids(spec.microgrids, generator, scenario.start_s)
        parts.fast.append(parts.attackable)
    return parts
