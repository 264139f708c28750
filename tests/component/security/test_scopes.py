"""Every REST route of the RIC asks for its scope, and for no other; rates and bodies have their limits there."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt

from ric.bus.bus import MemoryBus
from ric.clock import WallClock
from ric.platform import TOKEN_VARIABLE, RicConfig, RicPlatform
from ric.servers import REST_MAX_BYTES
from ric.telemetry import Metrics

SECRET = "a-secret-of-thirty-two-octets-or-more"
POLICY = "/A1-P/v2/policytypes/t/policies/p"


def bearer(scope: str) -> dict[str, str]:
    return {"Authorization": "Bearer " + jwt.encode({"exp": time.time() + 60, "scope": scope}, SECRET, "HS256")}


@contextlib.asynccontextmanager
async def rest_of(environ: dict[str, str], **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    free = {"node_address": "127.0.0.1:0", "xapp_address": "127.0.0.1:0", "a1_address": "127.0.0.1:0", "a1_port": 0}
    config = RicConfig.model_validate({**free, "rest_requests_per_s": 10_000, **settings})
    platform = RicPlatform(config, MemoryBus(), WallClock(), Metrics("ric"), environ=environ)
    bound = await platform.start()
    try:
        async with httpx.AsyncClient(base_url=bound.a1_url, trust_env=False) as http:
            yield http
    finally:
        await platform.stop()


async def routes_of(http: httpx.AsyncClient) -> list[tuple[str, str]]:
    """Every (method, path) that the RIC documents, path parameters filled in."""
    paths = (await http.get("/openapi.json")).json()["paths"]
    return [(verb.upper(), re.sub(r"\{[^}]*\}", "x", path)) for path, verbs in paths.items() for verb in verbs]


async def test_every_route_asks_for_its_scope_and_for_no_other() -> None:
    async with rest_of({TOKEN_VARIABLE: SECRET}) as http:
        routes = await routes_of(http)
        assert len(routes) >= 12
        scopes = set()
        for method, path in routes:
            assert (await http.request(method, path, json={})).json()["code"] == "AUTH-MISSING", (method, path)
            answer = await http.request(method, path, json={}, headers=bearer("other:read other:write"))
            assert answer.json()["code"] == "AUTH-SCOPE", (method, path)
            scope = re.search(r"scope '([a-z0-9-]+:(?:read|write))'", answer.json()["detail"])
            assert scope, answer.text
            assert scope[1].endswith(":read" if method == "GET" else ":write"), (method, path, scope[1])
            served = await http.request(method, path, json={}, headers=bearer(scope[1]))
            assert served.status_code not in (401, 403), (method, path)
            scopes.add(scope[1])
        assert scopes >= {"a1:read", "a1:write", "o1:read", "ric:read"}


async def test_token_of_a_read_scope_changes_nothing() -> None:
    async with rest_of({TOKEN_VARIABLE: SECRET}) as http:
        every_read = bearer("a1:read o1:read ric:read")
        assert (await http.put(POLICY, json={}, headers=every_read)).status_code == 403
        assert (await http.delete(POLICY, headers=every_read)).status_code == 403


async def test_body_that_is_too_large_is_a_typed_refusal_with_and_without_its_length() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * (REST_MAX_BYTES // 2)

    async with rest_of({}) as http:
        for content in (b"x" * (REST_MAX_BYTES + 1), pieces()):
            answer = await http.put(POLICY, content=content)
            assert (answer.status_code, answer.json()["code"]) == (413, "LIMIT-SIZE")
        assert (await http.get("/A1-P/v2/policytypes")).status_code == 200


async def test_requests_beyond_the_rate_are_typed_refusals_before_the_token_is_looked_at() -> None:
    async with rest_of({TOKEN_VARIABLE: SECRET}, rest_requests_per_s=0.5) as http:
        answers = [await http.get("/A1-P/v2/policytypes") for _ in range(5)]
        assert [answer.status_code for answer in answers] == [401, 401, 429, 429, 429]
        assert answers[-1].headers["content-type"] == "application/problem+json"
        assert answers[-1].json()["code"] == "LIMIT-RATE"


async def test_secrets_appear_in_no_answer() -> None:
    async with rest_of({TOKEN_VARIABLE: SECRET}) as http:
        for header in (f"Bearer {SECRET}", SECRET, f"Basic {SECRET}"):
            assert SECRET not in (await http.get(POLICY, headers={"Authorization": header})).text
