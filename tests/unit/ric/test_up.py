"""What `twinric up` starts and in which order; the supervisor restarts, gives up and stops."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ric.app_spec import AppConfig
from ric.config import load_config
from ric.errors import TwinRicError
from ric.platform import RicConfig
from ric.up import AppProcess, Ports, Supervisor, check_free, processes_of

APPS = [("hems_load", "xapps.hems_load"), ("fault_alarm", "dapps.fault_alarm")]
URL = "kafka://127.0.0.1:9092"


def made(folder: Path, told: dict[str, dict[str, Any]] | None = None) -> dict[str, AppProcess]:
    ports = Ports.from_base(20_000)
    made = processes_of(APPS, told or {}, scenario="smoke", bus_url=URL, speed=2.0, data=folder, ports=ports)
    return {process.name: process for process in made}


def config_of(process: AppProcess) -> Path:
    return Path(process.command[process.command.index("--config") + 1])


def script(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text)


async def until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def test_ports_from_base_are_distinct_and_in_a_row() -> None:
    assert Ports.from_base(20_000).taken(6) == list(range(20_000, 20_014))


def test_default_ports_are_distinct() -> None:
    taken = Ports().taken(6)
    assert len(set(taken)) == len(taken)


def test_check_free_names_every_taken_port() -> None:
    with socket.socket() as one, socket.socket() as other:
        for opened in (one, other):
            opened.bind(("127.0.0.1", 0))
            opened.listen()
        taken = [one.getsockname()[1], other.getsockname()[1]]
        with pytest.raises(TwinRicError) as caught:
            check_free(taken)
    assert [int(str(fault.value)) for fault in caught.value.faults] == taken
    check_free(taken)


def test_processes_settings_are_what_ric_and_apps_take(tmp_path: Path) -> None:
    processes = made(tmp_path)
    ric = load_config(RicConfig, config_of(processes["ric"]), "NONE", {})
    assert (ric.bus_url, ric.health_port) == (URL, processes["ric"].health_port)
    for name, _ in APPS:
        app = load_config(AppConfig, config_of(processes[name]), "NONE", {})
        assert app.e2_address == ric.xapp_address
        assert app.a1_address == ric.a1_address
        assert app.a1_url == f"http://{ric.a1_host}:{ric.a1_port}"
        assert (app.bus_url, app.clock, app.health_port) == (URL, "source", processes[name].health_port)
        given = yaml.safe_load(config_of(processes[name]).read_text())
        simulator = processes["e2sim"].command
        for socket_name in ("setup", "inbound", "outbound"):
            option = simulator.index(f"--e3-{socket_name}-endpoint")
            assert simulator[option + 1] == given[f"e3_{socket_name}_endpoint"]


def test_processes_settings_hold_what_the_scenario_asks_of_an_app_and_of_no_other(tmp_path: Path) -> None:
    processes = made(tmp_path, {"hems_load": {"desired_by_bus": ["00101-e2000001"]}})
    given = {name: yaml.safe_load(config_of(processes[name]).read_text()) for name, _ in APPS}
    assert given["hems_load"]["desired_by_bus"] == ["00101-e2000001"]
    assert "desired_by_bus" not in given["fault_alarm"]


def test_processes_start_in_the_order_of_who_needs_whom(tmp_path: Path) -> None:
    processes = made(tmp_path)
    stages = {name: process.stage for name, process in processes.items()}
    assert stages["history"] == stages["ric"] < stages["hems_load"] < stages["e2sim"] == stages["fault_alarm"]
    assert [name for name, process in processes.items() if process.once] == ["history"]
    assert list(stages.values()) == sorted(stages.values())


async def test_supervisor_restarts_what_dies_and_stops_the_rest(tmp_path: Path) -> None:
    dies = AppProcess("dies", script("print('last words', flush=True); raise SystemExit(3)"))
    stays = AppProcess("stays", script("import time; time.sleep(600)"))
    supervisor = Supervisor([dies, stays], tmp_path)
    running = asyncio.create_task(supervisor.run())
    await until(lambda: supervisor.restarts.get("dies", 0) >= 1 and "stays" in supervisor.running)
    supervisor.stop()
    assert await asyncio.wait_for(running, 10) == 0
    assert "stays" not in supervisor.restarts
    assert all(child.returncode is not None for child in supervisor.running.values())
    assert (tmp_path / "dies.log").read_text().startswith("last words")


async def test_supervisor_one_shot_gates_the_next_stage_and_is_not_restarted(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    first = AppProcess("first", script(f"import pathlib; pathlib.Path({str(mark)!r}).touch()"), once=True)
    check = f"import pathlib, time; print(pathlib.Path({str(mark)!r}).exists(), flush=True); time.sleep(600)"
    supervisor = Supervisor([first, AppProcess("second", script(check), stage=1)], tmp_path)
    running = asyncio.create_task(supervisor.run())
    await until(lambda: (tmp_path / "second.log").is_file() and (tmp_path / "second.log").read_text())
    supervisor.stop()
    assert await asyncio.wait_for(running, 10) == 0
    assert (tmp_path / "second.log").read_text() == "True\n"
    assert supervisor.restarts == {}


@pytest.mark.parametrize(("once", "restart"), [(True, True), (False, False)], ids=["one-shot fails", "no restarts"])
async def test_supervisor_ends_all_and_says_why_when_one_must_not_end(
    tmp_path: Path, *, once: bool, restart: bool
) -> None:
    bad = AppProcess("bad", script("import sys; print('CODE field = 1', file=sys.stderr); sys.exit(2)"), once=once)
    stays = AppProcess("stays", script("import time; time.sleep(600)"))
    supervisor = Supervisor([stays, bad], tmp_path, restart)
    assert await asyncio.wait_for(supervisor.run(), 20) == 1
    assert supervisor.fault == "bad ended with status 2: CODE field = 1"
    assert supervisor.running["stays"].returncode is not None


async def test_supervisor_kills_what_does_not_heed_sigterm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ric.up.STOP_S", 0.2)
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    deaf = f"import signal, time; {ignore}; print('deaf', flush=True); time.sleep(600)"
    supervisor = Supervisor([AppProcess("deaf", script(deaf))], tmp_path)
    running = asyncio.create_task(supervisor.run())
    await until(lambda: (tmp_path / "deaf.log").is_file() and (tmp_path / "deaf.log").read_text())
    supervisor.stop()
    assert await asyncio.wait_for(running, 10) == 0
    assert supervisor.running["deaf"].returncode == -9
