"""One node's decision from state and policy: who decides, what it costs before and after, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ric.decision import Reason
from ric.errors import TwinRicError
from ric.scopes import Scope
from xapps.slice_bandwidth.aggregation import passed_mbit, waited
from xapps.slice_bandwidth.baselines import Situation, gradient_transfer, predict_and_enumerate, static_split
from xapps.slice_bandwidth.lattice import SPLITS, bounds_of, is_urgent
from xapps.slice_bandwidth.model import NEW_ALARM, NO_ALARM, OLD_ALARM, SLICES, STATIC_SLOTS, LinkModel, predict
from xapps.slice_bandwidth.objective import Limits, Objective, evaluate, limits_of, moved_slots
from xapps.slice_bandwidth.policy import Mode, SlicePolicy
from xapps.slice_bandwidth.rl_agent import Learned, Observation, scored
from xapps.slice_bandwidth.safety import BOUND, BUDGET, LONGEST_S, Secured, bounded, in_budget, layers_of, secured
from xapps.slice_bandwidth.state import HISTORY, SliceState

__all__ = [
    "PROTECTION_FIRST", "NodeDecision", "decide", "decide_nodes", "deciding_mode", "explained", "is_protected",
    "observed", "stacked_limits", "warm_up",
]  # fmt: skip

Floats = NDArray[np.float64]

CODES = {
    Mode.RL: "RL_ACTOR",
    Mode.GRADIENT: "GRADIENT_TRANSFER",
    Mode.ORACLE: "PREDICT_AND_ENUMERATE",
    Mode.STATIC: "STATIC_SPLIT",
}
PROTECTION_FIRST = "PROTECTION_FIRST"
NUMBERS = (
    "objective_before", "objective_after", "violations_before", "violations_after", "moved_slots", "alarm",
    *(
        f"{name}_{figure}_{when}"
        for when in ("before", "after")
        for name in SLICES
        for figure in ("flexe_slots", "delay_term", "jitter_term", "bandwidth_term")
    ),
    *(f"{name}_offered_mbps" for name in SLICES),
)  # fmt: skip
"""Numbers of a decision's reason, in this order."""


@dataclass(frozen=True)
class NodeDecision:
    """Slots (3,) for one node, those in force before, eq (3) of both at the last load, and why."""

    e2_node_id: str
    source_time_ns: int
    slots: NDArray[np.int64]
    slots_before: NDArray[np.int64]
    before: Objective
    after: Objective
    reason: Reason
    state: SliceState
    overrides: tuple[str, ...] = ()
    """Layers of the safety layer that changed the controller's choice."""

    @property
    def changed(self) -> bool:
        """True when the split in force must be changed."""
        return not np.array_equal(self.slots, self.slots_before)


def is_protected(state: SliceState, policy: SlicePolicy) -> bool:
    """True while a fault alarm is active and until it has been clear for `policy.alarm_hold_s`."""
    return state.alarm_active or state.alarm_cleared_s < policy.alarm_hold_s


def decide(state: SliceState, policy: SlicePolicy, learned: Learned | None) -> NodeDecision:
    """See :func:`decide_nodes`, for one node."""
    return decide_nodes([state], policy, learned)[0]


def decide_nodes(states: Sequence[SliceState], policy: SlicePolicy, learned: Learned | None) -> list[NodeDecision]:
    """Per node the split that its policy's mode prefers most, secured by the safety layer; the networks run once.

    Source: eq (3) of the distribution-automation paper on the FlexE lattice. Always on the lattice and within floors,
    bandwidth minima, ceilings and, unless a fault alarm overrides it, the rate limit; in modes `rl` and `oracle` within
    the network-calculus bound where a split is, and among those that keep packet delay budgets about as well as any.
    `details["overrides"]` names the layers that changed the choice. Raises TwinRicError MODEL-MISSING in mode `rl`
    without an actor and in mode `oracle` without a forecaster.
    """
    held = [policy.at(Scope(e2_node_id=state.e2_node_id)) for state in states]
    preferences = _preferences(states, held, learned)
    return [_decided(*given, learned) for given in zip(states, held, preferences, strict=True)]


def _decided(
    state: SliceState, policy: SlicePolicy, preference: NDArray[np.floating], learned: Learned | None
) -> NodeDecision:
    alarm = is_protected(state, policy)
    chosen = _secured(state, policy, preference, learned)
    code = PROTECTION_FIRST if alarm else CODES[deciding_mode(policy.mode, state.period_s)]
    made = explained(state, policy, SPLITS[chosen.row], code)
    if not chosen.overrides:
        return made
    details = {**made.reason.details, "overrides": ",".join(chosen.overrides)}
    return replace(made, reason=Reason(code, made.reason.numbers, details), overrides=chosen.overrides)


def deciding_mode(mode: Mode, period_s: float) -> Mode:
    """Who decides at that period: the actor is for the Near-RT loop, beyond it forecast and enumeration stand in."""
    return Mode.ORACLE if mode is Mode.RL and period_s > LONGEST_S else mode


def _preferences(
    states: Sequence[SliceState], policies: Sequence[SlicePolicy], learned: Learned | None
) -> list[NDArray[np.floating]]:
    """How much each node's mode prefers each split, (525,) per node."""
    modes = [deciding_mode(policy.mode, state.period_s) for state, policy in zip(states, policies, strict=True)]
    out: dict[int, NDArray[np.floating]] = {}
    for k, mode in enumerate(modes):
        if mode is Mode.STATIC:
            out[k] = static_split()
        elif mode is Mode.GRADIENT:
            out[k] = gradient_transfer(situation_of(states[k]), limits_of(policies[k]), states[k].link)
    for mode in (Mode.RL, Mode.ORACLE):
        rows = [k for k, held in enumerate(modes) if held is mode]
        if rows:
            made = _learned_preferences(mode, [states[k] for k in rows], [policies[k] for k in rows], learned)
            out |= dict(zip(rows, made, strict=True))
    return [out[k] for k in range(len(states))]


def _learned_preferences(
    mode: Mode, states: Sequence[SliceState], policies: Sequence[SlicePolicy], learned: Learned | None
) -> NDArray[np.floating]:
    """Preferences (N, 525) of actor or forecast for nodes of one mode."""
    if learned is None or (mode is Mode.RL and learned.actor is None):
        name = "actor" if mode is Mode.RL else "forecaster"
        raise TwinRicError("MODEL-MISSING", name, None, f"a loaded {name}", "Run the app's train.py.")
    seen = observed(states, policies)
    same = all(policy is policies[0] for policy in policies)
    limits = limits_of(policies[0]) if same else stacked_limits(policies)
    if mode is Mode.RL:
        return scored(learned, seen, limits)
    return predict_and_enumerate(seen, learned.forecaster, limits)


def observed(states: Sequence[SliceState], policies: Sequence[SlicePolicy]) -> Observation:
    """The nodes (N) as the networks see them: what aggregation links add to delays is left out."""
    own, links = [state.own_ms for state in states], [state.link for state in states]
    return Observation(
        _stacked([state.offered_mbps for state in states]),
        _stacked([state.queue_mbit for state in states]),
        _stacked([delay for delay, _ in own]),
        _stacked([jitter for _, jitter in own]),
        _stacked([state.slots for state in states]),
        np.array([state.period_s for state in states]),
        np.array([_alarm_of(state, policy) for state, policy in zip(states, policies, strict=True)]),
        LinkModel(
            _stacked([link.base_delay_ms for link in links]),
            _stacked([link.burst_mbit for link in links]),
            _stacked([link.buffer_mbit for link in links]),
            _stacked([link.in_step for link in links]),
        ),
    )


def _alarm_of(state: SliceState, policy: SlicePolicy) -> float:
    if state.is_alarm_new:
        return NEW_ALARM
    return OLD_ALARM if is_protected(state, policy) else NO_ALARM


def _stacked(values: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return values[0][None] if len(values) == 1 else np.stack(values)


def stacked_limits(policies: Sequence[SlicePolicy]) -> Limits:
    """The limits (N, ...) of several policies."""
    held = [vars(limits_of(policy)) for policy in policies]
    return Limits(**{name: np.stack([limits[name] for limits in held]) for name in held[0]})


def _secured(
    state: SliceState, policy: SlicePolicy, preference: NDArray[np.floating], learned: Learned | None
) -> Secured:
    alarm = is_protected(state, policy)
    bounds = bounds_of(policy, alarm)
    layers = layers_of(bounds, state.slots, urgent=is_urgent(bounds, state.slots, alarm=alarm))
    if policy.mode in (Mode.RL, Mode.ORACLE):
        load, period_s, limits = state.offered_mbps[-1], np.asarray(state.period_s), limits_of(policy)
        mask = bounded(load, state.queue_mbit, period_s, limits, state.link, layers[-1][1])
        layers.append((BOUND, mask))
        if learned is not None and np.isfinite(limits.budget_ms).any():
            seen = observed([state], [policy])
            layers.append((BUDGET, in_budget(seen, learned.forecaster, limits, mask[None])[0]))
    return secured(preference, layers)


def situation_of(state: SliceState) -> Situation:
    """The last load of a node, for the rules that look no further."""
    return Situation(state.offered_mbps[-1], state.queue_mbit, state.slots, np.asarray(state.period_s))


def explained(state: SliceState, policy: SlicePolicy, slots: NDArray[np.int64], code: str) -> NodeDecision:
    """The decision for `slots` (3,), with eq (3) of the next period before and after, should the last load persist.

    On an aggregation link the wait of the last period is taken to persist as well.
    """
    both = np.array([state.slots, slots])
    load, queue = state.offered_mbps[-1], state.queue_mbit
    prediction = predict(load, queue, both, state.period_s, state.link)
    if state.shared is not None:
        passed = passed_mbit(load, queue, prediction.queue_mbit, both, state.period_s)
        prediction = waited(prediction, state.shared, passed)
    whole = evaluate(prediction, both, limits_of(policy))
    before, after = (Objective(whole.terms[k], whole.violations[k]) for k in (0, 1))
    told = np.concatenate((both[..., None], whole.terms), axis=-1)
    figures = (
        *whole.total.tolist(), *whole.violation_count.tolist(), moved_slots(state.slots, slots),
        is_protected(state, policy),
    )  # fmt: skip
    numbers = dict(zip(NUMBERS, [*map(float, figures), *told.ravel().tolist(), *load.tolist()], strict=True))
    details = {"mode": policy.mode.value, "third_term": policy.third_term.value, "e2_node_id": state.e2_node_id}
    reason = Reason(code, numbers, details)
    return NodeDecision(state.e2_node_id, state.source_time_ns, slots, state.slots, before, after, reason, state)


def warm_up(learned: Learned) -> None:
    """Load, or where nothing is kept compile, what a first decision would otherwise wait for."""
    load, one = np.tile(np.array([8e3, 4e3, 9e3]), (HISTORY, 1)), np.ones(3)
    mode = Mode.ORACLE if learned.actor is None else Mode.RL
    decide(SliceState("", 0, 0.1, load, 0 * one, one, one, one, STATIC_SLOTS), SlicePolicy(mode=mode), learned)
