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
    def decide(self, state, policy, may_go_on=lambda: True):
        raise TwinRicError("SOLVE-FAILED", "home", "infeasible", "an optimal plan")


@pytest.fixture
def nodes(make_state):
    first = make_state(2, load=2.0, inflexible_kw=2.0, pv=0.0, pv_available_kw=0.0, ev_soc=0.4)
    return FleetState((replace(first, node="a"), replace(first, node="b")))


def test_fleet_policy_acts_only_on_the_node_that_it_names(nodes):
    optimizers = {name: Optimizer(Limits()) for name in "ab"}
    policy = HemsPolicy(e2_node_id="a", import_cap_kw=5.0)
    decision = decide_fleet(nodes, policy, optimizers, lambda: True)
    assert decision.reason.numbers["a/cap_kw"] == 5.0
    assert "b/cap_kw" not in decision.reason.numbers


def test_fleet_node_whose_plan_fails_gets_the_safe_action_alone(nodes):
    optimizers = {"a": Failing(Limits()), "b": Optimizer(Limits())}
    decision = decide_fleet(nodes, HemsPolicy(), optimizers, lambda: True)
    assert [node.reason.code for node in decision.nodes] == ["SOLVE_FAILED", "FIRST_PLAN"]
    np.testing.assert_array_equal(decision.nodes[0].homes["battery_kw"], 0)


def test_fleet_failing_everywhere_raises(nodes):
    with pytest.raises(TwinRicError, match="SOLVE-FAILED"):
        decide_fleet(nodes, HemsPolicy(), {name: Failing(Limits()) for name in "ab"}, lambda: True)


def test_fleet_fallback_covers_every_node(nodes):
    decision = fall_back_fleet(nodes, HemsPolicy(), Reason("STALE_INPUT"), {})
    assert [node.node for node in decision.nodes] == ["a", "b"]
    assert decision.reason.code == "STALE_INPUT"


def test_fleet_late_decision_keeps_the_last_plan_and_a_stale_twin_does_not(nodes):
    optimizers = {name: Optimizer(Limits()) for name in "ab"}
    planned = decide_fleet(nodes, HemsPolicy(), optimizers, lambda: True)
    late, stale = (fall_back_fleet(nodes, HemsPolicy(), Reason(code), optimizers) for code in ("LATE", "STALE_INPUT"))
    np.testing.assert_allclose(late.nodes[0].homes["hvac_kw"], planned.nodes[0].homes["hvac_kw"])
    np.testing.assert_array_equal(stale.nodes[0].homes["battery_kw"], 0)
    assert late.reason.code == "LATE"


def test_fleet_policies_of_two_nodes_hold_each_at_its_own(nodes):
    optimizers = {name: Optimizer(Limits()) for name in "ab"}
    policy = HemsPolicy.layered(
        [HemsPolicy(e2_node_id="a", import_cap_kw=5.0), HemsPolicy(e2_node_id="b", import_cap_kw=7.0)]
    )
    numbers = decide_fleet(nodes, policy, optimizers, lambda: True).reason.numbers
    assert (numbers["a/cap_kw"], numbers["b/cap_kw"]) == (5.0, 7.0)


def test_fleet_node_that_cannot_solve_follows_its_last_plan(nodes):
    kept = Failing(Limits())
    Optimizer.decide(kept, nodes.nodes[0], HemsPolicy())
    decision = decide_fleet(nodes, HemsPolicy(), {"a": kept, "b": Optimizer(Limits())}, lambda: True)
    assert decision.nodes[0].reason.code == "SOLVE_FAILED"
    assert "plan_age_s" in decision.nodes[0].reason.numbers
