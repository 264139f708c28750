"""Why an app decided as it did, as data: console, log and bus render it, nothing computes it a second time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["Decided", "Reason"]


@dataclass(frozen=True)
class Reason:
    """A reason code in UPPER_SNAKE_CASE, the numbers it refers to (units in their names) and short texts."""

    code: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)


class Decided(Protocol):
    """What the runtime needs to know of an app's decision."""

    @property
    def reason(self) -> Reason:
        """Why."""
        ...

    @property
    def source_time_ns(self) -> int:
        """Source time of the newest input that the decision used."""
        ...
