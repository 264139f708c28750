"""Finds the attacked agent: its error against the twin is above TH for tau, and it leads the errors of the others.

An agent that hears a false value moves too, but less than the liar: in the simulator's network a DoS moves a neighbour
by a fifth of its contribution factor. Hence `dominance`. Blind: a DoS at a contribution factor below TH where the node
does not tell silence (`use_liveness` off), and anything while the twin warms up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xapps.microgrid_guard.policy import AgentPolicies

__all__ = ["Verdict", "Watch", "watched"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Times = NDArray[np.int64]

SILENT_BELOW = 0.02
"""A contribution factor this small at the alarm [1] means a DoS; otherwise the agent states false data."""


@dataclass(frozen=True)
class Watch:
    """Per agent (M,), times [ns], 0 for none: since when suspected, since when in agreement again, when alarmed.

    `in_consensus`: the second stage was reached, it stays until release. `problem`: the alarm's specific problem or "".
    """

    suspect_ns: Times
    agree_ns: Times
    alarm_ns: Times
    in_consensus: Bools
    problem: tuple[str, ...]

    @classmethod
    def blank(cls, agents: int) -> Watch:
        """Nothing suspected."""
        none = np.zeros(agents, dtype=np.int64)
        return cls(none, none, none, np.zeros(agents, dtype=np.bool_), ("",) * agents)


@dataclass(frozen=True)
class Verdict:
    """The watch after one sample; agents (M,) whose alarm it raised or cleared; since when each was suspected [ns]."""

    watch: Watch
    raised: Bools
    cleared: Bools
    onset_ns: Times


def watched(
    watch: Watch,
    error: Floats,
    stated: Floats,
    alive: Bools,
    *,
    time_ns: int,
    continuous: bool,
    armed: bool,
    policies: AgentPolicies,
) -> Verdict:
    """The watch one sample later. Arrays (M,): `error` [1] against the twin, `stated` contribution factor, `alive`.

    Suspicion does not outlive a gap (`continuous` false) and starts only when `armed`; agreement may span a gap.
    """
    led = error >= policies.dominance * error.max(initial=0.0)
    suspect = (error > policies.threshold) & led | policies.use_liveness & ~alive
    alarmed = watch.alarm_ns > 0
    earlier = watch.suspect_ns if continuous else np.zeros_like(watch.suspect_ns)
    suspect_ns = np.where(suspect & ~alarmed & armed, np.where(earlier > 0, earlier, time_ns), 0)
    raised = (suspect_ns > 0) & (time_ns - suspect_ns >= policies.tau_ns)

    agrees = alarmed & alive & (error < policies.release_ratio * policies.threshold)
    agree_ns = np.where(agrees, np.where(watch.agree_ns > 0, watch.agree_ns, time_ns), 0)
    cleared = (agree_ns > 0) & (time_ns - agree_ns >= policies.release_ns)

    alarm_ns = np.where(raised, time_ns, np.where(cleared, 0, watch.alarm_ns))
    ripe = (alarm_ns > 0) & (time_ns - alarm_ns >= policies.consensus_delay_ns)
    in_consensus = (watch.in_consensus | ripe) & (alarm_ns > 0)
    silent = ~alive | (np.abs(stated) < SILENT_BELOW)
    problem = tuple(
        ("DOS" if silent[i] else "FALSE_DATA") if raised[i] else "" if alarm_ns[i] == 0 else watch.problem[i]
        for i in range(len(watch.problem))
    )
    after = Watch(np.where(raised, 0, suspect_ns), np.where(cleared, 0, agree_ns), alarm_ns, in_consensus, problem)
    return Verdict(after, raised, cleared, suspect_ns)
