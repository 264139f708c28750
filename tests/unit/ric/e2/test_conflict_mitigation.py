"""Direct, indirect and implicit conflicts between xApps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ric.e2.conflict_mitigation import ConflictDecision, ConflictMitigation, ControlIntent
from ric.e2.conflict_policy import ConflictPolicy, Influence, TrafficDemand
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
    assert mitigation.holds < 10_000


# Indirect: a slice against the traffic of another app

HEMS = TrafficDemand(app_id="hems_load", s_nssai="1-000003", rate_mbps=8_000, max_utilisation=0.8)
SLICE = "slice 1-000003"


def slices(app: str, percent: float) -> ControlIntent:
    return ControlIntent(app, "n1", "ccc", {SLICE: percent}, {SLICE: percent})


def starving(**policy: object) -> ConflictMitigation:
    made = ConflictMitigation({}, hold_s=0.0)
    made.configure(ConflictPolicy.model_validate({"demands": (HEMS,), **policy}))
    return made


def test_conflict_mitigation_slice_that_starves_a_fleet_is_refused_with_what_it_needs() -> None:
    decision = starving().decide(slices("slice_bandwidth", 9), 0.0)
    assert (decision.is_admitted, decision.winner, decision.reason.code) == (False, "hems_load", "STARVES_TRAFFIC")
    assert decision.reason.details["conflict"] == "indirect"
    assert decision.reason.numbers["needed_percent"] == pytest.approx(10.0)
    with pytest.raises(TwinRicError, match="at least 10 %, or traffic of hems_load starves") as caught:
        decision.check()
    assert caught.value.faults[0].field == SLICE


def test_conflict_mitigation_slice_with_room_for_the_fleet_is_admitted() -> None:
    assert starving().decide(slices("slice_bandwidth", 10), 0.0).reason.code == "NO_CONFLICT"


def test_conflict_mitigation_slice_that_improves_is_admitted_even_if_still_short() -> None:
    mitigation = starving()
    mitigation.observed("n1", "ccc", SLICE, 5.0)
    assert mitigation.decide(slices("slice_bandwidth", 8), 0.0).is_admitted
    assert not mitigation.decide(slices("slice_bandwidth", 4), 0.0).is_admitted


def test_conflict_mitigation_higher_priority_may_starve_and_says_whom() -> None:
    decision = starving(priorities={"slice_bandwidth": 1}).decide(slices("slice_bandwidth", 5), 0.0)
    assert (decision.is_admitted, decision.losers, decision.reason.code) == (True, ("hems_load",), "PREEMPTED")
    assert decision.reason.details["conflict"] == "indirect"


def test_conflict_mitigation_reports_only_where_the_policy_says_so() -> None:
    decision = starving(on_indirect="report").decide(slices("slice_bandwidth", 5), 0.0)
    assert (decision.is_admitted, decision.losers, decision.reason.code) == (True, ("hems_load",), "STARVES_TRAFFIC")


# Implicit: different parameters, one quantity


def power(app: str, name: str, kw: float) -> ControlIntent:
    return ControlIntent(app, "n1", "grid", {name: kw}, {name: kw})


STORE, BATTERY = "storage_set_point s charge_kw", "home_set_point h battery_kw"


def test_conflict_mitigation_controls_that_work_against_each_other_are_found() -> None:
    mitigation = ConflictMitigation({}, hold_s=1.0)
    assert mitigation.decide(power("hems_load", BATTERY, -30.0), 0.0).reason.code == "NO_CONFLICT"
    decision = mitigation.decide(power("store", STORE, 40.0), 0.5)
    assert (decision.is_admitted, decision.winner, decision.reason.code) == (False, "hems_load", "OPPOSES_CONTROL")
    assert (decision.reason.numbers["push"], decision.reason.numbers["winner_push"]) == (40.0, -30.0)
    with pytest.raises(TwinRicError, match="works against hems_load on feeder import_kw"):
        decision.check()
    assert mitigation.decide(power("store", STORE, 40.0), 1.0).is_admitted  # the hold has run out


@pytest.mark.parametrize(
    ("name", "kw"),
    [(STORE, -1.0), (STORE, 4.0), ("storage_set_point s discharge_kw", 40.0), ("home_set_point h pv_limit_kw", 40.0)],
    ids=["same direction", "within the dead band", "gain of the other sign", "no influence"],
)
def test_conflict_mitigation_no_implicit_conflict(name: str, kw: float) -> None:
    mitigation = ConflictMitigation({}, hold_s=1.0)
    mitigation.decide(power("hems_load", BATTERY, -30.0), 0.0)
    assert mitigation.decide(power("store", name, kw), 0.5).reason.code == "NO_CONFLICT"


def test_conflict_mitigation_giving_way_opposes_nobody() -> None:
    mitigation = ConflictMitigation({"store": 1}, hold_s=10.0)
    mitigation.decide(power("hems_load", BATTERY, -30.0), 0.0)
    assert mitigation.decide(power("store", STORE, 40.0), 1.0).reason.code == "PREEMPTED"
    assert mitigation.decide(power("hems_load", BATTERY, -20.0), 2.0).is_admitted
    assert not mitigation.decide(power("hems_load", BATTERY, -31.0), 2.0).is_admitted


def test_conflict_mitigation_withdrawn_control_pushes_no_more() -> None:
    mitigation = ConflictMitigation({}, hold_s=10.0)
    mitigation.decide(power("hems_load", BATTERY, -10.0), 0.0)
    mitigation.withdraw(mitigation.decide(power("hems_load", BATTERY, -50.0), 0.1))
    decision = mitigation.decide(power("store", STORE, 40.0), 0.2)
    assert decision.reason.numbers["winner_push"] == -10.0
    mitigation.forget_node("n1")
    assert mitigation.decide(power("store", STORE, 40.0), 0.3).is_admitted


def test_conflict_mitigation_change_counts_from_the_value_in_force() -> None:
    influence = Influence(parameter="home_set_point hvac_kw", target="t", gain=1, reference=None, dead_band=1)
    other = Influence(parameter="storage_set_point charge_kw", target="t", gain=1, dead_band=1)
    mitigation = ConflictMitigation({}, hold_s=1.0)
    mitigation.configure(ConflictPolicy(influences=(influence, other)))
    heat = "home_set_point h hvac_kw"
    mitigation.applied(mitigation.decide(power("hems_load", heat, 9.0), 0.0))  # nobody knows what it was before
    assert mitigation.decide(power("store", STORE, 40.0), 0.1).is_admitted
    mitigation = ConflictMitigation({}, hold_s=1.0)
    mitigation.configure(ConflictPolicy(influences=(influence, other)))
    mitigation.applied(mitigation.decide(power("hems_load", heat, 9.0), 0.0))
    mitigation.decide(power("hems_load", heat, 4.0), 0.1)
    assert mitigation.decide(power("store", STORE, 40.0), 0.2).reason.numbers["winner_push"] == -5.0


def test_conflict_mitigation_strongest_objection_leads() -> None:
    mitigation = starving(priorities={"hems_load": 3, "b": 2}, hold_s=5.0)
    mitigation.decide(slices("b", 25), 0.0)
    assert mitigation.decide(slices("a", 5), 1.0).winner == "hems_load"
    assert mitigation.decide(slices("a", 20), 1.0).winner == "b"


def storage(app: str, **amounts: float) -> ControlIntent:
    quantities = {f"storage_set_point storage-1 {name}": kw for name, kw in amounts.items()}
    return ControlIntent(app, "n1", "grid", quantities, quantities)


def homes(app: str, battery_kw: float) -> ControlIntent:
    quantities = {"home_set_point home-1 battery_kw": battery_kw}
    return ControlIntent(app, "n1", "grid", quantities, quantities)


def test_conflict_mitigation_what_a_node_was_told_already_holds_whatever_speaks_against_it() -> None:
    mitigation = ConflictMitigation({"protector": 5}, hold_s=10.0)
    mitigation.decide(homes("protector", 20.0), 0.0)
    told = mitigation.decide(homes("hems", -20.0), 1.0, is_told=True)
    assert told.is_admitted
    assert (told.reason.code, told.losers) == ("HELD_BY_HIGHER_PRIORITY", ("protector",))
    assert mitigation.decide(homes("other", 0.0), 2.0).winner == "hems"
    assert mitigation.decide(homes("hems", -20.0), 3.0, is_told=True).reason.code == "NO_CONFLICT"


def test_conflict_mitigation_what_a_node_was_told_pushes_until_it_is_withdrawn() -> None:
    mitigation = ConflictMitigation({}, hold_s=10.0)
    told = mitigation.decide(homes("hems", -20.0), 0.0, is_told=True)
    assert told.reason.code == "NO_CONFLICT"
    against = mitigation.decide(storage("other", charge_kw=20.0), 1.0)
    assert (against.is_admitted, against.winner, against.reason.code) == (False, "hems", "OPPOSES_CONTROL")
    mitigation.withdraw(told)
    assert mitigation.decide(storage("other", charge_kw=20.0), 2.0).reason.code == "NO_CONFLICT"
    late = mitigation.decide(homes("hems", -20.0), 3.0, is_told=True)
    assert (late.is_admitted, late.losers, late.reason.code) == (True, ("other",), "OPPOSES_CONTROL")
