"""Shell of the microgrid guard: microgrid reports in, alarms, substitutions and the agents' twin out."""

from __future__ import annotations

from collections import deque
from typing import ClassVar

from ric.app_spec import AppSpec, Ric
from ric.bus.bus import RIC_ALARMS, TWIN_REPORTED
from ric.bus.record import ALARM_EVENT_TYPE, cloudevents_headers
from ric.clock import Deadline, to_ns
from ric.decision import Reason
from ric.e2sm import grid
from ric.e2sm.grid import GridControl
from ric.errors import Fault, TwinRicError
from ric.learned import LearnedModel, load_model
from ric.pb.twinric.bus.v1 import record_pb2
from ric.runtime import App, AppRuntime
from ric.scopes import Scope
from ric.telemetry import trace_id
from xapps.microgrid_guard.config import GuardConfig
from xapps.microgrid_guard.fallback import hold_last_good
from xapps.microgrid_guard.model import INPUTS, OUTPUTS, PERIOD_S
from xapps.microgrid_guard.policy import POLICY_TYPE_ID, GuardPolicy
from xapps.microgrid_guard.state import NodeMemory, Sample, State, restored, sample_of
from xapps.microgrid_guard.takeover import AlarmChange, Decision, NodeOutcome, decide

__all__ = ["MicrogridGuardApp"]

NAME = "microgrid_guard"
TWIN = "microgrid/"
KINDS = ("microgrid_report", "pcc_report")
MOST_WAITING = 1_000
"""Samples that may wait for a decision; the oldest go first. One node makes 600 a minute."""


class MicrogridGuardApp(App[GuardConfig, GuardPolicy, State, Decision]):
    """Finds attacked microgrid agents and lets their twin stand in for them."""

    spec: ClassVar[AppSpec] = AppSpec(NAME, Ric.NEAR_RT, 100.0, POLICY_TYPE_ID, frozenset({"e2"}))
    config_type: ClassVar[type[GuardConfig]] = GuardConfig
    policy_type: ClassVar[type[GuardPolicy]] = GuardPolicy

    def __init__(self, config: GuardConfig, runtime: AppRuntime) -> None:
        super().__init__(config, runtime)
        self._waiting: deque[Sample] = deque(maxlen=MOST_WAITING)
        self._memories: dict[str, NodeMemory] = {}
        self._alarms: deque[AlarmChange] = deque()
        self._compute_ms = 0.0
        self._model: LearnedModel | None = None
        self._model_fault: Reason | None = None
        try:
            self._model = load_model(config.model_path, INPUTS, OUTPUTS)
        except TwinRicError as error:
            self._model_fault = Reason(error.code.replace("-", "_"), details={"fault": str(error)})

    async def rebuild(self) -> None:
        """Go on with the takeovers that the app's own twins tell of; their alarms stand already."""
        for twin_id, twin in (await self.links.twins.rebuild(TWIN_REPORTED, TWIN)).items():
            self._memories[twin_id.removeprefix(TWIN)] = restored(twin.table)

    async def connect(self) -> None:
        """Subscribe to the microgrids of every node, ten reports a second."""
        trigger = grid.encode_trigger(round(PERIOD_S * 1e3))
        action = grid.encode_action(KINDS)
        self.runtime.follow_e2((grid.NAME, grid.VERSION), trigger=trigger, action=action, handler=self._on_report)

    def _on_report(self, node: str, header: bytes, payload: bytes) -> int | None:
        report = grid.decode_indication(header, payload)
        if report.e2_node_id != node:
            raise TwinRicError("E2-RANGE", "indication_header.e2_node_id", report.e2_node_id, node)
        if KINDS[0] not in report.tables:
            return None  # a node without microgrids
        self._waiting.append(sample_of(report))
        return report.source_time_ns

    def observe(self, now_ns: int) -> State | None:  # noqa: ARG002 - samples carry their own time
        """All samples that wait."""
        if not self._waiting:
            return None
        samples = tuple(self._waiting)
        self._waiting.clear()
        return State(samples, dict(self._memories))

    def unfit(self, state: State) -> Reason | None:  # noqa: ARG002
        """A missing or wrong model leaves the microgrids to last good values."""
        return self._model_fault

    def decide(self, state: State, policy: GuardPolicy) -> Decision:
        """Detection and takeover by the twin."""
        clock = Deadline(self.spec.budget_ms)
        if self._model is None:
            raise TwinRicError("MODEL-MISSING", "model_path", str(self.config.model_path), "an ONNX file")
        decision = decide(state, policy, self._model, self.config)
        self._compute_ms = clock.elapsed_ms
        return decision

    def fallback(self, state: State | None, policy: GuardPolicy, reason: Reason) -> Decision | None:
        """Last good values, and alarms by R alone."""
        return None if state is None else hold_last_good(state, policy, reason, self.config)

    def parts(self) -> tuple[Scope, ...]:
        """The microgrids that have reported."""
        memories = self._memories.items()
        return tuple(Scope(e2_node_id=node, microgrid=name) for node, memory in memories for name in memory.ids)

    async def act(self, decision: Decision) -> None:
        """Alarms first, then substitutions, then twins. What one node refuses does not stop the others."""
        self._memories.update(decision.memories)
        for outcome in decision.outcomes:
            self._alarms.extend(outcome.alarms)
        faults: list[Fault] = []
        try:
            while self._alarms:
                await self._tell(self._alarms[0])
                self._alarms.popleft()
        except TwinRicError as error:
            faults.extend(error.faults)
        # Of several samples of one node only the newest value matters; a row that it lacks is released already.
        for outcome in {o.node: o for o in decision.outcomes}.values():
            try:
                await self._enforce(outcome)
            except TwinRicError as error:
                faults.extend(error.faults)
        if faults:
            raise TwinRicError.of(faults)

    async def _enforce(self, outcome: NodeOutcome) -> None:
        if outcome.twin is not None:
            twin_id = f"{TWIN}{outcome.node}"
            await self.links.twins.publish(
                TWIN_REPORTED, twin_id, outcome.twin.kind, outcome.twin, outcome.valid_for_ms
            )
        if outcome.set_points is not None:
            control = GridControl(outcome.set_points, outcome.valid_until_ns, "DOS_TAKEOVER")
            header, payload = grid.encode_control(control)
            await self.links.need_e2().control(
                outcome.node,
                (grid.NAME, grid.VERSION),
                header,
                payload,
                deadline_s=self.config.control_deadline_s,
            )

    async def _tell(self, change: AlarmChange) -> None:
        """Publish one alarm. Raises TwinRicError BUS-UNREACHABLE; it is kept and told again at the next cycle."""
        severity = record_pb2.PERCEIVED_SEVERITY_CLEARED if change.cleared else record_pb2.PERCEIVED_SEVERITY_MAJOR
        alarm = record_pb2.Alarm(
            managed_object=f"microgrid/{change.microgrid}/agent",
            application=NAME,
            specific_problem=change.problem,
            identifying_info=change.node,
            perceived_severity=severity,
            event_time_ns=change.onset_ns,
            detected_time_ns=change.time_ns,
            detection_ms=(change.time_ns - change.onset_ns) / 1e6,
            compute_ms=self._compute_ms,
            numbers={
                "expected": change.expected,
                "stated": change.stated,
                "error": abs(change.stated - change.expected),
            },
            details={"e2_node_id": change.node, "microgrid": change.microgrid},
            trace_id=trace_id(),
        )
        headers = cloudevents_headers(
            f"/twinric/{NAME}", ALARM_EVENT_TYPE, to_ns(self.links.clock.now_s()), trace_id(),
            identifier=f"{change.node}-{change.microgrid}-{change.time_ns}-{severity}",
        )  # fmt: skip
        await self.links.bus.publish(RIC_ALARMS, alarm.managed_object, alarm.SerializeToString(), headers)
