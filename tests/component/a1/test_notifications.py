"""Notifications of many policies at once: none is dropped, a peer is not flooded, a dead one delays nobody."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response

from ric.clock import WallClock
from ric.delivery import PER_PEER, Delivery, RetryPlan
from ric.servers import serve
from ric.telemetry import Metrics

POLICIES, DEAD = 250, 50


async def test_news_of_many_policies_all_arrive_a_few_at_a_time(kit: SimpleNamespace) -> None:
    received: list[Any] = []
    under_way = [0, 0]
    receiver = FastAPI()

    @receiver.post("/status")
    async def status(request: Request) -> Response:
        under_way[0] += 1
        under_way[1] = max(under_way)
        received.append((await request.json())["number"])
        await asyncio.sleep(0)
        under_way[0] -= 1
        return Response(status_code=204)

    metrics = Metrics("notifications")
    delivery = Delivery("a1_notifications", WallClock(), metrics, RetryPlan(attempts=2, first_wait_s=0.01))
    async with serve(receiver, "127.0.0.1", 0) as port:
        for number in range(DEAD):
            delivery.post(f"dead{number}", "http://127.0.0.1:9/status", {"number": -1})
        for number in range(POLICIES):
            delivery.post(f"p{number}", f"http://127.0.0.1:{port}/status", {"number": number})
        await kit.eventually(lambda: len(received) == POLICIES, "every policy's status arrives", 60)
        await delivery.stop()
    assert sorted(received) == list(range(POLICIES))
    assert 1 < under_way[1] <= PER_PEER
