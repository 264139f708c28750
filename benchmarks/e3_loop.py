"""E3 loop: a waveform window leaves the DU -> the dApp's alarm report is back, with the real detector and model.

The dApp is a process of its own (`python -m dapps.fault_alarm`, no bus, no A1), the E3 agent is here; between them is
ZeroMQ on the loopback. Simulated windows with faults that come and go are sent at a fixed pace; what is timed are the
windows that raise or clear an alarm, from `indicate` to the report's arrival. Beside it, in the same run: a bare ZeroMQ
process that answers the same octets with a report's worth.

    python -m benchmarks.e3_loop [--windows 20000] [--pace-ms 2] [--json F]
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml
import zmq
import zmq.asyncio

from benchmarks.machine import parser, percentiles, write_result
from dapps.fault_alarm.config import MODELS
from e2sim.e3_agent import E3Agent
from e2sim.grid.waveforms import FaultEvent, FeederWaveforms
from ric.e3.e3ap import Waveform, encode_waveform
from ric.e3.session import E3Endpoints
from ric.pb.twinric.bus.v1.record_pb2 import Alarm
from ric.telemetry import Metrics

WINDOW = 20
PERIOD_WINDOWS = 40
"""A fault every 200 ms of the stream, 100 ms long."""
REPORT_OCTETS = 300
FREE = E3Endpoints(*["tcp://127.0.0.1:0"] * 3)


def record_windows(number: int) -> list[np.ndarray]:
    """Windows of a feeder on which faults of two kinds come and go."""
    period_s = PERIOD_WINDOWS * WINDOW / 4_000
    kinds = ("PHASE_TO_GROUND", "PHASE_TO_PHASE")
    faults = [
        FaultEvent(kinds[index % 2], 1 + index % 4, (index + 0.5) * period_s, period_s / 2, 5.0, index % 3)
        for index in range(number // PERIOD_WINDOWS)
    ]
    stream = FeederWaveforms(np.random.default_rng(1), faults)
    stream.jump_to(0.0)
    return [stream.next_window(WINDOW) for _ in range(number)]


async def measure_dapp(
    recorded: list[np.ndarray], windows: int, pace_s: float, folder: Path
) -> tuple[list[float], int]:
    """Latencies [ms] of the windows that led to a report, and how many reports matched no window."""
    sent_s: dict[int, float] = {}
    latencies, strangers = [], 0

    async def on_report(_: int, __: int, data: bytes) -> None:
        nonlocal strangers
        arrived_s = time.perf_counter()
        began_s = sent_s.get(Alarm.FromString(data).detected_time_ns)
        if began_s is None:
            strangers += 1
        else:
            latencies.append((arrived_s - began_s) * 1e3)

    agent = E3Agent(FREE, "du-1", on_report=on_report, metrics=Metrics("agent"))
    await agent.start()
    dapp = start_dapp(agent.endpoints, folder)
    try:
        while not agent.subscribers:
            await asyncio.sleep(0.05)
        gc.collect()
        gc.freeze()
        start_ns = time.time_ns() // 1_000_000 * 1_000_000
        due_s = time.perf_counter()
        for sequence in range(windows):
            due_s += pace_s
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            window = Waveform(4_000, sequence, start_ns + sequence * 5_000_000, recorded[sequence % len(recorded)])
            sent_s[window.end_ns] = time.perf_counter()
            await agent.indicate(window)
        await asyncio.sleep(0.5)
    finally:
        dapp.terminate()
        dapp.wait(10)
        await agent.stop()
    return latencies, strangers


def start_dapp(endpoints: E3Endpoints, folder: Path) -> subprocess.Popen[bytes]:
    """The dApp as a process; it alarms on one window and clears on two, so that many windows lead to a report."""
    settings = {
        "a1_address": "", "e3_setup_endpoint": endpoints.setup, "e3_inbound_endpoint": endpoints.inbound,
        "e3_outbound_endpoint": endpoints.outbound, "log_level": "ERROR", "model_path": str(MODELS / "fault.onnx"),
        "stale_after_s": 60.0,
    }  # fmt: skip
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return subprocess.Popen([sys.executable, "-m", "dapps.fault_alarm", "--config", str(path)])


def echo(port: int) -> None:
    """The bare baseline: answers every message with a report's worth of octets."""
    context = zmq.Context()
    inbound, outbound = context.socket(zmq.SUB), context.socket(zmq.PUB)
    inbound.setsockopt(zmq.SUBSCRIBE, b"")
    inbound.connect(f"tcp://127.0.0.1:{port}")
    outbound.connect(f"tcp://127.0.0.1:{port + 1}")
    answer = b"x" * REPORT_OCTETS
    while inbound.recv() != b"end":
        outbound.send(answer)
    context.destroy(0)


async def measure_echo(octets: bytes, messages: int, pace_s: float) -> list[float]:
    """Round trips [ms] of the bare baseline."""
    context = zmq.asyncio.Context()
    outbound, inbound = context.socket(zmq.PUB), context.socket(zmq.SUB)
    inbound.setsockopt(zmq.SUBSCRIBE, b"")
    port = outbound.bind_to_random_port("tcp://127.0.0.1", 20_000, 30_000)
    inbound.bind(f"tcp://127.0.0.1:{port + 1}")
    process = multiprocessing.get_context("spawn").Process(target=echo, args=(port,))
    process.start()
    while not await inbound.poll(100):
        await outbound.send(octets)
    while await inbound.poll(100):
        await inbound.recv()
    trips = []
    for _ in range(messages):
        began_s = time.perf_counter()
        await outbound.send(octets)
        await inbound.recv()
        trips.append((time.perf_counter() - began_s) * 1e3)
        await asyncio.sleep(pace_s)
    await outbound.send(b"end")
    process.join(5)
    for socket in (inbound, outbound):
        socket.close(0)
    context.term()
    return trips


def main() -> None:
    """Command line."""
    options_parser = parser(__doc__.splitlines()[0])
    options_parser.add_argument("--windows", type=int, default=20_000)
    options_parser.add_argument("--pace-ms", type=float, default=2.0)
    options = options_parser.parse_args()
    recorded = record_windows(min(options.windows, 800))
    pace_s = options.pace_ms / 1e3
    with tempfile.TemporaryDirectory() as folder:
        latencies, strangers = asyncio.run(measure_dapp(recorded, options.windows, pace_s, Path(folder)))
    octets = encode_waveform(Waveform(4_000, 0, 0, recorded[0]))
    trips = asyncio.run(measure_echo(octets, min(options.windows, 3_000), pace_s))
    ours, bare = percentiles(latencies), percentiles(trips)
    figures = {**ours, "windows": options.windows, "reports_without_window": strangers}
    figures["ratio_vs_bare_zeromq"] = ours["p50_ms"] / bare["p50_ms"]
    write_result(options.json, figures, {f"bare_zeromq_{name}": value for name, value in bare.items()})


if __name__ == "__main__":
    main()
