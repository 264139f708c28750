"""E2 control loop: indication -> xApp -> control -> acknowledgement with 10 nodes, against a bare grpcio echo.

Three processes on the loopback, as when each is its own container: ten E2 nodes (one process, a connection each), the
RIC, one xApp. A sample begins when a node starts to encode a KPM report of three slices and ends when the xApp holds
the outcome of the CCC slice control made of that report, any split of the calendar: payloads are encoded, decoded and
checked on the way, the RIC has decided that no other xApp is in conflict, and has verified the outcome. Nodes report
every 100 ms, staggered.

The baseline runs in the same run and at the same pace: a unary grpcio (grpc.aio) echo between two processes, with one
channel per node, a request as large as the indication and an answer as large as the outcome, uninterpreted octets.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import grpc
import numpy as np

from benchmarks.machine import parser, percentiles, write_result
from ric.clock import WallClock, to_ns
from ric.e2.client import E2Client
from ric.e2.identities import RanFunction, RicRequestId
from ric.e2.node import E2NodeConnection, NodeIdentity, NodeSubscription
from ric.e2.platform import E2Platform
from ric.e2sm import ccc, kpm
from ric.heap import settle_heap
from ric.telemetry import Metrics, configure_logging

NODES = 10
PERIOD_S = 0.1
WARM_UP = 20
ROUNDS = 150
SLICES = ("1-000001", "1-000002", "1-000003")
ECHO = "/bench.Echo/Echo"


ITEMS = tuple(kpm.KpmItem("00101-0000001", name) for name in SLICES)
NAMES = tuple(kpm.MEASUREMENTS)
VALUES = np.linspace(1.0, 99.0, len(NAMES) * len(ITEMS)).reshape(len(NAMES), len(ITEMS))
SPLITS = tuple((5 * a, 5 * b, 100 - 5 * (a + b)) for a in range(1, 19) for b in range(1, 20 - a))
"""Every split of the FlexE calendar [%] that leaves each slice a slot."""


def _report(e2_node_id: str, source_time_ns: int) -> tuple[bytes, bytes]:
    return kpm.encode_indication(kpm.KpmReport(e2_node_id, source_time_ns, 100, NAMES, ITEMS, VALUES))


class KpmFunction:
    """Remembers who asked for reports."""

    definition = RanFunction(kpm.RAN_FUNCTION_ID, kpm.OID)

    def __init__(self) -> None:
        self.request: RicRequestId | None = None
        self.subscribed = asyncio.Event()

    async def subscribe(self, subscription: NodeSubscription) -> Sequence[int]:
        kpm.decode_trigger(subscription.event_trigger)
        self.request = subscription.ric_request_id
        self.subscribed.set()
        return [0]

    async def delete(self, subscription: NodeSubscription) -> None:  # noqa: ARG002
        self.request = None

    async def control(self, header: bytes, message: bytes) -> bytes:
        raise NotImplementedError


class CccFunction:
    """Puts ratios in force: decodes, keeps, answers what it keeps."""

    definition = RanFunction(ccc.RAN_FUNCTION_ID, ccc.OID)

    async def subscribe(self, subscription: NodeSubscription) -> Sequence[int]:
        raise NotImplementedError

    async def delete(self, subscription: NodeSubscription) -> None:
        raise NotImplementedError

    async def control(self, header: bytes, message: bytes) -> bytes:
        return ccc.encode_outcome(ccc.decode_control(header, message))


# The three processes --------------------------------------------------------------------------------------------------


async def _ric(pipe: Connection) -> None:
    platform = E2Platform(Metrics("ric"), WallClock())
    pipe.send(await platform.start("127.0.0.1:0", "127.0.0.1:0"))
    settle_heap()
    await _told(pipe)
    await platform.stop()


async def _nodes(pipe: Connection, port: int, rounds: int) -> None:
    functions, metrics = [KpmFunction() for _ in range(NODES)], Metrics("nodes")
    links = [
        E2NodeConnection(
            f"127.0.0.1:{port}", NodeIdentity("00101", 0xE2000000 + n), [function, CccFunction()], metrics=metrics
        )
        for n, function in enumerate(functions)
    ]
    for link in links:
        await link.start()
    for link in links:
        await link.connected(10.0)
    pipe.send([link.identity.e2_node_id for link in links])
    await _told(pipe)
    await asyncio.gather(*(function.subscribed.wait() for function in functions))
    gc.freeze()

    async def report(number: int) -> None:
        link, request = links[number], functions[number].request
        if request is not None:
            header, message = _report(link.identity.e2_node_id, time.monotonic_ns())
            await link.indicate(request, kpm.RAN_FUNCTION_ID, 0, header, message)

    await _paced(report, rounds)
    await asyncio.sleep(0.5)
    pipe.send("done")
    await _told(pipe)
    for link in links:
        await link.stop()


async def _xapp(pipe: Connection, port: int) -> None:
    client = E2Client(f"127.0.0.1:{port}", app_id="bench", instance_id="1")
    await client.start()
    loops: list[float] = []
    controls: list[float] = []
    draw = random.Random(1)
    tasks: set[asyncio.Task[None]] = set()

    async def act(e2_node_id: str, header: bytes, payload: bytes) -> None:
        report = kpm.decode_indication(header, payload)
        ratios = tuple(
            ccc.SliceRatio(s_nssai=item.s_nssai, rrm_policy_dedicated_ratio=share)
            for item, share in zip(report.items, draw.choice(SPLITS), strict=True)
        )
        began_ns = time.monotonic_ns()
        outcome = await client.control(e2_node_id, (ccc.NAME, ccc.VERSION), *ccc.encode_control(ratios))
        ended_ns = time.monotonic_ns()
        assert ccc.decode_outcome(outcome) == ratios
        controls.append((ended_ns - began_ns) / 1e6)
        loops.append((ended_ns - report.source_time_ns) / 1e6)

    def handle(e2_node_id: str, header: bytes, payload: bytes) -> None:
        task = asyncio.ensure_future(act(e2_node_id, header, payload))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    following = asyncio.ensure_future(
        client.follow(
            (kpm.NAME, kpm.VERSION), trigger=kpm.encode_trigger(100), action=kpm.encode_action(), handler=handle
        )
    )
    pipe.send("ready")
    gc.freeze()
    await _told(pipe)
    await asyncio.gather(*tasks)
    pipe.send((loops, controls))
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await client.stop()


async def _echo_server(pipe: Connection, answer_size: int) -> None:
    answer = bytes(answer_size)

    async def echo(request: bytes, context: Any) -> bytes:  # noqa: ARG001
        return answer

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", {"Echo": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    pipe.send(port)
    gc.freeze()
    await _told(pipe)
    await server.stop(None)


async def _echo_client(pipe: Connection, port: int, request_size: int, rounds: int) -> None:
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) for _ in range(NODES)]
    calls = [channel.unary_unary(ECHO, None, None) for channel in channels]
    request = bytes(request_size)
    samples: list[float] = []
    gc.freeze()

    async def call(number: int) -> None:
        began_ns = time.monotonic_ns()
        await calls[number](request)
        samples.append((time.monotonic_ns() - began_ns) / 1e6)

    await _paced(call, rounds)
    pipe.send(samples)
    for channel in channels:
        await channel.close(None)


async def _paced(step: Callable[[int], Awaitable[None]], rounds: int) -> None:
    """`step(n)` for every node n, each every PERIOD_S, the nodes staggered evenly."""
    loop = asyncio.get_running_loop()
    start_s = loop.time() + 0.05

    async def one(number: int) -> None:
        for turn in range(WARM_UP + rounds):
            await asyncio.sleep(start_s + (turn + number / NODES) * PERIOD_S - loop.time())
            await step(number)

    await asyncio.gather(*(one(number) for number in range(NODES)))


async def _told(pipe: Connection) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, pipe.recv)


# The run --------------------------------------------------------------------------------------------------------------


def _run(work: Callable[..., Any], pipe: Connection, *arguments: Any) -> None:
    configure_logging("ERROR")
    asyncio.run(work(pipe, *arguments))


class Part:
    """One process and the pipe to it."""

    def __init__(self, work: Callable[..., Any], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_run, args=(work, theirs, *arguments))
        self.process.start()

    def end(self) -> None:
        self.pipe.send("end")
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()


def measure_loop(rounds: int) -> tuple[list[float], list[float]]:
    """Loop and control samples [ms], warm-up left out."""
    ric = Part(_ric)
    ports = ric.pipe.recv()
    nodes = Part(_nodes, ports.nodes, rounds)
    nodes.pipe.recv()
    xapp = Part(_xapp, ports.xapps)
    xapp.pipe.recv()
    nodes.pipe.send("go")
    nodes.pipe.recv()
    xapp.pipe.send("collect")
    loops, controls = xapp.pipe.recv()
    xapp.process.join(10)
    nodes.end()
    ric.end()
    return loops[WARM_UP * NODES :], controls[WARM_UP * NODES :]


def measure_echo(rounds: int) -> list[float]:
    """Samples [ms] of the bare echo, warm-up left out."""
    request = sum(map(len, _report("00101-e2000001", to_ns(1.0))))
    ratios = tuple(ccc.SliceRatio(s_nssai=name, rrm_policy_dedicated_ratio=25) for name in SLICES)
    server = Part(_echo_server, len(ccc.encode_outcome(ratios)))
    client = Part(_echo_client, server.pipe.recv(), request, rounds)
    samples = client.pipe.recv()
    client.process.join(10)
    server.end()
    return list(samples[WARM_UP * NODES :])


def main(arguments: argparse.Namespace) -> None:
    """Echo, loop, echo; the baseline is both echoes together, so that a drift of the machine shows in it."""
    first = measure_echo(arguments.rounds)
    loops, controls = measure_loop(arguments.rounds)
    second = measure_echo(arguments.rounds)
    loop, control, echo = percentiles(loops), percentiles(controls), percentiles(first + second)
    figures = {
        "p50_ms": loop["p50_ms"],
        "p99_ms": loop["p99_ms"],
        "p999_ms": loop["p999_ms"],
        "max_ms": loop["max_ms"],
        "samples": loop["samples"],
        "control_p50_ms": control["p50_ms"],
        "control_p99_ms": control["p99_ms"],
        "ratio_vs_bare_grpc": loop["p50_ms"] / echo["p50_ms"],
        "ratio_p99_vs_bare_grpc": loop["p99_ms"] / echo["p99_ms"],
    }
    drift = percentiles(second)["p50_ms"] / percentiles(first)["p50_ms"]
    baseline = {"bare_grpc_echo": echo, "second_echo_over_first_p50": drift, "nodes": NODES, "period_s": PERIOD_S}
    write_result(arguments.json, figures, baseline)


if __name__ == "__main__":
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--rounds", type=int, default=ROUNDS, help="reports per node that are measured")
    main(made.parse_args())
