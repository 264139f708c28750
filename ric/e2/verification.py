"""Whether acknowledged controls show in what the node reports next. Pure.

The service model says how a report shows a parameter. Where the acknowledgement says since when the value is in force,
the first report of a later period decides. Where it does not, reports may have been on their way when the node
acknowledged: one that disagrees counts only once reports span `settle_s` [s of the node's time] after the first that
followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from ric.e2.observations import UNKNOWN_SPAN, Observation, Seen, Span
from ric.errors import TwinRicError

__all__ = ["Disagreement", "Verification"]

T = TypeVar("T")

SETTLE_S = 0.3
PATIENCE_S = 10.0
SWEEP_S = 1.0
TOLERANCE = 1e-6
ROUNDING_NS = 1_000_000
"""Instants of one node may differ by this and mean the same: they come from seconds in floating point."""


class Disagreement(NamedTuple, Generic[T]):
    """A control that the node acknowledged and that its reports do not show; `low`, `high` is what they would."""

    control: T
    parameter: str
    expected: float
    reported: float
    low: float
    high: float

    def error(self) -> TwinRicError:
        """E2-UNVERIFIED with both values."""
        remedy = "The node acknowledged the control, its reports disagree."
        accepted = f"{self.expected:g}" if self.low == self.high else f"{self.low:g}..{self.high:g}"
        return TwinRicError("E2-UNVERIFIED", self.parameter, self.reported, accepted, remedy)


@dataclass
class _Watch(Generic[T]):
    """One control whose amounts reports have yet to show; `first_ns`: the first report that disagreed, by parameter."""

    control: T
    span: Span
    patient_until_s: float
    first_ns: dict[str, int] = field(default_factory=dict)


class Verification(Generic[T]):
    """Amounts that reports have yet to show, by node and reporting service model. `control` is the caller's own."""

    def __init__(self, *, settle_s: float = SETTLE_S, patience_s: float = PATIENCE_S) -> None:
        self._settle_ns = round(settle_s * 1e9)
        self._patience_s = patience_s
        self._expected: dict[tuple[str, str], dict[str, tuple[float, _Watch[T]]]] = {}
        self._sweep_at_s: dict[tuple[str, str], float] = {}
        self.agreed = 0
        self.unseen = 0

    def expect(
        self,
        e2_node_id: str,
        oid: str,
        amounts: Mapping[str, float],
        control: T,
        now_s: float,
        span: Span = UNKNOWN_SPAN,
    ) -> None:
        """Look for `amounts` in the node's reports of service model `oid`; they replace what was expected before."""
        if amounts and oid:
            watch = _Watch(control, span, now_s + self._patience_s)
            entries = {parameter: (amount, watch) for parameter, amount in amounts.items()}
            self._expected.setdefault((e2_node_id, oid), {}).update(entries)

    def watches(self, e2_node_id: str, oid: str) -> bool:
        """Whether a report of this node and service model has anything to show."""
        return (e2_node_id, oid) in self._expected

    def judge(self, e2_node_id: str, oid: str, observation: Observation, now_s: float) -> list[Disagreement[T]]:
        """What a report refutes. What it confirms, what ran out, and what was not seen for `patience_s`, is expected no
        longer.
        """
        where = e2_node_id, oid
        expected = self._expected.get(where, {})
        refuted: list[Disagreement[T]] = []
        for parameter in expected.keys() & observation.amounts.keys():
            amount, watch = expected[parameter]
            seen, until_ns = observation.amounts[parameter], watch.span.until_ns
            if until_ns is not None and observation.source_time_ns > until_ns:
                continue  # the node went its own way before the period was over; the sweep ends it
            low, high = seen.range_of(amount)
            agrees = low - TOLERANCE <= seen.amount <= high + TOLERANCE
            if not self._is_decided(parameter, watch, seen, observation.source_time_ns, agrees=agrees):
                continue
            del expected[parameter]
            if agrees:
                self.agreed += 1
            else:
                refuted.append(Disagreement(watch.control, parameter, amount, seen.amount, low, high))
        self._sweep(where, observation.source_time_ns, now_s)
        return refuted

    def _is_decided(self, parameter: str, watch: _Watch[T], seen: Seen, source_time_ns: int, *, agrees: bool) -> bool:
        if watch.span.since_ns is not None:
            return seen.from_ns + ROUNDING_NS >= watch.span.since_ns
        if agrees:
            return True
        return source_time_ns >= watch.first_ns.setdefault(parameter, source_time_ns) + max(self._settle_ns, 1)

    def _sweep(self, where: tuple[str, str], source_time_ns: int, now_s: float) -> None:
        expected = self._expected.get(where, {})
        if expected and now_s >= self._sweep_at_s.get(where, 0.0):
            self._sweep_at_s[where] = now_s + SWEEP_S
            for parameter, (_, watch) in list(expected.items()):
                until_ns = watch.span.until_ns
                is_over = now_s > watch.patient_until_s if until_ns is None else source_time_ns > until_ns
                if is_over:
                    self.unseen += 1
                    del expected[parameter]
        if not expected:
            self._drop(where)

    def forget(self, control: T) -> None:
        """The control is not in force after all."""
        for where, expected in list(self._expected.items()):
            for parameter in [name for name, (_, watch) in expected.items() if watch.control is control]:
                del expected[parameter]
            if not expected:
                self._drop(where)

    def forget_node(self, e2_node_id: str) -> None:
        """The node is gone; what it has in force when it returns is another matter."""
        for where in [each for each in self._expected if each[0] == e2_node_id]:
            self._drop(where)

    def _drop(self, where: tuple[str, str]) -> None:
        self._expected.pop(where, None)
        self._sweep_at_s.pop(where, None)
