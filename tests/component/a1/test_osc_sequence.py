"""What the OSC A1 simulator's suite plays: create, get, update, duplicate, status, notification, delete."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response

from ric.servers import serve

ENFORCED = {"enforceStatus": "ENFORCED"}
NOT_ENFORCED = {"enforceStatus": "NOT_ENFORCED", "enforceReason": "OTHER_REASON"}
OUT_OF_SCOPE = {"enforceStatus": "NOT_ENFORCED", "enforceReason": "SCOPE_NOT_APPLICABLE"}


async def test_osc_conformance_sequence(tmp_path: Path, kit: SimpleNamespace) -> None:
    """Every step with its status code and body, over real HTTP, with one app that confirms when it is told to."""
    received: list[Any] = []
    receiver = FastAPI()

    @receiver.post("/policy-status")
    async def notify(request: Request) -> Response:
        received.append((request.headers["content-type"], await request.json()))
        return Response(status_code=200)

    async with (
        kit.running_a1(tmp_path / "a1.sqlite") as a1,
        kit.FakeApp(a1.grpc_address, confirms=False) as app,
        serve(receiver, "127.0.0.1", 0) as port,
    ):
        http = a1.http

        async def answer(method: str, path: str, code: int, **options: Any) -> Any:
            made = await http.request(method, path, **options)
            assert made.status_code == code, f"{method} {path}: {made.text}"
            return made.json() if made.content else None

        async def told(revision: int, enforced: bool, reason: str = "") -> None:
            """The app says what became of a revision, once it has it."""
            await kit.eventually(lambda: app.policies.get("pi1", (0,))[0] == revision, f"revision {revision} arrives")
            app.feed.report("pi1", revision, enforced, reason)

        # Types, before any policy
        assert await answer("GET", "/A1-P/v2/policytypes", 200) == [kit.TYPE_ID]
        assert set(await answer("GET", f"/A1-P/v2/policytypes/{kit.TYPE_ID}", 200)) == {"policySchema", "statusSchema"}
        await answer("GET", "/A1-P/v2/policytypes/STD_unknown", 404)
        assert await answer("GET", a1.path(), 200) == []
        await answer("GET", a1.path("pi1"), 404)
        await answer("DELETE", a1.path("pi1"), 404)
        await answer("GET", a1.path("pi1", "/status"), 404)

        # Create, with a destination for notifications
        where = {"notificationDestination": f"http://127.0.0.1:{port}/policy-status"}
        assert await answer("PUT", a1.path("pi1"), 201, json={"weight": 0.1}, params=where) == {"weight": 0.1}
        assert await answer("GET", a1.path(), 200) == ["pi1"]
        assert await answer("GET", a1.path("pi1"), 200) == {"weight": 0.1}
        assert await answer("GET", a1.path("pi1", "/status"), 200) == NOT_ENFORCED

        # The same again; the same content under another id; bad content; an id of another type
        assert await answer("PUT", a1.path("pi1"), 200, json={"weight": 0.1}, params=where) == {"weight": 0.1}
        await answer("PUT", a1.path("pi2"), 201, json={"weight": 0.1})
        problem = await answer("PUT", a1.path("pi1"), 400, json={"weight": 7})
        assert (problem["field"], problem["faults"][0]["accepted"]) == ("weight", "0..1")
        assert await answer("GET", a1.path("pi1"), 200) == {"weight": 0.1}
        await answer("PUT", "/A1-P/v2/policytypes/STD_unknown/policies/pi1", 404, json={})

        # Status and notifications
        await told(1, True)
        await kit.eventually(lambda: len(received) == 1, "ENFORCED is notified")
        assert await answer("GET", a1.path("pi1", "/status"), 200) == ENFORCED
        assert await answer("PUT", a1.path("pi1"), 200, json={"weight": 0.2}, params=where) == {"weight": 0.2}
        await kit.eventually(lambda: len(received) == 2, "the update is not enforced yet, and that is notified")
        await told(3, False, "SCOPE_NOT_APPLICABLE")
        await kit.eventually(lambda: len(received) == 3, "out of scope is notified")
        assert await answer("GET", a1.path("pi1", "/status"), 200) == OUT_OF_SCOPE
        assert received == [("application/json", status) for status in (ENFORCED, NOT_ENFORCED, OUT_OF_SCOPE)]

        # Delete
        await answer("DELETE", a1.path("pi1"), 204)
        await answer("DELETE", a1.path("pi1"), 404)
        await answer("GET", a1.path("pi1"), 404)
        await answer("GET", a1.path("pi1", "/status"), 404)
        assert await answer("GET", a1.path(), 200) == ["pi2"]
        await kit.eventually(lambda: set(app.policies) == {"pi2"}, "the app is told")


async def test_destination_that_is_not_allowed_is_refused_and_stores_nothing(a1: Any, kit: SimpleNamespace) -> None:
    async with kit.FakeApp(a1.grpc_address):
        for url in ("http://169.254.169.254/latest", "http://10.0.0.1/", "http://localhost.evil.net/", "http://[::1]/"):
            answer = await a1.http.put(a1.path("p1"), json={}, params={"notificationDestination": url})
            assert (answer.status_code, answer.json()["code"]) == (403, "A1-DESTINATION")
            assert answer.json()["field"] == "query.notificationDestination"
        assert (await a1.http.get(a1.path())).json() == []
