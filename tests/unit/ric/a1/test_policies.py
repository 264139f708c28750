"""Policy types, revisions and the status life cycle, without any transport."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ric.a1.policies import PolicyBook, PolicyType, Status, parse_type
from ric.errors import TwinRicError

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "weight": {"type": "number", "minimum": 0, "maximum": 1},
        "mode": {"enum": ["eco", "fast"], "type": "string"},
        "cap_kw": {"anyOf": [{"type": "number", "minimum": 0}, {"type": "null"}]},
        "slices": {"type": "array", "items": {"$ref": "#/$defs/Slice"}},
    },
    "$defs": {
        "Slice": {"type": "object", "properties": {"share": {"type": "integer"}}, "required": ["share"],
                  "additionalProperties": False},
    },
    "additionalProperties": False,
}  # fmt: skip
INTEGER = '{"type": "integer"}'
TYPE = PolicyType("t_1.0.0", "app", SCHEMA, {})
ON = Status(True)


def _book(*instances: str) -> PolicyBook:
    book = PolicyBook()
    book.set_type(TYPE)
    for instance in instances:
        book.connect("t_1.0.0", instance)
    return book


def _put(book: PolicyBook, policy_id: str = "p", body: dict[str, Any] | None = None) -> Any:
    policy = book.draft("t_1.0.0", policy_id, body or {}, "http://x/")
    book.put(policy)
    return policy


def _confirm(book: PolicyBook, instance: str, revision: int, status: Status = ON, policy_id: str = "p") -> list[Any]:
    return book.confirm("t_1.0.0", instance, policy_id, revision=revision, status=status)


# Parsing


def test_parse_type_keeps_both_schemas() -> None:
    text = json.dumps({"policySchema": SCHEMA, "statusSchema": {"type": "object"}})
    parsed = parse_type("app", "t_1.0.0", text)
    assert parsed.body() == {"policySchema": SCHEMA, "statusSchema": {"type": "object"}}


@pytest.mark.parametrize(
    ("type_id", "body", "code"),
    [
        pytest.param("", {"policySchema": {}}, "A1-RANGE", id="empty id"),
        pytest.param("a/b", {"policySchema": {}}, "A1-RANGE", id="slash in id"),
        pytest.param("t", {}, "A1-MALFORMED", id="no schema"),
        pytest.param("t", {"policySchema": {"type": "thing"}}, "A1-MALFORMED", id="not a schema"),
        pytest.param("t", {"policySchema": {"$ref": "#/$defs/absent"}}, "A1-MALFORMED", id="dangling reference"),
        pytest.param("t", {"policySchema": {"$ref": "http://x.org/s.json"}}, "A1-MALFORMED", id="remote reference"),
    ],
)
def test_parse_type_unusable_type_is_refused(type_id: str, body: dict[str, Any], code: str) -> None:
    with pytest.raises(TwinRicError, match=code):
        parse_type("app", type_id, json.dumps(body))


# Validation


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        pytest.param({"weight": -1}, [("A1-RANGE", "weight", "0..1")], id="range"),
        pytest.param({"mode": "slow"}, [("A1-RANGE", "mode", 'one of ["eco", "fast"]')], id="enumeration"),
        pytest.param({"mode": 1}, [("A1-RANGE", "mode", 'one of ["eco", "fast"]')], id="two rules, one fault"),
        pytest.param({"slices": [{"share": 1}, {}]}, [("A1-RANGE", "slices[1].share", INTEGER)], id="absent"),
        pytest.param({"slices": {}}, [("A1-RANGE", "slices", '{"type": "array"}')], id="type"),
        pytest.param({"modus": "eco"}, [("A1-UNKNOWN-FIELD", "modus", "a known field")], id="unknown"),
        pytest.param(
            {"weight": 2, "slices": [{"share": 1, "sahre": 2}]},
            [("A1-UNKNOWN-FIELD", "slices[0].sahre", "a known field"), ("A1-RANGE", "weight", "0..1")],
            id="several at once",
        ),
    ],
)
def test_draft_names_every_fault_with_its_range(body: dict[str, Any], faults: list[tuple[str, str, str]]) -> None:
    with pytest.raises(TwinRicError) as refused:
        _book().draft("t_1.0.0", "p", body, "")
    assert [(f.code, f.field, f.accepted) for f in refused.value.faults] == faults


def test_draft_alternatives_name_the_field() -> None:
    with pytest.raises(TwinRicError, match="A1-RANGE cap_kw = -1"):
        _book().draft("t_1.0.0", "p", {"cap_kw": -1}, "")
    assert _book().draft("t_1.0.0", "p", {"cap_kw": None}, "").body == {"cap_kw": None}


def test_draft_unknown_field_gets_a_suggestion() -> None:
    with pytest.raises(TwinRicError, match="Did you mean 'weight'"):
        _book().draft("t_1.0.0", "p", {"wieght": 1}, "")


def test_draft_of_an_unknown_type_or_a_taken_id_is_refused() -> None:
    book = _book()
    _put(book)
    book.set_type(PolicyType("other_1.0.0", "app", {}, {}))
    with pytest.raises(TwinRicError, match="A1-UNKNOWN policyTypeId"):
        book.draft("t", "p", {}, "")
    with pytest.raises(TwinRicError, match="A1-CONFLICT policyId"):
        book.draft("other_1.0.0", "p", {}, "")


def test_draft_equal_body_keeps_its_revision_and_true_is_not_one() -> None:
    book = PolicyBook()
    book.set_type(PolicyType("t_1.0.0", "app", {}, {}))
    first = _put(book, body={"a": 1})
    assert book.draft("t_1.0.0", "p", {"a": 1}, "http://x/") == first
    assert book.draft("t_1.0.0", "p", {"a": True}, "http://x/").revision == first.revision + 1


def test_policies_come_in_order_of_acceptance() -> None:
    book = _book()
    for policy_id in ("b", "c", "a"):
        _put(book, policy_id)
    _put(book, "b", {"weight": 1})
    assert [policy.policy_id for policy in book.policies("t_1.0.0")] == ["c", "a", "b"]


# Status


def test_status_follows_connection_confirmation_and_new_revisions() -> None:
    book = _book()
    policy = _put(book)
    assert book.status(policy).body() == {"enforceStatus": "NOT_ENFORCED", "enforceReason": "OTHER_REASON"}
    assert book.connect("t_1.0.0", "1") == []
    (change,) = _confirm(book, "1", policy.revision)
    assert change.status.body() == {"enforceStatus": "ENFORCED"}
    assert _confirm(book, "1", policy.revision) == [], "the same again is not told again"
    newer = book.draft("t_1.0.0", "p", {"weight": 1}, "")
    (change,) = book.put(newer)
    assert not change.status.enforced
    assert _confirm(book, "1", policy.revision) == [], "a late word on the old revision says nothing on the new one"
    assert not book.status(newer).enforced
    _confirm(book, "1", newer.revision)
    (change,) = book.disconnect("t_1.0.0", "1")
    assert change.status == Status(False, "OTHER_REASON", "no app of this policy type is connected")


SCOPE, STATEMENT = Status(False, "SCOPE_NOT_APPLICABLE"), Status(False, "STATEMENT_NOT_APPLICABLE")
OTHER = Status(False, "OTHER_REASON", "late")


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        pytest.param(ON, ON, ON, id="both"),
        pytest.param(ON, SCOPE, ON, id="the other has nothing in scope"),
        pytest.param(SCOPE, SCOPE, SCOPE, id="nobody has it in scope"),
        pytest.param(ON, OTHER, OTHER, id="one refuses"),
        pytest.param(OTHER, STATEMENT, STATEMENT, id="the graver reason"),
    ],
)
def test_status_over_two_instances(one: Status, two: Status, expected: Status) -> None:
    for first, second in ((one, two), (two, one)):
        book = _book("1", "2")
        policy = _put(book)
        _confirm(book, "1", policy.revision, first)
        assert not book.status(policy).enforced
        _confirm(book, "2", policy.revision, second)
        assert book.status(policy).body() == expected.body()


def test_schema_change_takes_misfits_out_of_force_and_back() -> None:
    book = _book("1")
    policy = _put(book, body={"weight": 1})
    _confirm(book, "1", policy.revision)
    narrow = {**SCHEMA, "properties": {**SCHEMA["properties"], "weight": {"maximum": 0.5}}}
    (change,) = book.set_type(PolicyType("t_1.0.0", "app", narrow, {}))
    assert (change.status.reason, book.fits(policy)) == ("STATEMENT_NOT_APPLICABLE", False)
    book.set_type(TYPE)
    assert book.fits(policy)


def test_type_of_another_app_is_refused() -> None:
    with pytest.raises(TwinRicError, match=r"A1-CONFLICT app_id = 'impostor': accepted 'app'"):
        _book().check_owner(PolicyType("t_1.0.0", "impostor", {}, {}))


class PolicyLife(RuleBasedStateMachine):
    """Any order of puts, deletes, connections and confirmations keeps status and revisions honest."""

    def __init__(self) -> None:
        super().__init__()
        self.book = _book()
        self.confirmed: dict[str, set[tuple[str, int]]] = {}
        self.revisions: list[int] = []

    @rule(policy_id=st.sampled_from("abc"), weight=st.sampled_from([0, 0.5, 1]))
    def put(self, policy_id: str, weight: float) -> None:
        before = self.book.last_revision
        policy = self.book.draft("t_1.0.0", policy_id, {"weight": weight}, "")
        self.book.put(policy)
        assert policy.revision <= before + 1
        self.revisions.append(policy.revision)

    @precondition(lambda self: self.book.policies())
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        policy = data.draw(st.sampled_from(self.book.policies()))
        self.book.delete(policy)
        with pytest.raises(TwinRicError, match="A1-UNKNOWN"):
            self.book.policy("t_1.0.0", policy.policy_id)

    @rule(instance=st.sampled_from("12"))
    def connect(self, instance: str) -> None:
        self.book.connect("t_1.0.0", instance)
        self.confirmed[instance] = set()

    @rule(instance=st.sampled_from("12"))
    def disconnect(self, instance: str) -> None:
        self.book.disconnect("t_1.0.0", instance)
        self.confirmed.pop(instance, None)

    @precondition(lambda self: self.book.policies())
    @rule(data=st.data(), instance=st.sampled_from("12"), late=st.booleans())
    def confirm(self, data: st.DataObject, instance: str, late: bool) -> None:
        policy = data.draw(st.sampled_from(self.book.policies()))
        revision = policy.revision - 1 if late else policy.revision
        _confirm(self.book, instance, revision, policy_id=policy.policy_id)
        if instance in self.confirmed and not late:
            self.confirmed[instance].add((policy.policy_id, revision))

    @invariant()
    def enforced_exactly_when_all_connected_confirmed(self) -> None:
        for policy in self.book.policies():
            key = (policy.policy_id, policy.revision)
            expected = bool(self.confirmed) and all(key in told for told in self.confirmed.values())
            assert self.book.status(policy).enforced == expected

    @invariant()
    def revisions_are_unique(self) -> None:
        held = [policy.revision for policy in self.book.policies()]
        assert len(set(held)) == len(held)


TestPolicyLife = PolicyLife.TestCase
