"""What a node's reports show of the controls that it acknowledged. Pure data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["UNKNOWN_SPAN", "Observation", "Seen", "Span"]


class Span(NamedTuple):
    """When a control is in force, in the node's time; None where neither acknowledgement nor control says so."""

    since_ns: int | None = None
    until_ns: int | None = None


UNKNOWN_SPAN = Span()


class Seen(NamedTuple):
    """What a report says of one parameter: its amount, the instant from which on it speaks, and what decided over it.

    `low` is the highest lower and `high` the lowest upper limit that the node reports for the period, so that an amount
    beyond them shows as something between itself and the limit; `slack` is what may be added.
    """

    amount: float
    from_ns: int
    low: float = -math.inf
    high: float = math.inf
    slack: float = 0.0

    def range_of(self, asked: float) -> tuple[float, float]:
        """Least and greatest amount that a report shows when `asked` is in force."""
        return min(asked, self.high) - self.slack, max(asked, self.low) + self.slack


class Observation(NamedTuple):
    """What a node reports to be in force: parameter -> what it shows, at `source_time_ns`."""

    source_time_ns: int
    amounts: Mapping[str, Seen]
