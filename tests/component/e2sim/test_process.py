"""The simulator as a process of its own, against a RIC in this one."""

import asyncio
import os
import signal
import sys

from ric.clock import WallClock
from ric.e2.client import E2Client
from ric.e2.platform import E2Platform
from ric.telemetry import Metrics

FREE_PORTS = [
    part for name in ("setup", "inbound", "outbound") for part in (f"--e3-{name}-endpoint", "tcp://127.0.0.1:0")
]


async def test_process_connects_and_leaves_in_order_on_sigterm(tmp_path):
    scenario = tmp_path / "plain.yaml"
    scenario.write_text(
        "seed: 1\nstart: 2016-06-15T00:00:00Z\nduration_s: 3600\nnodes: [{gnb_id: 5}]\n", encoding="utf-8"
    )
    platform = E2Platform(Metrics("ric"), WallClock())
    ports = await platform.start("127.0.0.1:0", "127.0.0.1:0")
    address = f"127.0.0.1:{ports.nodes}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "e2sim", "run", "--scenario", str(scenario), "--ric", address, *FREE_PORTS,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with E2Client(f"127.0.0.1:{ports.xapps}", app_id="test", instance_id="1") as client:
            async with asyncio.timeout(60):
                while [node.e2_node_id for node in await client.nodes()] != ["00101-5"]:
                    await asyncio.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                _, errors = await process.communicate()
            assert process.returncode == 0
            assert b"Traceback" not in errors
            async with asyncio.timeout(10):
                while await client.nodes():
                    await asyncio.sleep(0.05)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await platform.stop()


async def test_process_without_a_ric_says_so_and_ends():
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "e2sim", "run", "--scenario", "smoke", "--ric", "127.0.0.1:1", "--wait-s", "0.3",
        *FREE_PORTS,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 2
    assert b"E2-LOST" in errors
    assert b"Traceback" not in errors
