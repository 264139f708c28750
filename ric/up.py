"""Runs the whole system as processes: the RIC, the simulator and every app, each restarted when it dies.

`twinric up` is for one machine; in a cluster the Helm charts do this.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ric.telemetry import logger

__all__ = ["AppProcess", "Ports", "Supervisor", "processes_of"]

STOP_S = 5.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 10.0
STEADY_S = 30.0


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

    def taken(self, apps: int) -> list[int]:
        """Every port that a system of `apps` apps listens on."""
        named = [self.xapp, self.nodes, self.a1_rest, self.a1_grpc, self.e3_setup, self.e3_inbound, self.e3_outbound]
        return named + [self.health + offset for offset in range(apps + 1)]


@dataclass(frozen=True)
class AppProcess:
    """One process: its name, how it is started, and where it says that it is ready."""

    name: str
    command: tuple[str, ...]
    health_port: int = 0


def processes_of(
    apps: Sequence[tuple[str, str]], *, scenario: str, bus_url: str, speed: float, data: Path, ports: Ports
) -> list[AppProcess]:
    """The processes of one system, in the order of their start; their settings are written below `data`.

    `apps` are (name, module) pairs, for example ("hems_load", "xapps.hems_load").
    """
    host = "127.0.0.1"
    ric = {
        "bus_url": bus_url,
        "data_dir": str(data / "ric"),
        "node_address": f"{host}:{ports.nodes}",
        "xapp_address": f"{host}:{ports.xapp}",
        "a1_address": f"{host}:{ports.a1_grpc}",
        "a1_host": host,
        "a1_port": ports.a1_rest,
        "health_port": ports.health,
    }
    started = [AppProcess("ric", (*_module("ric"), "serve", "--config", _write(data, "ric", ric)), ports.health)]
    e3 = {
        "e3_setup_endpoint": f"tcp://{host}:{ports.e3_setup}",
        "e3_inbound_endpoint": f"tcp://{host}:{ports.e3_inbound}",
        "e3_outbound_endpoint": f"tcp://{host}:{ports.e3_outbound}",
    }
    sim = (*_module("e2sim"), "run", "--scenario", scenario, "--ric", f"{host}:{ports.nodes}", "--speed", str(speed))
    endpoints = [item for name, value in e3.items() for item in (f"--{name.replace('_', '-')}", value)]
    started.append(AppProcess("e2sim", (*sim, "--bus", bus_url, *endpoints)))
    for offset, (name, module) in enumerate(apps, start=1):
        settings = {
            "bus_url": bus_url,
            "e2_address": f"{host}:{ports.xapp}",
            "a1_address": f"{host}:{ports.a1_grpc}",
            "a1_url": f"http://{host}:{ports.a1_rest}",
            "health_port": ports.health + offset,
            **e3,
        }
        command = (*_module(module), "--config", _write(data, name, settings))
        started.append(AppProcess(name, command, ports.health + offset))
    return started


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
    """Starts processes, restarts those that die, stops them all within five seconds."""

    processes: Sequence[AppProcess]
    log_dir: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="twinric-")))
    restart: bool = True
    running: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> int:
        """Keep all processes up until :meth:`stop`; 1 when one ended that was not to be restarted."""
        self.log_dir.mkdir(parents=True, exist_ok=True)
        keepers = [asyncio.create_task(self._keep(process)) for process in self.processes]
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([*keepers, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopped_by_us = self._stopping.is_set()
        self._stopping.set()
        await self._end_all()
        await asyncio.gather(*keepers, return_exceptions=True)
        stopping.cancel()
        return 0 if stopped_by_us else 1

    def stop(self) -> None:
        """Let :meth:`run` return."""
        self._stopping.set()

    async def _keep(self, process: AppProcess) -> None:
        log, wait_s = logger("up"), FIRST_WAIT_S
        while not self._stopping.is_set():
            started_s = asyncio.get_running_loop().time()
            with (self.log_dir / f"{process.name}.log").open("ab") as sink:
                child = await asyncio.create_subprocess_exec(
                    *process.command, stdout=sink, stderr=sink, env=dict(os.environ), start_new_session=True
                )
            self.running[process.name] = child
            code = await child.wait()
            if self._stopping.is_set() or not self.restart:
                return
            if asyncio.get_running_loop().time() - started_s > STEADY_S:
                wait_s = FIRST_WAIT_S
            log.warning("process ended; restarting", name=process.name, code=code, wait_s=wait_s)
            self.restarts[process.name] = self.restarts.get(process.name, 0) + 1
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    async def _end_all(self) -> None:
        alive = [child for child in self.running.values() if child.returncode is None]
        for child in alive:
            child.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.gather(*(child.wait() for child in alive)), STOP_S)
        except TimeoutError:
            for child in alive:
                if child.returncode is None:
                    child.kill()
