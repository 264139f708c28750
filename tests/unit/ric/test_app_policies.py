"""Policies of an app: overlay, scope, refusal, confirmation."""

import pytest
from pydantic import Field

from ric.app_policies import AppPolicies, PolicyOutcome, policy_type_object
from ric.app_spec import AppSpec, Ric
from ric.config import FrozenModel
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
    outcomes = [PolicyOutcome(True), PolicyOutcome(True), PolicyOutcome(False, "OTHER_REASON", "3 kW over")]
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
