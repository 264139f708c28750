"""What travels on the bus: topics, records, and what one follower has not read yet."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ric.errors import TwinRicError, nearest

__all__ = [
    "COMPACTED_TOPICS", "MAX_RECORD_OCTETS", "RIC_ALARMS", "RIC_DECISIONS", "TOPICS", "TWIN_ACK", "TWIN_DESIRED",
    "TWIN_FORECAST", "TWIN_REPORTED", "URGENT_TOPICS", "BusMessage", "Inbox", "Outgoing", "check_message",
    "check_resumable",
]  # fmt: skip

TWIN_REPORTED, TWIN_DESIRED, TWIN_FORECAST, TWIN_ACK = "twin.reported", "twin.desired", "twin.forecast", "twin.ack"
RIC_DECISIONS, RIC_ALARMS = "ric.decisions", "ric.alarms"
COMPACTED_TOPICS = (TWIN_REPORTED, TWIN_DESIRED, TWIN_FORECAST)
TOPICS = (*COMPACTED_TOPICS, TWIN_ACK, RIC_DECISIONS, RIC_ALARMS)
URGENT_TOPICS = frozenset({RIC_ALARMS})

MAX_RECORD_OCTETS = 8 * 1024 * 1024
INBOX_LENGTH = 10_000


@dataclass(frozen=True)
class BusMessage:
    """One record as it lies on the bus; `headers` are CloudEvents binary-mode headers.

    `position` grows from record to record of one key, and of the whole topic where that has one partition.
    """

    topic: str
    key: str
    value: bytes
    headers: Mapping[str, str]
    position: int = field(default=0, compare=False)


class Outgoing(NamedTuple):
    """One record to publish."""

    key: str
    value: bytes
    headers: Mapping[str, str]


def check_resumable(topic: str) -> None:
    """Raises TwinRicError BUS-RANGE for a topic whose records have no order of their own: compacted, or unknown."""
    check_message(topic, "-", b"")
    if topic in COMPACTED_TOPICS:
        raise TwinRicError("BUS-RANGE", "topic", topic, "a topic that is not compacted")


def check_message(topic: str, key: str, value: bytes) -> None:
    """Raises TwinRicError BUS-RANGE for an unknown topic or an empty key, LIMIT-SIZE for a record that is too large."""
    if topic not in TOPICS:
        raise TwinRicError("BUS-RANGE", "topic", topic, "a topic of the bus", nearest(topic, TOPICS))
    if not key:
        raise TwinRicError("BUS-RANGE", "key", key, "at least one character")
    if len(value) > MAX_RECORD_OCTETS:
        remedy = "Split the table: one twin per E2 node."
        raise TwinRicError("LIMIT-SIZE", f"{topic} {key}", len(value), f"at most {MAX_RECORD_OCTETS} octets", remedy)


class Inbox(AsyncIterator[BusMessage]):
    """What one follower has not read yet: alarms first, else in order of arrival; used on the loop's thread only.

    A follower that reads too slowly loses its own oldest state records (`put` says so), never other followers', and
    finds the gap in their revisions.
    """

    def __init__(self, length: int = INBOX_LENGTH) -> None:
        self._length = length
        self._urgent: deque[BusMessage] = deque()
        self._waiting: deque[BusMessage] = deque()
        self._arrived = asyncio.Event()
        self.closed = False

    @property
    def room(self) -> int:
        """How many records fit before the oldest is pushed out."""
        return self._length - max(len(self._waiting), len(self._urgent))

    def put(self, message: BusMessage) -> int:
        """Add a record; returns how many records that pushed out (0 or 1)."""
        queue = self._urgent if message.topic in URGENT_TOPICS else self._waiting
        queue.append(message)
        self._arrived.set()
        if len(queue) <= self._length:
            return 0
        queue.popleft()
        return 1

    def close(self) -> None:
        """End the iteration once what has arrived is read."""
        self.closed = True
        self._arrived.set()

    async def __anext__(self) -> BusMessage:
        while not self._urgent and not self._waiting:
            if self.closed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._urgent.popleft() if self._urgent else self._waiting.popleft()
