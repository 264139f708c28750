"""Starts one app as a process: `python -m xapps.hems_load --config FILE`."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from ric.app_spec import AppConfig
from ric.clock import SourceClock, WallClock
from ric.config import load_config
from ric.errors import TwinRicError
from ric.health import health_app
from ric.heap import settle_heap
from ric.links import Links
from ric.runtime import App, AppRuntime
from ric.servers import serve
from ric.telemetry import configure_logging

__all__ = ["main"]

STOP_S = 5.0


def main(app_type: type[App[Any, Any, Any, Any]], arguments: list[str] | None = None) -> None:
    """Run `app_type` until SIGTERM or SIGINT, then stop within five seconds. Exits 2 when the settings are refused."""
    name = app_type.spec.name
    parser = argparse.ArgumentParser(prog=name, description=(app_type.__doc__ or name).splitlines()[0])
    parser.add_argument("--config", type=Path, help=f"YAML settings; TWINRIC_{name.upper()}__KEY overrides a key")
    options = parser.parse_args(arguments)
    try:
        config = load_config(app_type.config_type, options.config, f"TWINRIC_{name.upper()}", os.environ)
    except TwinRicError as error:
        print(error, file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None
    configure_logging(config.log_level)
    try:
        asyncio.run(_serve(app_type, config))
    except TwinRicError as error:
        print(error, file=sys.stderr)  # noqa: T201
        raise SystemExit(1) from None


async def _serve(app_type: type[App[Any, Any, Any, Any]], config: AppConfig) -> None:
    clock = SourceClock() if config.clock == "source" else WallClock()
    links = Links(app_type.spec, app_type.policy_type, config, clock)
    runtime = AppRuntime(app_type, config, links)
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, runtime.stop)
    running = asyncio.create_task(runtime.run())
    settling = asyncio.create_task(_settle(runtime))
    if config.health_port:
        async with serve(health_app(runtime.ready.is_set, links.metrics), config.health_host, config.health_port):
            await _stopped(runtime, running)
    else:
        await _stopped(runtime, running)
    settling.cancel()


async def _settle(runtime: AppRuntime) -> None:
    await runtime.ready.wait()
    settle_heap()


async def _stopped(runtime: AppRuntime, running: asyncio.Task[None]) -> None:
    """Wait for the app; once told to stop it has five seconds before it is cancelled."""
    stopping = asyncio.create_task(runtime.stopping())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    try:
        await asyncio.wait_for(running, STOP_S)
    except TimeoutError:
        runtime.log.error("did not drain in time", limit_s=STOP_S)
