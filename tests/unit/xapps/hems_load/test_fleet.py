"""Several nodes in one cycle: scope of the policy, one node's failure is its own."""

from dataclasses import replace

import numpy as np
import pytest

from ric.decision import Reason
from ric.errors import TwinRicError
from xapps.hems_load.fleet import FleetState, decide_fleet, fall_back_fleet
from xapps.hems_load.optimizer import Limits, Optimizer
from xapps.hems_load.policy import HemsPolicy


class Failing(Optimizer):
    def decide(self, state, policy, may_go_on=lambda _: True, groups=None):
        raise TwinRicError("SOLVE-FAILED", "home", "infeasible", "an optimal plan")


@pytest.fixture
def nodes(make_state):
    first = make_state(2, load=2.0, inflexible_kw=2.0, pv=0.0, pv_available_kw=0.0, ev_soc=0.4)
    return FleetState((replace(first, node="a"), replace(first, node="b")))


def test_fleet_policy_acts_only_on_the_node_that_it_names(nodes):
    optimizers = {name: Optimizer(Limits()) for name in "ab"}
    policy = HemsPolicy(e2_node_id="a", import_cap_kw=5.0)
    decision = decide_fleet(nodes, policy, optimizers, lambda _: True)
    assert decision.reason.numbers["a/cap_kw"] == 5.0
    assert "b/cap_kw" not in decision.reason.numbers


def test_fleet_node_whose_plan_fails_gets_the_safe_action_alone(nodes):
    optimizers = {"a": Failing(Limits()), "b": Optimizer(Limits())}
    decision = decide_fleet(nodes, HemsPolicy(), optimizers, lambda _: True)
    assert [node.reason.code for node in decision.nodes] == ["SOLVE_FAILED", "FIRST_PLAN"]
    np.testing.assert_array_equal(decision.nodes[0].homes["battery_kw"], 0)


def test_fleet_failing_everywhere_raises(nodes):
    with pytest.raises(TwinRicError, match="SOLVE-FAILED"):
        decide_fleet(nodes, HemsPolicy(), {name: Failing(Limits()) for name in "ab"}, lambda _: True)


def test_fleet_fallback_covers_every_node(nodes):
    decision = fall_back_fleet(nodes, HemsPolicy(), Reason("STALE_INPUT"), {})
    assert [node.node for node in decision.nodes] == ["a", "b"]
    assert decision.reason.code == "STALE_INPUT"


def test_fleet_late_decision_keeps_the_last_plan_and_a_stale_twin_does_not(nodes):
    optimizers = {name: Optimizer(Limits()) for name in "ab"}
    planned = decide_fleet(nodes, HemsPolicy(), optimizers, lambda _: True)
    late, stale = (fall_back_fleet(nodes, HemsPolicy(), Reason(code), optimizers) for code in ("LATE", "STALE_INPUT"))
    np.testing.assert_allclose(late.nodes[0].homes["hvac_kw"], planned.nodes[0].homes["hvac_kw"])
    np.testing.assert_array_equal(stale.nodes[0].homes["battery_kw"], 0)
    assert late.reason.code == "LATE"


def test_fleet_policies_of_two_nodes_hold_each_at_its_own(nodes):
    optimizers = {name: Optimizer(Limits()) for name in "ab"}
    policy = HemsPolicy.layered(
        [HemsPolicy(e2_node_id="a", import_cap_kw=5.0), HemsPolicy(e2_node_id="b", import_cap_kw=7.0)]
    )
    numbers = decide_fleet(nodes, policy, optimizers, lambda _: True).reason.numbers
    assert (numbers["a/cap_kw"], numbers["b/cap_kw"]) == (5.0, 7.0)


def test_fleet_node_that_cannot_solve_follows_its_last_plan(nodes):
    kept = Failing(Limits())
    Optimizer.decide(kept, nodes.nodes[0], HemsPolicy())
    decision = decide_fleet(nodes, HemsPolicy(), {"a": kept, "b": Optimizer(Limits())}, lambda _: True)
    assert decision.nodes[0].reason.code == "SOLVE_FAILED"
    assert "plan_age_s" in decision.nodes[0].reason.numbers


@pytest.fixture
def street(make_state):
    cheap_now = np.where(np.arange(96) < 8, 0.1, 0.5)
    state = make_state(
        4, buy=cheap_now, load=2.0, inflexible_kw=2.0, pv=0.0, pv_available_kw=0.0, battery_soc=0.5, ev_soc=0.5,
        ev_departure_h=20.0,
    )  # fmt: skip
    rows = np.array([True, True, False, False])
    return FleetState((replace(state, node="a", groups={"street": rows}), replace(state, node="b")))


def layered(*bodies):
    return HemsPolicy.layered([HemsPolicy.model_validate(body) for body in bodies])


def imports(node, state):
    table = node.homes
    return state.report["inflexible_kw"] + table["battery_kw"] + table["ev_kw"] + table["hvac_kw"]


def test_fleet_cap_of_a_group_holds_for_its_homes_and_for_no_others(street):
    policy = layered({"scope": {"home_group": "street"}, "import_cap_kw": 9.0})
    free = decide_fleet(street, HemsPolicy(), {name: Optimizer(Limits()) for name in "ab"}, lambda _: True)
    capped = decide_fleet(street, policy, {name: Optimizer(Limits()) for name in "ab"}, lambda _: True)
    state = street.nodes[0]
    before, after = imports(free.nodes[0], state), imports(capped.nodes[0], state)
    assert before[:2].sum() > 9.0
    assert after[:2].sum() <= 9.0 + 1e-6
    np.testing.assert_allclose(after[2:], before[2:], atol=1e-6)
    np.testing.assert_allclose(imports(capped.nodes[1], state), imports(free.nodes[1], state), atol=1e-6)
    assert capped.reason.numbers["a/street/cap_kw"] == 9.0
    assert capped.nodes[0].missed_kw["cap/street"] == 0
    assert "a/cap_kw" not in capped.reason.numbers


def test_fleet_cap_of_the_node_is_none_of_its_group_and_both_are_told_by_how_much(street):
    policy = layered({"import_cap_kw": 1.0}, {"scope": {"home_group": "street"}, "import_cap_kw": 0.0})
    cold = replace(street.nodes[0], report=dict(street.nodes[0].report) | {"battery_soc": np.zeros(4)})
    made = decide_fleet(FleetState((cold,)), policy, {"a": Optimizer(Limits())}, lambda _: True)
    missed = made.nodes[0].missed_kw
    assert made.reason.code == "CAP_MISSED"
    assert missed["cap/street"] == pytest.approx(4.0, rel=0.5)
    assert missed["cap"] >= missed["cap/street"] + 2.0
    assert made.reason.numbers["street/cap_miss_kw"] == missed["cap/street"]


def test_fleet_event_of_a_group_reduces_what_its_homes_had_planned(street):
    state = street.nodes[0]
    optimizer = Optimizer(Limits())
    decide_fleet(FleetState((state,)), HemsPolicy(), {"a": optimizer}, lambda _: True)
    reference = optimizer.plan.net_kw[:2, :4].sum(axis=0).mean()
    event = {"reduction_kw": 1.0, "start_s": state.time_s, "end_s": state.time_s + 3600}
    policy = layered({"scope": {"home_group": "street"}, "dr_event": event})
    later = replace(state, source_time_ns=state.source_time_ns + 60 * 10**9)
    made = decide_fleet(FleetState((later,)), policy, {"a": optimizer}, lambda _: True)
    assert made.reason.numbers["street/cap_kw"] == pytest.approx(max(reference - 1.0, 0))
    assert imports(made.nodes[0], state)[:2].sum() <= max(reference - 1.0, 0) + 1e-6
