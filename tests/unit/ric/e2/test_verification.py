"""Acknowledged controls against later reports, by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ric.e2.observations import Observation, Seen, Span
from ric.e2.verification import Verification

NODE, OID = "n1", "1.2.3"
MS = 1_000_000


def watching(amount: float = 25.0) -> Verification[str]:
    made = Verification[str](settle_s=0.3, patience_s=10.0)
    made.expect(NODE, OID, {"slice a": amount}, "control", 0.0)
    return made


def report(at_ms: int, **amounts: float) -> Observation:
    return Observation(at_ms * MS, {f"slice {name}": Seen(value, at_ms * MS) for name, value in amounts.items()})


def test_verification_report_that_agrees_ends_the_watch() -> None:
    verification = watching()
    assert verification.watches(NODE, OID)
    assert verification.judge(NODE, OID, report(100, a=25.0), 0.1) == []
    assert not verification.watches(NODE, OID)
    assert verification.agreed == 1


def test_verification_report_under_way_at_the_acknowledgement_refutes_nothing() -> None:
    verification = watching()
    for at_ms in (100, 200, 300):
        assert verification.judge(NODE, OID, report(at_ms, a=20.0), 0.1) == []
    assert verification.judge(NODE, OID, report(400, a=25.0), 0.4) == []
    assert verification.agreed == 1


def test_verification_reports_that_keep_disagreeing_refute_the_control() -> None:
    verification = watching()
    verification.judge(NODE, OID, report(100, a=20.0), 0.1)
    (found,) = verification.judge(NODE, OID, report(400, a=20.0), 0.4)
    assert (found.control, found.expected, found.reported) == ("control", 25.0, 20.0)
    fault = found.error().faults[0]
    assert (fault.code, fault.field, fault.value, fault.accepted) == ("E2-UNVERIFIED", "slice a", 20.0, "25")
    assert verification.judge(NODE, OID, report(500, a=20.0), 0.5) == []


def test_verification_same_report_to_several_subscriptions_counts_once() -> None:
    verification = watching()
    for _ in range(5):
        assert verification.judge(NODE, OID, report(100, a=20.0), 0.1) == []


def test_verification_later_control_replaces_what_was_expected() -> None:
    verification = watching()
    verification.judge(NODE, OID, report(100, a=20.0), 0.1)
    verification.expect(NODE, OID, {"slice a": 20.0}, "later", 0.2)
    assert verification.judge(NODE, OID, report(400, a=20.0), 0.4) == []
    assert not verification.watches(NODE, OID)


def test_verification_gives_up_on_what_no_report_shows() -> None:
    verification = watching()
    assert verification.judge(NODE, OID, report(100), 9.0) == []
    assert verification.watches(NODE, OID)
    assert verification.judge(NODE, OID, report(200), 11.0) == []
    assert not verification.watches(NODE, OID)
    assert verification.unseen == 1


def test_verification_forgets_controls_and_nodes() -> None:
    verification = watching()
    verification.forget("other")
    assert verification.watches(NODE, OID)
    verification.forget("control")
    assert not verification.watches(NODE, OID)
    verification = watching()
    verification.forget_node("elsewhere")
    assert verification.watches(NODE, OID)
    verification.forget_node(NODE)
    assert not verification.watches(NODE, OID)
    verification.expect(NODE, "", {"slice a": 1.0}, "control", 0.0)
    assert not verification.watches(NODE, "")


# Where the acknowledgement says since when ---------------------------------------------------------------------------

SINCE_MS, UNTIL_MS = 1_000, 5_000


def dated(amount: float = 3.0) -> Verification[str]:
    made = Verification[str]()
    made.expect(NODE, OID, {"slice a": amount}, "control", 0.0, Span(SINCE_MS * MS, UNTIL_MS * MS))
    return made


def period(from_ms: int, to_ms: int, amount: float, **limits: float) -> Observation:
    return Observation(to_ms * MS, {"slice a": Seen(amount, from_ms * MS, **limits)})


def test_verification_next_report_of_a_later_period_refutes_at_once() -> None:
    (found,) = dated().judge(NODE, OID, period(1_000, 2_000, 0.0), 0.0)
    assert (found.control, found.expected, found.reported) == ("control", 3.0, 0.0)


@pytest.mark.parametrize("amount", [0.0, 3.0], ids=["disagrees", "agrees"])
def test_verification_report_of_a_period_that_began_before_decides_nothing(amount: float) -> None:
    verification = dated()
    assert verification.judge(NODE, OID, period(0, 2_000, amount), 0.0) == []
    assert verification.watches(NODE, OID)
    assert verification.agreed == 0


def test_verification_report_beyond_the_end_of_the_control_decides_nothing() -> None:
    verification = dated()
    assert verification.judge(NODE, OID, period(4_500, 5_500, 0.0), 0.0) == []
    assert (verification.watches(NODE, OID), verification.unseen) == (False, 1)


def test_verification_without_a_report_lasts_as_long_as_the_control() -> None:
    verification = dated()
    for now_s in (20.0, 40.0):  # far beyond anybody's patience
        verification.judge(NODE, OID, Observation(4_000 * MS, {}), now_s)
        assert verification.watches(NODE, OID)
    verification.judge(NODE, OID, Observation(5_001 * MS, {}), 60.0)
    assert not verification.watches(NODE, OID)


@pytest.mark.parametrize(
    ("reported", "limits", "agrees"),
    [
        (3.0, {"high": 5.0}, True),
        (2.0, {"high": 2.0}, True),
        (2.5, {"high": 2.0}, True),  # the limit came in mid-period
        (1.0, {"high": 2.0}, False),
        (2.0, {"high": 5.0}, False),
        (3.5, {"high": 2.0}, False),
        (6.0, {"low": 6.0}, True),
        (0.0, {"low": 6.0}, False),
        (3.05, {"slack": 0.1}, True),
        (3.15, {"slack": 0.1}, False),
    ],
)
def test_verification_limits_that_the_node_reports_decide(
    reported: float, limits: dict[str, float], agrees: bool
) -> None:
    verification = dated(3.0)
    refuted = verification.judge(NODE, OID, period(1_000, 2_000, reported, **limits), 0.0)
    assert (verification.agreed, len(refuted)) == ((1, 0) if agrees else (0, 1))


@given(
    asked=st.floats(-10, 10),
    limits=st.lists(st.tuples(st.floats(-10, 10), st.floats(0, 10), st.floats(0.1, 5)), min_size=1, max_size=6),
)
def test_verification_mean_of_what_limits_leave_of_a_set_point_always_agrees(
    asked: float, limits: list[tuple[float, float, float]]
) -> None:
    """An honest device: in each part of the period it takes what its limits then leave of the set-point."""
    parts = [(min(max(asked, low), low + width), low, low + width, span) for low, width, span in limits]
    total = sum(part[3] for part in parts)
    mean = sum(power * span for power, _, _, span in parts) / total
    seen = Seen(mean, 1_000 * MS, low=max(part[1] for part in parts), high=min(part[2] for part in parts))
    assert dated(asked).judge(NODE, OID, Observation(2_000 * MS, {"slice a": seen}), 0.0) == []


def test_disagreement_names_the_range_where_limits_left_one() -> None:
    (found,) = dated(3.0).judge(NODE, OID, period(1_000, 2_000, 0.5, high=2.0), 0.0)
    assert found.error().faults[0].accepted == "2..3"
