"""Shell of the demand twin: home reports in, forecasts and its own history out."""

from __future__ import annotations

from typing import ClassVar

from rapps.demand_twin.config import DemandTwinConfig
from rapps.demand_twin.fallback import seasonal_naive
from rapps.demand_twin.forecaster import Decision, forecast_demand
from rapps.demand_twin.model import load_forecaster
from rapps.demand_twin.policy import POLICY_TYPE_ID, DemandTwinPolicy
from rapps.demand_twin.state import FIFTEEN_MINUTES, ONE_MINUTE, NodeWindow, State
from ric.app_spec import AppSpec, Ric
from ric.bus.bus import TWIN_FORECAST, TWIN_REPORTED
from ric.bus.record import TwinState
from ric.columns import Table
from ric.decision import Reason
from ric.errors import TwinRicError
from ric.learned import LearnedModel
from ric.runtime import App, AppRuntime
from ric.scopes import Scope

__all__ = ["DemandTwinApp"]

FLEET, HISTORY = "home_fleet/", "demand_history/"
FORECAST_VALID_MS = 3 * 3600 * 1000


class DemandTwinApp(App[DemandTwinConfig, DemandTwinPolicy, State, Decision]):
    """Forecasts the demand of every home and feeder each quarter of an hour."""

    spec: ClassVar[AppSpec] = AppSpec("demand_twin", Ric.NON_RT, 30_000.0, POLICY_TYPE_ID, frozenset())
    config_type: ClassVar[type[DemandTwinConfig]] = DemandTwinConfig
    policy_type: ClassVar[type[DemandTwinPolicy]] = DemandTwinPolicy

    def __init__(self, config: DemandTwinConfig, runtime: AppRuntime) -> None:
        super().__init__(config, runtime)
        self._windows: dict[str, NodeWindow] = {}
        self._due: list[str] = []
        self._models: tuple[LearnedModel, LearnedModel] | None = None
        self._model_fault: Reason | None = None
        try:
            self._models = (
                load_forecaster(config.model_15min_path, FIFTEEN_MINUTES),
                load_forecaster(config.model_1min_path, ONE_MINUTE),
            )
        except TwinRicError as error:
            self._model_fault = Reason(error.code.replace("-", "_"), details={"fault": str(error)})

    async def rebuild(self) -> None:
        """Take the windows from the app's own history records."""
        for twin_id, twin in (await self.links.twins.rebuild(TWIN_REPORTED, HISTORY)).items():
            self._on_history(twin_id.removeprefix(HISTORY), twin.table)

    async def connect(self) -> None:
        """Follow the homes' reported state, and histories that others provide."""
        await self.runtime.follow_twins((TWIN_REPORTED,), self._on_twin)

    def _on_twin(self, _: str, twin: TwinState) -> int | None:
        if not twin.twin_id.startswith(FLEET):
            return None
        node = twin.twin_id.removeprefix(FLEET)
        window = self._windows.get(node)
        if window is None or window.ids != twin.table.ids:
            window = self._windows[node] = NodeWindow(twin.table.ids)
        if not window.add(twin.table):
            return None
        self._due.append(node)
        return twin.source_time_ns

    def _on_history(self, node: str, history: Table) -> None:
        window = NodeWindow(history.ids)
        window.restore(history)
        self._windows[node] = window

    def observe(self, now_ns: int) -> State | None:  # noqa: ARG002 - the window's end is the time that counts
        """The node that has waited longest for a forecast."""
        if not self._due:
            return None
        node = self._due.pop(0)
        if self._due:
            self.runtime.wake()
        return State.of(node, self._windows[node])

    def unfit(self, state: State) -> Reason | None:  # noqa: ARG002
        """A missing or wrong model leaves the forecast to the seasonal-naive one."""
        return self._model_fault

    def decide(self, state: State, policy: DemandTwinPolicy) -> Decision:
        """The learned twin's forecast, or the naive one where the policy asks for it."""
        policy = policy.at(Scope(e2_node_id=state.node))
        if policy.method == "seasonal_naive" or self._models is None:
            return seasonal_naive(state, policy, Reason("POLICY_NAIVE"))
        return forecast_demand(state, policy, *self._models)

    def fallback(self, state: State | None, policy: DemandTwinPolicy, reason: Reason) -> Decision | None:
        """Seasonal-naive, marked."""
        return None if state is None else seasonal_naive(state, policy.at(Scope(e2_node_id=state.node)), reason)

    def parts(self) -> tuple[Scope, ...]:
        """The nodes whose demand is known."""
        return tuple(Scope(e2_node_id=node) for node in self._windows)

    async def act(self, decision: Decision) -> None:
        """Publish the forecasts, and the window that a restart rebuilds from."""
        node, end_ns = decision.node, decision.source_time_ns
        quarters = decision.quarters.table(decision.ids, end_ns, naive=decision.naive)
        await self._publish_forecast(f"demand_forecast_15min/{node}", quarters)
        if decision.minutes is not None:
            minutes = decision.minutes.table(decision.ids, end_ns, naive=decision.naive)
            await self._publish_forecast(f"demand_forecast_1min/{node}", minutes)
        history = self._windows[node].history()
        await self.links.twins.publish(TWIN_REPORTED, f"{HISTORY}{node}", history.kind, history)

    async def _publish_forecast(self, twin_id: str, table: Table) -> None:
        await self.links.twins.publish(TWIN_FORECAST, twin_id, table.kind, table, FORECAST_VALID_MS)
