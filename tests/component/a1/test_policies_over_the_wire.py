"""A1-P v2 over real HTTP with apps over real gRPC: what a client and an app see."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response

from ric.a1.client import PolicyFeed
from ric.app_policies import AppPolicies, PolicyOutcome, policy_type_object
from ric.app_spec import AppSpec, Ric
from ric.errors import TwinRicError
from ric.pb.twinric.a1.v1 import policy_pb2
from ric.scopes import Scope, ScopedPolicy
from ric.security import RateLimit
from ric.servers import serve

Kit = SimpleNamespace
ENFORCED = {"enforceStatus": "ENFORCED"}
NOT_ENFORCED = {"enforceStatus": "NOT_ENFORCED", "enforceReason": "OTHER_REASON"}


class Caps(ScopedPolicy):
    cap_kw: float = 0.0
    """Cap [kW]."""


async def test_a1_p_policy_life_answers_as_the_interface_says(a1: Any, kit: Kit) -> None:
    async with kit.FakeApp(a1.grpc_address) as app:
        assert (await a1.http.get("/A1-P/v2/policytypes")).json() == [kit.TYPE_ID]
        body = (await a1.http.get(f"/A1-P/v2/policytypes/{kit.TYPE_ID}")).json()
        assert body == {key: kit.POLICY_TYPE[key] for key in ("policySchema", "statusSchema")}

        created = await a1.http.put(a1.path("p1"), json={"weight": 0.5})
        assert (created.status_code, created.headers["location"]) == (201, a1.path("p1"))
        assert created.json() == {"weight": 0.5}
        assert (await a1.http.put(a1.path("p1"), json={"weight": 0.5})).status_code == 200
        assert (await a1.http.put(a1.path("p1"), json={"weight": 0.7})).status_code == 200
        assert (await a1.http.get(a1.path("p1"))).json() == {"weight": 0.7}
        assert (await a1.http.get(a1.path())).json() == ["p1"]
        await kit.eventually(lambda: app.policies == {"p1": (2, {"weight": 0.7})}, "the app holds revision 2")

        assert (await a1.http.delete(a1.path("p1"))).status_code == 204
        assert (await a1.http.delete(a1.path("p1"))).status_code == 404
        await kit.eventually(lambda: app.policies == {}, "the app forgot the policy")


async def test_a1_p_policy_is_not_enforced_before_the_app_confirms_it(a1: Any, kit: Kit) -> None:
    async with kit.FakeApp(a1.grpc_address, confirms=False) as app:
        await a1.http.put(a1.path("p1"), json={})
        await kit.eventually(lambda: "p1" in app.policies, "the app holds the policy")
        assert (await a1.http.get(a1.path("p1", "/status"))).json() == NOT_ENFORCED
        app.feed.report("p1", 1, False, "SCOPE_NOT_APPLICABLE", "no such cell")
        scope = {"enforceStatus": "NOT_ENFORCED", "enforceReason": "SCOPE_NOT_APPLICABLE"}

        async def has(status: dict[str, str]) -> bool:
            return bool((await a1.http.get(a1.path("p1", "/status"))).json() == status)

        await kit.eventually(lambda: has(scope), "scope not applicable")
        app.feed.report("p1", 1, True)
        await kit.eventually(lambda: has(ENFORCED), "enforced")
    await kit.eventually(lambda: has(NOT_ENFORCED), "not enforced once the app is gone")


@pytest.mark.parametrize(
    ("content", "code", "field"),
    [
        pytest.param(b'{"weight": 1.5}', "A1-RANGE", "weight", id="above range"),
        pytest.param(b'{"weight": "much"}', "A1-RANGE", "weight", id="wrong type"),
        pytest.param(
            b'{"slices": [{"min_ratio": 5}, {"min_ratio": 101}]}', "A1-RANGE", "slices[1].min_ratio", id="nested"
        ),
        pytest.param(b'{"slices": [{}]}', "A1-RANGE", "slices[0].min_ratio", id="missing"),
        pytest.param(b'{"wieght": 1}', "A1-UNKNOWN-FIELD", "wieght", id="unknown field"),
        pytest.param(b'{"weight": NaN}', "A1-MALFORMED", "body", id="NaN"),
        pytest.param(b'{"weight": 1e999}', "A1-RANGE", "weight", id="infinite"),
        pytest.param(b'{"weight": 0, "weight": 1}', "A1-MALFORMED", "body", id="key twice"),
        pytest.param(b"[]", "A1-MALFORMED", "body", id="array"),
        pytest.param(b"", "A1-MALFORMED", "body", id="empty"),
        pytest.param(b"\xff", "A1-MALFORMED", "body", id="not UTF-8"),
        pytest.param(b"[" * 100_000, "A1-MALFORMED", "body", id="deep"),
    ],
)
async def test_a1_p_bad_body_is_refused_with_field_and_range(
    a1: Any, kit: Kit, content: bytes, code: str, field: str
) -> None:
    async with kit.FakeApp(a1.grpc_address):
        answer = await a1.http.put(a1.path("p1"), content=content)
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert (problem["code"], problem["field"], problem["status"]) == (code, field, 400)
        assert field in problem["detail"]
        assert problem["faults"][0]["accepted"]
        assert (await a1.http.get(a1.path())).json() == []
        assert a1.metrics.refused.labels("a1_test", code)._value.get() == 1


async def test_a1_p_unknown_things_and_methods_are_problems(a1: Any, kit: Kit) -> None:
    unknown_type = await a1.http.get("/A1-P/v2/policytypes/nothing")
    assert (unknown_type.status_code, unknown_type.json()["code"]) == (404, "A1-UNKNOWN")
    nowhere = await a1.http.get("/A1-P/v1/policytypes")
    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "REST-PATH")
    several = await a1.http.post(a1.path("p1"))
    assert (several.status_code, several.headers["allow"]) == (405, "DELETE, GET, PUT")
    method = await a1.http.post("/A1-P/v2/policytypes")
    assert (method.status_code, method.json()["code"], method.headers["allow"]) == (405, "REST-METHOD", "GET")
    async with kit.FakeApp(a1.grpc_address):
        bad_id = await a1.http.put(a1.path("p%201"), json={})
        assert (bad_id.status_code, bad_id.json()["field"]) == (400, "path.policyId")
        for url in ("file:///etc/passwd", "http://", "http://h:0/", "http://h:65536/", "http://user@h/"):
            bad_url = await a1.http.put(a1.path("p1"), json={}, params={"notificationDestination": url})
            assert (bad_url.status_code, bad_url.json()["field"]) == (400, "query.notificationDestination")
        large = await a1.http.put(a1.path("p1"), content=b" " * 2_000_000)
        assert (large.status_code, large.json()["code"]) == (413, "LIMIT-SIZE")


async def test_a1_p_too_many_requests_are_told_to_wait(tmp_path: Path, kit: Kit) -> None:
    async with kit.running_a1(tmp_path / "a1.sqlite", limit=RateLimit(0.001, 2)) as a1:
        codes = [(await a1.http.get("/A1-P/v2/policytypes")).status_code for _ in range(3)]
        assert codes == [200, 200, 429]


async def test_a1_policies_survive_a_restart_and_reach_the_app_in_order(tmp_path: Path, kit: Kit) -> None:
    store = tmp_path / "a1.sqlite"
    async with kit.running_a1(store) as a1, kit.FakeApp(a1.grpc_address):
        for number in (3, 1, 2):
            await a1.http.put(a1.path(f"p{number}"), json={"weight": number / 10})
        await a1.http.delete(a1.path("p2"))
    async with kit.running_a1(store) as a1:
        # The app is not there yet: its type is known all the same, and takes new policies.
        assert (await a1.http.get(a1.path())).json() == ["p3", "p1"]
        assert (await a1.http.put(a1.path("p4"), json={"weight": 0.4})).status_code == 201
        assert (await a1.http.get(a1.path("p3", "/status"))).json() == NOT_ENFORCED
        async with kit.FakeApp(a1.grpc_address) as app:
            assert list(app.policies) == ["p3", "p1", "p4"]
            assert [revision for revision, _ in app.policies.values()] == [1, 2, 4]
            for policy_id in app.policies:
                await kit.eventually(
                    lambda p=policy_id: a1.termination.status(kit.TYPE_ID, p).enforced, f"{policy_id} is enforced"
                )
        assert [row.entry.action for row in a1.sdl.audit_rows()] == [
            "a1.register",
            *["a1.put"] * 3,
            "a1.delete",
            "a1.put",
        ]
        a1.sdl.verify_audit()


async def test_policy_feed_reconnects_and_forgets_what_was_deleted_meanwhile(tmp_path: Path, kit: Kit) -> None:
    store = tmp_path / "a1.sqlite"
    async with kit.running_a1(store) as a1:
        port = int(a1.grpc_address.rsplit(":", 1)[1])
        app = await kit.FakeApp(a1.grpc_address).__aenter__()
        await a1.http.put(a1.path("old"), json={})
        await a1.http.put(a1.path("kept"), json={})
        await kit.eventually(lambda: len(app.policies) == 2, "both policies")
    async with kit.running_a1(store) as a1:  # no gRPC at the app's address while this one runs
        await a1.http.delete(a1.path("old"))
    async with kit.running_a1(store, grpc_port=port) as a1:
        await kit.eventually(lambda: list(app.policies) == ["kept"], "the deleted policy is gone from the app")
        await kit.eventually(lambda: a1.termination.status(kit.TYPE_ID, "kept").enforced, "the other is enforced again")
        await app.__aexit__()


async def test_two_instances_share_policies_and_every_live_one_must_confirm(a1: Any, kit: Kit) -> None:
    def enforced() -> bool:
        return bool(a1.termination.status(kit.TYPE_ID, "p1").enforced)

    def both_told(one: Any, other: Any, revision: int) -> bool:
        return [app.policies.get("p1", (0,))[0] for app in (one, other)] == [revision] * 2

    async with kit.FakeApp(a1.grpc_address) as first:
        async with kit.FakeApp(a1.grpc_address, "2", confirms=False) as second:
            await a1.http.put(a1.path("p1"), json={"weight": 1})
            await kit.eventually(lambda: both_told(first, second, 1), "both hold the policy")
            assert not enforced()
            second.feed.report("p1", 1, True)
            await kit.eventually(enforced, "both confirmed")

            await a1.http.put(a1.path("p1"), json={"weight": 0.5})
            assert not enforced(), "a new revision is confirmed anew"
            await kit.eventually(lambda: both_told(first, second, 2), "both hold revision 2")
            second.feed.report("p1", 1, True)
            second.feed.report("p1", 2, False, "STATEMENT_NOT_APPLICABLE", "cannot")
            refused = {"enforceStatus": "NOT_ENFORCED", "enforceReason": "STATEMENT_NOT_APPLICABLE"}

            async def is_refused() -> bool:
                return bool((await a1.http.get(a1.path("p1", "/status"))).json() == refused)

            await kit.eventually(is_refused, "one instance refuses: so does the app")
        await kit.eventually(enforced, "the refusing instance is gone; the one left confirmed")
        async with kit.FakeApp(a1.grpc_address, "2", confirms=False) as second:
            assert list(second.policies) == ["p1"], "a new instance gets all policies"
            assert not enforced(), "and has to confirm them"
            second.feed.report("p1", 2, False, "SCOPE_NOT_APPLICABLE", "another part")
            await kit.eventually(enforced, "an instance that does not look after the scope does not count")


async def test_two_instances_of_one_app_apply_the_same_scoped_policy(a1: Any, kit: Kit) -> None:
    """With the app's real policy feed and its policies: each instance looks after one node, one policy per node."""
    spec = AppSpec("caps", Ric.NEAR_RT, 100.0, "caps_1.0.0", frozenset())
    described = policy_type_object(Caps, spec)
    instances = {}
    for node in ("n1", "n2"):
        part = Scope(e2_node_id=node)
        feed = PolicyFeed(
            a1.grpc_address, app_id="caps", instance_id=node, policy_type_id="caps_1.0.0", policy_type=described
        )
        held = AppPolicies(Caps, spec, a1.metrics, lambda _: True, parts=lambda part=part: (part,))
        replayed = asyncio.Event()
        task = asyncio.create_task(
            feed.run(lambda *put, held=held, feed=feed: held.put(*put, feed), held.delete, replayed.set)
        )
        await asyncio.wait_for(replayed.wait(), 5)
        instances[node] = (held, feed, part, task)

    path = "/A1-P/v2/policytypes/caps_1.0.0/policies"
    for number, node in enumerate(("n1", "n2", "n9")):
        body = {"scope": {"e2_node_id": node}, "cap_kw": 10 + number}
        assert (await a1.http.put(f"{path}/{node}", json=body)).status_code == 201
    reported: list[str] = []

    async def statuses(wanted: list[str]) -> bool:
        for held, feed, _, _ in instances.values():
            held.confirm(None, lambda *_: PolicyOutcome(True), feed)
        rows = [(await a1.http.get(f"{path}/{node}/status")).json() for node in ("n1", "n2", "n9")]
        reported[:] = [row.get("enforceReason", row["enforceStatus"]) for row in rows]
        return reported == wanted

    await kit.eventually(lambda: statuses(["ENFORCED", "ENFORCED", "SCOPE_NOT_APPLICABLE"]), "one policy per node")
    assert [held.effective().at(part).cap_kw for held, _, part, _ in instances.values()] == [10, 11]
    for *_, task in instances.values():
        task.cancel()
    await asyncio.gather(*(row[3] for row in instances.values()), return_exceptions=True)


async def test_octets_of_an_app_that_are_no_message_end_its_stream_and_its_say(a1: Any, kit: Kit) -> None:
    register = policy_pb2.RegisterPolicyType(
        app_id="slice_bandwidth", app_instance_id="1", policy_type_id=kit.TYPE_ID,
        policy_type_json=json.dumps(kit.POLICY_TYPE),
    )  # fmt: skip
    async with grpc.aio.insecure_channel(a1.grpc_address) as channel:
        call = channel.stream_stream("/twinric.a1.v1.PolicyService/Policies", None, None)()
        await call.write(policy_pb2.AppMessage(register=register).SerializeToString())
        assert policy_pb2.RicMessage.FromString(await call.read()).HasField("replay_complete")
        await call.write(b"\xff\xff")
        assert await asyncio.wait_for(call.read(), 5) is grpc.aio.EOF
    assert a1.metrics.refused.labels("a1_test", "A1-MALFORMED")._value.get() == 1
    async with kit.FakeApp(a1.grpc_address) as app:
        await a1.http.put(a1.path("p1"), json={"weight": 0.5})
        await kit.eventually(lambda: "p1" in app.policies, "the app that is left holds the policy")

        async def is_enforced() -> bool:
            return bool((await a1.http.get(a1.path("p1", "/status"))).json() == ENFORCED)

        await kit.eventually(is_enforced, "nobody waits for the one that is gone")


async def test_registration_of_anothers_type_is_refused_to_the_app(a1: Any, kit: Kit) -> None:
    async with kit.FakeApp(a1.grpc_address):
        feed = PolicyFeed(
            a1.grpc_address, app_id="impostor", instance_id="1", policy_type_id=kit.TYPE_ID, policy_type=kit.POLICY_TYPE
        )
        with pytest.raises(TwinRicError, match="A1-CONFLICT"):
            await asyncio.wait_for(feed.run(lambda *_: None, lambda *_: None, lambda: None), 5)


async def test_changed_schema_takes_policies_that_no_longer_fit_out_of_force(a1: Any, kit: Kit) -> None:
    async with kit.FakeApp(a1.grpc_address):
        await a1.http.put(a1.path("p1"), json={"weight": 0.9})
    narrow = {**kit.POLICY_TYPE, "policySchema": {"properties": {"weight": {"maximum": 0.5}}}}
    app = kit.FakeApp(a1.grpc_address)
    app.feed = PolicyFeed(
        a1.grpc_address, app_id=app.app_id, instance_id="1", policy_type_id=kit.TYPE_ID, policy_type=narrow
    )
    async with app:
        assert app.policies == {}
        status = (await a1.http.get(a1.path("p1", "/status"))).json()
        assert status == {"enforceStatus": "NOT_ENFORCED", "enforceReason": "STATEMENT_NOT_APPLICABLE"}


async def test_status_changes_are_posted_as_objects_and_retried(a1: Any, kit: Kit) -> None:
    received: list[Any] = []
    receiver = FastAPI()

    @receiver.post("/notify")
    async def notify(request: Request) -> Response:
        received.append(await request.json())
        return Response(status_code=503 if len(received) == 1 else 204)

    async with serve(receiver, "127.0.0.1", 0) as port:
        async with kit.FakeApp(a1.grpc_address):
            destination = f"http://127.0.0.1:{port}/notify"
            await a1.http.put(a1.path("p1"), json={}, params={"notificationDestination": destination})
            await kit.eventually(lambda: len(received) == 2, "the first notification and its retry")
        await kit.eventually(lambda: len(received) == 3, "the app's loss is notified")
    assert received == [ENFORCED, ENFORCED, NOT_ENFORCED]
