"""gRPC and HTTP for real: errors that arrive as they were raised, mTLS, deliveries, quick stops."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response

from ric.certificates import CertificateAuthority
from ric.clock import WallClock
from ric.delivery import MAX_WAITING, Delivery, RetryPlan
from ric.errors import Fault, TwinRicError
from ric.security import RateLimit, TlsMaterial, load_tls
from ric.servers import bind_grpc, error_of_rpc, grpc_channel, grpc_server, rest_app, serve
from ric.telemetry import Metrics

FAULTS = [Fault("A1-RANGE", "weight", 2, "0..1", "Lower it."), Fault("A1-UNKNOWN-FIELD", "x", 1, "a known field")]


async def _refuse(request: bytes, context: Any) -> bytes:
    raise TwinRicError.of(FAULTS)


async def _crash(request: bytes, context: Any) -> bytes:
    raise ZeroDivisionError("password=hunter2")


async def _abort(request: bytes, context: Any) -> bytes:
    await context.abort(grpc.StatusCode.OUT_OF_RANGE, "on purpose")
    return b""


async def _stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
    yield b"first"
    raise TwinRicError.of(FAULTS)


@contextlib.asynccontextmanager
async def _server(tls: TlsMaterial | None = None, **limits: Any) -> AsyncIterator[tuple[int, Metrics]]:
    metrics = Metrics("test")
    server = grpc_server(metrics, **limits)
    methods = {
        "Refuse": grpc.unary_unary_rpc_method_handler(_refuse), "Crash": grpc.unary_unary_rpc_method_handler(_crash),
        "Abort": grpc.unary_unary_rpc_method_handler(_abort), "Stream": grpc.unary_stream_rpc_method_handler(_stream),
    }  # fmt: skip
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", methods),))
    port = bind_grpc(server, "address", "127.0.0.1:0", tls)
    await server.start()
    try:
        yield port, metrics
    finally:
        await server.stop(0.1)


async def test_grpc_error_arrives_as_it_was_raised() -> None:
    async with _server() as (port, metrics), grpc_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary("/t.T/Refuse")(b"")
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        error = error_of_rpc(raised.value, "peer", "E2-LOST")
        assert [(f.code, f.field, f.accepted, f.remedy) for f in error.faults] == [
            (f.code, f.field, f.accepted, f.remedy) for f in FAULTS
        ]
        assert metrics.refused.labels("test", "A1-RANGE")._value.get() == 1


async def test_grpc_stream_keeps_what_came_before_the_error() -> None:
    async with _server() as (port, _), grpc_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_stream("/t.T/Stream")(b"")
        assert await call.read() == b"first"
        with pytest.raises(grpc.aio.AioRpcError, match="A1-RANGE weight"):
            await call.read()


async def test_grpc_unexpected_failure_is_internal_and_shows_nothing_of_itself() -> None:
    async with _server() as (port, metrics), grpc_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary("/t.T/Crash")(b"")
        assert raised.value.code() is grpc.StatusCode.INTERNAL
        assert "hunter2" not in str(raised.value)
        assert metrics.refused.labels("test", "INTERNAL")._value.get() == 1


async def test_grpc_abort_of_a_servicer_passes_unchanged() -> None:
    async with _server() as (port, metrics), grpc_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="on purpose") as raised:
            await channel.unary_unary("/t.T/Abort")(b"")
        assert raised.value.code() is grpc.StatusCode.OUT_OF_RANGE
        assert metrics.refused.labels("test", "INTERNAL")._value.get() == 0


async def test_grpc_message_that_is_too_large_is_a_typed_refusal_and_the_next_is_served() -> None:
    async with _server(max_bytes=1_000) as (port, _), grpc_channel(f"127.0.0.1:{port}") as channel:
        for size, code in ((10_000, "LIMIT-SIZE"), (10, "A1-RANGE"), (1_000_000, "LIMIT-SIZE"), (10, "A1-RANGE")):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await channel.unary_unary("/t.T/Refuse")(bytes(size))
            assert error_of_rpc(raised.value, "peer", "E2-LOST").code == code


@pytest.mark.parametrize("method", ["Refuse", "Stream"])
async def test_grpc_calls_beyond_the_rate_are_typed_refusals(method: str) -> None:
    limit = RateLimit(per_s=0.001, burst=2)
    async with _server(limit=limit) as (port, metrics), grpc_channel(f"127.0.0.1:{port}") as channel:
        codes = []
        for _ in range(4):
            call = channel.unary_stream(f"/t.T/{method}")(b"")
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                async for _ in call:
                    pass
            codes.append(error_of_rpc(raised.value, "peer", "E2-LOST").code)
        assert codes == ["A1-RANGE"] * 2 + ["LIMIT-RATE"] * 2
        assert metrics.refused.labels("test", "LIMIT-RATE")._value.get() == 2


async def test_addresses_in_use_are_refused_by_name() -> None:
    async with _server() as (port, metrics):
        with pytest.raises(TwinRicError, match=rf"CONFIG-RANGE node_address = '127.0.0.1:{port}'"):
            bind_grpc(grpc_server(metrics), "node_address", f"127.0.0.1:{port}", None)
    async with serve(FastAPI(), "127.0.0.1", 0) as taken:
        with pytest.raises(TwinRicError, match=rf"CONFIG-RANGE listen = '127.0.0.1:{taken}'"):
            async with serve(FastAPI(), "127.0.0.1", taken):
                pass


# TLS ----------------------------------------------------------------------------------------------------------------


async def test_grpc_mtls_takes_our_clients_and_no_others(tmp_path: Path) -> None:
    ours, theirs = CertificateAuthority(tmp_path / "ours"), CertificateAuthority(tmp_path / "theirs")
    stranger = theirs.issue("stranger").model_copy(update={"ca_file": ours.ca_file})
    async with _server(load_tls(ours.issue("ric"))) as (port, _):
        address = f"127.0.0.1:{port}"
        async with grpc_channel(address, load_tls(ours.issue("xapp"))) as channel:
            with pytest.raises(grpc.aio.AioRpcError, match="A1-RANGE"):
                await channel.unary_unary("/t.T/Refuse")(b"", timeout=5)
        for tls in (load_tls(stranger), None):
            async with grpc_channel(address, tls) as channel:
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    await channel.unary_unary("/t.T/Refuse")(b"", timeout=5)
                assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_rest_over_tls(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path / "ours")
    app = rest_app("t", Metrics("t"))
    trust = ssl.create_default_context(cafile=str(authority.ca_file))
    tls = load_tls(authority.issue("ric").model_copy(update={"ca_file": None}))
    async with (
        serve(app, "127.0.0.1", 0, tls) as port,
        httpx.AsyncClient(verify=trust, trust_env=False) as client,
    ):
        assert (await client.get(f"https://127.0.0.1:{port}/x")).json()["code"] == "REST-PATH"


# Deliveries ---------------------------------------------------------------------------------------------------------


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("never happened")


@contextlib.asynccontextmanager
async def _delivery(plan: RetryPlan) -> AsyncIterator[tuple[Delivery, Metrics]]:
    metrics = Metrics("test")
    delivery = Delivery("out", WallClock(), metrics, plan)
    try:
        yield delivery, metrics
    finally:
        await delivery.stop()


def _receiver(statuses: list[int]) -> tuple[FastAPI, list[Any]]:
    received: list[Any] = []
    app = FastAPI()

    @app.post("/{key}")
    async def take(key: str, request: Request) -> Response:
        received.append((key, await request.json()))
        return Response(status_code=statuses.pop(0) if statuses else 204)

    return app, received


async def test_delivery_retries_in_order_and_gives_up_on_refusals() -> None:
    app, received = _receiver([503, 429, 204, 400, 204])
    async with serve(app, "127.0.0.1", 0) as port, _delivery(RetryPlan(first_wait_s=0.01)) as (delivery, metrics):
        for number in range(3):
            delivery.post("k", f"http://127.0.0.1:{port}/a", {"n": number})
        await _until(lambda: len(received) == 5)
        assert [body["n"] for _, body in received] == [0, 0, 0, 1, 2]
        await _until(lambda: metrics.messages.labels("test", "out", "out")._value.get() == 2)
        assert metrics.dropped.labels("test", "out")._value.get() == 1


async def test_delivery_dead_peer_delays_nobody_else_and_its_queue_is_bounded() -> None:
    app, received = _receiver([])
    plan = RetryPlan(attempts=50, first_wait_s=0.05)
    async with serve(app, "127.0.0.1", 0) as port, _delivery(plan) as (delivery, metrics):
        for number in range(MAX_WAITING + 5):
            delivery.post("dead", "http://127.0.0.1:9/", {"n": number})
        delivery.post("alive", f"http://127.0.0.1:{port}/a", {"n": 1})
        await _until(lambda: received == [("a", {"n": 1})])
        await _until(lambda: metrics.messages.labels("test", "out", "out")._value.get() == 1)
        assert metrics.dropped.labels("test", "out")._value.get() == 5
    assert metrics.dropped.labels("test", "out")._value.get() == MAX_WAITING + 5, "what was left is counted"


async def test_delivery_unusable_addresses_are_given_up() -> None:
    async with _delivery(RetryPlan(attempts=2, first_wait_s=0.01)) as (delivery, metrics):
        urls = ("http://[::1", "http://127.0.0.1:99999/", "http://127.0.0.1:0/", "gopher://x/", f"http://{'a' * 300}/")
        for number, url in enumerate(urls):
            delivery.post(str(number), url, {})
        await _until(lambda: metrics.dropped.labels("test", "out")._value.get() == len(urls))
