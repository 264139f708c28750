"""E3 control loop: sample window in -> alarm report out with the real detector, against a bare ZeroMQ echo.

Two processes over `ipc://`, as DU and dApp share a host (`--tcp` for the loopback): the DU's E3 agent, and the fault
alarm in its runtime with the shipped model. A sample begins when the DU starts to encode a window of 5 ms (four
terminal units at 4 kHz) and ends when it holds the dApp report: set-up, subscription, E3AP, checks, classifier,
decision, alarm and report are the product's own. Windows are sent at their real pace; they come from the simulator:
steady state, switching, and every kind of fault.

The first figures are those of a dApp with `busy_poll` on, as on a core of its own: an idle core of a virtual machine
wakes slowly, and works slowly after that. `sleeping_*` are those of the default, which leaves the core to others. All
processes, the baseline's too, lock their memory (the dApp by its `lock_memory`): without, this machine takes pages back
and every thousandth loop or so waits 20 to 200 ms for one.

Alarms are rare, so one rule is bent to measure 10,000 loops: where the detector has nothing to raise or clear, the
benchmark reports the window's verdict all the same, as an alarm of the usual content. `own_alarms` counts the others.

The baseline runs before and after at the same pace: PUB/SUB both ways between two processes, opaque octets as many.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import tempfile
import time
from dataclasses import replace
from multiprocessing.connection import Connection

import numpy as np
import zmq
from numpy.typing import NDArray

from benchmarks.machine import parser, percentiles, write_result
from dapps.fault_alarm.app import FaultAlarmApp, lock_memory
from dapps.fault_alarm.config import FaultAlarmConfig
from dapps.fault_alarm.detector import Decision, Finding
from dapps.fault_alarm.policy import FaultAlarmPolicy
from dapps.fault_alarm.state import State
from e2sim.e3_agent import E3Agent
from e2sim.grid.waveforms import FAULT_KINDS, SAMPLE_RATE_HZ, SWITCHING, FeederWaveforms, draw_event
from ric.clock import WallClock
from ric.e3.e3ap import Waveform, encode_waveform
from ric.e3.session import E3Endpoints
from ric.links import Links
from ric.pb.twinric.bus.v1.record_pb2 import Alarm
from ric.runtime import AppRuntime
from ric.telemetry import Metrics, configure_logging

WINDOW = 20
PERIOD_S = WINDOW / SAMPLE_RATE_HZ
WARM_UP = 400
WINDOWS = 12_000
DISTINCT = 2_400
"""Windows that the simulator makes; then they come round again."""
EVENT_S, EVERY_S = 0.2, 0.6
PDU_OCTETS = 30
"""About what E3AP adds to a message."""
TCP = ("tcp://127.0.0.1:0",) * 3

Windows = list[NDArray[np.float32]]


def make_windows(seed: int) -> Windows:
    """DISTINCT windows (F, 6, WINDOW) of one feeder: faults and switching in turn, 200 ms of every 600 ms."""
    rng = np.random.default_rng(seed)
    kinds = (*FAULT_KINDS, *SWITCHING)
    drawn = [
        draw_event(rng, kinds[n % len(kinds)], EVERY_S * n + EVENT_S) for n in range(int(DISTINCT * PERIOD_S / EVERY_S))
    ]
    feeder = FeederWaveforms(rng, [replace(event, duration_s=EVENT_S) for event in drawn])
    feeder.jump_to(0.0)
    return [feeder.next_window(WINDOW) for _ in range(DISTINCT)]


class ReportingApp(FaultAlarmApp):
    """The fault alarm; it reports every window."""

    own_alarms = 0

    def decide(self, state: State, policy: FaultAlarmPolicy) -> Decision:
        """The product's decision; where it raises and clears nothing, the verdict as a finding."""
        decision = super().decide(state, policy)
        own = {finding.found_ns: finding for finding in decision.findings}
        type(self).own_alarms += len(own)
        probability = decision.reason.numbers["fault_probability"]
        ends_ns = [window.end_ns for window in state.windows]
        findings = (own.get(end, Finding("PHASE_TO_GROUND", 1, False, end, end, probability, 1)) for end in ends_ns)
        return replace(decision, findings=tuple(findings))


# The dApp's process ---------------------------------------------------------------------------------------------------


async def _dapp(pipe: Connection, endpoints: E3Endpoints, busy_poll: bool) -> None:
    config = FaultAlarmConfig(
        a1_address="", busy_poll=busy_poll, lock_memory=True, e3_setup_endpoint=endpoints.setup,
        e3_inbound_endpoint=endpoints.inbound, e3_outbound_endpoint=endpoints.outbound,
    )  # fmt: skip
    links = Links(ReportingApp.spec, ReportingApp.policy_type, config, WallClock())
    runtime = AppRuntime(ReportingApp, config, links)
    running = asyncio.create_task(runtime.run())
    await runtime.ready.wait()
    gc.collect()
    gc.freeze()
    pipe.send("ready")
    await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
    pipe.send((runtime.late_cycles, ReportingApp.own_alarms))
    runtime.stop()
    await running


def _run_dapp(pipe: Connection, endpoints: E3Endpoints, busy_poll: bool) -> None:
    configure_logging("ERROR")
    asyncio.run(_dapp(pipe, endpoints, busy_poll))


# The DU's process -----------------------------------------------------------------------------------------------------


class Meter:
    """Pairs reports with the windows that they answer, by the end time of the window."""

    def __init__(self) -> None:
        self.sent_ns: dict[int, int] = {}
        self.loops_ms: list[float] = []
        self.compute_ms: list[float] = []
        self.report_octets = 0

    async def on_report(self, dapp_identifier: int, sequence_id: int, data: bytes) -> None:  # noqa: ARG002
        """A report is here: its loop ends."""
        ended_ns = time.perf_counter_ns()
        alarm = Alarm.FromString(data)
        began_ns = self.sent_ns.pop(alarm.detected_time_ns, None)
        if began_ns is not None:
            self.loops_ms.append((ended_ns - began_ns) / 1e6)
            self.compute_ms.append(alarm.compute_ms)
            self.report_octets = len(data)


async def _measure(
    windows: Windows, number: int, endpoints: tuple[str, ...], *, busy_poll: bool
) -> tuple[Meter, int, int]:
    """The meter, late cycles, and alarms of the detector's own."""
    meter = Meter()
    agent = E3Agent(E3Endpoints(*endpoints), "du-bench", on_report=meter.on_report, metrics=Metrics("bench"))
    await agent.start()
    pipe, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_run_dapp, args=(theirs, agent.endpoints, busy_poll))
    process.start()
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, pipe.recv)
    while not agent.subscribers:
        await asyncio.sleep(0.01)
    gc.collect()
    gc.freeze()
    start_s = loop.time()
    for index in range(number):
        await asyncio.sleep(start_s + index * PERIOD_S - loop.time())
        window = Waveform(SAMPLE_RATE_HZ, index, index * round(PERIOD_S * 1e9), windows[index % len(windows)])
        meter.sent_ns[window.end_ns] = time.perf_counter_ns()
        await agent.indicate(window)
    await asyncio.sleep(0.5)
    pipe.send("collect")
    late, own_alarms = await loop.run_in_executor(None, pipe.recv)
    process.join(10)
    await agent.stop()
    gc.unfreeze()
    return meter, late, own_alarms


# The baseline ---------------------------------------------------------------------------------------------------------


def _run_echo(pipe: Connection, answer_octets: int) -> None:
    lock_memory()
    with zmq.Context() as context, context.socket(zmq.SUB) as inbound, context.socket(zmq.PUB) as outbound:
        outbound.setsockopt(zmq.LINGER, 0)
        inbound.setsockopt(zmq.SUBSCRIBE, b"")
        inbound.connect(pipe.recv())
        outbound.connect(pipe.recv())
        answer = bytes(answer_octets)
        while inbound.recv() != b"end":
            outbound.send(answer)


def measure_echo(request_octets: int, answer_octets: int, number: int, endpoints: tuple[str, ...]) -> list[float]:
    """Round trips [ms] of opaque messages over PUB/SUB pairs, blocking sockets, warm-up left out."""
    samples: list[float] = []
    with zmq.Context() as context, context.socket(zmq.PUB) as outbound, context.socket(zmq.SUB) as inbound:
        inbound.setsockopt(zmq.SUBSCRIBE, b"")
        inbound.setsockopt(zmq.RCVTIMEO, 200)
        for socket, endpoint in zip((outbound, inbound), endpoints, strict=False):
            socket.bind(endpoint)
        pipe, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=_run_echo, args=(theirs, answer_octets))
        process.start()
        for socket in (outbound, inbound):
            pipe.send(socket.getsockopt_string(zmq.LAST_ENDPOINT))
        request = bytes(request_octets)
        _join(outbound, inbound, request)
        start_s = time.perf_counter()
        for index in range(number + WARM_UP):
            time.sleep(max(0.0, start_s + index * PERIOD_S - time.perf_counter()))
            began_ns = time.perf_counter_ns()
            outbound.send(request)
            inbound.recv()
            samples.append((time.perf_counter_ns() - began_ns) / 1e6)
        outbound.send(b"end")
        process.join(10)
    return samples[WARM_UP:]


def _join(outbound: zmq.Socket[bytes], inbound: zmq.Socket[bytes], request: bytes) -> None:
    """Send until an answer comes, then let the answers to the rest run dry."""
    answered = False
    while not answered:
        outbound.send(request)
        answered = bool(inbound.poll(200))
    while inbound.poll(200):
        inbound.recv()


def main(arguments: argparse.Namespace) -> None:
    """Echo, loop, echo; the baseline is both echoes together, so that a drift of the machine shows in it."""
    configure_logging("ERROR")
    model_path = FaultAlarmConfig().model_path
    if not model_path.is_file():
        raise SystemExit(f"no model at {model_path}: this benchmark needs the real detector")
    lock_memory()
    windows = make_windows(seed=11)
    request = len(encode_waveform(Waveform(SAMPLE_RATE_HZ, 0, 0, windows[0]))) + PDU_OCTETS
    number = arguments.windows + WARM_UP
    with tempfile.TemporaryDirectory() as folder:
        ends = TCP if arguments.tcp else tuple(f"ipc://{folder}/{name}" for name in ("setup", "inbound", "outbound"))
        first = measure_echo(request, 400 + PDU_OCTETS, arguments.windows // 4, ends)
        meter, late, own_alarms = asyncio.run(_measure(windows, number, ends, busy_poll=True))
        sleeper, _, _ = asyncio.run(_measure(windows, number, ends, busy_poll=False))
        second = measure_echo(request, meter.report_octets + PDU_OCTETS, arguments.windows // 4, ends)
    loop, echo = percentiles(meter.loops_ms[WARM_UP:]), percentiles(first + second)
    compute, sleeping = percentiles(meter.compute_ms[WARM_UP:]), percentiles(sleeper.loops_ms[WARM_UP:])
    figures = {
        **{name: loop[name] for name in ("p50_ms", "p99_ms", "p999_ms", "max_ms", "samples")},
        **{f"compute_{name}": compute[name] for name in ("p50_ms", "p99_ms", "p999_ms")},
        **{f"sleeping_{name}": sleeping[name] for name in ("p50_ms", "p99_ms", "p999_ms")},
        "unanswered_windows": float(len(meter.sent_ns)),
        "own_alarms": float(own_alarms),
        "late_cycles": float(late),
        "ratio_vs_bare_zeromq": loop["p50_ms"] / echo["p50_ms"],
    }
    drift = percentiles(second)["p50_ms"] / percentiles(first)["p50_ms"]
    baseline = {"bare_zeromq_echo": echo, "second_echo_over_first_p50": drift, "period_ms": PERIOD_S * 1e3}
    write_result(arguments.json, figures, baseline)


if __name__ == "__main__":
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--tcp", action="store_true", help="over TCP on the loopback instead of ipc://")
    made.add_argument("--windows", type=int, default=WINDOWS, help="windows that are measured")
    main(made.parse_args())
