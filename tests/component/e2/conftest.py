"""A RIC and E2 nodes on loopback gRPC in one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import pytest

from ric.clock import WallClock
from ric.e2.client import E2Client
from ric.e2.identities import NodeIdentity, RanFunction
from ric.e2.node import E2NodeConnection, NodeSubscription
from ric.e2.platform import BoundPorts, E2Platform
from ric.e2sm import ccc, kpm
from ric.telemetry import Metrics


@dataclass
class FakeFunction:
    """A RAN function that admits everything and echoes controls; tests set its knobs."""

    definition: RanFunction
    refuse: Exception | None = None
    outcome: bytes | None = None
    delay_s: float = 0.0
    subscriptions: dict[object, NodeSubscription] = field(default_factory=dict)
    deleted: list[NodeSubscription] = field(default_factory=list)
    controls: list[tuple[bytes, bytes]] = field(default_factory=list)

    async def subscribe(self, subscription: NodeSubscription) -> Sequence[int]:
        if self.refuse is not None:
            raise self.refuse
        self.subscriptions[subscription.ric_request_id] = subscription
        return [action.ric_action_id for action in subscription.actions]

    async def delete(self, subscription: NodeSubscription) -> None:
        self.subscriptions.pop(subscription.ric_request_id, None)
        self.deleted.append(subscription)

    async def control(self, header: bytes, message: bytes) -> bytes:
        await asyncio.sleep(self.delay_s)
        if self.refuse is not None:
            raise self.refuse
        self.controls.append((header, message))
        return message if self.outcome is None else self.outcome


class FakeNode:
    """One E2 node with KPM and CCC."""

    def __init__(self, port: int, number: int = 1, keep_alive_ms: int = 5_000) -> None:
        self.kpm = FakeFunction(RanFunction(kpm.RAN_FUNCTION_ID, kpm.OID))
        self.ccc = FakeFunction(RanFunction(ccc.RAN_FUNCTION_ID, ccc.OID))
        self.identity = NodeIdentity("00101", 0xE2000000 + number)
        self.metrics = Metrics("e2_node")
        self.connection = E2NodeConnection(
            f"127.0.0.1:{port}", self.identity, [self.kpm, self.ccc], metrics=self.metrics, keep_alive_ms=keep_alive_ms,
            back_off_s=(0.02, 0.1),
        )  # fmt: skip

    @property
    def name(self) -> str:
        return self.identity.e2_node_id

    async def report(self, header: bytes, message: bytes) -> None:
        """One KPM indication per subscription."""
        for request in list(self.kpm.subscriptions):
            await self.connection.indicate(request, kpm.RAN_FUNCTION_ID, 0, header, message)


class House:
    """A RIC, and what a test adds to it; everything is stopped with it."""

    def __init__(self, platform: E2Platform, ports: BoundPorts) -> None:
        self.platform = platform
        self.ports = ports
        self._closing: list[Callable[[], Awaitable[None]]] = []

    async def node(self, number: int = 1, **settings: int) -> FakeNode:
        node = FakeNode(self.ports.nodes, number, **settings)
        await node.connection.start()
        self._closing.append(node.connection.stop)
        await node.connection.connected(5.0)
        return node

    async def client(self, app_id: str = "xapp") -> E2Client:
        client = E2Client(f"127.0.0.1:{self.ports.xapps}", app_id=app_id, instance_id="1")
        await client.start()
        self._closing.append(client.stop)
        return client

    async def until(self, condition: Callable[[], bool], limit_s: float = 5.0) -> None:
        """Return once `condition` holds; fail after `limit_s`."""
        async with asyncio.timeout(limit_s):
            while not condition():
                await asyncio.sleep(0.005)

    async def stop(self) -> None:
        for close in reversed(self._closing):
            await close()
        await self.platform.stop()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    platform = E2Platform(Metrics("ric"), WallClock(), priorities={"protector": 10}, hold_s=30.0)
    made = House(platform, await platform.start("127.0.0.1:0", "127.0.0.1:0"))
    yield made
    await made.stop()


@pytest.fixture
def make_house() -> type[House]:
    """For tests that set the RIC up themselves."""
    return House


@pytest.fixture
def make_node() -> type[FakeNode]:
    """For nodes that dial by themselves."""
    return FakeNode


@pytest.fixture
def make_function() -> type[FakeFunction]:
    """For RAN functions that come later."""
    return FakeFunction
