"""Shell of the HEMS: grid indications, forecasts and storage schedules in, set-points and twins out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection
from typing import ClassVar

from ric.app_policies import PolicyOutcome
from ric.app_spec import AppSpec, Ric
from ric.bus.bus import TWIN_DESIRED, TWIN_FORECAST, TWIN_REPORTED
from ric.bus.record import AckStatus, TwinState
from ric.clock import Deadline, to_ns
from ric.columns import Table
from ric.decision import Reason
from ric.e2sm import grid
from ric.errors import TwinRicError
from ric.runtime import App, AppRuntime
from ric.scopes import Scope, reach_of
from xapps.hems_load.alarms import APP, StandingAlarm
from xapps.hems_load.caps import cap_key
from xapps.hems_load.commands import GRID, Commands
from xapps.hems_load.config import HemsConfig
from xapps.hems_load.decision import Decision
from xapps.hems_load.fleet import FleetDecision, FleetState, decide_fleet, fall_back_fleet
from xapps.hems_load.horizon import MINUTE_S, Steps
from xapps.hems_load.optimizer import Limits, Optimizer
from xapps.hems_load.pace import Pace
from xapps.hems_load.policy import POLICY_TYPE_ID, HemsPolicy
from xapps.hems_load.sharing import shared_plans_of
from xapps.hems_load.solver import warm_up
from xapps.hems_load.state import NodeMemory, check_series

__all__ = ["HemsLoadApp"]

KINDS = ("home_report", "home_static", "appliance_report", "storage_report", "feeder_report", "outlook", "tariffs")
FORECAST, MINUTES, SCHEDULE = "demand_forecast_15min/", "demand_forecast_1min/", "storage_schedule/"
PLAN_VALID_MS = 2 * 3600 * 1000
TWINS = {"home_report": "home_fleet", "feeder_report": "feeder", "outlook": "outlook", "storage_report": "storage"}
MISSED = {
    "cap": "import beyond the limit by {:.1f} kW, now or as planned",
    "ramp": "import changed by {:.1f} kW more than the ramp limit allows",
    "reserve": "{:.1f} kW of the reserve are missing",
}


class HemsLoadApp(App[HemsConfig, HemsPolicy, FleetState, FleetDecision]):
    """Decides the set-points of every device in every home, each minute, from plans for the next 24 hours."""

    spec: ClassVar[AppSpec] = AppSpec(APP, Ric.NEAR_RT, 1_000.0, POLICY_TYPE_ID, frozenset({"e2"}))
    config_type: ClassVar[type[HemsConfig]] = HemsConfig
    policy_type: ClassVar[type[HemsPolicy]] = HemsPolicy

    def __init__(self, config: HemsConfig, runtime: AppRuntime) -> None:
        super().__init__(config, runtime)
        self._memories: dict[str, NodeMemory] = {}
        self._optimizers: dict[str, Optimizer] = {}
        self._commands = Commands(config, runtime.links)
        self._shared = shared_plans_of(config)
        self._shards_alarm = StandingAlarm(runtime.links, f"{APP}/shards", "plans are not made in shards")
        self._due: set[str] = set()
        self._published_ns: dict[tuple[str, str], int] = {}
        self._decided: dict[str, tuple[Decision, int]] = {}
        """By node what was decided last, and the version of the policies then."""
        self._unpublished: dict[tuple[str, str], Table] = {}
        self._unanswered: dict[str, TwinState] = {}

    async def rebuild(self) -> None:
        """Make solver and shards ready; take forecasts and schedules from the bus. The homes report by themselves."""
        await asyncio.to_thread(warm_up, self.config.expected_homes)
        if self._shared is not None:
            await asyncio.to_thread(self._shared.start)
        for topic, prefix in ((TWIN_FORECAST, FORECAST), (TWIN_FORECAST, MINUTES), (TWIN_DESIRED, SCHEDULE)):
            for twin in (await self.links.twins.rebuild(topic, prefix)).values():
                self._on_twin(topic, twin)

    async def close(self) -> None:
        """End the shards."""
        if self._shared is not None:
            await asyncio.to_thread(self._shared.close)

    async def connect(self) -> None:
        """Subscribe to the grid service model at every node; follow forecasts and schedules."""
        await self.runtime.follow_twins((TWIN_FORECAST, TWIN_DESIRED), self._on_twin)
        if self.config.desired_by_bus:
            self.runtime.follow_acks(self._commands.answered)
        trigger, action = grid.encode_trigger(self.config.report_period_ms), grid.encode_action(KINDS)
        self.runtime.follow_e2(GRID, trigger=trigger, action=action, handler=self._on_report)

    def _on_report(self, node: str, header: bytes, message: bytes) -> int | None:
        report = grid.decode_indication(header, message, in_force=self._commands.by_bus(node))
        self._commands.see(report)
        self._unpublished |= {(node, kind): table for kind, table in report.tables.items() if kind in TWINS}
        if not self._memory(node).add(report.tables):
            return None
        self._due.add(node)
        return report.source_time_ns

    def _on_twin(self, _: str, twin: TwinState) -> int | None:
        if twin.twin_id.startswith(FORECAST):
            check_series(twin.table, ("load_p50_kw",), "BUS-RANGE")
            self._memory(twin.twin_id.removeprefix(FORECAST)).forecast = twin.table
        elif twin.twin_id.startswith(MINUTES):
            check_series(twin.table, ("load_p50_kw",), "BUS-RANGE", MINUTE_S)
            self._memory(twin.twin_id.removeprefix(MINUTES)).minutes = twin.table
        elif twin.twin_id.startswith(SCHEDULE):
            check_series(twin.table, ("charge_kw", "discharge_kw", "reserve_kw"), "BUS-RANGE")
            self._memory(twin.twin_id.removeprefix(SCHEDULE)).schedule = twin.table
            self._unanswered[twin.twin_id] = twin
        return None

    def _memory(self, node: str) -> NodeMemory:
        if node not in self._memories:
            self._memories[node] = NodeMemory(members=self.config.members_at(node))
        return self._memories[node]

    def observe(self, now_ns: int) -> FleetState | None:  # noqa: ARG002 - the reports' time is the one that counts
        """The nodes that have reported since the last cycle."""
        due, self._due = sorted(self._due), set()
        steps = Steps(self.config.minute_steps, self.config.quarter_steps)
        states = [self._memories[node].state(node, steps) for node in due]
        nodes = tuple(state for state in states if state is not None)
        for state in nodes:
            limits = Limits(self.config.plan_every_s, self.config.price_rounds, self.config.solver_threads)
            self._optimizers.setdefault(state.node, Optimizer(limits, self._shared))
        return FleetState(nodes, self.runtime.policies.version) if nodes else None

    def decide(self, state: FleetState, policy: HemsPolicy) -> FleetDecision:
        """Set-points from the plans in force, or from new ones where they are due."""
        deadline, enforced = Deadline(self.config.coordination_ms), self.config.enforce_budget
        pace = Pace(deadline.budget_ms, lambda: deadline.elapsed_ms)
        return decide_fleet(state, policy, self._optimizers, lambda times: pace(times) or not enforced)

    def fallback(self, state: FleetState | None, policy: HemsPolicy, reason: Reason) -> FleetDecision | None:
        """The last plan where the reports are fresh, else comfortable rooms, charging cars, no export."""
        return None if state is None else fall_back_fleet(state, policy, reason, self._optimizers)

    async def act(self, decision: FleetDecision) -> None:
        """Publish the twins, tell every node, answer the storage schedules. Raises the first fault, when all is done:
        homes must have their set-points while the bus is away, and one node's refusal is not the others' affair.
        """
        self._note(decision)
        faults = [await _fault_of(self._publish(decision))]
        faults += await asyncio.gather(*(self._control(node) for node in decision.nodes))
        for node in decision.nodes:
            if node.node in self._optimizers:
                self._optimizers[node.node].adopt(node)
        now_ns = to_ns(self.links.clock.now_s())
        faults.append(await _fault_of(self._commands.tell(now_ns)))
        if self._shared is not None:
            faults.append(await _fault_of(self._shards_alarm.tell(self._shared.fault, now_ns)))
        for fault in faults:
            if fault is not None:
                raise fault

    async def _publish(self, decision: FleetDecision) -> None:
        for made in decision.nodes:
            if made.plan is not None:
                twin_id = f"fleet_plan/{made.node}"
                await self.links.twins.publish(TWIN_FORECAST, twin_id, made.plan.kind, made.plan, PLAN_VALID_MS)
        for (node, kind), table in list(self._unpublished.items()):
            if table.source_time_ns > self._published_ns.get((node, kind), 0):
                # An outlook holds for its whole length; the other twins are as old as their report.
                valid_ms = 0 if kind == "outlook" else self.config.twin_valid_for_ms
                state = await self.links.twins.publish(TWIN_REPORTED, f"{TWINS[kind]}/{node}", kind, table, valid_ms)
                self._published_ns[node, kind] = table.source_time_ns
                if kind == "home_report":
                    self._commands.reported(node, state.revision)
            if self._unpublished[node, kind] is table:  # else a newer one has come meanwhile
                del self._unpublished[node, kind]

    async def _control(self, node: Decision) -> TwinRicError | None:
        fault = await self._commands.give(node)
        return await _fault_of(self._answer(node, fault)) or fault

    async def _answer(self, node: Decision, fault: TwinRicError | None) -> None:
        """Tell `twin.ack` what became of a new storage schedule."""
        twin = self._unanswered.pop(f"{SCHEDULE}{node.node}", None)
        if twin is None:
            return
        if node.storage is not None and fault is None:
            await self.links.twins.acknowledge(twin, AckStatus.ACCEPTED)
        else:
            why = str(fault) if fault is not None else "no step of the schedule holds now for a unit of this node"
            await self.links.twins.acknowledge(twin, AckStatus.REJECTED, why)

    def parts(self) -> Collection[Scope]:
        """The nodes that have reported, and the groups of their homes."""
        nodes = [Scope(e2_node_id=node) for node in self._memories]
        return (
            *nodes,
            *(Scope(e2_node_id=n, home_group=g) for n, memory in self._memories.items() for g in memory.groups),
        )

    def policy_outcome(self, policy: HemsPolicy, decision: FleetDecision) -> PolicyOutcome | None:
        """Enforced unless the policy limits what homes do together and those of a node miss it, now or as planned; None
        while a node in its scope has not been decided under the policies of today, and none is known to miss it.
        """
        reach = reach_of(policy)
        asks = {
            cap_key(reach.home_group): policy.import_cap_kw is not None or policy.dr_event is not None,
            "ramp": policy.ramp_limit_kw_per_min is not None,
            "reserve": policy.reserve_kw > 0,
        }
        own = [of for name, of in sorted(self._decided.items()) if self._is_about(reach, name)]
        if not own:
            return PolicyOutcome(False, "OTHER_REASON", "no node in its scope reports")
        nodes = [node for node, policies in own if policies == decision.policies]
        texts = [text for node in nodes for name, asked in asks.items() if asked and (text := _missed(node, name))]
        if texts:
            return PolicyOutcome(False, "OTHER_REASON", "; ".join(texts))
        return PolicyOutcome(True) if len(nodes) == len(own) else None

    def _note(self, decision: FleetDecision) -> None:
        """Nodes report when they like: one not in this cycle stands as it was decided last, until it is stale."""
        silent_s = max(self.config.stale_after_s, 2e-3 * self.config.report_period_ms)
        oldest_ns = decision.source_time_ns - to_ns(silent_s)
        decided = self._decided | {node.node: (node, decision.policies) for node in decision.nodes}
        self._decided = {name: of for name, of in decided.items() if of[0].source_time_ns >= oldest_ns}

    def _is_about(self, reach: Scope, node: str) -> bool:
        if reach.home_group and reach.home_group not in self._memories[node].groups:
            return False
        return reach.covers(Scope(e2_node_id=node, home_group=reach.home_group))


async def _fault_of(work: Awaitable[None]) -> TwinRicError | None:
    try:
        await work
    except TwinRicError as error:
        return error
    return None


def _missed(node: Decision, name: str) -> str:
    """By how much the node misses a limit; "" where it keeps it."""
    kind, _, group = name.partition("/")
    where = f"{node.node}, homes of {group}" if group else node.node
    if name not in node.missed_kw:
        return f"{where}: no decision under the policy, {node.reason.code}"
    missed_kw = node.missed_kw[name]
    return f"{where}: {MISSED[kind].format(missed_kw)}" if missed_kw > 0 else ""
