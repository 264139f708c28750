"""Shell of the fault alarm: waveform windows in over E3, dApp reports out."""

from __future__ import annotations

import ctypes
import time
from typing import ClassVar

from dapps.fault_alarm.config import FaultAlarmConfig
from dapps.fault_alarm.detector import Decision, Finding, detect_faults
from dapps.fault_alarm.fallback import threshold_relay
from dapps.fault_alarm.model import load_classifier
from dapps.fault_alarm.policy import POLICY_TYPE_ID, FaultAlarmPolicy
from dapps.fault_alarm.state import FTUS, Memory, State
from ric.app_spec import AppSpec, Ric
from ric.decision import Reason
from ric.e3.e3ap import FEEDER_FUNCTION_ID, Waveform, decode_waveform
from ric.errors import TwinRicError
from ric.learned import LearnedModel
from ric.pb.twinric.bus.v1.record_pb2 import Alarm, PerceivedSeverity
from ric.runtime import App, AppRuntime
from ric.scopes import Scope
from ric.telemetry import trace_id

__all__ = ["FaultAlarmApp", "lock_memory"]

SEVERITY = {
    "PHASE_TO_PHASE": PerceivedSeverity.PERCEIVED_SEVERITY_CRITICAL,
    "COMPOUND": PerceivedSeverity.PERCEIVED_SEVERITY_CRITICAL,
}
HALF_RANGE = 2**31
LOCK_ALL = 3
"""MCL_CURRENT | MCL_FUTURE of Linux."""


class FaultAlarmApp(App[FaultAlarmConfig, FaultAlarmPolicy, State, Decision]):
    """Raises and clears feeder fault alarms from three-phase waveforms."""

    spec: ClassVar[AppSpec] = AppSpec(
        "fault_alarm", Ric.RT, 10.0, POLICY_TYPE_ID, frozenset({"e3"}),
        quiet_reasons=frozenset({"NO_FAULT", "UNDECIDED"}),
    )  # fmt: skip
    config_type: ClassVar[type[FaultAlarmConfig]] = FaultAlarmConfig
    policy_type: ClassVar[type[FaultAlarmPolicy]] = FaultAlarmPolicy

    def __init__(self, config: FaultAlarmConfig, runtime: AppRuntime) -> None:
        super().__init__(config, runtime)
        self._pending: list[Waveform] = []
        self._memory = Memory.empty()
        self._newest: Waveform | None = None
        self._began_s = 0.0
        self._part = Scope(region=config.feeder)
        self._model: LearnedModel | None = None
        self._model_fault: Reason | None = None
        try:
            self._model = load_classifier(config.model_path)
        except TwinRicError as error:
            self._model_fault = Reason(error.code.replace("-", "_"), details={"fault": str(error)})

    async def connect(self) -> None:
        """Take the windows of this dApp's subscription."""
        if self.config.lock_memory and not lock_memory():
            self.links.log.warning("memory not locked; the limit on locked memory forbids it")
        self.links.need_e3().busy_poll = self.config.busy_poll
        self.runtime.follow_e3(self._on_window)

    def _on_window(self, ran_function_id: int, data: memoryview) -> int | None:
        if ran_function_id != FEEDER_FUNCTION_ID:
            raise TwinRicError("E3-RANGE", "ran_function_identifier", ran_function_id, str(FEEDER_FUNCTION_ID))
        window = decode_waveform(data)
        if window.samples.shape[0] != FTUS or window.sample_rate_hz not in (4_000, 8_000):
            found = f"{window.samples.shape[0]} units at {window.sample_rate_hz} Hz"
            raise TwinRicError("E3-RANGE", "waveform", found, f"{FTUS} units at 4,000 or 8,000 Hz")
        newest = self._newest
        # A DU that restarts counts from the beginning again: old is what is old by sequence and by time.
        if (
            newest is not None
            and window.first_sample_ns < newest.end_ns
            and (window.sequence - newest.sequence - 1) % 2**32 >= HALF_RANGE
        ):
            raise TwinRicError("E3-STATE", "waveform.sequence", window.sequence, f"later than {newest.sequence}")
        self._newest = window
        self._pending.append(window)
        return window.end_ns

    def observe(self, now_ns: int) -> State | None:  # noqa: ARG002 - the samples carry the time
        """The windows that have come since the last cycle."""
        self._began_s = time.perf_counter()
        if not self._pending:
            return None
        state = State(tuple(self._pending), self._memory)
        self._pending.clear()
        return state

    def unfit(self, state: State) -> Reason | None:  # noqa: ARG002
        """A missing or wrong model leaves the alarm to the relay."""
        return self._model_fault

    def decide(self, state: State, policy: FaultAlarmPolicy) -> Decision:
        """The classifier's findings."""
        if self._model is None:
            raise TwinRicError("MODEL-MISSING", "model_path", str(self.config.model_path), "an ONNX file")
        return detect_faults(state, policy.at(self._part), self._model)

    def fallback(self, state: State | None, policy: FaultAlarmPolicy, reason: Reason) -> Decision | None:
        """The relay's findings; without new windows the alarms stay as they are."""
        if state is None or reason.code == "STALE_INPUT":
            return None
        return threshold_relay(state, policy.at(self._part), reason)

    def parts(self) -> tuple[Scope, ...]:
        """The feeder that the DU serves, as a region."""
        return (self._part,)

    async def act(self, decision: Decision) -> None:
        """Report what is raised or cleared."""
        self._memory = decision.memory
        for finding in decision.findings:
            alarm = self._alarm(finding)
            # What was raised and what was cleared are both worth repeating to a DU that comes back.
            keep = f"{alarm.managed_object} {alarm.specific_problem} {finding.cleared}"
            await self.links.need_e3().report(alarm.SerializeToString(), keep=keep)

    def _alarm(self, finding: Finding) -> Alarm:
        severity = SEVERITY.get(finding.kind, PerceivedSeverity.PERCEIVED_SEVERITY_MAJOR)
        agrees = finding.passage_section == finding.section
        return Alarm(
            managed_object=f"feeder/{self.config.feeder}/section/{finding.section}",
            application=self.spec.name,
            specific_problem=finding.kind,
            perceived_severity=PerceivedSeverity.PERCEIVED_SEVERITY_CLEARED if finding.cleared else severity,
            event_time_ns=finding.began_ns,
            detected_time_ns=finding.found_ns,
            detection_ms=(finding.found_ns - finding.began_ns) / 1e6,
            compute_ms=(time.perf_counter() - self._began_s) * 1e3,
            numbers={"probability": finding.probability},
            details={
                "isolation_advice": f"open the switches at both ends of section {finding.section}",
                "passage_indicator": "agrees" if agrees else f"says section {finding.passage_section}",
            },
            trace_id=trace_id(),
        )


def lock_memory() -> bool:
    """Keep this process's pages, present and future, in memory; False where the system does not let it."""
    lock = getattr(ctypes.CDLL(None), "mlockall", None)
    return lock is not None and lock(LOCK_ALL) == 0
