"""Direct conflicts between xApps on one parameter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ric.e2.conflict_mitigation import ConflictDecision, ConflictMitigation, ControlIntent
from ric.errors import TwinRicError


def intent(app: str, node: str = "n1", oid: str = "ccc", **settings: object) -> ControlIntent:
    return ControlIntent(app, node, oid, settings or {"slice": 25})


def test_conflict_mitigation_first_control_is_admitted() -> None:
    decision = ConflictMitigation({}).decide(intent("a"), 0.0)
    assert decision.is_admitted
    assert decision.reason.code == "NO_CONFLICT"
    decision.check()


def test_conflict_mitigation_equal_priority_loses_to_the_holder() -> None:
    mitigation = ConflictMitigation({}, hold_s=2.0)
    mitigation.decide(intent("a", slice=25), 0.0)
    decision = mitigation.decide(intent("b", slice=30), 0.5)
    assert not decision.is_admitted
    assert (decision.winner, decision.losers, decision.reason.code) == ("a", ("b",), "HELD_BY_EQUAL_PRIORITY")
    assert decision.reason.numbers["remaining_s"] == pytest.approx(1.5)
    with pytest.raises(TwinRicError) as caught:
        decision.check()
    fault = caught.value.faults[0]
    assert (fault.code, fault.field, fault.value) == ("E2-CONFLICT", "slice", 30)
    assert "a" in fault.accepted
    assert "HELD_BY_EQUAL_PRIORITY" in fault.accepted


def test_conflict_mitigation_higher_priority_preempts_and_then_holds() -> None:
    mitigation = ConflictMitigation({"protector": 5}, hold_s=2.0)
    mitigation.decide(intent("a", slice=25), 0.0)
    decision = mitigation.decide(intent("protector", slice=50), 0.5)
    assert decision.is_admitted
    assert (decision.losers, decision.keys, decision.reason.code) == (("a",), ("slice",), "PREEMPTED")
    assert mitigation.decide(intent("a", slice=25), 2.4).reason.code == "HELD_BY_HIGHER_PRIORITY"
    assert mitigation.decide(intent("a", slice=25), 2.5).is_admitted


@pytest.mark.parametrize(
    "other",
    [
        intent("b", slice=25), intent("b", other_slice=30), intent("b", node="n2", slice=30),
        intent("b", oid="grid", slice=30), intent("a", slice=30),
    ],
    ids=["same value", "other parameter", "other node", "other service model", "same app"],
)  # fmt: skip
def test_conflict_mitigation_no_conflict(other: ControlIntent) -> None:
    mitigation = ConflictMitigation({})
    mitigation.decide(intent("a", slice=25), 0.0)
    assert mitigation.decide(other, 0.1).reason.code == "NO_CONFLICT"


def test_conflict_mitigation_hold_runs_out() -> None:
    mitigation = ConflictMitigation({}, hold_s=1.0)
    mitigation.decide(intent("a", slice=25), 0.0)
    assert not mitigation.decide(intent("b", slice=30), 0.999).is_admitted
    assert mitigation.decide(intent("b", slice=30), 1.0).is_admitted


def test_conflict_mitigation_refused_control_holds_nothing() -> None:
    mitigation = ConflictMitigation({}, hold_s=10.0)
    mitigation.decide(intent("a", x=1), 0.0)
    assert not mitigation.decide(intent("b", x=2, y=2), 1.0).is_admitted
    assert mitigation.decide(intent("c", y=3), 2.0).reason.code == "NO_CONFLICT"


def test_conflict_mitigation_withdrawn_control_gives_back_what_it_took() -> None:
    mitigation = ConflictMitigation({"protector": 5}, hold_s=10.0)
    mitigation.decide(intent("a", x=1), 0.0)
    decision = mitigation.decide(intent("protector", x=2, y=2), 1.0)
    mitigation.withdraw(decision)
    assert mitigation.decide(intent("b", x=3), 2.0).winner == "a"
    assert mitigation.decide(intent("b", y=3), 2.0).is_admitted


def test_conflict_mitigation_withdrawal_after_another_took_over_changes_nothing() -> None:
    mitigation = ConflictMitigation({"protector": 5}, hold_s=10.0)
    late = mitigation.decide(intent("a", x=1), 0.0)
    mitigation.decide(intent("protector", x=2), 1.0)
    mitigation.withdraw(late)
    assert mitigation.decide(intent("a", x=1), 2.0).winner == "protector"


_controls = st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 2), st.floats(0, 1))


@given(st.lists(_controls, max_size=40))
def test_conflict_mitigation_admitted_controls_never_contradict_within_the_hold(
    controls: list[tuple[str, str, int, float]],
) -> None:
    """Whoever is overruled has a lower priority; equals never overrule each other inside the hold time."""
    priorities = {"a": 1, "b": 1, "c": 2}
    mitigation = ConflictMitigation(priorities, hold_s=1.0)
    now_s = 0.0
    admitted: list[tuple[float, ConflictDecision]] = []
    for app, key, value, step_s in controls:
        now_s += step_s
        decision = mitigation.decide(intent(app, **{key: value}), now_s)
        if decision.is_admitted:
            admitted.append((now_s, decision))
        else:
            assert priorities[decision.winner] >= priorities[app]
    latest: dict[str, tuple[float, str, object]] = {}
    for at_s, decision in admitted:
        ((key, value),) = decision.intent.settings.items()
        if key in latest:
            before_s, holder, held = latest[key]
            if at_s < before_s + 1.0 and held != value and holder != decision.intent.app_id:
                assert priorities[decision.intent.app_id] > priorities[holder]
        if key not in latest or latest[key][2] != value or latest[key][1] == decision.intent.app_id \
                or at_s >= latest[key][0] + 1.0:  # fmt: skip
            latest[key] = (at_s, decision.intent.app_id, value)


def test_conflict_mitigation_forgets_holds_that_ran_out() -> None:
    mitigation = ConflictMitigation({}, hold_s=1.0)
    for number in range(20_000):
        mitigation.decide(intent("a", **{f"p{number}": 1}), number / 100)
    assert len(mitigation._holds) < 10_000
