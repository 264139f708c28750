"""Answers to desired state, followed by those who desired it."""

from __future__ import annotations

from collections.abc import Callable

from ric.bus.bus import TWIN_ACK, Bus
from ric.bus.record import Ack, decode_ack
from ric.errors import TwinRicError
from ric.telemetry import Metrics, logger

__all__ = ["follow_acks"]


async def follow_acks(bus: Bus, metrics: Metrics, handler: Callable[[Ack], None]) -> None:
    """Call `handler` for each answer on `twin.ack` from now on, until the bus stops; malformed ones are counted."""
    async for message in bus.follow([TWIN_ACK]):
        try:
            handler(decode_ack(message.value))
        except TwinRicError as error:
            metrics.count_refused(error.code)
            logger("twins").warning("answer refused", key=message.key, fault=str(error))
