"""Scopes: what they cover, which policy wins, and what is left out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, model_validator

from ric.config import FrozenModel
from ric.errors import TwinRicError
from ric.scopes import Scope, ScopedPolicy, reach_of, resolve


class Window(FrozenModel):
    low: int = 0
    high: int = 10


class Tuning(ScopedPolicy):
    gain: int = 1
    cap_kw: int | None = None
    window: Window = Window()
    least: int = Field(default=0, ge=0)
    most: int = Field(default=100, le=100)

    @model_validator(mode="after")
    def _ordered(self):
        if self.least > self.most:
            raise ValueError("least <= most")
        return self


MEMBERS = list(Scope.model_fields)
names = st.sampled_from(["", "a", "b"])
scopes = st.builds(Scope, **{name: names for name in MEMBERS if name != "s_nssai"}, s_nssai=st.sampled_from(["", "1"]))
values = st.fixed_dictionaries({}, optional={"gain": st.integers(0, 9), "cap_kw": st.none() | st.integers(0, 9)})
policies = st.builds(lambda scope, fields: Tuning(scope=scope, **fields), scopes, values)


@given(scopes, scopes)
def test_scope_covers_against_set_inclusion(one, other):
    restrictions = [{(name, value) for name, value in scope if value} for scope in (one, other)]
    assert one.covers(other) == (restrictions[0] <= restrictions[1])


@given(scopes, scopes)
def test_scope_that_lies_within_another_is_more_specific(one, other):
    if one.covers(other) and one != other:
        assert other.specificity > one.specificity


@given(st.lists(policies, max_size=6), scopes)
def test_policy_at_a_part_takes_each_field_of_the_most_specific_then_newest(held, part):
    effective = Tuning.layered(held).at(part)
    covering = [(p.scope.specificity, i, p) for i, p in enumerate(held) if p.scope.covers(part)]
    for name in ("gain", "cap_kw"):
        setting = [row for row in covering if name in row[2].model_fields_set]
        wanted = getattr(max(setting, key=lambda row: row[:2])[2] if setting else Tuning(), name)
        assert getattr(effective, name) == wanted


@given(st.lists(policies, max_size=5), scopes)
def test_policies_of_other_parts_change_nothing(held, part):
    covering = [policy for policy in held if policy.scope.covers(part)]
    assert Tuning.layered(held).at(part) == Tuning.layered(covering).at(part)


def test_caps_of_two_nodes_do_not_overwrite_each_other():
    caps = {"n1": 10, "n2": 20}
    held = [Tuning(scope=Scope(e2_node_id=node), cap_kw=cap) for node, cap in caps.items()]
    policy = Tuning.layered(held)
    assert {node: policy.at(Scope(e2_node_id=node)).cap_kw for node in (*caps, "n3")} == {**caps, "n3": None}
    assert policy.cap_kw is None


def test_nested_fields_are_overlaid_one_by_one():
    held = [Tuning(window=Window(low=3)), Tuning(window=Window(high=7))]
    assert Tuning.layered(held).window == Window(low=3, high=7)


def test_statement_that_contradicts_one_with_precedence_is_refused_alone():
    node = Scope(e2_node_id="n1")
    held = [Tuning(least=50), Tuning(gain=4), Tuning(scope=node, most=20)]
    made = resolve(Tuning, held)
    assert (made.policy.most, made.policy.least, made.policy.gain) == (20, 0, 4)
    assert made.contributing == {1, 2}
    assert "least <= most" in made.refused[0]
    assert Tuning.layered(held).least == 50, "elsewhere it holds"


def test_policy_without_layers_holds_as_it_is_and_equals_by_content():
    policy = Tuning(gain=5)
    assert policy.at(Scope(cell="c1")) is policy
    assert Tuning.layered([Tuning(gain=5)]) == Tuning.layered([Tuning(gain=5)])
    assert Tuning.layered([]) == Tuning()


def test_reach_of_a_type_with_a_node_field_of_its_own():
    class Older(ScopedPolicy):
        e2_node_id: str = ""

    assert reach_of(Older(e2_node_id="n1")) == Scope(e2_node_id="n1")
    assert reach_of(Window()) == Scope()


@pytest.mark.parametrize("bad", [{"s_nssai": "1-XYZ"}, {"cell": "c" * 129}, {"node": "n1"}])
def test_scope_out_of_range_is_refused(bad):
    from ric.config import validate

    with pytest.raises(TwinRicError, match="scope"):
        validate(Tuning, {"scope": bad}, "A1")


def test_policy_at_a_part_by_those_that_name_it_leaves_out_what_holds_for_the_whole():
    held = [Tuning(gain=3), Tuning(scope=Scope(home_group="g"), most=7), Tuning(scope=Scope(cell="c1"), least=2)]
    part = Scope(e2_node_id="n1", home_group="g", cell="c1")
    everything = Tuning.layered(held).at(part)
    assert (everything.gain, everything.most, everything.least) == (3, 7, 2)
    named = Tuning.layered(held).at(part, naming="home_group")
    assert (named.gain, named.most, named.least) == (Tuning().gain, 7, Tuning().least)
    assert named.model_fields_set == {"most"}
    assert Tuning.layered(held).at(Scope(home_group="other"), naming="home_group") == Tuning()
    assert Tuning(gain=5).at(part, naming="home_group") == Tuning()
