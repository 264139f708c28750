"""The `twinric` command against a running RIC: what it prints, how it fails, and that its help is complete."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

import ric.__main__ as command
from ric.a1.client import PolicyFeed
from ric.bus.bus import RIC_ALARMS, MemoryBus
from ric.clock import WallClock, to_ns
from ric.e2.conflict_mitigation import ControlIntent
from ric.e2.conflict_policy import POLICY_TYPE_ID
from ric.pb.twinric.bus.v1 import record_pb2
from ric.platform import RicConfig, RicPlatform
from ric.telemetry import Metrics

pytestmark = pytest.mark.timeout(60)

TYPE_ID = "doubler_1.0.0"
SCHEMA = {
    "type": "object",
    "properties": {"gain": {"type": "number", "minimum": 0, "maximum": 10}},
    "additionalProperties": False,
}
POLICY_TYPE = {"policyTypeId": TYPE_ID, "policySchema": SCHEMA, "statusSchema": {"type": "object"}}
COMMANDS = [
    [], ["demo"], ["up"], ["serve"], ["apps"], ["policy"], ["policy", "list"], ["policy", "put"], ["policy", "delete"],
    ["policy", "status"], ["policy", "types"], ["twins"], ["alarms"], ["conflicts"], ["bench"],
    ["certs"], ["audit"], ["audit", "verify"], ["audit", "list"],
]  # fmt: skip


class Ric:
    """A RIC on free ports with one app that enforces every policy; its loop runs in a thread of its own."""

    def __init__(self) -> None:
        self.a1_url = ""
        self.seen: list[str] = []
        self._started = threading.Event()
        self._ended = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    async def _serve(self) -> None:
        bus = MemoryBus()
        await bus.start()
        config = RicConfig(
            node_address="127.0.0.1:0", xapp_address="127.0.0.1:0", a1_address="127.0.0.1:0", a1_port=0
        )  # fmt: skip
        platform = RicPlatform(config, bus, WallClock(), Metrics("ric"), environ={})
        bound = await platform.start()
        self.a1_url = bound.a1_url
        await self._raise_alarm(bus)
        for app_id, share in (("first", 25), ("second", 30)):
            intent = ControlIntent(app_id, "00101-e2000001", "ccc", {"slice 1-000001": share})
            if not (decision := platform.e2.conflicts.decide(intent, 0.0)).is_admitted:
                platform.conflicts.record(decision)
        feed = PolicyFeed(
            bound.a1_grpc, app_id="doubler", instance_id="1", policy_type_id=TYPE_ID, policy_type=POLICY_TYPE
        )

        def enforce(policy_id: str, revision: int, body: dict[str, Any]) -> None:
            self.seen.append(policy_id)
            feed.report(policy_id, revision, True)

        following = asyncio.create_task(feed.run(enforce, lambda *_: None, self._started.set))
        await self._ended.wait()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await platform.stop()
        await bus.stop()

    @staticmethod
    async def _raise_alarm(bus: MemoryBus) -> None:
        now_ns = to_ns(WallClock().now_s())
        alarm = record_pb2.Alarm(
            managed_object="feeder/feeder-1/section/2", application="fault_alarm", specific_problem="PHASE_TO_GROUND",
            perceived_severity=record_pb2.PERCEIVED_SEVERITY_MAJOR, event_time_ns=now_ns, detected_time_ns=now_ns,
        )  # fmt: skip
        await bus.publish(RIC_ALARMS, alarm.managed_object, alarm.SerializeToString(), {})

    @contextmanager
    def running(self) -> Iterator[Ric]:
        self._thread.start()
        try:
            assert self._started.wait(20)
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._ended.set)
            self._thread.join(20)
            self._loop.close()


@pytest.fixture(autouse=True)
def logs_of_its_own() -> Iterator[None]:
    """Commands direct the log to what is standard error while they run, here pytest's capture."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def ric() -> Iterator[Ric]:
    with Ric().running() as running:
        yield running


def run(*arguments: str) -> str:
    """What the command prints; it must succeed."""
    result = CliRunner().invoke(command.cli, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def refused(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that the command leaves on standard error with status 2; never a traceback."""
    monkeypatch.setattr(sys, "argv", ["twinric", *arguments])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words) or "twinric")
def test_help_of_every_command_says_what_it_is_for(words: list[str]) -> None:
    text = run(*words, "--help")
    assert "Usage:" in text
    assert len(text.splitlines()) > 5


def test_every_command_is_in_the_list_above() -> None:
    named = {info.name or info.callback.__name__ for info in command.cli.registered_commands if info.callback}
    assert named == {words[0] for words in COMMANDS if words} - {"policy", "audit"} | {"sim"}


def test_sim_help_is_the_simulators_own() -> None:
    text = subprocess.run(
        [sys.executable, "-m", "ric", "sim", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for name in ("run", "history", "check", "reference"):
        assert name in text


def test_apps_lists_every_app_with_ric_budget_and_policy_type() -> None:
    text = run("apps")
    rows = {line.split()[1]: line for line in text.splitlines() if "python -m" in line}
    assert set(rows) == {
        "demand_twin", "storage_scheduling", "hems_load", "slice_bandwidth", "microgrid_guard", "fault_alarm"
    }  # fmt: skip
    assert "non_rt" in rows["demand_twin"]
    assert "1000 ms" in rows["hems_load"]
    assert "twinric_slice_bandwidth_1.0.0" in rows["slice_bandwidth"]


def test_apps_tells_of_one_whose_packages_are_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    class Absent:
        name, module = "far_app", "xapps.far_app.app"

        @staticmethod
        def load() -> None:
            raise ModuleNotFoundError("No module named 'far'")

    monkeypatch.setattr(command, "_apps", lambda: [Absent])
    text = run("apps")
    assert "No module named 'far'" in text
    assert "twinric[far_app]" in text


def test_policy_life_put_list_status_delete(ric: Ric, tmp_path: Path) -> None:
    a1 = ("--a1", ric.a1_url)
    assert run("policy", "types", *a1).split() == [TYPE_ID, POLICY_TYPE_ID]
    run("policy", "put", TYPE_ID, "louder", '{"gain": 2}', *a1)
    file = tmp_path / "softer.json"
    file.write_text(json.dumps({"gain": 0.5}), encoding="utf-8")
    run("policy", "put", TYPE_ID, "softer", f"@{file}", *a1)
    for _ in range(200):
        if run("policy", "status", TYPE_ID, "louder", *a1).strip() == "ENFORCED":
            break
    else:
        pytest.fail("never enforced")
    listed = [line.split() for line in run("policy", "list", *a1).splitlines() if TYPE_ID in line]
    assert sorted(row[3] for row in listed) == ["louder", "softer"]
    for policy_id in ("louder", "softer"):
        run("policy", "delete", TYPE_ID, policy_id, *a1)
    assert TYPE_ID not in run("policy", "list", *a1)


def test_alarms_lists_the_active_ones(ric: Ric) -> None:
    text = run("alarms", "--a1", ric.a1_url)
    assert "feeder/feeder-1/section/2" in text
    assert "MAJOR" in text


def test_conflicts_tells_who_lost_to_whom_and_why(ric: Ric) -> None:
    text = run("conflicts", "--a1", ric.a1_url)
    assert "HELD_BY_EQUAL_PRIORITY" in text
    assert all(word in text for word in ("second", "refused, direct", "first", "slice 1-000001"))
    assert "HELD_BY" not in run("conflicts", "--app", "third", "--a1", ric.a1_url)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["policy", "put", TYPE_ID, "p", '{"gain": 11}'], "A1-RANGE gain = '11': accepted 0..10"),
        (["policy", "put", TYPE_ID, "p", '{"gian": 1}'], "A1-UNKNOWN-FIELD gian"),
        (["policy", "put", TYPE_ID, "p", "gain: 1"], "A1-MALFORMED BODY = 'gain: 1'"),
        (["policy", "put", TYPE_ID, "p", "@/no/such/file"], "A1-MALFORMED BODY = '@/no/such/file'"),
        (["policy", "put", "no_such_1.0.0", "p", "{}"], "A1-UNKNOWN"),
        (["policy", "status", TYPE_ID, "nobody"], "A1-UNKNOWN"),
        (["policy", "delete", TYPE_ID, "nobody"], "A1-UNKNOWN"),
        (["policy", "list", "--token-file", "/no/such/file"], "CONFIG-MISSING --token-file = '/no/such/file'"),
        (["alarms", "--token-file", "/no/such/file"], "CONFIG-MISSING --token-file = '/no/such/file'"),
    ],
    ids=["out of range", "unknown key", "no JSON", "no file", "unknown type", "unknown status", "unknown delete",
         "no token file", "alarms: no token file"],
)  # fmt: skip
def test_refusal_of_the_ric_is_told_in_one_line(
    ric: Ric, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert told in refused(monkeypatch, capfd, *arguments, "--a1", ric.a1_url)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["policy", "list", "--a1", "http://127.0.0.1:9"], "A1-UNREACHABLE base_url = 'http://127.0.0.1:9'"),
        (["conflicts", "--a1", "http://127.0.0.1:9"], "A1-UNREACHABLE --a1 = 'http://127.0.0.1:9'"),
        (["alarms", "--a1", "http://127.0.0.1:9"], "A1-UNREACHABLE --a1 = 'http://127.0.0.1:9'"),
        (["policy", "list", "--a1", "127.0.0.1:9000"], "CONFIG-RANGE --a1 = '127.0.0.1:9000'"),
        (["alarms", "--a1", "::no url"], "CONFIG-RANGE --a1 = '::no url'"),
        (["up", "--bus", "memory://"], "CONFIG-RANGE --bus = 'memory://'"),
        (["up", "--bus", "http://x"], "CONFIG-RANGE --bus = 'http://x'"),
        (["twins", "--bus", "kafka://nowhere"], "CONFIG-RANGE bus_url = 'kafka://nowhere'"),
        (["twins", "--topic", "twin.reprted"], "BUS-RANGE --topic = 'twin.reprted'"),
        (["twins", "--topic", "ric.alarms"], "BUS-RANGE --topic = 'ric.alarms'"),
        (["demo", "--scenario", "smok"], "CONFIG-MISSING scenario = 'smok'"),
        (["up", "--scenario", "smok"], "CONFIG-MISSING scenario = 'smok'"),
        (["serve", "--config", "/no/such/file"], "CONFIG-MISSING file = '/no/such/file'"),
        (["bench", "e2_lop"], "CONFIG-RANGE NAME = 'e2_lop'"),
    ],
    ids=["no RIC", "conflicts: no RIC", "alarms: no RIC", "no scheme", "no address", "up: memory", "up: no Kafka",
         "no port", "unknown topic", "not compacted", "demo: unknown scenario", "up: unknown scenario",
         "serve: no file", "unknown benchmark"],
)  # fmt: skip
def test_fault_of_input_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told in refused(monkeypatch, capfd, *arguments)


def test_up_names_a_port_that_is_taken(
    ric: Ric, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    port = int(ric.a1_url.rpartition(":")[2])
    monkeypatch.setattr(sys, "argv", ["twinric", "up", "--port-base", str(port), "--data", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert f"CONFIG-RANGE port = {port}: accepted a free port" in capfd.readouterr().err


def test_history_on_a_memory_bus_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "e2sim", "history", "--scenario", "smoke", "--bus", "memory://"],
        capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 2
    assert "CONFIG-RANGE --bus = 'memory://'" in done.stderr
    assert "Traceback" not in done.stderr
