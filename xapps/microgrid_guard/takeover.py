"""Eq (22) of the DoS paper: S_f = C_f(agent) while it agrees with the twin, C_f(twin) once the error has lasted tau.

Two stages: first the microgrid's own controller uses the twin's value, then its neighbours do in the consensus as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ric.columns import ESTIMATED, GOOD, Table
from ric.decision import Reason
from xapps.microgrid_guard.config import GuardConfig
from xapps.microgrid_guard.detector import Verdict, Watch, watched
from xapps.microgrid_guard.model import AGENTS, PERIOD_S, TwinMemory, TwinNetwork, primed, stepped
from xapps.microgrid_guard.policy import AgentPolicies, GuardPolicy, policies_of
from xapps.microgrid_guard.state import NodeMemory, Sample, State

__all__ = [
    "AlarmChange", "Decision", "NodeOutcome", "concluded", "decide", "decided", "held_table", "judged_by_r", "opened",
]  # fmt: skip

Floats = NDArray[np.float64]

EXPECTED_LIMIT = 10.0


@dataclass(frozen=True)
class AlarmChange:
    """An alarm to raise or clear for one microgrid's agent; times [ns], errors and values [1]."""

    node: str
    microgrid: str
    problem: str
    cleared: bool
    onset_ns: int
    time_ns: int
    expected: float
    stated: float


@dataclass(frozen=True)
class NodeOutcome:
    """What one sample led to: the twin to publish and the set-points to send (None for none), until when they hold."""

    node: str
    time_ns: int
    twin: Table | None
    set_points: Table | None
    valid_until_ns: int
    alarms: tuple[AlarmChange, ...]
    valid_for_ms: int


@dataclass(frozen=True)
class Decision:
    """Outcomes in order of time, and the memories that the next decision starts from."""

    source_time_ns: int
    reason: Reason
    outcomes: tuple[NodeOutcome, ...]
    memories: Mapping[str, NodeMemory]


def decide(state: State, policy: GuardPolicy, network: TwinNetwork, config: GuardConfig) -> Decision:
    """Each sample in turn: step the twin, watch the errors, substitute. Raises ArithmeticError for a diverging twin.

    A node with another number of microgrids than the twin has agents is judged without it, as the fallback does.
    """

    def judge(sample: Sample, memory: NodeMemory, continuous: bool) -> tuple[NodeMemory, NodeOutcome]:
        if len(sample.ids) != AGENTS:
            return judged_by_r(sample, memory, continuous, policy)
        memory, expected = _expected(sample, memory, continuous, network, config)
        error = np.abs(sample.contribution_factor - expected)
        policies = policies_of(policy, sample.node, sample.ids)
        return concluded(sample, memory, expected, error, continuous=continuous, policies=policies)

    return decided(state, judge, config, None)


def judged_by_r(
    sample: Sample, memory: NodeMemory, continuous: bool, policy: GuardPolicy
) -> tuple[NodeMemory, NodeOutcome]:
    """Without a twin: R, where healthy agents rest, gives the error, and the last good value stands in."""
    policies = policies_of(policy, sample.node, sample.ids)
    error = np.abs(sample.contribution_factor - sample.reference_r)
    usual = sample.alive & (error <= policies.threshold) & (memory.watch.alarm_ns == 0)
    expected = np.where(usual, sample.contribution_factor, memory.last_good)
    return concluded(sample, memory, expected, error, continuous=continuous, policies=policies, substituted=True)


def decided(
    state: State,
    judge: Callable[[Sample, NodeMemory, bool], tuple[NodeMemory, NodeOutcome]],
    config: GuardConfig,
    reason: Reason | None,
) -> Decision:
    """Hand each new sample with its memory to `judge`; old and repeated samples are passed over."""
    memories = dict(state.memories)
    outcomes = []
    for sample in state.samples:
        memory, continuous = opened(sample, memories.get(sample.node), config)
        if memory is not None:
            memories[sample.node], outcome = judge(sample, memory, continuous)
            outcomes.append(outcome)
    return Decision(state.source_time_ns, reason or _reason(outcomes), tuple(outcomes), memories)


def opened(sample: Sample, memory: NodeMemory | None, config: GuardConfig) -> tuple[NodeMemory | None, bool]:
    """The memory to judge `sample` with and whether it follows without a gap; None where it is old or repeated."""
    if memory is None or memory.ids != sample.ids:
        watch, good = Watch.blank(len(sample.ids)), sample.contribution_factor
        memory = NodeMemory(sample.ids, sample.time_ns, None, 0, 0.0, 0, watch, good)
    elif sample.time_ns <= memory.time_ns:
        return None, False
    elif sample.time_ns - memory.time_ns <= config.longest_gap_s * 1e9:
        return memory, True
    return replace(memory, twin=None, warm_until_ns=sample.time_ns + round(config.warm_up_s * 1e9)), False


def _expected(
    sample: Sample, memory: NodeMemory, continuous: bool, network: TwinNetwork, config: GuardConfig
) -> tuple[NodeMemory, Floats]:
    """The twin at the sample's instant. After a gap it rests at R, and no agent is asked.

    Coarse reports are gaps, one after the other; priming costs 200 steps, so it waits for the second report of a stream
    unless a takeover needs the twin. Until then R, where healthy agents rest, stands in for it.
    """
    twin, lag_ns = memory.twin, sample.time_ns - memory.twin_ns
    if twin is not None and lag_ns <= config.longest_gap_s * 1e9:
        twin = _caught_up(twin, network, memory.twin_r, sample.reference_r, max(1, round(lag_ns / 1e9 / PERIOD_S)))
    elif continuous or (memory.watch.alarm_ns > 0).any():
        twin = primed(network, sample.reference_r)
    else:
        return memory, np.full(len(sample.ids), sample.reference_r)
    expected = twin.contribution_factor.astype(np.float64)
    if not np.isfinite(expected).all():
        raise ArithmeticError("the twin's output is not finite")
    after = replace(memory, twin=twin, twin_ns=sample.time_ns, twin_r=sample.reference_r)
    return after, np.clip(expected, -EXPECTED_LIMIT, EXPECTED_LIMIT)


def _caught_up(twin: TwinMemory, network: TwinNetwork, last_r: float, reference_r: float, periods: int) -> TwinMemory:
    for index in range(1, periods + 1):
        twin = stepped(network, twin, last_r + (reference_r - last_r) * index / periods)
    return twin


def concluded(
    sample: Sample,
    memory: NodeMemory,
    expected: Floats,
    error: Floats,
    *,
    continuous: bool,
    policies: AgentPolicies,
    substituted: bool = False,
) -> tuple[NodeMemory, NodeOutcome]:
    """Watch the errors and substitute by (22), with `expected` (M,) as C_f(twin); `substituted`: it is a held value."""
    verdict = watched(
        memory.watch, error, sample.contribution_factor, sample.alive,
        time_ns=sample.time_ns, continuous=continuous, armed=sample.time_ns >= memory.warm_until_ns, policies=policies,
    )  # fmt: skip
    stage = (verdict.watch.alarm_ns > 0).astype(np.float64) + verdict.watch.in_consensus
    trusted = (stage == 0) & sample.alive & (error <= policies.threshold)
    last_good = np.where(stage > 0, expected, np.where(trusted, sample.contribution_factor, memory.last_good))
    quality = ESTIMATED if substituted or memory.twin is None or sample.time_ns < memory.warm_until_ns else GOOD
    step_ns = max(sample.time_ns - memory.time_ns, 0)
    lasting_ns = max(int(policies.hold_ns.max(initial=0.0)), 3 * step_ns // 2)
    twin = Table("microgrid_twin", sample.ids, {
        "contribution_factor": expected,
        "measured": sample.contribution_factor,
        "error": np.minimum(error, 2 * EXPECTED_LIMIT),
        "taken_over": np.where(policies.take_over, stage, 0.0),
    }, sample.time_ns, {"contribution_factor": np.full(len(sample.ids), quality, dtype=np.uint8)})  # fmt: skip
    after = replace(memory, time_ns=sample.time_ns, watch=verdict.watch, last_good=last_good)
    outcome = NodeOutcome(
        sample.node, sample.time_ns, twin, _set_points(sample, expected, stage, verdict, policies),
        sample.time_ns + lasting_ns, _alarms(sample, expected, memory.watch, verdict), lasting_ns // 1_000_000,
    )  # fmt: skip
    return after, outcome


def _set_points(
    sample: Sample, expected: Floats, stage: Floats, verdict: Verdict, policies: AgentPolicies
) -> Table | None:
    """Rows for agents that the twin stands in for, and for those just released, so that they are back at once."""
    rows = np.flatnonzero(((stage > 0) | verdict.cleared) & policies.take_over)
    if not rows.size:
        return None
    return held_table(sample.ids, rows, expected, stage, sample.time_ns)


def held_table(ids: tuple[str, ...], rows: NDArray[np.intp], expected: Floats, stage: Floats, time_ns: int) -> Table:
    """A `microgrid_substitution` of `expected` at `stage` (1 local, 2 consensus too, 0 neither) for `rows` of `ids`."""
    columns = {
        "contribution_factor": expected[rows],
        "in_local_control": (stage[rows] >= 1).astype(np.float64),
        "in_consensus": (stage[rows] >= 2).astype(np.float64),
    }
    return Table("microgrid_substitution", tuple(ids[row] for row in rows.tolist()), columns, time_ns)


def _alarms(sample: Sample, expected: Floats, before: Watch, verdict: Verdict) -> tuple[AlarmChange, ...]:
    changes = []
    for row in np.flatnonzero(verdict.raised | verdict.cleared).tolist():
        cleared = bool(verdict.cleared[row])
        onset_ns = int(before.alarm_ns[row] if cleared else verdict.onset_ns[row])
        problem = before.problem[row] if cleared else verdict.watch.problem[row]
        stated = float(sample.contribution_factor[row])
        changes.append(
            AlarmChange(
                sample.node, sample.ids[row], problem, cleared, onset_ns, sample.time_ns, float(expected[row]), stated
            )
        )
    return tuple(changes)


def _reason(outcomes: list[NodeOutcome]) -> Reason:
    """Why, in numbers, over all outcomes of the decision."""
    twins = [outcome.twin for outcome in outcomes if outcome.twin is not None]
    taken = sum(int((twin["taken_over"] > 0).sum()) for twin in twins)
    numbers = {
        "agents_taken_over": float(taken),
        "largest_error": max((float(twin["error"].max(initial=0.0)) for twin in twins), default=0.0),
        "alarms_raised": float(sum(not a.cleared for o in outcomes for a in o.alarms)),
        "alarms_cleared": float(sum(a.cleared for o in outcomes for a in o.alarms)),
        "samples": float(len(outcomes)),
    }
    return Reason("TAKEN_OVER" if taken else "AGREEMENT", numbers)
