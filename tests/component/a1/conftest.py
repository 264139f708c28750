from __future__ import annotations

import asyncio
import contextlib
import types
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from ric.a1.client import PolicyFeed
from ric.a1.destinations import AllowedHosts
from ric.a1.enrichment_service import EnrichmentService
from ric.a1.rest import a1_app
from ric.a1.termination import A1Termination
from ric.bus.bus import MemoryBus
from ric.clock import WallClock
from ric.delivery import Delivery, RetryPlan
from ric.pb.twinric.a1.v1.policy_pb2_grpc import add_PolicyServiceServicer_to_server
from ric.sdl import Sdl
from ric.security import RateLimit, TokenVerifier
from ric.servers import bind_grpc, grpc_server, serve
from ric.telemetry import Metrics

TYPE_ID = "twinric_slice_1.0.0"
POLICY_TYPE = {
    "policyTypeId": TYPE_ID,
    "policySchema": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "weight": {"type": "number", "minimum": 0, "maximum": 1},
            "slices": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"min_ratio": {"type": "integer", "minimum": 0, "maximum": 100}},
                    "required": ["min_ratio"],
                    "additionalProperties": False,
                },
            },
        },
        "additionalProperties": False,
    },
    "statusSchema": {"type": "object"},
}


@dataclass
class RunningA1:
    termination: A1Termination
    url: str
    grpc_address: str
    http: httpx.AsyncClient
    metrics: Metrics
    sdl: Sdl
    bus: MemoryBus
    enrichment: EnrichmentService

    def path(self, policy_id: str = "", tail: str = "") -> str:
        return f"/A1-P/v2/policytypes/{TYPE_ID}/policies" + (f"/{policy_id}" if policy_id else "") + tail


@contextlib.asynccontextmanager
async def running_a1(
    store: Path,
    *,
    verifier: TokenVerifier | None = None,
    grpc_port: int = 0,
    limit: RateLimit | None = None,
    bus: MemoryBus | None = None,
    hosts: tuple[str, ...] = ("127.0.0.1",),
) -> AsyncIterator[RunningA1]:
    metrics = Metrics("a1_test")
    sdl = Sdl(store, WallClock())
    plan = RetryPlan(attempts=6, first_wait_s=0.02, longest_wait_s=0.1)
    delivery = Delivery("a1_notifications", WallClock(), metrics, plan)
    termination = A1Termination(sdl, metrics, delivery, allowed_hosts=AllowedHosts(hosts))
    bus = bus or MemoryBus(metrics)
    enrichment = EnrichmentService(bus, sdl, WallClock(), metrics, delivery, allowed_hosts=AllowedHosts(hosts))
    await enrichment.start()
    server = grpc_server(metrics)
    add_PolicyServiceServicer_to_server(termination, server)
    bound = bind_grpc(server, "a1_grpc", f"127.0.0.1:{grpc_port}", None)
    await server.start()
    app = a1_app(termination, metrics, enrichment=enrichment, verifier=verifier, limit=limit)
    try:
        async with serve(app, "127.0.0.1", 0) as port:
            url = f"http://127.0.0.1:{port}"
            async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
                yield RunningA1(termination, url, f"127.0.0.1:{bound}", http, metrics, sdl, bus, enrichment)
    finally:
        await server.stop(0.1)
        await enrichment.stop()
        await delivery.stop()
        sdl.close()


@dataclass
class FakeApp:
    """An app as far as A1 sees it: holds policies and confirms them when `confirms`."""

    address: str
    instance_id: str = "1"
    confirms: bool = True
    app_id: str = "slice_bandwidth"
    policies: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    replayed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.feed = PolicyFeed(
            self.address, app_id=self.app_id, instance_id=self.instance_id, policy_type_id=TYPE_ID,
            policy_type=POLICY_TYPE,
        )  # fmt: skip
        self.task: asyncio.Task[None] | None = None

    def _put(self, policy_id: str, revision: int, body: dict[str, Any]) -> None:
        self.policies[policy_id] = (revision, body)
        if self.confirms:
            self.feed.report(policy_id, revision, True)

    def _delete(self, policy_id: str, revision: int) -> None:
        self.policies.pop(policy_id)

    async def __aenter__(self) -> FakeApp:
        self.task = asyncio.create_task(self.feed.run(self._put, self._delete, self.replayed.set))
        await asyncio.wait_for(self.replayed.wait(), 5)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def eventually(
    condition: Callable[[], bool] | Callable[[], Awaitable[bool]], what: str, within_s: float = 5
) -> None:
    """Return once `condition` holds; fail after `within_s`, naming `what`."""
    end = asyncio.get_running_loop().time() + within_s
    while asyncio.get_running_loop().time() < end:
        answer = condition()
        if await answer if isinstance(answer, Awaitable) else answer:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"never happened: {what}")


@pytest.fixture
async def a1(tmp_path: Path) -> AsyncIterator[RunningA1]:
    async with running_a1(tmp_path / "a1.sqlite") as running:
        yield running


@pytest.fixture
def kit() -> types.SimpleNamespace:
    """What test modules need of this file; importlib mode has no package to import it from."""
    return types.SimpleNamespace(
        TYPE_ID=TYPE_ID, POLICY_TYPE=POLICY_TYPE, FakeApp=FakeApp, running_a1=running_a1, eventually=eventually
    )
