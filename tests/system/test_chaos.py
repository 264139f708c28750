"""Real processes that are killed, cut off, starved of disk and given a wrong clock.

After each: no accepted policy is lost, no control applied twice, every alarm is there once, and controls are
acknowledged again. How long that took is printed (`pytest -s`); the house promises 5 s from the moment the cause is
gone. A1, E2 and alarms of a RIC are one process: its death is that of the E2 termination and of the A1 server.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from e2sim.e2_agent import E2Agents
from e2sim.network import Network
from e2sim.scenario import parse_scenario
from ric.a1.client import PolicyFeed
from ric.bus.bus import RIC_ALARMS, BusMessage, open_bus
from ric.clock import WallClock
from ric.e2.client import E2Client
from ric.pb.twinric.bus.v1.record_pb2 import Alarm
from ric.sdl import STORE_FILE, Sdl
from ric.telemetry import Metrics
from tests.system.chaos import Controls, CountingFunction, Link, Ric, alarm, counting_node, until

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

TYPE_ID = "twinric_chaos_1.0.0"
POLICIES = f"/A1-P/v2/policytypes/{TYPE_ID}/policies"
SCENARIO = {
    "seed": 2, "start": "2016-06-15T00:00:00Z", "duration_s": 60, "windows": [{"start_s": 0, "duration_s": 60}],
    "nodes": [{"gnb_id": 0xE2000009, "microgrids": {}}],
}  # fmt: skip
DU = "00101-e2000009"


def say(what: str, seconds: float) -> None:
    print(f"chaos: {what}: {seconds:.2f} s")


@pytest.fixture
async def ric(tmp_path: Path) -> AsyncIterator[Ric]:
    made = Ric(tmp_path)
    yield made
    await made.stop()


@contextlib.asynccontextmanager
async def policy_app(ric: Ric) -> AsyncIterator[dict[str, dict[str, Any]]]:
    """An app that registers the policy type; the policies that it holds."""
    feed = PolicyFeed(
        ric.address("a1_grpc"), app_id="chaos", instance_id="1", policy_type_id=TYPE_ID,
        policy_type={"policySchema": {"type": "object"}, "statusSchema": {"type": "object"}},
    )  # fmt: skip
    held: dict[str, dict[str, Any]] = {}

    def on_put(policy_id: str, revision: int, body: dict[str, Any]) -> None:
        held[policy_id] = body
        feed.report(policy_id, revision, enforced=True)

    ready = asyncio.Event()
    running = asyncio.create_task(feed.run(on_put, lambda policy_id, *_: held.pop(policy_id, None), ready.set))
    await asyncio.wait_for(ready.wait(), 20)
    try:
        yield held
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


class Operator:
    """Puts one policy after the other; which the RIC accepted."""

    def __init__(self, ric: Ric) -> None:
        self.accepted: dict[str, int] = {}
        self.refused: dict[str, int] = {}
        self._ric = ric
        self._number = 0

    async def put(self, size: int = 0) -> int:
        """The status of the answer; 0 for none."""
        self._number += 1
        name, body = f"p{self._number}", {"number": self._number, "filler": "x" * size}
        try:
            status = (await self._ric.http.put(f"{POLICIES}/{name}", json=body)).status_code
        except httpx.TransportError:
            status = 0  # it may have been accepted
        if status in (200, 201):
            self.accepted[name] = self._number
        elif status:
            self.refused[name] = status
        return status

    async def run(self) -> None:
        while True:
            await self.put()
            await asyncio.sleep(0.01)

    async def check(self) -> None:
        """Every accepted policy is there as it was accepted, and none that was refused."""
        names = (await self._ric.http.get(POLICIES)).json()
        assert self.accepted
        assert set(self.accepted) <= set(names)
        assert not set(self.refused) & set(names)
        for name, number in self.accepted.items():
            assert (await self._ric.http.get(f"{POLICIES}/{name}")).json()["number"] == number


async def du_agents(address: str) -> E2Agents:
    agents = E2Agents(Network(parse_scenario(SCENARIO)), address, metrics=Metrics("e2sim"))
    await agents.start(20.0)
    agent = agents.agents[DU]
    await until(lambda: bool(agent._dapps.opened) and agent._dapps.opened == agent._told, "the RIC listens to dApps")
    return agents


def verified(folder: Path) -> int:
    """How many rows the audit log has, once it is proved whole."""
    sdl = Sdl(folder / "ric" / STORE_FILE, WallClock())
    try:
        return sdl.verify_audit().number
    finally:
        sdl.close()


async def test_ric_killed_keeps_policies_controls_and_alarms(ric: Ric) -> None:
    await ric.start()
    operator = Operator(ric)
    agents = await du_agents(ric.address("nodes"))
    report = agents.agents[DU].report_dapp
    async with (
        policy_app(ric) as held,
        counting_node(ric.address("nodes")) as (node, function),
        E2Client(ric.address("xapps"), app_id="chaos", instance_id="1") as client,
    ):
        await node.connected(20)
        async with Controls(client, node.identity.e2_node_id).running() as controls:
            for life in range(2):
                putting = asyncio.create_task(operator.run())
                await report(1, 10 * life + 1, alarm(f"before/{life}"), 10**18)
                await controls.goes_on()
                await report(1, 10 * life + 2, alarm(f"with/{life}"), 10**18)
                await ric.kill()
                putting.cancel()
                await asyncio.gather(putting, return_exceptions=True)
                await report(1, 10 * life + 3, alarm(f"after/{life}"), 10**18)
                started_s = await ric.start()
                say("RIC killed: started again", started_s)
                say("RIC killed: controls acknowledged after that", await controls.goes_on())
                wanted = {f"{when}/{n}" for n in range(life + 1) for when in ("before", "with", "after")}

                async def raised(wanted: set[str] = wanted) -> bool:
                    return set(await ric.alarms()) == wanted

                say("RIC killed: every alarm listed", await until(raised, "every alarm is raised"))
                assert set((await ric.alarms()).values()) == {0}, "none was taken twice"
                await until(lambda: set(operator.accepted) <= set(held), "the app has every policy again")
                await operator.check()
        controls.check(function)
    await agents.stop()
    await ric.kill()
    assert verified(ric.folder) >= len(operator.accepted)


XAPP = """
import asyncio, sys, uuid
from ric.e2.client import E2Client
from ric.e2sm import dapp

async def main(address, node_id):
    async with E2Client(address, app_id="chaos", instance_id="1") as client:
        asyncio.create_task(client.follow(
            (dapp.NAME, dapp.VERSION), trigger=b"t", action=b"a", handler=lambda *_: None))
        while True:
            payload = uuid.uuid4().bytes
            await client.control(node_id, (dapp.NAME, dapp.VERSION), b"", payload, deadline_s=5)
            print(payload.hex(), flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_xapp_killed_leaves_nothing_behind_and_its_successor_goes_on(ric: Ric) -> None:
    await ric.start()
    acknowledged: list[bytes] = []
    async with counting_node(ric.address("nodes")) as (node, function):
        await node.connected(20)
        name = node.identity.e2_node_id
        for life in range(2):
            xapp = await asyncio.create_subprocess_exec(
                sys.executable, "-c", XAPP, ric.address("xapps"), name, stdout=asyncio.subprocess.PIPE
            )
            assert xapp.stdout is not None
            before = len(acknowledged)
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            async with asyncio.timeout(30):
                while len(acknowledged) < before + 20:
                    acknowledged.append(bytes.fromhex((await xapp.stdout.readline()).decode()))
            say(f"xApp life {life}: twenty controls since its start", loop.time() - began_s)
            await until(lambda: any(s.event_trigger == b"t" for s in function.subscriptions), "it has subscribed")
            xapp.kill()
            rest, _ = await xapp.communicate()
            acknowledged += [bytes.fromhex(line) for line in rest.decode().split() if len(line) == 32]
        took_s = await until(
            lambda: all(s.event_trigger != b"t" for s in function.subscriptions), "its subscription is deleted"
        )
        say("xApp killed: its subscription deleted", took_s)
        assert max(function.applied.values()) == 1
        assert set(acknowledged) <= set(function.applied)


async def cut_off(ric: Ric, seconds: float) -> None:
    await ric.start()
    async with (
        Link(ric.ports["nodes"]) as link,
        counting_node(f"127.0.0.1:{link.port}") as (node, function),
        E2Client(ric.address("xapps"), app_id="chaos", instance_id="1") as client,
    ):
        await node.connected(20)
        name = node.identity.e2_node_id
        agents = await du_agents(f"127.0.0.1:{link.port}")
        report = agents.agents[DU].report_dapp
        await report(1, 1, alarm("before"), 10**18)
        async with Controls(client, name, deadline_s=0.5).running() as controls:
            await controls.goes_on()
            link.is_cut = True
            await report(1, 2, alarm("during"), 10**18)
            if seconds > 5:

                async def released() -> bool:
                    return name not in await ric.nodes()

                say("node cut off: released by the RIC", await until(released, "a silent node is released"))
            await asyncio.sleep(seconds)
            known_failures = set(controls.failed.values())
            assert known_failures
            assert known_failures <= {"E2-DEADLINE", "E2-LOST", "E2-NODE-UNKNOWN"}
            link.is_cut = False
            say(f"node cut off for {seconds:g} s: controls acknowledged after that", await controls.goes_on())

            async def raised() -> bool:
                return set(await ric.alarms()) == {"before", "during"}

            say("node cut off: every alarm listed", await until(raised, "every alarm is raised"))
            assert set((await ric.alarms()).values()) == {0}
        controls.check(function)
        assert len([s for s in function.subscriptions if s.event_trigger == b""]) == 1, "subscribed once again"
        await agents.stop()


async def test_node_cut_off_for_some_seconds_comes_back(ric: Ric) -> None:
    await cut_off(ric, 6.0)


@pytest.mark.long
async def test_node_cut_off_for_half_a_minute_comes_back(ric: Ric) -> None:
    await cut_off(ric, 30.0)


async def test_full_disk_refuses_policies_keeps_the_accepted_and_takes_new_ones_again(ric: Ric) -> None:
    await ric.start(largest_file=400_000)
    operator = Operator(ric)
    async with (
        policy_app(ric) as held,
        counting_node(ric.address("nodes")) as (node, function),
        E2Client(ric.address("xapps"), app_id="chaos", instance_id="1") as client,
    ):
        await node.connected(20)
        async with Controls(client, node.identity.e2_node_id).running() as controls:
            while not operator.refused:
                await operator.put(size=20_000)
            assert set(operator.refused.values()) == {503}
            assert (await ric.http.get(POLICIES)).status_code == 200
            await operator.check()
            await controls.goes_on()
            await ric.kill()
            say("disk full: RIC with room again", await ric.start())
            await operator.check()
            assert await operator.put(size=20_000) == 201
            await until(lambda: set(operator.accepted) <= set(held), "the app has every policy")
            say("disk full: controls acknowledged", await controls.goes_on())
        controls.check(function)
    await ric.kill()
    assert verified(ric.folder) >= len(operator.accepted)


async def test_clock_stepped_by_an_hour_both_ways_disturbs_nothing(ric: Ric) -> None:
    await ric.start(steps_of_the_clock=True)
    operator = Operator(ric)
    agents = await du_agents(ric.address("nodes"))
    report = agents.agents[DU].report_dapp
    async with (
        policy_app(ric) as held,
        counting_node(ric.address("nodes")) as (node, function),
        E2Client(ric.address("xapps"), app_id="chaos", instance_id="1") as client,
    ):
        await node.connected(20)
        async with Controls(client, node.identity.e2_node_id).running() as controls:
            wanted: set[str] = set()
            for number, step in enumerate((signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1)):
                ric.send(step)
                say(f"clock stepped ({step.name}): controls acknowledged", await controls.goes_on())
                assert await operator.put() == 201
                await report(1, number + 1, alarm(f"step/{number}"), 10**18)
                wanted.add(f"step/{number}")

                async def raised(wanted: set[str] = wanted) -> bool:
                    return set(await ric.alarms()) == wanted

                say("clock stepped: alarm listed", await until(raised, "the alarm is raised"))
                assert node.identity.e2_node_id in await ric.nodes()
            await asyncio.sleep(2.5)  # longer than the keep-alive: who judged silence by the date would hang up now
            assert set(await ric.nodes()) == {node.identity.e2_node_id, DU}
            assert not controls.failed
            await until(lambda: set(operator.accepted) <= set(held), "the app has every policy")
            await operator.check()
        controls.check(function)
        assert len([s for s in function.subscriptions if s.event_trigger == b""]) == 1
    await agents.stop()
    await ric.kill()
    assert verified(ric.folder) >= len(operator.accepted)


async def test_broker_killed_controls_policies_and_alarms_go_on_and_the_bus_gets_each_alarm(
    tmp_path: Path, kafka_tools: ModuleType
) -> None:
    with kafka_tools.broker(own=True) as broker:
        ric = Ric(tmp_path, f"kafka://{broker.address}")
        try:
            await _broker_killed(ric, broker)
        finally:
            await ric.stop()


async def _broker_killed(ric: Ric, broker: Any) -> None:
    await ric.start()
    operator = Operator(ric)
    agents = await du_agents(ric.address("nodes"))
    report = agents.agents[DU].report_dapp
    async with (
        policy_app(ric),
        counting_node(ric.address("nodes")) as (node, function),
        E2Client(ric.address("xapps"), app_id="chaos", instance_id="1") as client,
    ):
        await node.connected(20)
        async with Controls(client, node.identity.e2_node_id, deadline_s=2).running() as controls:
            await report(1, 1, alarm("before"), 10**18)
            await controls.goes_on()
            await asyncio.to_thread(broker.kill)
            say("broker killed: controls acknowledged without it", await controls.goes_on())
            await report(1, 2, alarm("during"), 10**18)
            assert await operator.put() == 201

            async def raised() -> bool:
                return set(await ric.alarms()) == {"before", "during"}

            say("broker killed: alarm listed without it", await until(raised, "the alarm is listed without the bus"))
            await asyncio.to_thread(broker.start)
            seen = await alarms_on_the_bus(broker.address, {"before", "during"})
            identities = [(Alarm.FromString(each.value).managed_object, each.headers["ce_id"]) for each in seen]
            assert len(set(identities)) == 2, "one CloudEvents id per alarm, so that readers know repetitions"
            assert set((await ric.alarms()).values()) == {0}
            await operator.check()
        controls.check(function)
        assert not controls.failed
    await agents.stop()


async def alarms_on_the_bus(address: str, wanted: set[str]) -> list[BusMessage]:
    """All records of `ric.alarms` once every alarm of `wanted` is there."""
    bus = open_bus(f"kafka://{address}", Metrics("watch"), client_id="watch")
    await bus.start()
    seen: list[BusMessage] = []
    messages = bus.follow([RIC_ALARMS], from_start=True)
    async with asyncio.timeout(60):
        while {Alarm.FromString(each.value).managed_object for each in seen} != wanted:
            seen.append(await anext(messages))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            while True:
                seen.append(await anext(messages))
    await bus.stop()
    return seen


def test_counting_sees_a_control_that_is_applied_twice() -> None:
    """The proof that the tests above could fail."""
    function = CountingFunction()
    for _ in range(2):
        asyncio.run(function.control(b"", b"same"))
    with pytest.raises(AssertionError):
        Controls.check(Controls(None, ""), function)  # type: ignore[arg-type]
