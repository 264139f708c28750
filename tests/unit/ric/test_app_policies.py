"""Policies of an app: overlay, scope, refusal, confirmation."""

import pytest
from pydantic import Field

from ric.app_policies import AppPolicies, PolicyOutcome, policy_type_object
from ric.app_spec import AppSpec, Ric
from ric.config import FrozenModel
from ric.scopes import Scope, ScopedPolicy
from ric.telemetry import Metrics


class Tuning(FrozenModel):
    gain: float = Field(default=1.0, ge=0, le=10)
    """Gain [1], 0..10."""
    limit_kw: float = Field(default=5.0, ge=0)
    """Limit [kW]."""
    region: str = ""
    """Where it applies."""


SPEC = AppSpec("hello", Ric.NEAR_RT, 100.0, "hello_1.0.0", frozenset())


class Sink:
    def __init__(self):
        self.told = []

    def report(self, policy_id, revision, enforced, reason="", text=""):
        self.told.append((policy_id, revision, enforced, reason, text))


@pytest.fixture
def policies():
    return AppPolicies(Tuning, SPEC, Metrics("hello"), lambda policy: policy.region != "elsewhere")


def test_app_policies_later_policy_overrides_only_what_it_sets(policies):
    policies.put("a", 1, {"gain": 2.0, "limit_kw": 3.0}, None)
    policies.put("b", 1, {"gain": 4.0}, None)
    assert policies.effective().gain == 4.0
    assert policies.effective().limit_kw == 3.0
    policies.delete("b", 1)
    assert policies.effective().gain == 2.0


def test_app_policies_out_of_range_is_refused_and_changes_nothing(policies):
    sink = Sink()
    policies.put("a", 1, {"gain": 2.0}, sink)
    policies.put("b", 1, {"gain": 99.0}, sink)
    assert policies.effective().gain == 2.0
    ((policy_id, revision, enforced, reason, text),) = sink.told
    assert (policy_id, revision, enforced, reason) == ("b", 1, False, "STATEMENT_NOT_APPLICABLE")
    assert "gain" in text
    assert policies.seen_revision("b") == 1


def test_app_policies_out_of_scope_is_told(policies):
    sink = Sink()
    policies.put("a", 1, {"region": "elsewhere"}, sink)
    assert sink.told[0][3] == "SCOPE_NOT_APPLICABLE"
    assert policies.ids() == []


def test_app_policies_confirm_tells_each_change_once(policies):
    sink = Sink()
    policies.put("a", 1, {"gain": 2.0}, sink)
    outcomes = [None, PolicyOutcome(True), PolicyOutcome(True), None, PolicyOutcome(False, "OTHER_REASON", "3 kW over")]
    for outcome in outcomes:
        policies.confirm(None, lambda *_, outcome=outcome: outcome, sink)
    assert [entry[2:] for entry in sink.told] == [(True, "", ""), (False, "OTHER_REASON", "3 kW over")]


def test_app_policies_fully_overridden_policy_is_not_enforced(policies):
    sink = Sink()
    policies.put("a", 1, {"gain": 2.0}, sink)
    policies.put("b", 1, {"gain": 3.0}, sink)
    policies.confirm(None, lambda *_: PolicyOutcome(True), sink)
    assert [(entry[0], entry[2]) for entry in sink.told] == [("a", False), ("b", True)]


def test_app_policies_older_revision_and_delete_are_ignored(policies):
    policies.put("a", 3, {"gain": 3.0}, None)
    policies.put("a", 2, {"gain": 2.0}, None)
    policies.delete("a", 2)
    assert policies.effective().gain == 3.0


def test_policy_type_object_schema_carries_units_and_ranges():
    schema = policy_type_object(Tuning, SPEC)["policySchema"]
    assert schema["properties"]["limit_kw"]["description"] == "Limit [kW]."
    assert schema["properties"]["gain"]["maximum"] == 10
    assert schema["additionalProperties"] is False


def test_policy_type_object_names_the_unit_of_each_number():
    fields = policy_type_object(Tuning, SPEC)["policySchema"]["properties"]
    assert (fields["gain"]["unit"], fields["limit_kw"]["unit"]) == ("1", "kW")
    assert "unit" not in fields["region"]


class Capped(ScopedPolicy):
    cap_kw: float = Field(default=0.0, ge=0)
    """Cap [kW]."""
    gain: float = 1.0
    """Gain [1]."""


class Scoped:
    """Policies of an app that looks after `parts`, and what it told."""

    def __init__(self, *parts):
        self.parts = list(parts)
        self.sink = Sink()
        self.policies = AppPolicies(Capped, SPEC, Metrics("hello"), lambda _: True, parts=lambda: self.parts)

    def put(self, policy_id, scope, **fields):
        self.policies.put(policy_id, len(self.sink.told) + 1, {"scope": scope, **fields}, self.sink)

    def confirm(self, **options):
        self.policies.confirm(None, lambda *_: PolicyOutcome(True), self.sink, **options)
        return {policy_id: "ENFORCED" if enforced else reason for policy_id, _, enforced, reason, _ in self.sink.told}


N1, N2 = Scope(e2_node_id="n1"), Scope(e2_node_id="n2")


def test_app_policies_caps_of_two_nodes_hold_side_by_side():
    app = Scoped(N1, N2)
    app.put("a", {"e2_node_id": "n1"}, cap_kw=10)
    app.put("b", {"e2_node_id": "n2"}, cap_kw=20)
    policy = app.policies.effective()
    assert [policy.at(part).cap_kw for part in (N1, N2)] == [10, 20]
    assert app.confirm() == {"a": "ENFORCED", "b": "ENFORCED"}


def test_app_policies_scope_that_matches_nothing_is_told_at_once_and_enforced_once_it_does():
    app = Scoped(N1)
    app.put("b", {"e2_node_id": "n2"}, cap_kw=20)
    assert app.sink.told[-1][2:4] == (False, "SCOPE_NOT_APPLICABLE")
    app.parts.append(N2)
    assert app.confirm() == {"b": "ENFORCED"}
    app.parts.remove(N2)
    assert app.confirm() == {"b": "SCOPE_NOT_APPLICABLE"}


def test_app_policies_nothing_is_said_about_scope_while_the_parts_are_unknown():
    app = Scoped()
    app.put("b", {"e2_node_id": "n2"}, cap_kw=20)
    app.put("c", {}, gain=2)
    assert app.confirm() == {"c": "ENFORCED"}


def test_app_policies_overridden_only_where_every_covered_part_is():
    app = Scoped(N1, N2)
    app.put("all", {}, cap_kw=5)
    app.put("one", {"e2_node_id": "n1"}, cap_kw=10)
    assert app.confirm() == {"all": "ENFORCED", "one": "ENFORCED"}
    app.put("two", {"e2_node_id": "n2"}, cap_kw=20)
    assert app.confirm() == {"all": "OTHER_REASON", "one": "ENFORCED", "two": "ENFORCED"}


def test_app_policies_policy_that_came_after_the_decision_began_is_not_confirmed_by_it():
    app = Scoped(N1)
    app.put("a", {}, cap_kw=5)
    version = app.policies.version
    app.put("b", {}, gain=3)
    assert app.confirm(version=version) == {"a": "ENFORCED"}
    assert app.confirm() == {"a": "ENFORCED", "b": "ENFORCED"}


def test_app_policies_own_test_of_an_app_may_change_its_mind():
    known = []
    policies = AppPolicies(Tuning, SPEC, Metrics("hello"), lambda policy: policy.region in known)
    policies.put("a", 1, {"region": "north", "gain": 2.0}, None)
    assert policies.effective().gain == 1.0
    known.append("north")
    assert policies.effective().gain == 2.0
