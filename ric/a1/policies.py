"""A1 policies: types, revisions, who confirmed what, and therefore each policy's status. Pure.

A policy is ENFORCED once every connected instance of its app that has it in scope confirmed the revision in force.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import jsonschema
import referencing
from jsonschema.protocols import Validator

from ric.a1.bodies import check_schema, parse_object, schema_faults
from ric.errors import TwinRicError, nearest

__all__ = ["ID_PATTERN", "Policy", "PolicyBook", "PolicyType", "Status", "StatusChange", "parse_type"]

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._~:-]{0,127}$"

Reason = Literal["", "SCOPE_NOT_APPLICABLE", "STATEMENT_NOT_APPLICABLE", "OTHER_REASON"]


@dataclass(frozen=True)
class Status:
    """Whether a policy is enforced and, if not, the A1 reason; `text` is for people and not part of A1-P."""

    enforced: bool
    reason: Reason = ""
    text: str = ""

    def body(self) -> dict[str, str]:
        """The A1-P policy status object."""
        if self.enforced:
            return {"enforceStatus": "ENFORCED"}
        return {"enforceStatus": "NOT_ENFORCED", "enforceReason": self.reason or "OTHER_REASON"}


@dataclass(frozen=True)
class PolicyType:
    """A policy type as its app registered it; `status_schema` is empty when the app gave none."""

    policy_type_id: str
    app_id: str
    policy_schema: Mapping[str, Any]
    status_schema: Mapping[str, Any]

    def body(self) -> dict[str, Any]:
        """The A1-P policy type object."""
        status = {"statusSchema": dict(self.status_schema)} if self.status_schema else {}
        return {"policySchema": dict(self.policy_schema), **status}


@dataclass(frozen=True)
class Policy:
    """One policy; `revision` is drawn from one counter for all, so it also gives the order of acceptance."""

    policy_type_id: str
    policy_id: str
    revision: int
    body: Mapping[str, Any]
    notification_destination: str = ""


@dataclass(frozen=True)
class StatusChange:
    """A status that is not the one told last: a notification is due where the policy names a destination."""

    policy: Policy
    status: Status


def parse_type(app_id: str, policy_type_id: str, text: str) -> PolicyType:
    """The policy type that an app registers. Raises TwinRicError (A1-RANGE, A1-MALFORMED)."""
    if not re.fullmatch(ID_PATTERN, policy_type_id):
        raise TwinRicError("A1-RANGE", "policy_type_id", policy_type_id, ID_PATTERN)
    body = parse_object(text.encode(), "policy_type_json")
    schema, status = body.get("policySchema"), body.get("statusSchema", {})
    if not isinstance(schema, dict) or not isinstance(status, dict):
        raise TwinRicError("A1-MALFORMED", "policySchema", schema, "policySchema and statusSchema as JSON objects")
    for name, candidate in (("policySchema", schema), ("statusSchema", status)):
        check_schema(name, candidate)
    return PolicyType(policy_type_id, app_id, schema, status)


@dataclass
class _TypeEntry:
    policy_type: PolicyType
    validator: Validator
    instances: dict[str, dict[str, tuple[int, Status]]] = field(default_factory=dict)


class PolicyBook:
    """All policy types and policies of one RIC. Methods that change a status return what changed."""

    def __init__(self, last_revision: int = 0) -> None:
        self.last_revision = last_revision
        self._types: dict[str, _TypeEntry] = {}
        self._policies: dict[str, Policy] = {}
        self._of_type: dict[str, dict[str, Policy]] = {}
        self._misfits: dict[str, str] = {}
        self._told: dict[str, Status] = {}

    # Types

    def types(self) -> list[PolicyType]:
        """All types by id."""
        return [self._types[type_id].policy_type for type_id in sorted(self._types)]

    def policy_type(self, type_id: str) -> PolicyType:
        """One type. Raises TwinRicError (A1-UNKNOWN)."""
        return self._entry(type_id).policy_type

    def _entry(self, type_id: str) -> _TypeEntry:
        try:
            return self._types[type_id]
        except KeyError:
            remedy = nearest(type_id[:80], self._types) if self._types else "No app has registered a type yet."
            raise TwinRicError("A1-UNKNOWN", "policyTypeId", type_id, "a registered type", remedy) from None

    def check_owner(self, candidate: PolicyType) -> None:
        """Raises TwinRicError (A1-CONFLICT) when the type belongs to another app."""
        entry = self._types.get(candidate.policy_type_id)
        if entry is not None and entry.policy_type.app_id != candidate.app_id:
            owner = entry.policy_type.app_id
            raise TwinRicError("A1-CONFLICT", "app_id", candidate.app_id, f"{owner!r}, which registered this type")

    def set_type(self, policy_type: PolicyType) -> list[StatusChange]:
        """Take a new type, or a new schema for it; stored policies that no longer fit become NOT_ENFORCED."""
        type_id = policy_type.policy_type_id
        validator = jsonschema.Draft202012Validator(dict(policy_type.policy_schema), registry=referencing.Registry())
        old = self._types.get(type_id)
        self._types[type_id] = _TypeEntry(policy_type, validator, old.instances if old else {})
        for policy in self.policies(type_id):
            self._judge_fit(policy)
        return self._settle(self.policies(type_id))

    # Policies

    def policies(self, type_id: str | None = None) -> list[Policy]:
        """Policies of one type (or all) in order of acceptance. Raises TwinRicError (A1-UNKNOWN)."""
        if type_id is not None:
            self._entry(type_id)
            return list(self._of_type.get(type_id, {}).values())
        return sorted(self._policies.values(), key=lambda policy: policy.revision)

    def find(self, policy_id: str) -> Policy | None:
        """One policy of whatever type, or None."""
        return self._policies.get(policy_id)

    def policy(self, type_id: str, policy_id: str) -> Policy:
        """One policy. Raises TwinRicError (A1-UNKNOWN)."""
        self._entry(type_id)
        policy = self._policies.get(policy_id)
        if policy is None or policy.policy_type_id != type_id:
            raise TwinRicError("A1-UNKNOWN", "policyId", policy_id, f"a policy of type {type_id!r}")
        return policy

    def draft(self, type_id: str, policy_id: str, body: Mapping[str, Any], destination: str) -> Policy:
        """What a PUT would store: an equal body keeps its revision, so that a re-PUT disturbs nobody.

        Another body gets a revision of its own, so that several drafts may wait to be stored.

        Raises TwinRicError: A1-UNKNOWN, A1-CONFLICT, A1-RANGE and A1-UNKNOWN-FIELD with every fault of the body.
        """
        entry = self._entry(type_id)
        held = self._policies.get(policy_id)
        if held is not None and held.policy_type_id != type_id:
            raise TwinRicError("A1-CONFLICT", "policyId", policy_id, f"an id not used by type {held.policy_type_id!r}")
        if not re.fullmatch(ID_PATTERN, policy_id):
            raise TwinRicError("A1-RANGE", "policyId", policy_id, ID_PATTERN)
        faults = schema_faults(entry.validator, body)
        if faults:
            raise TwinRicError.of(faults)
        if held is not None and _same(held.body, body):
            return replace(held, notification_destination=destination)
        self.last_revision += 1
        return Policy(type_id, policy_id, self.last_revision, dict(body), destination)

    def restore(self, policies: Iterable[Policy]) -> None:
        """Take stored policies, whose types may have changed since."""
        for policy in sorted(policies, key=lambda policy: policy.revision):
            self.last_revision = max(self.last_revision, policy.revision)
            self.put(policy)
            self._judge_fit(policy)
            self._told[policy.policy_id] = self.status(policy)

    def put(self, policy: Policy) -> list[StatusChange]:
        """Take a drafted policy, which therefore fits its type."""
        held = self._policies.get(policy.policy_id)
        same_type = self._of_type.setdefault(policy.policy_type_id, {})
        if held is not None and held.revision != policy.revision:
            del same_type[policy.policy_id]
        self._policies[policy.policy_id] = same_type[policy.policy_id] = policy
        self._misfits.pop(policy.policy_id, None)
        if held is None:  # a creation is answered, not notified
            self._told[policy.policy_id] = self.status(policy)
        return self._settle([policy])

    def delete(self, policy: Policy) -> None:
        """Forget a policy; deleting twice is harmless."""
        same_type = self._of_type.get(policy.policy_type_id, {})
        for memory in (self._policies, same_type, self._misfits, self._told):
            memory.pop(policy.policy_id, None)
        for reports in self._entry(policy.policy_type_id).instances.values():
            reports.pop(policy.policy_id, None)

    def fits(self, policy: Policy) -> bool:
        """Whether the policy satisfies the schema now in force, and so may be sent to the app."""
        return policy.policy_id not in self._misfits

    def _judge_fit(self, policy: Policy) -> None:
        entry = self._types.get(policy.policy_type_id)
        faults = schema_faults(entry.validator, policy.body) if entry else []
        self._misfits.pop(policy.policy_id, None)
        if faults:
            self._misfits[policy.policy_id] = str(faults[0])

    # Instances and status

    def instances(self, type_id: str) -> list[str]:
        """Connected instances of the type's app."""
        return sorted(self._entry(type_id).instances)

    def connect(self, type_id: str, instance_id: str) -> list[StatusChange]:
        """An instance connected; what it said on an earlier connection no longer counts."""
        self._entry(type_id).instances[instance_id] = {}
        return self._settle(self.policies(type_id))

    def disconnect(self, type_id: str, instance_id: str) -> list[StatusChange]:
        """An instance is gone, and its confirmations with it."""
        self._entry(type_id).instances.pop(instance_id, None)
        return self._settle(self.policies(type_id))

    def confirm(
        self, type_id: str, instance_id: str, policy_id: str, *, revision: int, status: Status
    ) -> list[StatusChange]:
        """An instance tells what became of a revision. Raises TwinRicError (A1-UNKNOWN) for an unknown policy."""
        policy = self.policy(type_id, policy_id)
        reports = self._entry(type_id).instances.get(instance_id)
        if reports is None or revision != policy.revision:
            return []
        reports[policy_id] = (revision, status)
        return self._settle([policy])

    def status(self, policy: Policy) -> Status:
        """The policy's status over all instances of its app."""
        if policy.policy_id in self._misfits:
            return Status(False, "STATEMENT_NOT_APPLICABLE", self._misfits[policy.policy_id])
        entry = self._types.get(policy.policy_type_id)
        if entry is None or not entry.instances:
            return Status(False, "OTHER_REASON", "no app of this policy type is connected")
        told = [reports.get(policy.policy_id, (0, Status(False))) for reports in entry.instances.values()]
        answers = [status for revision, status in told if revision == policy.revision]
        in_scope = [status for status in answers if status.reason != "SCOPE_NOT_APPLICABLE"]
        refused = [status for status in in_scope if not status.enforced]
        if refused:
            return min(refused, key=lambda status: status.reason != "STATEMENT_NOT_APPLICABLE")
        if len(answers) < len(entry.instances):
            waiting = len(entry.instances) - len(answers)
            return Status(False, "OTHER_REASON", f"{waiting} instance(s) have not confirmed it yet")
        return in_scope[0] if in_scope else answers[0]

    def _settle(self, policies: Iterable[Policy]) -> list[StatusChange]:
        changes = []
        for policy in policies:
            status, told = self.status(policy), self._told.get(policy.policy_id)
            if told is None or told.body() != status.body():
                changes.append(StatusChange(policy, status))
            self._told[policy.policy_id] = status
        return changes


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    # Python takes True for 1; JSON does not.
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
