"""What the ONAP Policy Management Service does to a Near-RT RIC, and what our client does to that service."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from ric.a1.client import A1pClient, PmsClient
from ric.errors import TwinRicError
from ric.security import TokenVerifier
from ric.servers import serve

SECRET = "a-secret-of-thirty-two-octets-or-more"


def _token(scope: str, **claims: Any) -> str:
    return jwt.encode({"sub": "pms", "exp": time.time() + 60, "scope": scope, **claims}, SECRET, "HS256")


async def test_pms_probe_resync_and_supervision_with_bearer_token(tmp_path: Path, kit: SimpleNamespace) -> None:
    """The service probes, deletes what it does not know, and PUTs all it knows again, every 60 s, with a token."""
    async with kit.running_a1(tmp_path / "a1.sqlite", verifier=TokenVerifier(SECRET)) as a1:
        async with kit.FakeApp(a1.grpc_address):
            headers = {"Authorization": f"Bearer {_token('a1:read a1:write')}"}
            known = {"b7f3": {"weight": 0.1}, "c901": {"weight": 0.2}}
            await a1.http.put(a1.path("stranger"), json={}, headers=headers)
            for _ in range(2):
                types = (await a1.http.get("/A1-P/v2/policytypes", headers=headers)).json()
                assert types == [kit.TYPE_ID]
                here = (await a1.http.get(a1.path(), headers=headers)).json()
                for policy_id in set(here) - set(known):
                    assert (await a1.http.delete(a1.path(policy_id), headers=headers)).status_code == 204
                for policy_id, body in known.items():
                    put = await a1.http.put(a1.path(policy_id), json=body, headers=headers)
                    assert put.status_code == (200 if policy_id in here else 201)
            assert (await a1.http.get(a1.path(), headers=headers)).json() == list(known)
            revisions = [policy.revision for policy in a1.termination.book.policies()]
            assert revisions == [2, 3], "a re-PUT of an equal body must not disturb the app"
        actors = {row.entry.actor for row in a1.sdl.audit_rows() if row.entry.action != "a1.register"}
        assert actors == {"pms"}


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
