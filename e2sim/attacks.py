"""Attacks of a scenario: which are on, and what they come to per agent and for the node's clock.

A DoS silences a microgrid's agent and false data make it state a wrong contribution factor; the grid part carries both
out, so that neighbours hear them too. A clock skew shifts the time that the node stamps on its reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from e2sim.scenario_parts import AttackSpec

__all__ = ["AgentAttack", "attack_on", "clock_offset_s", "under_way"]

MOST_BIAS = 5.0
"""Attacks that add up state at most this much too much [1]."""


@dataclass(frozen=True)
class AgentAttack:
    """What one agent suffers: whether it is silenced, and what is added to the factor that it states [1]."""

    silenced: bool = False
    bias: float = 0.0


def under_way(attacks: Sequence[AttackSpec], offset_s: float) -> tuple[AttackSpec, ...]:
    """Attacks that are on in the step that begins `offset_s` [s] after the scenario's start."""
    tolerance_s = 1e-6
    return tuple(
        attack for attack in attacks if attack.at_s <= offset_s + tolerance_s < attack.at_s + attack.duration_s
    )


def attack_on(attacks: Sequence[AttackSpec], target: str) -> AgentAttack:
    """All that `attacks` do to the agent `target`, together."""
    mine = [attack for attack in attacks if attack.target == target]
    bias = sum(attack.bias for attack in mine if attack.kind == "false_data")
    bias = max(-MOST_BIAS, min(bias, MOST_BIAS))
    return AgentAttack(any(attack.kind == "dos" for attack in mine), bias)


def clock_offset_s(attacks: Sequence[AttackSpec]) -> float:
    """What the node's clock is wrong by [s]."""
    return sum(attack.bias for attack in attacks if attack.kind == "clock_skew")
