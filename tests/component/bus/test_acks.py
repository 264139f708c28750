"""Answers to desired state are handed over; what is no answer is counted and does not stop the next."""

import asyncio

from ric.bus.acks import follow_acks
from ric.bus.bus import TWIN_ACK, MemoryBus
from ric.bus.record import Ack, AckStatus, encode_ack
from ric.telemetry import Metrics


async def test_acks_are_handed_over_and_malformed_ones_counted():
    bus, metrics, seen = MemoryBus(), Metrics("test"), []
    await bus.start()
    task = asyncio.create_task(follow_acks(bus, metrics, seen.append))
    await asyncio.sleep(0)
    ack = Ack("home_set_point/n", 3, AckStatus.REJECTED, "why", 5)
    for value in (b"\xff\xff", encode_ack(Ack("", 0, AckStatus.EXPIRED, "", 0)), encode_ack(ack)):
        await bus.publish(TWIN_ACK, "k", value, {})
    for _ in range(10):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await bus.stop()
    assert seen == [ack]
    refused = [s for family in metrics.registry.collect() for s in family.samples
               if s.name == "twinric_inputs_refused_total"]  # fmt: skip
    assert {s.labels["code"]: s.value for s in refused} == {"BUS-MALFORMED": 1, "BUS-RANGE": 1}
