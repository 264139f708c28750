"""Direct conflicts between xApps: two of them set the same parameter of the same node within a hold time. Pure.

Every control takes a hold on the settings that it makes. A later control of another app that sets a held parameter to
another value conflicts: the app of higher priority wins; between equals the one that holds. Every decision is data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ric.decision import Reason
from ric.errors import TwinRicError

__all__ = ["ConflictDecision", "ConflictMitigation", "ControlIntent"]

HOLD_S = 1.0
SWEEP_ABOVE = 4_096


@dataclass(frozen=True)
class ControlIntent:
    """What one control would set: parameter key -> value, at one node, through one service model."""

    app_id: str
    e2_node_id: str
    oid: str
    settings: Mapping[str, object]


@dataclass(frozen=True)
class Hold:
    """Who set a parameter to what, and until when [s] others must not."""

    app_id: str
    value: object
    until_s: float


@dataclass(frozen=True)
class ConflictDecision:
    """Whether a control may go to the node, and why.

    `reason.code`: NO_CONFLICT, PREEMPTED (it displaces the `losers`), HELD_BY_HIGHER_PRIORITY or HELD_BY_EQUAL_PRIORITY
    (refused; `winner` holds `keys`).
    """

    intent: ControlIntent
    is_admitted: bool
    winner: str
    losers: tuple[str, ...]
    keys: tuple[str, ...]
    reason: Reason
    replaced: Mapping[str, Hold | None] = field(default_factory=dict, repr=False)

    def check(self) -> None:
        """Return when admitted. Raises TwinRicError (E2-CONFLICT) naming winner, parameter and reason."""
        if not self.is_admitted:
            remaining_s = self.reason.numbers["remaining_s"]
            raise TwinRicError(
                "E2-CONFLICT", self.keys[0], self.intent.settings[self.keys[0]],
                f"the value that {self.winner} set ({self.reason.code})",
                f"{self.winner} holds {len(self.keys)} of these parameters for another {remaining_s:.3f} s.",
            )  # fmt: skip


class ConflictMitigation:
    """Holds of all nodes. `priorities`: app id -> priority, larger wins; an app that is not listed has 0."""

    def __init__(self, priorities: Mapping[str, int], *, hold_s: float = HOLD_S) -> None:
        self._priorities = dict(priorities)
        self._hold_s = hold_s
        self._holds: dict[tuple[str, str, str], Hold] = {}
        self._sweep_at = SWEEP_ABOVE

    def decide(self, intent: ControlIntent, now_s: float) -> ConflictDecision:
        """Admit or refuse a control; an admitted one holds its parameters from now on."""
        self._sweep(now_s)
        node, oid = intent.e2_node_id, intent.oid
        held = {key: self._holds.get((node, oid, key)) for key in intent.settings}
        against = {
            key: hold
            for key, hold in held.items()
            if hold is not None
            and hold.app_id != intent.app_id
            and hold.until_s > now_s
            and hold.value != intent.settings[key]
        }
        priority = self._priority(intent.app_id)
        winners = {key: hold for key, hold in against.items() if self._priority(hold.app_id) >= priority}
        if winners:
            return self._refuse(intent, winners, priority, now_s)
        for key, value in intent.settings.items():
            hold = held[key]
            if hold is None or hold.app_id == intent.app_id or hold.until_s <= now_s or key in against:
                self._holds[node, oid, key] = Hold(intent.app_id, value, now_s + self._hold_s)
        losers = tuple(sorted({hold.app_id for hold in against.values()}))
        code = "PREEMPTED" if losers else "NO_CONFLICT"
        numbers = {"priority": float(priority), "parameters": float(len(intent.settings)), "hold_s": self._hold_s}
        reason = Reason(code, numbers, {"losers": ", ".join(losers)} if losers else {})
        return ConflictDecision(intent, True, intent.app_id, losers, tuple(against), reason, held)

    def withdraw(self, decision: ConflictDecision) -> None:
        """The node did not take the control: give back the holds that it took over, drop those that it made."""
        intent = decision.intent
        for key, before in decision.replaced.items():
            name = (intent.e2_node_id, intent.oid, key)
            now = self._holds.get(name)
            if now is None or now.app_id != intent.app_id or now.value != intent.settings[key]:
                continue
            if before is None:
                del self._holds[name]
            else:
                self._holds[name] = before

    def _refuse(
        self, intent: ControlIntent, winners: Mapping[str, Hold], priority: int, now_s: float
    ) -> ConflictDecision:
        key, hold = max(winners.items(), key=lambda item: (self._priority(item[1].app_id), item[1].until_s))
        theirs = self._priority(hold.app_id)
        code = "HELD_BY_HIGHER_PRIORITY" if theirs > priority else "HELD_BY_EQUAL_PRIORITY"
        numbers = {
            "priority": float(priority), "winner_priority": float(theirs), "remaining_s": hold.until_s - now_s,
        }  # fmt: skip
        keys = (key, *(other for other in winners if other != key))
        reason = Reason(code, numbers, {"winner": hold.app_id, "parameter": key})
        return ConflictDecision(intent, False, hold.app_id, (intent.app_id,), keys, reason)

    def _priority(self, app_id: str) -> int:
        return self._priorities.get(app_id, 0)

    def _sweep(self, now_s: float) -> None:
        """Forget holds that have run out, now and then, so that their number follows the controls under way."""
        if len(self._holds) < self._sweep_at:
            return
        self._holds = {name: hold for name, hold in self._holds.items() if hold.until_s > now_s}
        self._sweep_at = max(SWEEP_ABOVE, 2 * len(self._holds))
