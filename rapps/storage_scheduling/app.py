"""Shell of storage scheduling: forecasts, tariffs and storage state in, schedules and A1 policies out."""

from __future__ import annotations

from typing import ClassVar

from rapps.storage_scheduling.config import StorageSchedulingConfig
from rapps.storage_scheduling.fallback import hold_soc
from rapps.storage_scheduling.policy import POLICY_TYPE_ID, StorageSchedulingPolicy
from rapps.storage_scheduling.scheduler import Decision, schedule_storage
from rapps.storage_scheduling.state import NodeTwins, State
from ric.app_spec import AppSpec, Ric
from ric.bus.bus import TWIN_DESIRED, TWIN_FORECAST, TWIN_REPORTED
from ric.bus.record import TwinState
from ric.clock import to_s
from ric.decision import Reason
from ric.runtime import App, AppRuntime
from ric.scopes import Scope

__all__ = ["StorageSchedulingApp"]

SCHEDULE_VALID_MS = 2 * 3600 * 1000


class StorageSchedulingApp(App[StorageSchedulingConfig, StorageSchedulingPolicy, State, Decision]):
    """Schedules community storage on each new forecast and caps the homes' import where the feeder needs it."""

    spec: ClassVar[AppSpec] = AppSpec(
        "storage_scheduling", Ric.NON_RT, 30_000.0, POLICY_TYPE_ID, frozenset({"a1_rest"})
    )
    config_type: ClassVar[type[StorageSchedulingConfig]] = StorageSchedulingConfig
    policy_type: ClassVar[type[StorageSchedulingPolicy]] = StorageSchedulingPolicy

    def __init__(self, config: StorageSchedulingConfig, runtime: AppRuntime) -> None:
        super().__init__(config, runtime)
        self._nodes: dict[str, NodeTwins] = {}
        self._due: list[str] = []
        self._capped: dict[str, tuple[float, int, int]] = {}

    async def rebuild(self) -> None:
        """Take the newest twins from the bus."""
        for topic in (TWIN_REPORTED, TWIN_FORECAST):
            for twin in (await self.links.twins.rebuild(topic)).values():
                self._on_twin(topic, twin)
        self._due.clear()

    async def connect(self) -> None:
        """Follow reported twins and forecasts."""
        await self.runtime.follow_twins((TWIN_REPORTED, TWIN_FORECAST), self._on_twin)

    def _on_twin(self, _: str, twin: TwinState) -> int | None:
        family, node = twin.twin_id.split("/", 1)
        twins = self._nodes.setdefault(node, NodeTwins())
        if family == "home_fleet":
            twins.flexible.add(twin.table)
        elif family == "storage":
            twins.storage = twin.table
        elif family == "fleet_plan":
            twins.plan = twin.table
        elif family == "outlook":
            twins.outlook = twin.table
        elif family == "demand_forecast_15min":
            twins.forecast = twin.table
            if node not in self._due:
                self._due.append(node)
            return twin.source_time_ns
        return None

    def observe(self, now_ns: int) -> State | None:  # noqa: ARG002 - the forecast's time is the one that counts
        """The node that has waited longest for a schedule."""
        if not self._due:
            return None
        node = self._due.pop(0)
        if self._due:
            self.runtime.wake()
        return State.of(node, self._nodes[node])

    def decide(self, state: State, policy: StorageSchedulingPolicy) -> Decision:
        """The least-cost schedule."""
        return schedule_storage(state, policy.at(Scope(e2_node_id=state.node)))

    def fallback(self, state: State | None, policy: StorageSchedulingPolicy, reason: Reason) -> Decision | None:
        """Hold the state of charge, keep the reserve."""
        return None if state is None else hold_soc(state, policy.at(Scope(e2_node_id=state.node)), reason)

    def parts(self) -> tuple[Scope, ...]:
        """The nodes that have storage."""
        return tuple(Scope(e2_node_id=node) for node, twins in self._nodes.items() if twins.storage is not None)

    async def act(self, decision: Decision) -> None:
        """Publish the schedule; put, move or delete the import cap."""
        table = decision.table()
        twin_id = f"storage_schedule/{decision.node}"
        await self.links.twins.publish(TWIN_DESIRED, twin_id, table.kind, table, SCHEDULE_VALID_MS)
        await self._cap_imports(decision)

    async def _cap_imports(self, decision: Decision) -> None:
        client, type_id = self.links.policy_client, self.config.hems_policy_type_id
        if client is None:
            return
        policy_id = f"import-cap-{decision.node}"
        cap = decision.cap
        if cap is None:
            if self._capped.pop(decision.node, None) is not None:
                await client.delete_policy(type_id, policy_id)
            return
        wanted = (round(cap.import_cap_kw, 1), cap.start_ns, cap.end_ns)
        if self._capped.get(decision.node) != wanted:
            body = {
                "e2_node_id": decision.node,
                "import_cap_kw": wanted[0],
                "import_cap_start_s": to_s(cap.start_ns),
                "import_cap_end_s": to_s(cap.end_ns),
            }
            await client.put_policy(type_id, policy_id, body)
            self._capped[decision.node] = wanted
