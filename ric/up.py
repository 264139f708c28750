"""Runs the whole system as processes: the RIC, the simulator and every app, each restarted when it dies.

`twinric up` is for one machine; in a cluster the Helm charts do this.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from ric.errors import Fault, TwinRicError
from ric.telemetry import logger

__all__ = ["AppProcess", "Ports", "Supervisor", "check_free", "processes_of"]

HOST = "127.0.0.1"
STOP_S = 5.0
READY_S, POLL_S = 90.0, 0.2
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 10.0
STEADY_S = 30.0
LOG_OCTETS = 4_096
PR_SET_PDEATHSIG = 1
_PRCTL = getattr(ctypes.CDLL(None), "prctl", None)
"""Looked up here: between fork and exec a child must not load anything."""


@dataclass(frozen=True)
class Ports:
    """Ports that the processes of one system use on the loopback address."""

    xapp: int = 5151
    nodes: int = 36_421
    a1_rest: int = 9_000
    a1_grpc: int = 9_001
    e3_setup: int = 9_990
    e3_inbound: int = 9_999
    e3_outbound: int = 9_991
    health: int = 8_080
    """The RIC's; the apps take the ports after it."""

    @classmethod
    def from_base(cls, base: int) -> Ports:
        """Consecutive ports from `base` on, in the order of the fields."""
        return cls(*range(base, base + 8))

    def taken(self, apps: int) -> list[int]:
        """Every port that a system of `apps` apps listens on."""
        named = [self.xapp, self.nodes, self.a1_rest, self.a1_grpc, self.e3_setup, self.e3_inbound, self.e3_outbound]
        return named + [self.health + offset for offset in range(apps + 1)]


def check_free(ports: Sequence[int]) -> None:
    """Raises TwinRicError (CONFIG-RANGE) naming every port of the loopback address that is taken."""
    faults = []
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except (OSError, OverflowError):
                remedy = "End what listens there, or choose others with --port-base."
                faults.append(Fault("CONFIG-RANGE", "port", port, f"a free port of {HOST}", remedy))
    if faults:
        raise TwinRicError.of(faults)


@dataclass(frozen=True)
class AppProcess:
    """One process: its name, how it is started, where it says that it is ready, and whether it runs once.

    Processes of one `stage` start together, when those of the stage before are ready or, if they run once, have ended.
    """

    name: str
    command: tuple[str, ...]
    health_port: int = 0
    stage: int = 0
    once: bool = False


def processes_of(
    apps: Sequence[tuple[str, str]], told: Mapping[str, Mapping[str, Any]], *, scenario: str, bus_url: str,
    speed: float, data: Path, ports: Ports,
) -> list[AppProcess]:  # fmt: skip
    """The processes of one system, in the order of their start; their settings are written below `data`.

    `apps` are (name, module) pairs, for example ("hems_load", "xapps.hems_load"); `told` are settings of some of them,
    by name, that the scenario asks for. The simulator starts once RIC, rApps
    and xApps are ready, so that they miss nothing of it; dApps start with it, since its DU is their peer.
    """
    a1_url = f"http://{HOST}:{ports.a1_rest}"
    history = (*_module("e2sim"), "history", "--scenario", scenario, "--bus", bus_url)
    started = [
        AppProcess("history", history, once=True),
        AppProcess("ric", (*_module("ric"), "serve", "--config", _ric_config(data, bus_url, ports)), ports.health),
    ]
    e3 = {
        "e3_setup_endpoint": f"tcp://{HOST}:{ports.e3_setup}",
        "e3_inbound_endpoint": f"tcp://{HOST}:{ports.e3_inbound}",
        "e3_outbound_endpoint": f"tcp://{HOST}:{ports.e3_outbound}",
    }
    for offset, (name, module) in enumerate(apps, start=1):
        settings = {
            "bus_url": bus_url,
            "e2_address": f"{HOST}:{ports.xapp}",
            "a1_address": f"{HOST}:{ports.a1_grpc}",
            "a1_url": a1_url,
            "health_port": ports.health + offset,
            "clock": "source",  # a scenario bears dates of its own
            **e3,
            **told.get(name, {}),
        }
        command = (*_module(module), "--config", _write(data, name, settings))
        stage = 2 if module.startswith("dapps.") else 1
        started.append(AppProcess(name, command, ports.health + offset, stage))
    sim = (*_module("e2sim"), "run", "--hold", "--scenario", scenario, "--bus", bus_url)
    endpoints = [item for name, value in e3.items() for item in (f"--{name.replace('_', '-')}", value)]
    simulator = (*sim, "--ric", f"{HOST}:{ports.nodes}", "--speed", str(speed), "--a1", a1_url, *endpoints)
    started.append(AppProcess("e2sim", simulator, stage=2))
    return sorted(started, key=lambda process: process.stage)


def _ric_config(data: Path, bus_url: str, ports: Ports) -> str:
    settings = {
        "bus_url": bus_url,
        "data_dir": str(data / "ric"),
        "node_address": f"{HOST}:{ports.nodes}",
        "xapp_address": f"{HOST}:{ports.xapp}",
        "a1_address": f"{HOST}:{ports.a1_grpc}",
        "a1_host": HOST,
        "a1_port": ports.a1_rest,
        "health_port": ports.health,
    }
    return _write(data, "ric", settings)


def _module(name: str) -> tuple[str, ...]:
    return (sys.executable, "-m", name)


def _write(data: Path, name: str, settings: Mapping[str, Any]) -> str:
    folder = data / "config"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(dict(settings)), encoding="utf-8")
    return str(path)


@dataclass
class Supervisor:
    """Starts processes stage by stage, restarts those that die, stops them all within five seconds.

    Where the supervisor itself is killed, the kernel (Linux) sends every process the SIGTERM that it cannot send.
    """

    processes: Sequence[AppProcess]
    log_dir: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="twinric-")))
    restart: bool = True
    running: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    fault: str = ""
    """Which process ended that should not have, with its last words."""
    _ended: dict[str, int] = field(default_factory=dict)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _keepers: list[asyncio.Task[None]] = field(default_factory=list)

    async def run(self) -> int:
        """Keep all processes up until :meth:`stop`; 1 when one ended that was not to be restarted (see `fault`)."""
        self.log_dir.mkdir(parents=True, exist_ok=True)
        starting = asyncio.create_task(self._start())
        await self._stopping.wait()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await asyncio.gather(*self._keepers)
        return 1 if self.fault else 0

    def stop(self) -> None:
        """Let :meth:`run` return."""
        self._stopping.set()

    async def _start(self) -> None:
        log = logger("up")
        async with httpx.AsyncClient(trust_env=False, timeout=2.0) as client:
            for stage in sorted({process.stage for process in self.processes}):
                members = [process for process in self.processes if process.stage == stage]
                self._keepers += [asyncio.create_task(self._keep(process)) for process in members]
                states = await asyncio.gather(*(self._settled(process, client) for process in members))
                late = [process.name for process, settled in zip(members, states, strict=True) if not settled]
                log.info("ready", names=[process.name for process in members if process.name not in late])
                if late:
                    log.warning("not ready; going on", names=late, waited_s=READY_S)
        log.info("up", processes=len(self._keepers))

    async def _settled(self, process: AppProcess, client: httpx.AsyncClient) -> bool:
        """True once `process` is ready or, if it runs once, has ended; False after READY_S."""
        limit_s = asyncio.get_running_loop().time() + READY_S
        while asyncio.get_running_loop().time() < limit_s:
            if process.once:
                if process.name in self._ended:
                    return True
            elif not process.health_port or await _is_ready(client, process.health_port):
                return True
            await asyncio.sleep(POLL_S)
        return False

    async def _keep(self, process: AppProcess) -> None:
        log, wait_s = logger("up"), FIRST_WAIT_S
        while not self._stopping.is_set():
            started_s = asyncio.get_running_loop().time()
            code = await self._run_once(process)
            if self._stopping.is_set():
                return
            if process.once or not self.restart:
                self._ended[process.name] = code
                if not process.once or code:
                    self.fault = f"{process.name} ended with status {code}: {self._last_words(process.name)}"
                    self._stopping.set()
                return
            if asyncio.get_running_loop().time() - started_s > STEADY_S:
                wait_s = FIRST_WAIT_S
            said = self._last_words(process.name)
            log.warning("process ended; restarting", name=process.name, code=code, wait_s=wait_s, said=said)
            self.restarts[process.name] = self.restarts.get(process.name, 0) + 1
            await self._unless_stopped(asyncio.sleep(wait_s))
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    async def _run_once(self, process: AppProcess) -> int:
        """Start `process` and return its exit status; when told to stop, end it within STOP_S."""
        parent = os.getpid()
        with (self.log_dir / f"{process.name}.log").open("ab") as sink:
            # A session of its own: Ctrl-C in the terminal reaches us alone, and we end the children in order.
            child = await asyncio.create_subprocess_exec(
                *process.command, stdin=asyncio.subprocess.DEVNULL, stdout=sink, stderr=sink, env=dict(os.environ),
                start_new_session=True, preexec_fn=lambda: _end_with(parent),
            )  # fmt: skip
        self.running[process.name] = child
        await self._unless_stopped(child.wait())
        if child.returncode is None:
            child.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(child.wait(), STOP_S)
            except TimeoutError:
                child.kill()
        return await child.wait()

    async def _unless_stopped(self, work: Awaitable[object]) -> None:
        """Return when `work` is done or :meth:`stop` is called."""
        tasks = (asyncio.ensure_future(work), asyncio.ensure_future(self._stopping.wait()))
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _last_words(self, name: str) -> str:
        lines = (self.log_dir / f"{name}.log").read_bytes()[-LOG_OCTETS:].decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def _end_with(parent: int) -> None:
    """In the child, before it becomes its program: SIGTERM when the thread that started it, our only one, ends."""
    if _PRCTL is not None:
        _PRCTL(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before we asked
            os._exit(1)


async def _is_ready(client: httpx.AsyncClient, port: int) -> bool:
    try:
        return (await client.get(f"http://{HOST}:{port}/readyz")).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
