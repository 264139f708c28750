"""E2 throughput: node -> RIC -> xApp over real sockets, as fast as it goes without loss, against a bare gRPC relay.

Three processes on the loopback: four E2 nodes (a connection each), the RIC, one xApp. Nodes keep a window of reports
under way, so that nothing is dropped, and the xApp's side is timed. Two loads:

records: reports of 1,000 UEs with eight measurements, each encoded by the node from arrays and decoded by the xApp to
arrays. A UE record is one UE's eight values.

messages: reports of 20 UEs, encoded beforehand and handed to the xApp's handler as octets: the path by itself. Once
over the stream of all nodes, which takes what waits into one message, and once over the public SD-RAN API with a stream
per node and a message per indication, as the bare relay has them.

The baseline, in the same run: a bare grpc.aio bidirectional stream relay of uninterpreted octets of the same sizes
through as many processes, sockets and streams, with the same window; each load has its own.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import grpc

from benchmarks.e2_processes import (
    GRPC_OPTIONS,
    NAMES,
    SERVICE,
    KpmReporter,
    Part,
    Usage,
    bare_relay,
    proceed,
    report_of,
    told,
)  # fmt: skip
from benchmarks.machine import parser, write_result
from ric.clock import WallClock
from ric.e2.client import E2Client
from ric.e2.node import E2NodeConnection, NodeIdentity
from ric.e2.platform import E2Platform
from ric.e2sm import kpm
from ric.telemetry import Metrics

NODES = 4
KPM = (kpm.NAME, kpm.VERSION)
WINDOW = {"records": 32, "messages": 128}
UES = {"records": 1_000, "messages": 20}
SECONDS = 10.0
WARM_UP_S = 1.0
FIRST_GNB_ID = 0xE2000000
TIME_NS = 10**18


@dataclass(frozen=True)
class Load:
    """What is sent: "records" or "messages"; `profile` names the process to profile, if any."""

    kind: str
    profile: str = ""
    is_public_api: bool = False

    @property
    def ues(self) -> int:
        """UEs per report."""
        return UES[self.kind]


@dataclass
class Rate:
    """Reports per second at the xApp, and usage and profile by process."""

    per_s: float
    dropped: float
    usage: dict[str, Usage]
    costly: dict[str, list[str]]


# Processes ------------------------------------------------------------------------------------------------------------


async def _ric(pipe: Connection, load: Load) -> None:
    platform = E2Platform(Metrics("ric"), WallClock())
    pipe.send(await platform.start("127.0.0.1:0", "127.0.0.1:0"))
    await proceed(pipe, profile=load.profile == "ric")
    pipe.send(sum(channel.dropped for channel in platform.manager.channels()))
    await told(pipe)
    await platform.stop()


async def _nodes(pipe: Connection, port: int, load: Load, done: Any) -> None:
    reporters, metrics = [KpmReporter(load.ues) for _ in range(NODES)], Metrics("nodes")
    links = [
        E2NodeConnection(f"127.0.0.1:{port}", NodeIdentity("00101", FIRST_GNB_ID + n), [reporter], metrics=metrics)
        for n, reporter in enumerate(reporters)
    ]
    for link in links:
        await link.start()
    for link in links:
        await link.connected(30.0)
    pipe.send("connected")
    await asyncio.gather(*(reporter.subscribed.wait() for reporter in reporters))
    octets = [report_of(link.identity.e2_node_id, TIME_NS, reporters[0].items, reporters[0].values) for link in links]

    async def send(number: int) -> None:
        link, reporter = links[number], reporters[number]
        assert reporter.request is not None
        header, message = octets[number]
        if load.kind == "records":
            header, message = report_of(link.identity.e2_node_id, time.time_ns(), reporter.items, reporter.values)
        await link.indicate(reporter.request, kpm.RAN_FUNCTION_ID, 0, header, message)

    await _flood(pipe, send, load, done)
    for link in links:
        await link.stop()


async def _bare_nodes(pipe: Connection, port: int, load: Load, done: Any) -> None:
    reporter = KpmReporter(load.ues)
    message = b"".join(report_of("00101-e2000000", TIME_NS, reporter.items, reporter.values))
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=GRPC_OPTIONS) for _ in range(NODES)]
    streams: list[Any] = [channel.stream_stream(f"/{SERVICE}/In", None, None) for channel in channels]
    calls = [stream(metadata=(("name", str(n)),)) for n, stream in enumerate(streams)]
    pipe.send("connected")

    async def send(number: int) -> None:
        await calls[number].write(message)

    await _flood(pipe, send, load, done)
    for call in calls:
        call.cancel()
    for channel in channels:
        await channel.close(None)


async def _flood(pipe: Connection, send: Callable[[int], Awaitable[None]], load: Load, done: Any) -> None:
    """`send(n)` for all nodes in turn, at most a window ahead of what the xApp says is done, until told to end."""
    await told(pipe)
    ending = asyncio.ensure_future(proceed(pipe, profile=load.profile == "nodes"))
    sent = 0
    while not ending.done():
        while sent - done.value >= WINDOW[load.kind] * NODES and not ending.done():
            await asyncio.sleep(0.0002)
        await asyncio.gather(*(send(number) for number in range(NODES)))
        sent += NODES
    await ending
    await told(pipe)


async def _xapp(pipe: Connection, port: int, load: Load, done: Any) -> None:
    def count(e2_node_id: str, header: bytes, payload: bytes) -> None:
        del e2_node_id, header, payload
        done.value += 1

    def decode(e2_node_id: str, header: bytes, payload: bytes) -> None:
        del e2_node_id
        report = kpm.decode_indication(header, payload)
        assert report.values.shape == (len(NAMES), load.ues)
        done.value += 1

    async with E2Client(f"127.0.0.1:{port}", app_id="bench", instance_id="1") as client:
        terms = {"trigger": kpm.encode_trigger(100), "action": kpm.encode_action()}
        handler = decode if load.kind == "records" else count

        async def read(e2_node_id: str) -> None:
            stream = client.subscribe(e2_node_id, KPM, transaction_id="bench", **terms)
            async for header, payload in stream:
                handler(e2_node_id, header, payload)

        if load.is_public_api:
            work: Any = asyncio.gather(*(read(view.e2_node_id) for view in await client.nodes()))
        else:
            work = client.follow(KPM, handler=handler, **terms)
        following = asyncio.ensure_future(work)
        await proceed(pipe, profile=load.profile == "xapp")
        await told(pipe)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def _bare_xapp(pipe: Connection, port: int, load: Load, done: Any) -> None:
    async def read(call: Any) -> None:
        while isinstance(await call.read(), bytes):
            done.value += 1

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=GRPC_OPTIONS) as channel:
        stream: Any = channel.stream_stream(f"/{SERVICE}/Out", None, None)
        calls = [stream(metadata=(("name", str(n)),)) for n in range(NODES)]
        for call in calls:
            await call.read()
        tasks = [asyncio.ensure_future(read(call)) for call in calls]
        await proceed(pipe, profile=load.profile == "xapp")
        await told(pipe)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# Runs -----------------------------------------------------------------------------------------------------------------


def run(load: Load, seconds: float, *, bare: bool = False) -> Rate:
    """One run through the RIC, or through the bare relay."""
    done: Any = multiprocessing.get_context("spawn").Value("Q", 0, lock=False)
    ric = Part(bare_relay) if bare else Part(_ric, load)
    bound = ric.pipe.recv()
    into, out_of = (bound, bound) if bare else (bound.nodes, bound.xapps)
    nodes = Part(_bare_nodes if bare else _nodes, into, load, done)
    nodes.pipe.recv()
    xapp = Part(_bare_xapp if bare else _xapp, out_of, load, done)
    parts = {"nodes": nodes, "ric": ric, "xapp": xapp}
    for part in (ric, xapp):
        part.pipe.recv()
    time.sleep(0.5)
    nodes.pipe.send("go")
    nodes.pipe.recv()
    for part in parts.values():
        part.pipe.send("measure")
    time.sleep(WARM_UP_S)
    began_s, before = time.monotonic(), done.value
    time.sleep(seconds)
    per_s = (done.value - before) / (time.monotonic() - began_s)
    measured: dict[str, Usage] = {}
    costly: dict[str, list[str]] = {}
    for name, part in parts.items():
        part.pipe.send("measured")
        measured[name], costly[name] = part.pipe.recv()
    dropped = 0.0 if bare else float(ric.pipe.recv())
    for part in (xapp, nodes, ric):
        part.end()
    return Rate(per_s, dropped, measured, costly)


def main(arguments: argparse.Namespace) -> None:
    """Both loads, ours between two bare runs, so that a drift of the machine shows."""
    seconds = arguments.seconds
    figures: dict[str, float] = {}
    baseline: dict[str, float] = {"nodes": NODES, "seconds": seconds}
    for kind, figure, factor in (("records", "ue_records_per_s", UES["records"]), ("messages", "messages_per_s", 1)):
        if arguments.load not in ("both", kind):
            continue
        load = Load(kind)
        first, ours, second = run(load, seconds / 2, bare=True), run(load, seconds), run(load, seconds / 2, bare=True)
        bare = (first.per_s + second.per_s) / 2
        figures[figure] = ours.per_s * factor
        figures["ratio_vs_bare_grpc" if kind == "messages" else "records_ratio_vs_bare_grpc"] = ours.per_s / bare
        figures[f"{kind}_dropped"] = ours.dropped
        for name, each in ours.usage.items():
            figures[f"{kind}_{name}_cores"] = each.cpu_s / (seconds + WARM_UP_S)
        if kind == "messages":
            public = run(Load(kind, is_public_api=True), seconds)
            figures |= {"public_api_messages_per_s": public.per_s, "public_api_ratio_vs_bare_grpc": public.per_s / bare}
        baseline[f"bare_{figure}"] = bare * factor
        baseline[f"{kind}_second_bare_over_first"] = second.per_s / first.per_s
    write_result(arguments.json, figures, baseline)


if __name__ == "__main__":
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--seconds", type=float, default=SECONDS, help="length of each of our runs; a bare one is half")
    made.add_argument("--load", choices=("both", "records", "messages"), default="both", help="which to run")
    main(made.parse_args())
