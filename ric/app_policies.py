"""The A1 policies of one app: laid over the defaults, confirmed once they changed what the app does. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ric.app_spec import AppSpec
from ric.config import FrozenModel, validate
from ric.errors import TwinRicError
from ric.telemetry import Metrics

__all__ = ["AppPolicies", "PolicyOutcome", "policy_type_object"]

EnforceReason = Literal["", "SCOPE_NOT_APPLICABLE", "STATEMENT_NOT_APPLICABLE", "OTHER_REASON"]


@dataclass(frozen=True)
class PolicyOutcome:
    """Whether a policy is enforced and, if not, the A1 reason and by how much it is missed."""

    enforced: bool
    reason: EnforceReason = ""
    text: str = ""


class StatusSink(Protocol):
    """Takes policy statuses on their way to the A1 termination."""

    def report(self, policy_id: str, revision: int, enforced: bool, reason: str = "", text: str = "") -> None:
        """Send one status."""
        ...


@dataclass
class _Held:
    revision: int
    policy: FrozenModel
    told: PolicyOutcome | None = None


def policy_type_object(model: type[FrozenModel], spec: AppSpec) -> dict[str, Any]:
    """The A1 policy type: schemas made from the pydantic model, so that code, schema and docs are one text."""
    status = {
        "type": "object",
        "properties": {
            "enforceStatus": {"enum": ["ENFORCED", "NOT_ENFORCED"]},
            "enforceReason": {"enum": ["SCOPE_NOT_APPLICABLE", "STATEMENT_NOT_APPLICABLE", "OTHER_REASON"]},
        },
        "required": ["enforceStatus"],
    }
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}
    return {"policyTypeId": spec.policy_type_id, "policySchema": schema, "statusSchema": status}


class AppPolicies:
    """Policies in order of acceptance; a later one overrides the fields that it sets."""

    def __init__(
        self, model: type[FrozenModel], spec: AppSpec, metrics: Metrics, applies: Callable[[Any], bool]
    ) -> None:
        self._model = model
        self._spec = spec
        self._metrics = metrics
        self._applies = applies
        self._held: dict[str, _Held] = {}
        self._seen: dict[str, int] = {}
        self._effective: FrozenModel = model()

    def effective(self) -> Any:
        """Defaults overlaid by all policies that apply."""
        return self._effective

    def ids(self) -> list[str]:
        """Ids of the policies held, oldest first."""
        return list(self._held)

    def seen_revision(self, policy_id: str) -> int:
        """Newest revision that arrived, whether or not it was held; 0 for none."""
        return self._seen.get(policy_id, 0)

    def put(self, policy_id: str, revision: int, body: dict[str, Any], sink: StatusSink | None) -> None:
        """Hold a policy; one that does not validate or apply is answered NOT_ENFORCED and changes nothing."""
        if revision < self.seen_revision(policy_id):
            return
        self._seen[policy_id] = revision
        try:
            policy = validate(self._model, body, "A1", unknown_code="A1-UNKNOWN-FIELD")
            outcome = None if self._applies(policy) else PolicyOutcome(False, "SCOPE_NOT_APPLICABLE", "out of scope")
        except TwinRicError as error:
            self._metrics.count_refused(error.code)
            outcome = PolicyOutcome(False, "STATEMENT_NOT_APPLICABLE", str(error))
        if outcome is not None:
            if sink is not None:
                sink.report(policy_id, revision, outcome.enforced, outcome.reason, outcome.text)
            return
        self._held.pop(policy_id, None)
        self._held[policy_id] = _Held(revision, policy)
        self._overlay()

    def delete(self, policy_id: str, revision: int) -> None:
        """Forget a policy unless a later revision is held."""
        if policy_id in self._held and self._held[policy_id].revision <= revision:
            del self._held[policy_id]
            self._overlay()

    def confirm(self, decision: Any, judge: Callable[[Any, Any], PolicyOutcome], sink: StatusSink | None) -> None:
        """Tell the status of each policy whose outcome changed with `decision`."""
        for policy_id, held in self._held.items():
            outcome = self._overridden(policy_id, held) or judge(held.policy, decision)
            if sink is not None and outcome != held.told:
                sink.report(policy_id, held.revision, outcome.enforced, outcome.reason, outcome.text)
            held.told = outcome

    def _overridden(self, policy_id: str, held: _Held) -> PolicyOutcome | None:
        later = list(self._held.values())[list(self._held).index(policy_id) + 1 :]
        fields = held.policy.model_fields_set
        if fields and fields <= {name for other in later for name in other.policy.model_fields_set}:
            return PolicyOutcome(False, "OTHER_REASON", "overridden by a later policy")
        return None

    def _overlay(self) -> None:
        values: dict[str, Any] = {}
        for held in self._held.values():
            values.update({name: getattr(held.policy, name) for name in held.policy.model_fields_set})
        self._effective = self._model.model_construct(**{**dict(self._model()), **values})
