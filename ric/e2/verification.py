"""Whether acknowledged controls show in what the node reports next. Pure.

The service model says how a report shows a parameter. Reports may have been on their way when the node acknowledged, so
a report that disagrees counts only once reports span `settle_s` [s of the node's time] after the first that followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from ric.e2.service_models import Observation
from ric.errors import TwinRicError

__all__ = ["Disagreement", "Verification"]

T = TypeVar("T")

SETTLE_S = 0.3
PATIENCE_S = 10.0
TOLERANCE = 1e-6


class Disagreement(NamedTuple, Generic[T]):
    """A control that the node acknowledged and that its reports do not show."""

    control: T
    parameter: str
    expected: float
    reported: float

    def error(self) -> TwinRicError:
        """E2-UNVERIFIED with both values."""
        remedy = "The node acknowledged the control, its reports disagree."
        return TwinRicError("E2-UNVERIFIED", self.parameter, self.reported, f"{self.expected:g}", remedy)


@dataclass
class _Expectation(Generic[T]):
    control: T
    amount: float
    until_s: float
    first_ns: int | None = None


class Verification(Generic[T]):
    """Amounts that reports have yet to show, by node and reporting service model. `control` is the caller's own."""

    def __init__(self, *, settle_s: float = SETTLE_S, patience_s: float = PATIENCE_S) -> None:
        self._settle_ns = round(settle_s * 1e9)
        self._patience_s = patience_s
        self._expected: dict[tuple[str, str], dict[str, _Expectation[T]]] = {}
        self.agreed = 0
        self.unseen = 0

    def expect(self, e2_node_id: str, oid: str, amounts: Mapping[str, float], control: T, now_s: float) -> None:
        """Look for `amounts` in the node's reports of service model `oid`; they replace what was expected before."""
        if amounts and oid:
            until_s = now_s + self._patience_s
            entries = {parameter: _Expectation(control, amount, until_s) for parameter, amount in amounts.items()}
            self._expected.setdefault((e2_node_id, oid), {}).update(entries)

    def watches(self, e2_node_id: str, oid: str) -> bool:
        """Whether a report of this node and service model has anything to show."""
        return (e2_node_id, oid) in self._expected

    def judge(self, e2_node_id: str, oid: str, observation: Observation, now_s: float) -> list[Disagreement[T]]:
        """What a report refutes. What it confirms, and what was not seen for `patience_s`, is expected no longer."""
        expected = self._expected.get((e2_node_id, oid), {})
        refuted: list[Disagreement[T]] = []
        for parameter, entry in list(expected.items()):
            reported = observation.amounts.get(parameter)
            if reported is None:
                if now_s > entry.until_s:
                    self.unseen += 1
                    del expected[parameter]
                continue
            if abs(reported - entry.amount) <= TOLERANCE:
                self.agreed += 1
                del expected[parameter]
                continue
            if entry.first_ns is None:
                entry.first_ns = observation.source_time_ns
            elif observation.source_time_ns >= entry.first_ns + self._settle_ns:
                refuted.append(Disagreement(entry.control, parameter, entry.amount, reported))
                del expected[parameter]
        if not expected:
            self._expected.pop((e2_node_id, oid), None)
        return refuted

    def forget(self, control: T) -> None:
        """The control is not in force after all."""
        for where, expected in list(self._expected.items()):
            for parameter in [name for name, entry in expected.items() if entry.control is control]:
                del expected[parameter]
            if not expected:
                del self._expected[where]

    def forget_node(self, e2_node_id: str) -> None:
        """The node is gone; what it has in force when it returns is another matter."""
        for where in [each for each in self._expected if each[0] == e2_node_id]:
            del self._expected[where]
