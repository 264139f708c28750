"""A supervisor that is killed leaves no process behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.system, pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")]

SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from ric.up import AppProcess, Supervisor

polite = "import time\\nwhile True: time.sleep(1)"
graceful = (
    "import pathlib, signal, sys, time\\n"
    "signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path(sys.argv[1]).touch(), sys.exit()))\\n"
    "print('ready', flush=True)\\n"
    "while True: time.sleep(1)"
)
commands = (("a", (sys.executable, "-c", polite)), ("b", (sys.executable, "-c", graceful, sys.argv[2])))
asyncio.run(Supervisor([AppProcess(name, command) for name, command in commands], Path(sys.argv[1])).run())
"""


async def test_supervisor_killed_ends_its_processes_in_order(tmp_path: Path) -> None:
    mark = tmp_path / "ended in order"
    supervisor = await asyncio.create_subprocess_exec(sys.executable, "-c", SUPERVISOR, str(tmp_path), str(mark))
    try:
        children: list[psutil.Process] = []
        async with asyncio.timeout(30):
            while len(children) < 2 or "ready" not in (tmp_path / "b.log").read_text():
                children = psutil.Process(supervisor.pid).children()
                await asyncio.sleep(0.05)
        os.kill(supervisor.pid, signal.SIGKILL)
        await supervisor.wait()
        async with asyncio.timeout(10):
            while any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children):
                await asyncio.sleep(0.05)
        assert mark.exists(), "told, not killed: it could end in order"
    finally:
        if supervisor.returncode is None:
            supervisor.kill()
        for child in children:
            if child.is_running():
                child.kill()
