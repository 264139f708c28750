"""The Near-RT RIC as one object: node, xApp, dApp report, policy and operator meet in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from ric.a1.client import A1pClient, PolicyFeed
from ric.bus.bus import MemoryBus
from ric.clock import WallClock
from ric.e2.client import E2Client
from ric.e2.conflict_policy import POLICY_TYPE_ID
from ric.e2.identities import NodeIdentity, RanFunction
from ric.e2.node import E2NodeConnection
from ric.e2.node_requests import NodeSubscription
from ric.e2sm import ccc, dapp
from ric.errors import TwinRicError
from ric.pb.twinric.bus.v1 import record_pb2
from ric.platform import BoundAddresses, RicConfig, RicPlatform
from ric.telemetry import Metrics

NODE = NodeIdentity("00101", 0xE2000001)
CCC = (ccc.NAME, ccc.VERSION)


class _Slices:
    """A RAN function that takes every slice control and says so."""

    definition = RanFunction(ccc.RAN_FUNCTION_ID, ccc.OID)

    async def subscribe(self, subscription: NodeSubscription) -> Sequence[int]:
        raise TwinRicError("E2-ACTION", "actions", "(any)", "none: this function takes controls only")

    async def delete(self, subscription: NodeSubscription) -> None:
        return None

    async def control(self, header: bytes, message: bytes) -> bytes:
        return ccc.encode_outcome(ccc.decode_control(header, message))


class _DApps:
    """A RAN function that forwards dApp reports."""

    definition = RanFunction(dapp.RAN_FUNCTION_ID, dapp.OID)

    def __init__(self) -> None:
        self.subscribed: asyncio.Future[NodeSubscription] = asyncio.get_running_loop().create_future()

    async def subscribe(self, subscription: NodeSubscription) -> Sequence[int]:
        self.subscribed.set_result(subscription)
        return [action.ric_action_id for action in subscription.actions]

    async def delete(self, subscription: NodeSubscription) -> None:
        return None

    async def control(self, header: bytes, message: bytes) -> bytes:
        raise TwinRicError("E2-ACTION", "control", "(any)", "none")


def _config(data: Path | None = None, **settings: Any) -> RicConfig:
    free = {"node_address": "127.0.0.1:0", "xapp_address": "127.0.0.1:0", "a1_address": "127.0.0.1:0", "a1_port": 0}
    return RicConfig.model_validate({**free, "data_dir": str(data or ""), **settings})


async def _started(config: RicConfig) -> tuple[RicPlatform, BoundAddresses]:
    platform = RicPlatform(config, MemoryBus(), WallClock(), Metrics("ric"), environ={})
    return platform, await platform.start()


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("never happened")


async def test_platform_dapp_report_becomes_an_alarm(tmp_path: Path) -> None:
    platform, bound = await _started(_config(tmp_path))
    dapps = _DApps()
    node = E2NodeConnection(bound.nodes, NODE, [dapps], metrics=Metrics("node"))
    await node.start()
    try:
        subscription = await asyncio.wait_for(dapps.subscribed, 5)
        alarm = record_pb2.Alarm(
            managed_object="feeder/lv1/section/3", application="fault_alarm", specific_problem="PHASE_TO_GROUND",
            perceived_severity=record_pb2.PERCEIVED_SEVERITY_CRITICAL, event_time_ns=10**18, detected_time_ns=10**18,
        )  # fmt: skip
        report = dapp.DAppReport(NODE.e2_node_id, 10**18, 1, 7, alarm)
        await _until(lambda: subscription.ric_request_id in node.subscriptions)
        await node.indicate(subscription.ric_request_id, dapp.RAN_FUNCTION_ID, 0, *dapp.encode_indication(report))
        await _until(lambda: len(platform.faults.alarms.active()) == 1)
        async with httpx.AsyncClient(base_url=bound.a1_url, trust_env=False) as http:
            rows = (await http.get("/o1/v1/alarms")).json()
            assert [row["specificProblem"] for row in rows] == ["PHASE_TO_GROUND"]
            nodes = (await http.get("/twinric/v1/nodes")).json()
            assert [row["e2NodeId"] for row in nodes] == [NODE.e2_node_id]
            assert [row["inForce"] for row in (await http.get("/twinric/v1/subscriptions")).json()] == [True]
    finally:
        await node.stop()
        await platform.stop()


async def test_platform_controls_are_audited_and_conflicts_explained(tmp_path: Path) -> None:
    config = _config(tmp_path, priorities={"first": 5, "second": 1}, conflict_hold_s=60)
    platform, bound = await _started(config)
    node = E2NodeConnection(bound.nodes, NODE, [_Slices()], metrics=Metrics("node"))
    await node.start()
    await node.connected(5)

    async def ask(app_id: str, percent: int) -> None:
        async with E2Client(bound.xapps, app_id=app_id, instance_id="1") as client:
            ratio = ccc.SliceRatio(s_nssai="1-000001", rrm_policy_dedicated_ratio=percent)
            await client.control(NODE.e2_node_id, CCC, *ccc.encode_control((ratio,)), deadline_s=5)

    try:
        await ask("first", 25)
        with pytest.raises(TwinRicError, match="E2-CONFLICT"):
            await ask("second", 50)
        async with httpx.AsyncClient(base_url=bound.a1_url, trust_env=False) as http:
            conflicts = (await http.get("/twinric/v1/conflicts")).json()
            assert [(row["app"], row["admitted"], row["winner"]) for row in conflicts] == [("second", False, "first")]
            await _until(lambda: len(platform.sdl.audit_rows()) == 3)
            audit = (await http.get("/twinric/v1/audit", params={"verify": True})).json()
            assert [(row["actor"], row["details"].get("outcome")) for row in audit["rows"]] == [
                ("near_rt_ric", None), ("first", "acknowledged"), ("second", "E2-CONFLICT"),
            ]  # fmt: skip
            assert audit["head"] == f"{audit['rows'][-1]['number']}:{audit['rows'][-1]['hash']}"
    finally:
        await node.stop()
        await platform.stop()


async def test_platform_conflict_policy_is_enforced_live_and_after_a_restart(tmp_path: Path) -> None:
    body = {
        "priorities": {"second": 9},
        "hold_s": 60,
        "demands": [{"app_id": "hems_load", "s_nssai": "1-000003", "rate_mbps": 16_000}],
    }
    ratios = tuple(ccc.SliceRatio(s_nssai="1-000003", rrm_policy_dedicated_ratio=percent) for percent in (25, 20, 15))
    for attempt in range(2):
        platform, bound = await _started(_config(tmp_path))
        node = E2NodeConnection(bound.nodes, NODE, [_Slices()], metrics=Metrics("node"))
        await node.start()
        await node.connected(5)
        a1 = A1pClient(bound.a1_url)

        async def ask(app_id: str, ratio: ccc.SliceRatio, address: str = bound.xapps) -> None:
            async with E2Client(address, app_id=app_id, instance_id="1") as client:
                await client.control(NODE.e2_node_id, CCC, *ccc.encode_control((ratio,)), deadline_s=5)

        async def status(client: A1pClient = a1) -> str:
            return (await client.policy_status(POLICY_TYPE_ID, "who-wins"))["enforceStatus"]

        try:
            if not attempt:
                assert POLICY_TYPE_ID in await a1.policy_types()
                await a1.put_policy(POLICY_TYPE_ID, "who-wins", body)
            async with asyncio.timeout(5):
                while await status() != "ENFORCED":
                    await asyncio.sleep(0.01)
            await ask("first", ratios[0])
            await ask("second", ratios[1])  # displaces an equal of the RIC's settings
            with pytest.raises(TwinRicError, match="HELD_BY_HIGHER_PRIORITY"):
                await ask("first", ratios[0])
            with pytest.raises(TwinRicError, match="E2-CONFLICT"):
                await ask("hems_load", ratios[0])
            assert [row["reason"] for row in platform.conflicts.rows] == ["PREEMPTED", *["HELD_BY_HIGHER_PRIORITY"] * 2]
            if attempt:
                await a1.delete_policy(POLICY_TYPE_ID, "who-wins")
                await _until(lambda mitigation=platform.e2.conflicts: mitigation.policy.demands == ())
        finally:
            await a1.aclose()
            await node.stop()
            await platform.stop()


async def test_platform_restart_keeps_policies_and_overview_names_apps(tmp_path: Path) -> None:
    policy_type = {"policySchema": {"type": "object"}}
    for attempt in range(2):
        platform, bound = await _started(_config(tmp_path))
        replayed = asyncio.Event()
        held: list[str] = []
        feed = PolicyFeed(bound.a1_grpc, app_id="demo", instance_id="1", policy_type_id="t_1", policy_type=policy_type)
        running = asyncio.create_task(feed.run(lambda p, r, b, h=held: h.append(p), lambda p, r: None, replayed.set))
        client = A1pClient(bound.a1_url)
        try:
            await asyncio.wait_for(replayed.wait(), 5)
            assert held == (["p1"] if attempt else [])
            if not attempt:
                await client.put_policy("t_1", "p1", {"weight": 1})
            async with httpx.AsyncClient(base_url=bound.a1_url, trust_env=False) as http:
                app, ric = (await http.get("/twinric/v1/apps")).json()
                assert (app["app"], app["instances"]) == ("demo", ["1"])
                assert (ric["app"], ric["policyTypeId"]) == ("near_rt_ric", POLICY_TYPE_ID)
                assert [row["policyId"] for row in app["policies"]] == ["p1"]
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await client.aclose()
            await platform.stop()


@pytest.mark.parametrize("field", ["node_address", "xapp_address", "a1_address", "a1_host", "health_host"])
async def test_platform_plain_text_beyond_the_loopback_is_refused(field: str) -> None:
    value = "0.0.0.0" if field.endswith("host") else "0.0.0.0:0"
    with pytest.raises(TwinRicError, match=rf"CONFIG-RANGE {field} = '0.0.0.0'"):
        await _started(_config(**{field: value, "health_port": 1}))


async def test_platform_health_tells_ready_only_while_it_runs(tmp_path: Path, unused_tcp_port: int) -> None:
    platform, bound = await _started(_config(health_port=unused_tcp_port))
    try:
        async with httpx.AsyncClient(base_url=f"http://{bound.health}", trust_env=False) as http:
            assert (await http.get("/healthz")).json() == {"status": "alive"}
            assert (await http.get("/readyz")).status_code == 200
            assert "twinric_inputs_refused" in (await http.get("/metrics")).text
    finally:
        await platform.stop()
    assert not platform.is_ready()
