"""Acknowledged controls against later reports, by hand."""

from ric.e2.service_models import Observation
from ric.e2.verification import Verification

NODE, OID = "n1", "1.2.3"
MS = 1_000_000


def watching(amount: float = 25.0) -> Verification[str]:
    made = Verification[str](settle_s=0.3, patience_s=10.0)
    made.expect(NODE, OID, {"slice a": amount}, "control", 0.0)
    return made


def report(at_ms: int, **amounts: float) -> Observation:
    return Observation(at_ms * MS, {f"slice {name}": value for name, value in amounts.items()})


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
