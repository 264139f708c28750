"""The bus interface and its in-memory form."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["COMPACTED_TOPICS", "TOPICS", "Bus", "BusMessage"]

TWIN_REPORTED, TWIN_DESIRED, TWIN_FORECAST, TWIN_ACK = "twin.reported", "twin.desired", "twin.forecast", "twin.ack"
RIC_DECISIONS, RIC_ALARMS = "ric.decisions", "ric.alarms"
COMPACTED_TOPICS = (TWIN_REPORTED, TWIN_DESIRED, TWIN_FORECAST)
TOPICS = (*COMPACTED_TOPICS, TWIN_ACK, RIC_DECISIONS, RIC_ALARMS)


@dataclass(frozen=True)
class BusMessage:
    """One record as it lies on the bus; `headers` are CloudEvents binary-mode headers."""

    topic: str
    key: str
    value: bytes
    headers: Mapping[str, str]


class Bus(Protocol):
    """Publish and follow keyed records. Both implementations pass `tests/.../BusContract`."""

    async def start(self) -> None:
        """Connect and make the topics. Raises TwinRicError BUS-UNREACHABLE."""
        ...

    async def stop(self) -> None:
        """Flush, close, end all iterators."""
        ...

    async def publish(self, topic: str, key: str, value: bytes, headers: Mapping[str, str]) -> None:
        """Return once the bus holds the record (order per key kept). Raises BUS-UNREACHABLE, LIMIT-SIZE."""
        ...

    def follow(self, topics: Sequence[str], *, from_start: bool = False) -> AsyncIterator[BusMessage]:
        """Records from now on (the position is fixed before this returns), or all that the topics hold and then on."""
        ...

    async def latest(self, topic: str) -> dict[str, BusMessage]:
        """The newest record per key of a compacted topic, as it stands now: what a restarted app rebuilds from."""
        ...
