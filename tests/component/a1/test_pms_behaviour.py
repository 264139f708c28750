"""What the ONAP Policy Management Service does to a Near-RT RIC, and what our client does to that service."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import jwt
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from ric.a1.client import A1pClient, PmsClient
from ric.clock import SimClock
from ric.errors import TwinRicError
from ric.security import TokenVerifier
from ric.servers import serve

SECRET = "a-secret-of-thirty-two-octets-or-more"


def _token(scope: str, **claims: Any) -> str:
    return jwt.encode({"sub": "pms", "exp": time.time() + 60, "scope": scope, **claims}, SECRET, "HS256")


class Pms:
    """What the service does to one RIC: probe, synchronise every 60 s, and write what its own clients ask for."""

    def __init__(self, http: httpx.AsyncClient, clock: SimClock) -> None:
        self.http = http
        self.clock = clock
        self.known: dict[str, tuple[str, dict[str, Any]]] = {}
        self.rounds = 0
        self.answers: list[int] = []

    async def _call(self, method: str, path: str, **options: Any) -> Any:
        answer = await self.http.request(method, f"/A1-P/v2{path}", **options)
        self.answers.append(answer.status_code)
        return answer.json() if answer.content else None

    async def probe(self) -> bool:
        """Whether the RIC speaks this version: an answer to GET /policytypes that is an array."""
        return isinstance(await self._call("GET", "/policytypes"), list)

    async def synchronise(self) -> None:
        """Read types and ids, delete every policy that the service does not know, and put all that it knows again."""
        for type_id in await self._call("GET", "/policytypes"):
            await self._call("GET", f"/policytypes/{type_id}")
            for policy_id in await self._call("GET", f"/policytypes/{type_id}/policies"):
                if policy_id not in self.known:
                    await self._call("DELETE", f"/policytypes/{type_id}/policies/{policy_id}")
        for policy_id, (type_id, body) in self.known.items():
            await self._call("PUT", f"/policytypes/{type_id}/policies/{policy_id}", json=body)
        self.rounds += 1

    async def supervise(self) -> None:
        """Synchronise every 60 s."""
        while True:
            await self.synchronise()
            await self.clock.sleep_until(self.clock.now_s() + 60.0)


async def test_pms_probe_resync_every_60_s_and_restart_with_bearer_token(tmp_path: Path, kit: SimpleNamespace) -> None:
    """Unknown policies go, known ones come back, equal ones disturb nobody; a restart of the RIC goes unnoticed."""
    store, clock, verifier = tmp_path / "a1.sqlite", SimClock(0.0), TokenVerifier(SECRET)
    headers = {"Authorization": f"Bearer {_token('a1:read a1:write')}"}
    async with kit.running_a1(store, verifier=verifier) as a1, kit.FakeApp(a1.grpc_address):
        a1.http.headers.update(headers)
        pms = Pms(a1.http, clock)
        assert await pms.probe()
        pms.known = {"b7f3": (kit.TYPE_ID, {"weight": 0.1}), "c901": (kit.TYPE_ID, {"weight": 0.2})}
        await a1.http.put(a1.path("stranger"), json={})
        supervision = asyncio.create_task(pms.supervise())
        await kit.eventually(lambda: pms.rounds == 1, "first synchronisation")
        assert (await a1.http.get(a1.path())).json() == ["b7f3", "c901"]
        await kit.eventually(lambda: a1.termination.status(kit.TYPE_ID, "c901").enforced, "the app confirmed")

        await a1.http.delete(a1.path("b7f3"))
        await a1.http.put(a1.path("stranger"), json={})
        await clock.advance_to(59.0)
        assert pms.rounds == 1
        await clock.advance_to(60.0)
        await kit.eventually(lambda: pms.rounds == 2, "second synchronisation")
        assert (await a1.http.get(a1.path())).json() == ["c901", "b7f3"]
        revisions = {policy.policy_id: policy.revision for policy in a1.termination.book.policies()}
        await clock.advance_to(120.0)
        await kit.eventually(lambda: pms.rounds == 3, "third synchronisation")
        assert {policy.policy_id: policy.revision for policy in a1.termination.book.policies()} == revisions
        supervision.cancel()
        assert set(pms.answers) <= {200, 201, 204}
        actors = {row.entry.actor for row in a1.sdl.audit_rows() if row.entry.action != "a1.register"}
        assert actors == {"pms"}

    async with kit.running_a1(store, verifier=verifier) as a1, kit.FakeApp(a1.grpc_address):
        a1.http.headers.update(headers)
        pms.http, pms.answers = a1.http, []
        await pms.synchronise()
        assert set(pms.answers) == {200}, "after a restart nothing is created or deleted"
        for policy_id in pms.known:
            await kit.eventually(lambda p=policy_id: a1.termination.status(kit.TYPE_ID, p).enforced, "enforced again")


@pytest.mark.parametrize(
    ("authorization", "status", "code"),
    [
        pytest.param(None, 401, "AUTH-MISSING", id="no token"),
        pytest.param("Bearer nonsense", 401, "AUTH-MISSING", id="not a token"),
        pytest.param(f"Bearer {_token('a1:write', exp=1)}", 401, "AUTH-MISSING", id="expired"),
        pytest.param(
            f"Bearer {jwt.encode({'scope': 'a1:write'}, SECRET, 'HS256')}", 401, "AUTH-MISSING", id="never expires"
        ),
        pytest.param(f"Bearer {_token('a1:read')}", 403, "AUTH-SCOPE", id="read scope only"),
    ],
)
async def test_a1_p_write_without_right_is_refused(
    tmp_path: Path, kit: SimpleNamespace, authorization: str | None, status: int, code: str
) -> None:
    async with kit.running_a1(tmp_path / "a1.sqlite", verifier=TokenVerifier(SECRET)) as a1:
        headers = {"Authorization": authorization} if authorization else {}
        answer = await a1.http.put(a1.path("p1"), json={}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert ("www-authenticate" in answer.headers) == (status == 401)
        assert SECRET not in answer.text


async def test_a1p_client_makes_reads_and_removes_policies(tmp_path: Path, kit: SimpleNamespace) -> None:
    async with kit.running_a1(tmp_path / "a1.sqlite", verifier=TokenVerifier(SECRET)) as a1:
        client = A1pClient(a1.url, _token("a1:read a1:write"))
        try:
            async with kit.FakeApp(a1.grpc_address):
                assert await client.policy_types() == [kit.TYPE_ID]
                await client.put_policy(kit.TYPE_ID, "p1", {"weight": 0.5})
                assert await client.list_policies(kit.TYPE_ID) == ["p1"]
                assert await client.policy(kit.TYPE_ID, "p1") == {"weight": 0.5}
                with pytest.raises(TwinRicError) as refused:
                    await client.put_policy(kit.TYPE_ID, "p1", {"weight": 2, "wieght": 1})
                assert [(f.code, f.field) for f in refused.value.faults] == [
                    ("A1-RANGE", "weight"), ("A1-UNKNOWN-FIELD", "wieght"),
                ]  # fmt: skip
                assert set(await client.policy_status(kit.TYPE_ID, "p1")) >= {"enforceStatus"}
                await client.delete_policy(kit.TYPE_ID, "p1")
                with pytest.raises(TwinRicError, match="A1-UNKNOWN"):
                    await client.delete_policy(kit.TYPE_ID, "p1")
        finally:
            await client.aclose()


async def test_a1p_client_of_a_dead_peer_names_it() -> None:
    client = A1pClient("http://127.0.0.1:9")
    try:
        with pytest.raises(TwinRicError, match=r"A1-UNREACHABLE base_url = 'http://127.0.0.1:9"):
            await client.policy_types()
    finally:
        await client.aclose()


def _policy_management_service() -> FastAPI:
    """The service's northbound calls, as its OpenAPI file gives them, over a dictionary."""
    app = FastAPI()
    policies: dict[str, dict[str, Any]] = {}
    base = "/a1-policy-management/v1"

    @app.get(f"{base}/policy-types")
    async def types(nearRtRicId: str) -> list[dict[str, str]]:  # noqa: N803
        return [{"policyTypeId": "t_1.0.0", "nearRtRicId": nearRtRicId}]

    @app.get(f"{base}/policies")
    async def ids(policyTypeId: str, nearRtRicId: str) -> list[dict[str, str]]:  # noqa: N803
        rows = policies.items()
        return [
            {"policyId": key, "nearRtRicId": nearRtRicId} for key, row in rows if row["policyTypeId"] == policyTypeId
        ]

    @app.post(f"{base}/policies", status_code=201)
    async def create(request: Request) -> JSONResponse:
        row = await request.json()
        assert {"nearRtRicId", "policyTypeId", "policyObject", "serviceId", "policyId"} <= set(row)
        policies[row["policyId"]] = row
        return JSONResponse(row, 201, {"Location": f"{base}/policies/{row['policyId']}"})

    @app.put(f"{base}/policies/{{policy_id}}")
    async def update(policy_id: str, request: Request) -> Response:
        if policy_id not in policies:
            return JSONResponse({"title": "Not Found", "status": 404, "detail": "no policy"}, 404)
        policies[policy_id]["policyObject"] = await request.json()
        return JSONResponse(policies[policy_id]["policyObject"])

    @app.delete(f"{base}/policies/{{policy_id}}", status_code=204)
    async def delete(policy_id: str) -> Response:
        return Response(status_code=204 if policies.pop(policy_id, None) else 404)

    @app.get(f"{base}/policies/{{policy_id}}/status")
    async def status(policy_id: str) -> dict[str, str]:
        return {"enforceStatus": "ENFORCED", "weight": str(policies[policy_id]["policyObject"]["weight"])}

    return app


async def test_pms_client_creates_then_updates_then_deletes() -> None:
    async with serve(_policy_management_service(), "127.0.0.1", 0) as port:
        client = PmsClient(f"http://127.0.0.1:{port}", "ric1", "demand_twin", "token")
        try:
            assert await client.policy_types() == ["t_1.0.0"]
            await client.put_policy("t_1.0.0", "p1", {"weight": 1})
            assert await client.list_policies("t_1.0.0") == ["p1"]
            await client.put_policy("t_1.0.0", "p1", {"weight": 2})
            assert await client.policy_status("t_1.0.0", "p1") == {"enforceStatus": "ENFORCED", "weight": "2"}
            await client.delete_policy("t_1.0.0", "p1")
            with pytest.raises(TwinRicError, match="A1-UNKNOWN"):
                await client.delete_policy("t_1.0.0", "p1")
        finally:
            await client.aclose()
