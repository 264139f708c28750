"""Conflicts between xApps, found and settled before a control leaves: direct, indirect and implicit. Pure.

Every control takes a hold on the parameters that it sets. Direct: another app sets a held parameter to another value.
Indirect: a slice control starves traffic that another app declared. Implicit: a control pushes a quantity one way while
another app's live controls of other parameters push it the other way. The app of higher priority wins; between equals
the one that was there. Every decision is data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ric.decision import Reason
from ric.e2.conflict_policy import ConflictPolicy
from ric.e2.couplings import SLICE, Couplings, Push, Pushes
from ric.errors import TwinRicError

__all__ = ["ConflictDecision", "ConflictMitigation", "ControlIntent"]

HOLD_S = 1.0
SWEEP_ABOVE = 4_096


@dataclass(frozen=True)
class ControlIntent:
    """What one control would set: parameter -> value, at one node, through one service model.

    `quantities`: those settings that are amounts, parameter -> amount in the parameter's unit.
    """

    app_id: str
    e2_node_id: str
    oid: str
    settings: Mapping[str, object]
    quantities: Mapping[str, float] = field(default_factory=dict)


class _Grant(NamedTuple):
    """Who controls, and until when [s] others must not."""

    app_id: str
    until_s: float


_Hold = tuple[object, _Grant]
"""Value and grant of one parameter."""


@dataclass(frozen=True)
class ConflictDecision:
    """Whether a control may go to the node, and why.

    `reason.code`: NO_CONFLICT; PREEMPTED (it displaces the `losers`); HELD_BY_HIGHER_PRIORITY, HELD_BY_EQUAL_PRIORITY,
    STARVES_TRAFFIC or OPPOSES_CONTROL (refused in favour of `winner`, or admitted and only reported: where the policy
    says so, or as the node was told already); EFFECT_NOT_SEEN (told later: the node's reports disagree with its
    acknowledgement). `reason.details` says which kind of conflict it was; `keys` are the parameters concerned, the
    first one leads.
    """

    intent: ControlIntent
    is_admitted: bool
    winner: str
    losers: tuple[str, ...]
    keys: tuple[str, ...]
    reason: Reason
    undo: _Undo | None = field(default=None, repr=False)

    def check(self) -> None:
        """Return when admitted. Raises TwinRicError (E2-CONFLICT) naming winner, parameter and reason."""
        if self.is_admitted:
            return
        key, numbers, winner, code = self.keys[0], self.reason.numbers, self.winner, self.reason.code
        if code == "STARVES_TRAFFIC":
            accepted = f"at least {numbers['needed_percent']:.4g} %, or traffic of {winner} starves ({code})"
            remedy = f"This grants {numbers['granted_mbps']:.4g} Mb/s, {numbers['needed_mbps']:.4g} Mb/s are needed."
        elif code == "OPPOSES_CONTROL":
            accepted = f"nothing that works against {winner} on {self.reason.details['target']} ({code})"
            remedy = f"It pushes by {numbers['push']:+.4g}, {winner} by {numbers['winner_push']:+.4g}."
        else:
            accepted = f"the value that {winner} set ({code})"
            held = len(self.keys)
            remedy = f"{winner} holds {held} of these parameters for another {numbers['remaining_s']:.3f} s."
        raise TwinRicError("E2-CONFLICT", key, self.intent.settings[key], accepted, remedy)


@dataclass
class _Undo:
    """What a decision replaced, for the case that the node does not take the control."""

    grant: _Grant
    holds: Mapping[str, _Hold | None]
    pushes: dict[str, tuple[Push, Push]]


class _Objection(NamedTuple):
    """One app against the control."""

    kind: str
    app_id: str
    keys: tuple[str, ...]
    numbers: Mapping[str, float]
    details: Mapping[str, str]


class ConflictMitigation:
    """Holds and pushes of all nodes. `priorities` (app id -> priority, larger wins, unnamed: 0) and `hold_s` are what
    stands where the policy says nothing.
    """

    def __init__(self, priorities: Mapping[str, int], *, hold_s: float = HOLD_S) -> None:
        self._base = dict(priorities), hold_s
        self._holds: dict[tuple[str, str], dict[str, _Hold]] = {}
        self._sweep_at: dict[tuple[str, str], int] = {}
        self._in_force: dict[tuple[str, str], dict[str, float]] = {}
        self._pushes: dict[tuple[str, str], dict[str, Push]] = {}
        self.configure(ConflictPolicy())

    def configure(self, policy: ConflictPolicy) -> None:
        """Settle conflicts by `policy` from the next control on; holds that stand run out as they were given."""
        priorities, hold_s = self._base
        self.policy = policy
        self._priorities = {**priorities, **policy.priorities}
        self._hold_s = hold_s if policy.hold_s is None else policy.hold_s
        self._couplings = Couplings(policy)

    # The decision -----------------------------------------------------------------------------------------------------

    def decide(self, intent: ControlIntent, now_s: float, *, is_told: bool = False) -> ConflictDecision:
        """Admit or refuse a control; an admitted one holds its parameters from now on.

        With `is_told` the node knows already, by a way that the RIC does not guard: admitted, whatever speaks against.
        """
        pushes = self._pushes_of(intent, now_s)
        table = self._holds.get((intent.e2_node_id, intent.oid), {})
        held = dict(zip(intent.settings, map(table.get, intent.settings), strict=True))
        objections, is_shared = self._direct(intent, held, now_s)
        objections += self._indirect(intent)
        objections += self._implicit(intent, pushes, now_s)
        priority = self._priority(intent.app_id)
        refusing = [each for each in objections if self._refuses(each, priority)]
        if refusing and not is_told:
            return self._refuse(intent, refusing, priority)
        undo = self._take(intent, held, is_shared, now_s)
        self._push(intent, pushes, undo, now_s)
        return self._admit(intent, objections, priority, undo)

    @staticmethod
    def _direct(intent: ControlIntent, held: Mapping[str, _Hold | None], now_s: float) -> tuple[list[_Objection], bool]:
        """Who holds another value, and whether anybody else holds the same."""
        against: dict[str, list[str]] = {}
        until: dict[str, float] = {}
        is_shared, asking = False, intent.app_id
        grants = {hold[1] for hold in held.values() if hold}
        if not any(app_id != asking and until_s > now_s for app_id, until_s in grants):
            return [], False  # the usual case, and the quick one for a fleet's hundreds of parameters
        for (key, hold), value in zip(held.items(), intent.settings.values(), strict=True):
            if hold is None:
                continue
            app_id, until_s = hold[1]
            if app_id == asking or until_s <= now_s:
                continue
            if hold[0] == value:
                is_shared = True
                continue
            against.setdefault(app_id, []).append(key)
            until[app_id] = max(until.get(app_id, 0.0), until_s)
        objections = [
            _Objection("direct", app_id, tuple(keys), {"remaining_s": until[app_id] - now_s}, {})
            for app_id, keys in against.items()
        ]
        return objections, is_shared

    def _indirect(self, intent: ControlIntent) -> Iterator[_Objection]:
        if not self._couplings.has_demands:
            return
        in_force = self._in_force.get((intent.e2_node_id, intent.oid), {})
        for key, percent in intent.quantities.items():
            if not key.startswith(SLICE) or in_force.get(key, 101.0) <= percent:
                continue  # what takes nothing away starves nobody
            load = self._couplings.slice_load(intent.app_id, intent.e2_node_id, key, percent)
            if load is None:
                continue
            numbers = {
                "granted_mbps": load.granted_mbps, "needed_mbps": load.needed_mbps,
                "needed_percent": load.needed_percent,
            }  # fmt: skip
            for app_id in load.starved:
                yield _Objection("indirect", app_id, (key,), numbers, {})

    def _implicit(self, intent: ControlIntent, pushes: Mapping[str, Pushes], now_s: float) -> Iterator[_Objection]:
        for target, push in pushes.items():
            others = self._pushes.get((intent.e2_node_id, target), {})
            own = others.get(intent.app_id)
            before = own.amount if own is not None and own.until_s > now_s else 0.0
            if before * push.amount > 0 and abs(push.amount) <= abs(before):
                continue  # it gives way
            for app_id, other in others.items():
                if app_id == intent.app_id or other.until_s <= now_s or other.amount * push.amount >= 0:
                    continue
                if min(abs(other.amount), abs(push.amount)) > push.dead_band:
                    keys = tuple(sorted(push.by_parameter, key=lambda key: -abs(push.by_parameter[key])))
                    numbers = {
                        "push": push.amount, "winner_push": other.amount, "remaining_s": other.until_s - now_s,
                    }  # fmt: skip
                    yield _Objection("implicit", app_id, keys, numbers, {"target": target})

    def _refuses(self, objection: _Objection, priority: int) -> bool:
        mode = {"indirect": self.policy.on_indirect, "implicit": self.policy.on_implicit}.get(objection.kind, "refuse")
        return mode == "refuse" and self._priority(objection.app_id) >= priority

    def _refuse(self, intent: ControlIntent, refusing: list[_Objection], priority: int) -> ConflictDecision:
        lead = max(refusing, key=lambda each: (self._priority(each.app_id), _ORDER[each.kind]))
        theirs = self._priority(lead.app_id)
        code = _code_of(lead, is_higher=theirs > priority)
        numbers = {"priority": float(priority), "winner_priority": float(theirs), **lead.numbers}
        details = {"conflict": lead.kind, "winner": lead.app_id, "parameter": lead.keys[0], **lead.details}
        keys = tuple(dict.fromkeys(key for each in (lead, *refusing) for key in each.keys))
        return ConflictDecision(intent, False, lead.app_id, (intent.app_id,), keys, Reason(code, numbers, details))

    def _admit(
        self, intent: ControlIntent, objections: list[_Objection], priority: int, undo: _Undo
    ) -> ConflictDecision:
        numbers: dict[str, float] = {
            "priority": float(priority),
            "parameters": float(len(intent.settings)),
            "hold_s": self._hold_s,
        }
        if not objections:
            return ConflictDecision(intent, True, intent.app_id, (), (), Reason("NO_CONFLICT", numbers), undo)
        lead = max(objections, key=lambda each: (self._priority(each.app_id), _ORDER[each.kind]))
        losers = tuple(sorted({each.app_id for each in objections}))
        theirs = self._priority(lead.app_id)
        code = "PREEMPTED" if theirs < priority else _code_of(lead, is_higher=theirs > priority)
        details = {"conflict": lead.kind, "losers": ", ".join(losers), "parameter": lead.keys[0], **lead.details}
        keys = tuple(dict.fromkeys(key for each in objections for key in each.keys))
        reason = Reason(code, {**numbers, **lead.numbers}, details)
        return ConflictDecision(intent, True, intent.app_id, losers, keys, reason, undo)

    # What is held -----------------------------------------------------------------------------------------------------

    def _take(self, intent: ControlIntent, held: Mapping[str, _Hold | None], is_shared: bool, now_s: float) -> _Undo:
        where, app_id = (intent.e2_node_id, intent.oid), intent.app_id
        grant = _Grant(app_id, now_s + self._hold_s)
        table = self._holds.setdefault(where, {})
        taken = {key: (value, grant) for key, value in intent.settings.items()}
        if is_shared:  # who sets the same value as a live holder is welcome, and the hold stays with the holder
            for key, hold in held.items():
                if hold and hold[1].app_id != app_id and hold[1].until_s > now_s and hold[0] == taken[key][0]:
                    del taken[key]
        table.update(taken)
        self._sweep(where, now_s)
        return _Undo(grant, {key: held[key] for key in taken} if is_shared else held, {})

    def _push(self, intent: ControlIntent, pushes: Mapping[str, Pushes], undo: _Undo, now_s: float) -> None:
        for target, push in pushes.items():
            before = self._push_now(intent.e2_node_id, target, intent.app_id, now_s)
            after = Push(undo.grant.until_s, push.amount, {**before.by_parameter, **push.by_parameter})
            self._pushes.setdefault((intent.e2_node_id, target), {})[intent.app_id] = after
            undo.pushes[target] = (before, after)

    def _pushes_of(self, intent: ControlIntent, now_s: float) -> dict[str, Pushes]:
        if not intent.quantities:
            return {}
        in_force = self._in_force.get((intent.e2_node_id, intent.oid), {})
        mine: dict[str, Push] = {}

        def my_push(target: str) -> Push:
            if target not in mine:
                mine[target] = self._push_now(intent.e2_node_id, target, intent.app_id, now_s)
            return mine[target]

        return self._couplings.pushes(intent.quantities, in_force.get, my_push)

    def _push_now(self, e2_node_id: str, target: str, app_id: str, now_s: float) -> Push:
        push = self._pushes.get((e2_node_id, target), {}).get(app_id)
        return push if push is not None and push.until_s > now_s else Push(now_s)

    def applied(self, decision: ConflictDecision) -> None:
        """The node acknowledged the control: its values are in force."""
        intent = decision.intent
        if not intent.quantities:
            return
        in_force = self._in_force.setdefault((intent.e2_node_id, intent.oid), {})
        needed = self._couplings.needs_value_in_force
        in_force.update({key: value for key, value in intent.quantities.items() if needed(key)})

    def observed(self, e2_node_id: str, oid: str, parameter: str, amount: float) -> None:
        """The node reports that this is in force."""
        self._in_force.setdefault((e2_node_id, oid), {})[parameter] = amount

    def withdraw(self, decision: ConflictDecision) -> None:
        """The control is not in force: give back the holds and pushes that it took over, drop those that it made."""
        intent, undo = decision.intent, decision.undo
        if undo is None:
            return
        table = self._holds.get((intent.e2_node_id, intent.oid), {})
        for key, before in undo.holds.items():
            now = table.get(key)
            if now is None or now[1] is not undo.grant:
                continue
            if before is None:
                del table[key]
            else:
                table[key] = before
        for target, (earlier, ours) in undo.pushes.items():
            pushes = self._pushes.get((intent.e2_node_id, target), {})
            if pushes.get(intent.app_id) is ours:  # else a later control has said anew what the app does
                pushes[intent.app_id] = earlier

    def forget_node(self, e2_node_id: str) -> None:
        """The node is gone; what it has in force when it returns is unknown."""
        for where in [each for each in self._in_force if each[0] == e2_node_id]:
            del self._in_force[where]
        for where in [each for each in self._pushes if each[0] == e2_node_id]:
            del self._pushes[where]

    @property
    def holds(self) -> int:
        """Holds in memory, those included that ran out since they were last swept."""
        return sum(map(len, self._holds.values()))

    def _priority(self, app_id: str) -> int:
        return self._priorities.get(app_id, 0)

    def _sweep(self, where: tuple[str, str], now_s: float) -> None:
        """Forget holds that have run out, now and then, so that their number follows the controls under way."""
        table = self._holds[where]
        if len(table) < self._sweep_at.get(where, SWEEP_ABOVE):
            return
        for key in [key for key, (_, grant) in table.items() if grant[1] <= now_s]:
            del table[key]
        self._sweep_at[where] = max(SWEEP_ABOVE, 2 * len(table))


def _code_of(objection: _Objection, *, is_higher: bool) -> str:
    """Why the control is refused, or was told against: `is_higher` is the priority of who objects."""
    return _REFUSED.get(objection.kind) or f"HELD_BY_{'HIGHER' if is_higher else 'EQUAL'}_PRIORITY"


_ORDER = {"direct": 2, "indirect": 1, "implicit": 0}
_REFUSED = {"indirect": "STARVES_TRAFFIC", "implicit": "OPPOSES_CONTROL"}
