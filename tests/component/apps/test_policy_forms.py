"""A generic tool can render a form from each policy type: every leaf has a text, every number a unit and a range."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

from ric.app_policies import policy_type_object
from ric.app_spec import AppSpec, Ric
from ric.scopes import ScopedPolicy

POLICIES = {
    "rapps.demand_twin": "DemandTwinPolicy", "rapps.storage_scheduling": "StorageSchedulingPolicy",
    "xapps.hems_load": "HemsPolicy", "xapps.slice_bandwidth": "SlicePolicy", "xapps.microgrid_guard": "GuardPolicy",
    "dapps.fault_alarm": "FaultAlarmPolicy",
}  # fmt: skip


def _policy_type(app: str) -> Any:
    return getattr(import_module(f"{app}.policy"), POLICIES[app])


def _leaves(schema: dict[str, Any], field: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a form shows: path and keywords of each leaf; references and "or null" are followed."""
    text = {key: field[key] for key in ("description", "default", "unit") if key in field}
    while "$ref" in field or "anyOf" in field:
        if "$ref" in field:
            field = schema["$defs"][field["$ref"].removeprefix("#/$defs/")]
        else:
            field = next(branch for branch in field["anyOf"] if branch.get("type") != "null")
    if "properties" in field:
        for name, child in field["properties"].items():
            yield from _leaves(schema, child, f"{path}.{name}".removeprefix("."))
    else:
        yield path, {**field, **text}


@pytest.mark.parametrize("app", POLICIES)
def test_policy_schema_says_all_that_a_form_needs(app):
    spec = AppSpec(app, Ric.NEAR_RT, 100.0, f"{app}_1.0.0", frozenset())
    schema = policy_type_object(_policy_type(app), spec)["policySchema"]
    leaves = dict(_leaves(schema, schema, ""))
    assert leaves
    assert schema["additionalProperties"] is False
    for path, leaf in leaves.items():
        assert leaf.get("description"), path
        assert leaf.get("type") or leaf.get("enum"), path
        if leaf.get("type") in ("number", "integer"):
            assert leaf.get("unit"), path
            assert {"minimum", "exclusiveMinimum"} & set(leaf), path
            assert {"maximum", "exclusiveMaximum"} & set(leaf), path


@pytest.mark.parametrize(
    "app", ["rapps.demand_twin", "rapps.storage_scheduling", "xapps.microgrid_guard", "dapps.fault_alarm"]
)
def test_policies_of_these_apps_may_be_scoped(app):
    assert issubclass(_policy_type(app), ScopedPolicy)
