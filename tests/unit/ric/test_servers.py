"""problem+json, the faults that travel in gRPC metadata, and scopes, without sockets."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
from fastapi import Depends

from ric.errors import CATALOGUE, Fault, TwinRicError
from ric.security import TokenVerifier
from ric.servers import FAULTS_KEY, error_of_rpc, problem_of, require_scope, rest_app
from ric.telemetry import Metrics


@contextlib.asynccontextmanager
async def client_of(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


SECRET = "a-secret-of-thirty-two-octets-or-more"


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_problem_carries_code_status_title_and_fields(code: str) -> None:
    answer = problem_of(TwinRicError(code, "a.b", 3, "1..2", "Do this."), "/here")
    body = json.loads(answer.body)
    assert answer.status_code == body["status"] == CATALOGUE[code].http_status
    assert answer.media_type == "application/problem+json"
    assert (body["type"], body["title"], body["instance"]) == (
        f"urn:twinric:error:{code}",
        CATALOGUE[code].title,
        "/here",
    )
    assert body["faults"] == [{"code": code, "field": "a.b", "value": "3", "accepted": "1..2", "remedy": "Do this."}]


def test_problem_shows_at_most_twenty_faults_and_cuts_values() -> None:
    error = TwinRicError.of([Fault("A1-RANGE", f"f{n}", "x" * 1_000, "y") for n in range(50)])
    body = json.loads(problem_of(error, "/").body)
    assert len(body["faults"]) == 20
    assert max(len(fault["value"]) for fault in body["faults"]) <= 80


def _rpc_error(code: grpc.StatusCode, metadata: Any = None) -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata(*metadata) if metadata else grpc.aio.Metadata()
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details="down")


def test_error_of_rpc_gives_the_peers_own_faults() -> None:
    row = {"code": "A1-RANGE", "field": "w", "value": "2", "accepted": "0..1", "remedy": ""}
    error = error_of_rpc(
        _rpc_error(grpc.StatusCode.INVALID_ARGUMENT, [(FAULTS_KEY, json.dumps([row]).encode())]), "ric:1", "E2-LOST"
    )
    assert [(fault.code, fault.field) for fault in error.faults] == [("A1-RANGE", "w")]


@pytest.mark.parametrize("payload", [b"", b"\xff", b"[]", b"{}", b"[1]", b'[{"code": "A1-RANGE"}]', b"null"])
def test_error_of_rpc_with_unreadable_faults_names_peer_and_status(payload: bytes) -> None:
    error = error_of_rpc(_rpc_error(grpc.StatusCode.UNAVAILABLE, [(FAULTS_KEY, payload)]), "ric:1", "E2-LOST")
    assert str(error) == "E2-LOST peer = 'ric:1': accepted a peer that answers. UNAVAILABLE: down"


def test_error_of_rpc_of_an_unknown_code_does_not_raise_another() -> None:
    row = {"code": "NEWER-CODE", "field": "w", "value": "2", "accepted": "0..1", "remedy": ""}
    metadata = [(FAULTS_KEY, json.dumps([row]).encode())]
    assert error_of_rpc(_rpc_error(grpc.StatusCode.ABORTED, metadata), "ric:1", "E2-LOST").code == "E2-LOST"


async def test_rest_app_unexpected_failure_is_counted_and_shows_nothing_of_itself() -> None:
    metrics = Metrics("t")
    app = rest_app("t", metrics)

    @app.get("/fails")
    async def fails() -> None:
        raise RuntimeError("password=hunter2")

    async with client_of(app) as client:
        answer = await client.get("/fails")
    assert (answer.status_code, answer.json()["code"]) == (500, "INTERNAL")
    assert "hunter2" not in answer.text
    assert metrics.refused.labels("t", "INTERNAL")._value.get() == 1


async def test_rest_app_counts_bodies_that_do_not_say_their_length() -> None:
    app = rest_app("t", Metrics("t"), max_bytes=10)

    @app.post("/take")
    async def take(body: dict[str, int]) -> int:
        return len(body)

    async def drops() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"{"

    async with client_of(app) as client:
        assert (await client.post("/take", json={"a": 1})).json() == 1
        chunked = await client.post("/take", content=drops(), headers={"content-type": "application/json"})
    assert (chunked.status_code, chunked.json()["code"]) == (413, "LIMIT-SIZE")


async def test_require_scope_guards_only_with_a_verifier() -> None:
    for verifier, status in ((None, 200), (TokenVerifier(SECRET), 401)):
        app = rest_app("t", Metrics("t"))

        @app.get("/x", dependencies=[Depends(require_scope(verifier, "a1:read"))])
        async def read() -> str:
            return "x"

        async with client_of(app) as client:
            assert (await client.get("/x")).status_code == status


async def test_query_that_is_no_ascii_is_refused_by_name() -> None:
    """Found by fuzzing: what decodes the query later takes it for UTF-8."""
    answers: list[Any] = []
    scope = {
        "type": "http", "method": "GET", "path": "/x", "raw_path": b"/x", "query_string": b"limit=\xaf", "headers": [],
        "root_path": "", "scheme": "http", "http_version": "1.1", "client": ("127.0.0.1", 1), "server": ("t", 1),
    }  # fmt: skip

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        answers.append(message)

    await rest_app("t", Metrics("t"))(scope, receive, send)
    assert answers[0]["status"] == 400
    assert b"REST-RANGE query" in answers[1]["body"]


async def test_problem_that_names_half_a_surrogate_pair_can_be_sent() -> None:
    """Found by fuzzing."""
    answer = problem_of(TwinRicError("A1-UNKNOWN-FIELD", "a\ud800b", 1, "a known field"), "/x")
    assert json.loads(bytes(answer.body))["field"] == "a\ud800b"
