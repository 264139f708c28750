"""Confirmation, choice of kind and section, clearing: the decision logic with a judge whose answers are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dapps.fault_alarm.detector import Verdict, judge_windows
from dapps.fault_alarm.model import KINDS
from dapps.fault_alarm.policy import FaultAlarmPolicy
from dapps.fault_alarm.state import CYCLE, FTUS, Memory, State
from ric.e3.e3ap import Waveform

POLICY = FaultAlarmPolicy(confirm_windows=2, clear_windows=3, kind_probability=0.7, kind_windows=6)
WARM = 2 * CYCLE // 20


def window(sequence, level=0.0):
    samples = np.full((FTUS, 6, 20), level, dtype=np.float32)
    return Waveform(4_000, sequence, sequence * 5_000_000, samples)


def verdict(kind="NO_FAULT", section=0, probability=0.95):
    kinds, sections = np.full(6, (1 - probability) / 5), np.full(FTUS + 1, (1 - probability) / FTUS)
    kinds[KINDS.index(kind)] = sections[section] = probability
    return Verdict(kinds, sections)


def play(verdicts, policy=POLICY, *, batch=1, gap_at=None):
    """Findings of a stream that gets `verdicts` once warm; windows come `batch` at a time."""
    answers = iter(verdicts)
    count = WARM - 1 + len(verdicts)
    items = [window(n + (5 if gap_at is not None and n >= gap_at else 0)) for n in range(count)]
    memory, findings, decisions = Memory.empty(), [], []
    for place in range(0, count, batch):
        decision = judge_windows(State(tuple(items[place : place + batch]), memory), policy, lambda *_: next(answers))
        memory = decision.memory
        findings += decision.findings
        decisions.append(decision)
    return findings, decisions


def test_one_faulty_window_is_not_an_alarm():
    assert play([verdict(), verdict("ARCING", 2), verdict(), verdict()])[0] == []


def test_confirmed_fault_is_raised_once_and_cleared_once():
    fault, sound = verdict("ARCING", 2), verdict()
    findings, decisions = play([sound, fault, fault, fault, fault, sound, sound, sound, sound])
    assert [(f.kind, f.section, f.cleared) for f in findings] == [("ARCING", 2, False), ("ARCING", 2, True)]
    assert decisions[-1].reason.code == "NO_FAULT"


def test_sound_windows_short_of_the_limit_do_not_clear():
    fault, sound = verdict("ARCING", 2), verdict()
    assert len(play([fault, fault, sound, sound, fault, sound, sound])[0]) == 1


def test_kind_and_section_follow_the_summed_evidence():
    weak, strong = verdict("PHASE_TO_GROUND", 1, 0.85), verdict("ARCING", 3, 0.999)
    assert [(f.kind, f.section) for f in play([weak] * 2 + [strong] * 6)[0]] == [("ARCING", 3)]


def test_doubtful_kind_waits_for_more_windows_but_not_for_ever():
    """An arc begins like an earth fault: the alarm comes when the kind is plain, or after `kind_windows`."""
    doubt = verdict("ARCING", 2, 0.4)
    doubt.kind[:2] = 0.0, 0.39
    plain = verdict("PHASE_TO_GROUND", 2, 0.97)
    found = [d.findings for d in play([doubt] * 3 + [plain] * 2)[1] if d.findings]
    assert [finding.kind for (finding,) in found] == ["PHASE_TO_GROUND"]
    decisions = play([doubt] * 9)[1]
    raising = [index for index, decision in enumerate(decisions) if decision.findings]
    assert raising == [WARM - 1 + POLICY.kind_windows - 1]


def test_gap_judges_nothing_until_two_cycles_are_in():
    """A gap must not be taken for a fault: nobody is asked before the samples join again."""
    fault = verdict("ARCING", 2)
    findings, decisions = play([fault], gap_at=3)
    assert findings == []
    assert decisions[-1].reason.code == "UNDECIDED"


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, FTUS)), max_size=40), st.integers(1, 7))
def test_findings_alternate_and_do_not_depend_on_batching(sequence, batch):
    verdicts = [verdict(kind, 0 if kind == "NO_FAULT" else section) for kind, section in sequence]
    if not verdicts:
        return
    one, many = play(verdicts)[0], play(verdicts, batch=batch)[0]
    assert one == many
    assert [finding.cleared for finding in one] == [index % 2 == 1 for index in range(len(one))]
    assert all(finding.began_ns <= finding.found_ns for finding in one)


def test_alarm_tells_when_the_samples_departed():
    """The step begins 10 samples into the first faulty window: 2.5 ms after that window's start."""
    items = [window(n) for n in range(WARM)]
    step = np.zeros((FTUS, 6, 20), dtype=np.float32)
    step[1, 0, 10:] = 100.0
    items += [Waveform(4_000, WARM, WARM * 5_000_000, step), window(WARM + 1, 100.0)]

    def judge(cycle, reference):
        return verdict("PHASE_TO_GROUND", 2) if np.abs(cycle - reference).max() > 50 else verdict()

    (finding,) = judge_windows(State(tuple(items), Memory.empty()), POLICY, judge).findings
    assert finding.began_ns == pytest.approx(WARM * 5_000_000 + 2_500_000)
