"""The A1 policies of one app: laid over the defaults per scope, confirmed once they changed what the app does. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ric.app_spec import AppSpec
from ric.config import FrozenModel, validate
from ric.errors import TwinRicError
from ric.scopes import Scope, ScopedPolicy, reach_of, resolve
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
    since: int
    """Version of the policies from which it counts."""
    told: PolicyOutcome | None = None


def policy_type_object(model: type[FrozenModel], spec: AppSpec) -> dict[str, Any]:
    """The A1 policy type: schemas made from the pydantic model, so that code, schema and docs are one text.

    A field's unit, in brackets in its text, is its member `unit` too, for tools that render forms.
    """
    status = {
        "type": "object",
        "properties": {
            "enforceStatus": {"enum": ["ENFORCED", "NOT_ENFORCED"]},
            "enforceReason": {"enum": ["SCOPE_NOT_APPLICABLE", "STATEMENT_NOT_APPLICABLE", "OTHER_REASON"]},
        },
        "required": ["enforceStatus"],
    }
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}
    for part in (schema, *schema.get("$defs", {}).values()):
        for field in part.get("properties", {}).values():
            unit = re.search(r"\[([^\],]+)", field.get("description", ""))
            if unit and _is_numeric(field):
                field["unit"] = unit[1]
    return {"policyTypeId": spec.policy_type_id, "policySchema": schema, "statusSchema": status}


def _is_numeric(field: dict[str, Any]) -> bool:
    branches = [field, *field.get("anyOf", [])]
    return any(branch.get("type") in ("number", "integer") for branch in branches)


class AppPolicies:
    """The policies that an app holds, in order of acceptance, and what became of each.

    `applies` is the app's own test of a policy; `parts` tells what it looks after, and is empty while that is unknown.
    """

    def __init__(
        self,
        model: type[FrozenModel],
        spec: AppSpec,
        metrics: Metrics,
        applies: Callable[[Any], bool],
        *,
        parts: Callable[[], Collection[Scope]] = lambda: (Scope(),),
    ) -> None:
        self._model = model
        self._spec = spec
        self._metrics = metrics
        self._applies = applies
        self._parts = parts
        self._held: dict[str, _Held] = {}
        self._seen: dict[str, int] = {}
        self._effective: FrozenModel = model()
        self._effective_of: tuple[int, tuple[str, ...]] = (0, ())
        self._standing_of: tuple[int, frozenset[Scope]] | None = None
        self._standing: dict[str, PolicyOutcome] = {}
        self.version = 0

    def effective(self) -> Any:
        """Defaults overlaid by all policies that hold everywhere; a scoped type tells by `at` what holds in a scope."""
        applying = tuple(policy_id for policy_id, held in self._held.items() if self._applies(held.policy))
        if self._effective_of != (self.version, applying):
            policies: list[Any] = [self._held[policy_id].policy for policy_id in applying]
            if issubclass(self._model, ScopedPolicy):
                self._effective = self._model.layered(policies)
            else:
                self._effective = resolve(self._model, policies).policy
            self._effective_of = (self.version, applying)
        return self._effective

    def ids(self) -> list[str]:
        """Ids of the policies that apply, oldest first."""
        return [policy_id for policy_id, held in self._held.items() if self._in_scope(held)]

    def seen_revision(self, policy_id: str) -> int:
        """Newest revision that arrived, whether or not it was held; 0 for none."""
        return self._seen.get(policy_id, 0)

    def put(self, policy_id: str, revision: int, body: dict[str, Any], sink: StatusSink | None) -> None:
        """Hold a policy. One that is not valid, or that covers nothing here, is answered NOT_ENFORCED at once."""
        if revision < self.seen_revision(policy_id):
            return
        self._seen[policy_id] = revision
        try:
            policy = validate(self._model, body, "A1", unknown_code="A1-UNKNOWN-FIELD")
        except TwinRicError as error:
            self._metrics.count_refused(error.code)
            if sink is not None:
                sink.report(policy_id, revision, False, "STATEMENT_NOT_APPLICABLE", str(error))
            return
        self._held.pop(policy_id, None)
        self.version += 1
        held = self._held[policy_id] = _Held(revision, policy, self.version)
        if self._parts() and not self._in_scope(held):
            self._tell(policy_id, held, _OUT_OF_SCOPE, sink)

    def delete(self, policy_id: str, revision: int) -> None:
        """Forget a policy unless a later revision is held."""
        if policy_id in self._held and self._held[policy_id].revision <= revision:
            del self._held[policy_id]
            self.version += 1

    def confirm(
        self,
        decision: Any,
        judge: Callable[[Any, Any], PolicyOutcome | None],
        sink: StatusSink | None,
        *,
        version: int | None = None,
    ) -> None:
        """Tell the status of each policy whose outcome changed with `decision`; where `judge` has none it stays.

        A policy that came after `version`, the one that the decision was made with, waits for the next decision.
        """
        for policy_id, standing in self._stood().items():
            held = self._held[policy_id]
            if version is not None and held.since > version:
                continue
            outcome = judge(held.policy, decision) if standing.enforced else standing
            if outcome is not None:
                self._tell(policy_id, held, outcome, sink)

    def _tell(self, policy_id: str, held: _Held, outcome: PolicyOutcome, sink: StatusSink | None) -> None:
        if sink is not None and outcome != held.told:
            sink.report(policy_id, held.revision, outcome.enforced, outcome.reason, outcome.text)
        held.told = outcome

    def _in_scope(self, held: _Held) -> bool:
        if not self._applies(held.policy):
            return False
        reach = reach_of(held.policy)
        return reach == Scope() or any(reach.covers(part) for part in self._parts())

    def _stood(self) -> dict[str, PolicyOutcome]:
        """What the policies' scopes and each other make of them, before any decision is judged."""
        if not self._held:
            return {}
        key = (self.version, frozenset(self._parts()))
        if self._standing_of != key or not issubclass(self._model, ScopedPolicy):  # `applies` may change its mind
            self._standing = dict(self._standings(key[1]))
            self._standing_of = key
        return self._standing

    def _standings(self, parts: frozenset[Scope]) -> Iterator[tuple[str, PolicyOutcome]]:
        ids = list(self._held)
        applying = [policy_id for policy_id in ids if self._applies(self._held[policy_id].policy)]
        covered, contributing, refused = set[str](), set[str](), dict[str, str]()
        for part in parts or {Scope()}:
            here = [policy_id for policy_id in applying if reach_of(self._held[policy_id].policy).covers(part)]
            made = resolve(self._model, [self._held[policy_id].policy for policy_id in here])
            covered.update(here)
            contributing |= {here[index] for index in made.contributing}
            refused.update({here[index]: text for index, text in made.refused.items()})
        for policy_id in ids:
            if policy_id not in covered:
                if parts:
                    yield policy_id, _OUT_OF_SCOPE
            elif policy_id in refused:
                yield policy_id, PolicyOutcome(False, "STATEMENT_NOT_APPLICABLE", refused[policy_id])
            elif policy_id not in contributing:
                text = "overridden by policies that are more specific or newer"
                yield policy_id, PolicyOutcome(False, "OTHER_REASON", text)
            else:
                yield policy_id, PolicyOutcome(True)


_OUT_OF_SCOPE = PolicyOutcome(False, "SCOPE_NOT_APPLICABLE", "nothing that this app looks after is in its scope")
