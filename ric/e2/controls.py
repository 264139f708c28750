"""RIC Control as the RIC runs it: settle conflicts, send, verify the outcome, then verify what the node reports.

One object for all xApps and nodes; the sockets are the termination's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ric.clock import Clock
from ric.decision import Reason
from ric.e2.conflict_mitigation import ConflictDecision, ConflictMitigation, ControlIntent
from ric.e2.observations import UNKNOWN_SPAN, Span
from ric.e2.service_models import SERVICE_MODELS, ServiceModel, ServiceModelId, model_of
from ric.e2.termination import E2Termination
from ric.e2.verification import Disagreement, Verification
from ric.errors import TwinRicError
from ric.telemetry import Metrics, logger

__all__ = ["ControlCall", "ControlSink", "DecisionSink", "RicControls"]

SHOWN = 20
"""Parameters of one failed control that its error names."""


@dataclass(frozen=True)
class ControlCall:
    """One RIC Control as an xApp asks for it; calls of one app with equal `call_process_id` are applied once.

    With `no_ack` the node answers only when it refuses; the caller waits for nothing.
    """

    app_id: str
    e2_node_id: str
    service_model: ServiceModelId
    call_process_id: str
    header: bytes
    payload: bytes
    no_ack: bool = False


DecisionSink: TypeAlias = Callable[[ConflictDecision], None]
"""Called with each conflict decision that was not simply NO_CONFLICT, and with each effect that was not seen."""
ControlSink: TypeAlias = Callable[[ControlCall, TwinRicError | None], None]
"""Called with each control and why it failed, if it did: for the audit log. Reports may refute a control later."""


@dataclass(frozen=True, eq=False)
class _Applied:
    """A control under way or in force."""

    call: ControlCall
    model: ServiceModel
    decision: ConflictDecision


class RicControls:
    """Everything that happens to a control between an xApp's call and its node. `clock` times the conflict holds."""

    def __init__(
        self,
        termination: E2Termination,
        metrics: Metrics,
        clock: Clock,
        conflicts: ConflictMitigation,
        *,
        on_decision: DecisionSink | None = None,
        on_control: ControlSink | None = None,
    ) -> None:
        self._termination = termination
        self._metrics = metrics
        self._clock = clock
        self.conflicts = conflicts
        self.verification: Verification[_Applied] = Verification()
        self._on_decision = on_decision
        self._on_control = on_control
        self._log = logger("e2_controls")
        self._tasks: set[asyncio.Task[None]] = set()

    async def control(self, call: ControlCall, deadline_s: float) -> bytes:
        """The value in force, once it is in force; b"" without acknowledgement. Raises TwinRicError."""
        try:
            outcome = await self._controlled(call, deadline_s)
        except TwinRicError as error:
            self._tell(call, error)
            raise
        self._tell(call, None)
        return outcome

    async def _controlled(self, call: ControlCall, deadline_s: float) -> bytes:
        model = model_of(call.service_model)
        function = self._termination.node(call.e2_node_id).function_of(model.oid)
        settings = model.settings(call.header, call.payload)
        intent = ControlIntent(call.app_id, call.e2_node_id, model.oid, settings, model.quantities(settings))
        decision = self.conflicts.decide(intent, self._clock.elapsed_s())
        self._explain(decision)
        decision.check()
        applied = _Applied(call, model, decision)
        payload, call_process_id = (call.header, call.payload), f"{call.app_id}/{call.call_process_id}"
        try:
            answer = self._termination.begin_control(
                call.e2_node_id, function.ran_function_id, call_process_id, payload, deadline_s, no_ack=call.no_ack
            )
            if call.no_ack:
                self._expect(applied)
                self._spawn(applied, answer)
                return b""
            outcome = await answer
            span = model.verify(call.header, settings, call.payload, outcome)
        except TwinRicError as error:
            if error.code not in ("E2-DEADLINE", "E2-LOST"):  # those may have taken effect
                self.conflicts.withdraw(decision)
            raise
        self.conflicts.applied(decision)
        self._expect(applied, span)
        return outcome

    def note(self, intent: ControlIntent) -> ConflictDecision:
        """Judge what an app told a node past the RIC: it holds like a control, and what speaks against it is told.

        `conflicts.applied` or `conflicts.withdraw` is for whoever learns what became of it.
        """
        decision = self.conflicts.decide(intent, self._clock.elapsed_s(), is_told=True)
        self._explain(decision)
        return decision

    def _explain(self, decision: ConflictDecision) -> None:
        if decision.reason.code != "NO_CONFLICT":
            self._log.info("control conflict", reason=decision.reason.code, details=dict(decision.reason.details))
            if self._on_decision is not None:
                self._on_decision(decision)

    def _tell(self, call: ControlCall, error: TwinRicError | None) -> None:
        if self._on_control is not None:
            self._on_control(call, error)

    # Without acknowledgement ------------------------------------------------------------------------------------------

    def _spawn(self, applied: _Applied, answer: asyncio.Future[bytes]) -> None:
        task = asyncio.get_running_loop().create_task(self._await_refusal(applied, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _await_refusal(self, applied: _Applied, answer: asyncio.Future[bytes]) -> None:
        """No news within the deadline is good news; a refusal is told to whoever reads the log."""
        try:
            await answer
        except TwinRicError as error:
            if error.code == "E2-DEADLINE":
                self.conflicts.applied(applied.decision)
            elif error.code != "E2-LOST":
                self.verification.forget(applied)
                self._fail(applied, error)

    async def stop(self) -> None:
        """Wait for no more refusals."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # What the node reports --------------------------------------------------------------------------------------------

    def _expect(self, applied: _Applied, span: Span = UNKNOWN_SPAN) -> None:
        intent, oid = applied.decision.intent, applied.model.observed_in
        now_s = self._clock.elapsed_s()
        self.verification.expect(intent.e2_node_id, oid, intent.quantities, applied, now_s, span)

    def reported(self, e2_node_id: str, oid: str, header: bytes, message: bytes) -> None:
        """Compare an indication with the controls that it should show; those that it refutes are reported as failed."""
        if not self.verification.watches(e2_node_id, oid):
            return
        for model in SERVICE_MODELS.values():
            if model.observed_in == oid:
                try:
                    observation = model.observe(header, message)
                except TwinRicError:
                    continue  # whoever subscribed refuses it
                refuted: dict[_Applied, list[Disagreement[_Applied]]] = {}
                for each in self.verification.judge(e2_node_id, oid, observation, self._clock.elapsed_s()):
                    refuted.setdefault(each.control, []).append(each)
                for control, found in refuted.items():
                    self._refute(control, sorted(found, key=lambda each: each.parameter))

    def _refute(self, control: _Applied, found: list[Disagreement[_Applied]]) -> None:
        """A control failed: told once, by the first of its parameters, whatever their number."""
        intent, first = control.decision.intent, found[0]
        self.verification.forget(control)
        for each in found:
            self.conflicts.observed(intent.e2_node_id, intent.oid, each.parameter, each.reported)
        numbers = {"expected": first.expected, "reported": first.reported, "parameters": float(len(found))}
        details: Mapping[str, str] = {"parameter": first.parameter}
        keys = tuple(each.parameter for each in found)
        reason = Reason("EFFECT_NOT_SEEN", numbers, details)
        self._explain(ConflictDecision(intent, True, "", (intent.app_id,), keys, reason))
        self._fail(control, TwinRicError.of([each.error().faults[0] for each in found[:SHOWN]]))

    def _fail(self, applied: _Applied, error: TwinRicError) -> None:
        self.conflicts.withdraw(applied.decision)
        self._metrics.count_refused(error.code)
        self._log.warning(
            "control failed after it was answered", app=applied.call.app_id, e2_node_id=applied.call.e2_node_id,
            fault=str(error),
        )  # fmt: skip
        self._tell(applied.call, error)

    def node_lost(self, e2_node_id: str) -> None:
        """Nothing is known about the node any more."""
        self.verification.forget_node(e2_node_id)
        self.conflicts.forget_node(e2_node_id)
