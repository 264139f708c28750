"""`twinric up` against Apache Kafka: the loop closes over processes, killed ones come back with all they knew."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from ric.a1.client import A1pClient
from ric.bus.bus import RIC_ALARMS, RIC_DECISIONS, TWIN_ACK, TWIN_DESIRED, TWIN_FORECAST, TWIN_REPORTED, Bus, open_bus
from ric.bus.record import Ack, AckStatus, TwinState, decode, decode_ack
from ric.errors import TwinRicError
from ric.pb.twinric.bus.v1.record_pb2 import Alarm, DecisionRecord
from ric.telemetry import Metrics
from ric.up import Ports

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

NODE, BY_BUS = "00101-e2000001", "00101-e2000002"
"""The second node's homes are told over the bus."""
SPEED = 60
STOP_S = 5.0 + 5.0
"""What the house promises, and room for two busy cores."""
PATIENCE_S = 120.0
"""The first start on a machine compiles: 40 s of a core."""
LEARNERS = ("demand_twin", "storage_scheduling", "hems_load", "slice_bandwidth", "microgrid_guard")
TWINS = (
    f"home_fleet/{NODE}", f"demand_history/{NODE}", f"slice/{NODE}", f"microgrid/{NODE}", f"storage/{NODE}",
    f"demand_forecast_15min/{NODE}", f"storage_schedule/{NODE}",
)  # fmt: skip
HEMS, FORECASTS, SLICES = "twinric_hems_load_1.0.0", "twinric_demand_twin_1.0.0", "twinric_slice_bandwidth_1.0.0"
CAP = {"import_cap_kw": 45.0}
NAIVE = {"method": "seasonal_naive"}


def scenario(file: Path) -> Path:
    """Five hours with six homes, and two more of a node that is told over the bus; a feeder fault every ten minutes, so
    that whenever the dApp is up there is one.
    """
    windows = "\n".join(f"  - {{start_s: {60 + 600 * k}, duration_s: 3}}" for k in range(30))
    fault = "kind: PHASE_TO_GROUND, section: 1, resistance_ohm: 10, cleared_after_s: 1"
    faults = "\n".join(f"  - {{at_s: {61 + 600 * k}, {fault}}}" for k in range(30))
    file.write_text(
        "seed: 7\nstart: 2016-06-15T11:50:00Z\nduration_s: 18000\n"
        "nodes:\n  - {gnb_id: 0xe2000001, residential: {code: 1-LV-rural3--2-sw, homes: 6}, microgrids: {}}\n"
        "  - {gnb_id: 0xe2000002, residential: {code: 1-LV-rural3--2-sw, homes: 2}, desired_by_bus: true}\n"
        f"windows:\n{windows}\nfaults:\n{faults}\n"
        f"policies: [{{at_s: 120, policy_type_id: {SLICES}, policy_id: moved, body: {{slot_move_cost: 0.06}}}}]\n",
        encoding="utf-8",
    )
    return file


def free_base() -> int:
    """The first of as many free ports in a row as `twinric up` needs, below those that clients are given."""
    for base in range(20_000 + os.getpid() % 1_000 * 10, 32_000, 20):
        sockets = [socket.socket() for _ in Ports.from_base(base).taken(6)]
        try:
            for opened, port in zip(sockets, Ports.from_base(base).taken(6), strict=True):
                opened.bind(("127.0.0.1", port))
        except OSError:
            continue
        finally:
            for opened in sockets:
                opened.close()
        return base
    raise AssertionError("no free ports")


class Watch:
    """Everything that the bus carries, from the start."""

    def __init__(self, bus: Bus) -> None:
        self.twins: dict[str, list[TwinState]] = defaultdict(list)
        self.decisions: dict[str, list[DecisionRecord]] = defaultdict(list)
        self.alarms: list[Alarm] = []
        self.answers: list[Ack] = []
        topics = (TWIN_REPORTED, TWIN_DESIRED, TWIN_FORECAST, TWIN_ACK, RIC_DECISIONS, RIC_ALARMS)
        self._messages = bus.follow(topics, from_start=True)

    async def run(self) -> None:
        async for message in self._messages:
            if message.topic == RIC_DECISIONS:
                record = DecisionRecord.FromString(message.value)
                self.decisions[record.app].append(record)
            elif message.topic == RIC_ALARMS:
                self.alarms.append(Alarm.FromString(message.value))
            elif message.topic == TWIN_ACK:
                self.answers.append(decode_ack(message.value))
            else:
                self.twins[message.key].append(decode(message.value))

    def decided(self, app: str, *, policy: str = "", after: int = 0) -> bool:
        """Whether `app` has decided by its own means, under `policy`, since its `after`-th decision."""
        found = self.decisions[app][after:]
        return any(not record.safe_action and (not policy or policy in record.policy_ids) for record in found)

    def followed(self, after: int = 0) -> bool:
        """Whether the homes that are told over the bus have accepted a desired state after that revision."""
        mine = [answer for answer in self.answers if answer.twin_id == f"home_set_point/{BY_BUS}"]
        assert AckStatus.REJECTED not in {answer.status for answer in mine}, mine
        return any(answer.revision > after and answer.status is AckStatus.ACCEPTED for answer in mine)


class System:
    """A running `twinric up`."""

    def __init__(self, process: asyncio.subprocess.Process, base: int, data: Path) -> None:
        self.process = process
        self.data = data
        self.a1 = A1pClient(f"http://127.0.0.1:{Ports.from_base(base).a1_rest}")

    def pid_of(self, *words: str) -> int:
        """The process whose command line has all `words`; 0 for none."""
        for child in psutil.Process(self.process.pid).children():
            try:
                if set(words) <= set(child.cmdline()):
                    return child.pid
            except psutil.Error:
                continue
        return 0

    async def kill(self, *words: str) -> None:
        """SIGKILL the process, and return when another one has taken its place."""
        before = self.pid_of(*words)
        assert before
        os.kill(before, signal.SIGKILL)
        await until(lambda: self.pid_of(*words) not in (0, before), f"{words} is started again")

    async def enforced(self, type_id: str, policy_id: str) -> bool:
        """Whether the RIC says so; no, while it is away."""
        try:
            return (await self.a1.policy_status(type_id, policy_id))["enforceStatus"] == "ENFORCED"
        except TwinRicError as error:
            assert error.code in ("A1-UNREACHABLE", "A1-UNKNOWN")
            return False


async def until(condition: Callable[[], bool | Coroutine[Any, Any, bool]], what: str) -> None:
    loop = asyncio.get_running_loop()
    limit_s = loop.time() + PATIENCE_S
    while True:
        result = condition()
        if result if isinstance(result, bool) else await result:
            return
        assert loop.time() < limit_s, f"not within {PATIENCE_S:g} s: {what}"
        await asyncio.sleep(0.1)


@asynccontextmanager
async def started(kafka_url: str, folder: Path) -> AsyncIterator[System]:
    """`twinric up` on the scenario; whatever happens, nothing of it is left running. Failures come with its logs."""
    base, data = free_base(), folder / "data"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ric", "up", "--scenario", str(scenario(folder / "s.yaml")), "--bus", kafka_url,
        "--speed", str(SPEED), "--data", str(data), "--port-base", str(base),
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    system = System(process, base, data)
    try:
        yield system
    except BaseException:
        for log in sorted(data.glob("log/*.log")):
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-1500:]}")
        raise
    finally:
        await system.a1.aclose()
        if process.returncode is None:
            children = psutil.Process(process.pid).children(recursive=True)
            for child in (psutil.Process(process.pid), *children):
                child.kill()
            await process.wait()


def assert_gapless(states: list[TwinState]) -> None:
    assert [state.revision for state in states] == list(range(1, len(states) + 1))
    for before, after in pairwise(states):
        assert after.previous_hash == before.state_hash, f"{after.twin_id} revision {after.revision}"


def assert_window_kept(before: TwinState, after: TwinState) -> None:
    """The history that `after` holds of the time that `before` covers is what `before` says."""
    steps = (after.source_time_ns - before.source_time_ns) // (900 * 10**9)
    assert steps > 0
    for name in ("load_kw", "pv_kw"):
        kept, old = after.table[name][:, :-steps], before.table[name][:, steps:]
        np.testing.assert_array_equal(kept, old[:, -kept.shape[1] :])


async def test_up_closes_the_loop_and_killed_processes_come_back_with_all_they_knew(
    kafka_node: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINRIC_KAFKA__TOPIC_PREFIX", f"{uuid.uuid4().hex}.")
    url = f"kafka://{kafka_node.address}"
    bus = open_bus(url, Metrics("watch"), client_id="watch")
    await bus.start()
    watch = Watch(bus)
    watching = asyncio.create_task(watch.run())
    try:
        async with started(url, tmp_path) as system:
            await loop_closes(system, watch)
            await killed_apps_rebuild(system, watch)
            await killed_ric_keeps_policies(system, watch)
            await everything_ends(system)
    finally:
        await bus.stop()
        await watching
    for states in watch.twins.values():
        assert_gapless(states)


async def loop_closes(system: System, watch: Watch) -> None:
    """Every app decides, the twins are on the bus, the dApp's alarm arrives, policies are enforced."""
    await until(lambda: all(watch.decided(app) for app in LEARNERS), "all apps decide")
    await until(lambda: all(twin in watch.twins for twin in TWINS), "all twins are on the bus")
    await until(lambda: any(alarm.application == "fault_alarm" for alarm in watch.alarms), "the feeder's alarm")
    await until(watch.followed, "homes follow what they are told over the bus")
    await system.a1.put_policy(HEMS, "cap", CAP)
    await system.a1.put_policy(FORECASTS, "naive", NAIVE)
    await until(lambda: system.enforced(HEMS, "cap"), "the import cap is enforced")
    await until(lambda: system.enforced(FORECASTS, "naive"), "the forecast method is enforced")
    await until(lambda: system.enforced(SLICES, "moved"), "the scenario's own policy is enforced")


async def killed_apps_rebuild(system: System, watch: Watch) -> None:
    """Demand twin and HEMS die at once; their twins go on where they were and their policies still hold."""
    history = watch.twins[f"demand_history/{NODE}"]
    counts = {app: len(watch.decisions[app]) for app in ("demand_twin", "hems_load")}
    last = history[-1]
    await asyncio.gather(system.kill("rapps.demand_twin"), system.kill("xapps.hems_load"))
    for app, policy in (("demand_twin", "naive"), ("hems_load", "cap")):
        # What the dead process published last may still be on its way: two decisions later it is surely the new one.
        await until(
            lambda app=app, policy=policy: watch.decided(app, policy=policy, after=counts[app] + 1),
            f"{app} decides under policy {policy!r} again",
        )
    await until(lambda: history[-1].revision > last.revision, "the demand twin publishes its window again")
    told = watch.twins[f"home_set_point/{BY_BUS}"][-1].revision
    await until(lambda: watch.followed(after=told), "homes follow what the new HEMS tells them over the bus")
    assert_window_kept(last, history[-1])
    assert watch.decisions["demand_twin"][-1].reason_code == "POLICY_NAIVE"
    assert await system.enforced(HEMS, "cap")
    assert await system.enforced(FORECASTS, "naive")


async def killed_ric_keeps_policies(system: System, watch: Watch) -> None:
    """The RIC dies; it comes back with both policies, nodes and apps find it, and they are enforced again."""
    await system.kill("serve")
    await until(lambda: system.enforced(HEMS, "cap"), "the import cap is enforced by the new RIC")
    assert await system.a1.policy(HEMS, "cap") == CAP
    assert await system.a1.policy(FORECASTS, "naive") == NAIVE
    await until(lambda: system.enforced(SLICES, "moved"), "the scenario's policy is enforced by the new RIC")
    before = len(watch.decisions["hems_load"])
    await until(lambda: watch.decided("hems_load", policy="cap", after=before), "HEMS decides on new reports")


async def everything_ends(system: System) -> None:
    """SIGTERM ends all processes in time and in order."""
    children = psutil.Process(system.process.pid).children(recursive=True)
    assert len(children) >= 8
    system.process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(system.process.wait(), STOP_S) == 0
    assert [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE] == []


async def test_up_without_a_broker_says_so_and_leaves_nothing(kafka_tools: Any, tmp_path: Path) -> None:
    address = f"127.0.0.1:{kafka_tools.free_ports(1)[0]}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ric", "up", "--bus", f"kafka://{address}", "--data", str(tmp_path),
        "--port-base", str(free_base()), stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
        env=os.environ | {"TWINRIC_KAFKA__CONNECT_TIMEOUT_S": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    _, errors = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 1
    assert f"history ended with status 2: BUS-UNREACHABLE bus = 'kafka://{address}'" in errors.decode()
    assert "Traceback" not in errors.decode()
