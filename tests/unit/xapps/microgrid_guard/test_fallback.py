import numpy as np
import pytest

from ric.decision import Reason
from xapps.microgrid_guard.config import GuardConfig
from xapps.microgrid_guard.fallback import hold_last_good
from xapps.microgrid_guard.policy import GuardPolicy
from xapps.microgrid_guard.state import Sample, State
from xapps.microgrid_guard.takeover import Decision

CONFIG, POLICY, NODE = GuardConfig(), GuardPolicy(), "00101-e2000001"
START_NS, STEP_NS = 1_700_000_000_000_000_000, 100_000_000
REASON = Reason("MODEL_MISSING")


def sample(step: int, factors: tuple[float, ...], r: float = 0.5) -> Sample:
    values = np.array(factors)
    return Sample(NODE, START_NS + step * STEP_NS, ("MG1", "MG2", "MG3"), values, values != 0.0, r)


def feed(samples: list[Sample], memories=None, reason: Reason = REASON, policy: GuardPolicy = POLICY) -> Decision:
    return hold_last_good(State(tuple(samples), memories or {}), policy, reason, CONFIG)


ATTACK = [sample(step, (0.52, 0.48, 0.5)) for step in range(40)] + [sample(s, (0.45, 0.0, 0.45)) for s in range(40, 60)]


def test_hold_last_good_silent_agent_gets_its_own_last_value():
    decision = feed(ATTACK)
    assert [(a.microgrid, a.problem) for o in decision.outcomes for a in o.alarms] == [("MG2", "DOS")]
    assert decision.outcomes[-1].set_points is not None
    assert decision.outcomes[-1].set_points.ids == ("MG2",)
    assert decision.outcomes[-1].set_points["contribution_factor"] == pytest.approx([0.48])
    assert decision.reason == REASON


def test_hold_last_good_no_new_report_renews_what_stands_from_now():
    before = feed(ATTACK)
    decision = feed([], before.memories, Reason("STALE_INPUT", {"age_s": 5.0}))
    [outcome] = decision.outcomes
    assert outcome.twin is None
    assert outcome.set_points is not None
    assert outcome.set_points["contribution_factor"] == pytest.approx([0.48])
    assert outcome.valid_until_ns == START_NS + 59 * STEP_NS + 125_000_000_000


def test_hold_last_good_no_new_report_and_nothing_taken_over_does_nothing():
    before = feed([sample(0, (0.5, 0.5, 0.5))])
    assert feed([], before.memories).outcomes == ()
    assert feed([]).outcomes == ()


def test_hold_last_good_alarm_only_sends_nothing():
    decision = feed(ATTACK, policy=GuardPolicy(mode="alarm_only"))
    assert [a.microgrid for o in decision.outcomes for a in o.alarms] == ["MG2"]
    assert all(o.set_points is None for o in decision.outcomes)


def test_hold_last_good_same_samples_again_change_nothing():
    before = feed(ATTACK)
    again = feed(ATTACK, before.memories)
    assert not [a for o in again.outcomes for a in o.alarms]
    assert again.memories[NODE].time_ns == before.memories[NODE].time_ns


def test_hold_last_good_alarm_only_in_one_microgrid_keeps_the_others_held():
    spared = GuardPolicy(scope={"e2_node_id": NODE, "microgrid": "MG2"}, mode="alarm_only")
    both = [sample(step, (0.52, 0.48, 0.5)) for step in range(40)] + [sample(s, (0.0, 0.0, 0.5)) for s in range(40, 60)]
    decision = feed(both, policy=GuardPolicy.layered([spared]))
    assert {a.microgrid for o in decision.outcomes for a in o.alarms} == {"MG1", "MG2"}
    assert {name for o in decision.outcomes if o.set_points for name in o.set_points.ids} == {"MG1"}
    renewed = feed([], decision.memories, Reason("STALE_INPUT", {"age_s": 5.0}), GuardPolicy.layered([spared]))
    assert renewed.outcomes[0].set_points.ids == ("MG1",)
