"""Fault or not, which kind, which section: window by window, with confirmation before an alarm. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dapps.fault_alarm.location import inception_sample, passage_section
from dapps.fault_alarm.model import KINDS, NO_FAULT, features
from dapps.fault_alarm.policy import FaultAlarmPolicy
from dapps.fault_alarm.state import CYCLE, RATE_HZ, Memory, Samples, State, extended
from ric.columns import Floats
from ric.decision import Reason
from ric.e3.e3ap import Waveform
from ric.learned import LearnedModel

__all__ = ["Decision", "Finding", "Verdict", "detect_faults", "judge_windows"]

NS = 1_000_000_000


@dataclass(frozen=True)
class Verdict:
    """One window's probabilities: kind (6,) and section (F + 1,), 0 meaning none."""

    kind: Floats
    section: Floats

    @property
    def fault_probability(self) -> float:
        """Probability that there is a fault of any kind."""
        return 1.0 - float(self.kind[0])


@dataclass(frozen=True)
class Finding:
    """An alarm to raise or to clear. Times are the samples' [ns since the Unix epoch]."""

    kind: str
    section: int
    cleared: bool
    began_ns: int
    found_ns: int
    probability: float
    passage_section: int
    """What the currents alone say of the section; 0: nothing."""


@dataclass(frozen=True)
class Decision:
    """The memory after the windows, alarms to raise or clear, and why."""

    memory: Memory
    findings: tuple[Finding, ...]
    reason: Reason
    source_time_ns: int


Judge = Callable[[Samples, Samples], Verdict]
"""From the newest cycle (F, 6, N) and the sound reference in phase with it."""


def detect_faults(state: State, policy: FaultAlarmPolicy, model: LearnedModel) -> Decision:
    """Judge every window with the learned classifier.

    Each window is judged on the newest cycle and the last sound one. `policy.confirm_windows` faulty windows in a row
    raise an alarm whose kind and section have the largest summed log-probability since the first of them. While no kind
    reaches `policy.kind_probability` it waits for up to `policy.kind_windows`: arcs and earth faults begin alike.
    `policy.clear_windows` sound windows clear it. A gap in the windows gives UNDECIDED until two cycles are in.
    """

    def judge(cycle: Samples, reference: Samples) -> Verdict:
        kind, section = model.run(cycle=features(cycle, reference)[None])
        return Verdict(_softmax(kind[0]), _softmax(section[0]))

    return judge_windows(state, policy, judge)


def judge_windows(state: State, policy: FaultAlarmPolicy, judge: Judge) -> Decision:
    """The decision logic with any judge; the classifier and the relay share it."""
    memory, findings, probability, code = state.memory, [], 0.0, "UNDECIDED"
    for window in state.windows:
        memory = extended(memory, window)
        if not memory.warm:
            continue
        cycle = memory.samples[:, :, CYCLE:]
        reference = memory.samples[:, :, :CYCLE] if memory.reference is None else memory.reference
        verdict = judge(cycle, reference)
        probability = verdict.fault_probability
        memory, finding = _followed(memory, verdict, policy, window, reference)
        code = NO_FAULT if memory.raised is None and not memory.suspicious else "FAULT"
        if finding is not None:
            findings.append(finding)
    end_ns = state.windows[-1].end_ns if state.windows else 0
    reason = Reason(code, {"fault_probability": probability, "windows": float(len(state.windows))})
    return Decision(memory, tuple(findings), reason, end_ns)


def _followed(
    memory: Memory, verdict: Verdict, policy: FaultAlarmPolicy, window: Waveform, reference: Samples
) -> tuple[Memory, Finding | None]:
    cycle, end_ns = memory.samples[:, :, CYCLE:], window.end_ns
    if verdict.fault_probability < policy.fault_probability:
        return _sound(memory, policy, end_ns)
    # Successive cycles overlap: a window is as much evidence as the part of its cycle that is new.
    news = min(1.0, window.samples.shape[2] * RATE_HZ / window.sample_rate_hz / CYCLE)
    kinds, sections = news * np.log(verdict.kind + 1e-9), news * np.log(verdict.section + 1e-9)
    if memory.suspicious == 0 and memory.raised is None:
        samples_ago = cycle.shape[2] - inception_sample(cycle, reference)
        memory = replace(
            memory, scores=np.zeros_like(kinds), section_scores=np.zeros_like(sections),
            began_ns=end_ns - samples_ago * NS // RATE_HZ,
        )  # fmt: skip
    scores = kinds if memory.scores is None else memory.scores + kinds
    section_scores = sections if memory.section_scores is None else memory.section_scores + sections
    memory = replace(
        memory, reference=reference, scores=scores, section_scores=section_scores,
        suspicious=memory.suspicious + 1, sound=0,
    )  # fmt: skip
    if memory.raised is not None or not _is_clear(scores[1:], memory.suspicious, policy):
        return memory, None
    kind, section = KINDS[1 + int(scores[1:].argmax())], 1 + int(section_scores[1:].argmax())
    passage = passage_section(cycle, reference)
    finding = Finding(kind, section, False, memory.began_ns, end_ns, verdict.fault_probability, passage)
    return replace(memory, raised=(kind, section)), finding


def _is_clear(scores: Floats, suspicious: int, policy: FaultAlarmPolicy) -> bool:
    """Whether the alarm can be raised: confirmed, and its kind known or waited for long enough. scores (5,)."""
    if suspicious < policy.confirm_windows:
        return False
    return suspicious >= policy.kind_windows or float(_softmax(scores).max()) >= policy.kind_probability


def _sound(memory: Memory, policy: FaultAlarmPolicy, end_ns: int) -> tuple[Memory, Finding | None]:
    memory = replace(memory, suspicious=0, sound=memory.sound + 1)
    if memory.raised is None:
        return replace(memory, reference=None, scores=None, section_scores=None), None
    if memory.sound < policy.clear_windows:
        return memory, None
    kind, section = memory.raised
    finding = Finding(kind, section, True, memory.began_ns, end_ns, 0.0, 0)
    return replace(memory, raised=None, reference=None, scores=None, section_scores=None), finding


def _softmax(logits: NDArray[np.floating[Any]]) -> Floats:
    exponent = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(exponent / exponent.sum())
