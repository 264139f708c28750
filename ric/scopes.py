"""Scopes of A1 policies: what a policy is about, which policies hold where, and which of several wins. Pure.

Precedence, lowest first: the app's defaults, then the policies that cover a scope, the less specific before the more
specific ones, the older before the newer ones. Each field comes from the last policy that sets it. See ADR 0013.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

from pydantic import Field, PrivateAttr, ValidationError

from ric.config import FrozenModel, faults_of

__all__ = ["Resolution", "Scope", "ScopedPolicy", "reach_of", "resolve"]

PolicyT = TypeVar("PolicyT", bound=FrozenModel)


class Scope(FrozenModel):
    """A part of the network and the grid. In a policy an empty member restricts nothing; members are joined by "and".

    The members are in order of precedence, the coarsest first.
    """

    region: str = Field(default="", max_length=128)
    """Part of the grid, such as a feeder; empty for any."""
    e2_node_id: str = Field(default="", max_length=128)
    """E2 node; empty for any."""
    s_nssai: str = Field(default="", pattern=r"^([0-9]{1,3}(-[0-9a-f]{6})?)?$")
    """Network slice, `sst` or `sst-sd` with sd in hexadecimal digits, as in 1-000002; empty for any."""
    cell: str = Field(default="", max_length=128)
    """NR cell (nr_cgi); empty for any."""
    home_group: str = Field(default="", max_length=128)
    """Group of homes; empty for any."""
    microgrid: str = Field(default="", max_length=128)
    """Microgrid; empty for any."""

    def covers(self, part: Scope) -> bool:
        """Whether `part` lies in this scope: each member that is set here is the same there."""
        return all(not value or value == getattr(part, name) for name, value in self)

    @property
    def specificity(self) -> int:
        """The larger, the more specific; the finest member that is set decides, then the next finest."""
        return sum(1 << place for place, (_, value) in enumerate(self) if value)


class _Layers:
    """The policies that an effective policy was made of, and what was made of them per scope."""

    def __init__(self, policies: Sequence[ScopedPolicy]) -> None:
        self.policies = tuple(policies)
        self.made: dict[tuple[Scope, str], Any] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Layers) and self.policies == other.policies

    __hash__ = None  # type: ignore[assignment]


class ScopedPolicy(FrozenModel):
    """Base of the policy types whose policies may be restricted to a part of what the app looks after."""

    scope: Scope = Scope()
    """Where the policy holds; without it, everywhere."""
    _layers: _Layers = PrivateAttr(default_factory=lambda: _Layers(()))

    @classmethod
    def layered(cls, policies: Sequence[Self]) -> Self:
        """What holds everywhere, and, by :meth:`at`, in each scope; `policies` in order of acceptance."""
        everywhere = [policy for policy in policies if reach_of(policy) == Scope()]
        made = resolve(cls, everywhere).policy.model_copy()
        made._layers = _Layers(policies)
        return made

    def at(self, part: Scope, *, naming: str = "") -> Self:
        """The policy that holds in `part`; a policy that was not made by :meth:`layered` holds as it is.

        With `naming` only of policies whose scope sets that member: a limit on a whole is not one on each of its parts.
        """
        layers = self._layers
        if not layers.policies:
            return type(self)() if naming else self
        if (part, naming) not in layers.made:
            reaching = [(policy, reach_of(policy)) for policy in layers.policies]
            covering = [p for p, reach in reaching if reach.covers(part) and (not naming or getattr(reach, naming))]
            layers.made[part, naming] = resolve(type(self), covering).policy
        return layers.made[part, naming]  # type: ignore[no-any-return]


def reach_of(policy: FrozenModel) -> Scope:
    """Where `policy` holds. A type may name the node in a field `e2_node_id` of its own beside `scope`."""
    if not isinstance(policy, ScopedPolicy):
        return Scope()
    node = getattr(policy, "e2_node_id", "")
    return policy.scope.model_copy(update={"e2_node_id": node}) if node else policy.scope


@dataclass(frozen=True)
class Resolution(Generic[PolicyT]):
    """The effective policy, which of the policies (by index) it has a field of, and why others cannot join them."""

    policy: PolicyT
    contributing: frozenset[int]
    refused: Mapping[int, str]


def resolve(model: type[PolicyT], policies: Sequence[PolicyT]) -> Resolution[PolicyT]:
    """One effective policy out of policies of one scope, in order of acceptance.

    A policy whose fields are not valid beside those of policies that take precedence is left out: see `refused`.
    """
    ranked = sorted(range(len(policies)), key=lambda index: (reach_of(policies[index]).specificity, index))
    effective, values = model(), dict[str, Any]()
    contributing, refused = set[int](), dict[int, str]()
    for index in reversed(ranked):
        own = policies[index].model_dump(exclude_unset=True, exclude={"scope"})
        candidate = _filled(values, own)
        if candidate == values and own:
            continue
        try:
            effective = model.model_validate(candidate)
        except ValidationError as error:
            refused[index] = "; ".join(str(fault) for fault in faults_of(error, "A1", model))
            continue
        contributing.add(index)
        values = candidate
    return Resolution(effective, frozenset(contributing), refused)


def _filled(values: Mapping[str, Any], below: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, and from `below` the leaves that they lack."""
    filled = {**below, **values}
    for name in values.keys() & below.keys():
        if isinstance(values[name], dict) and isinstance(below[name], dict):
            filled[name] = _filled(values[name], below[name])
    return filled
