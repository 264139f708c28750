"""E2 at scale: a hundred nodes with twenty UEs each report every 100 ms to five subscribers, in real time.

Seven processes on the loopback: the nodes (one process, a connection each), the RIC, and one per subscriber, as when
each is its own container. Every node encodes a per-UE columnar KPM report each period, the nodes staggered evenly;
the RIC merges the five subscriptions into one per node and fans out; every subscriber decodes each report to arrays.
Lost is what a node sent and a subscriber did not decode; delivery lasts from before the encoding to the decoded arrays.

A search then raises the number of nodes until a step loses reports or delivers them late, and names the process that
was the limit by its CPU time, and the functions it spent it in by a profile of a run of its own. The baseline is the
same traffic of uninterpreted octets through a bare grpc.aio relay, a stream per node and subscriber, in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import grpc
import numpy as np

from benchmarks.e2_processes import (
    GRPC_OPTIONS,
    SERVICE,
    KpmReporter,
    Part,
    Usage,
    bare_relay,
    proceed,
    report_of,
    told,
)  # fmt: skip
from benchmarks.machine import parser, percentiles, write_result
from ric.clock import WallClock
from ric.e2.client import E2Client
from ric.e2.node import E2NodeConnection, NodeIdentity
from ric.e2.platform import E2Platform
from ric.e2sm import kpm
from ric.telemetry import Metrics

NODES, UES, SUBSCRIBERS = 100, 20, 5
PERIOD_S, SECONDS = 0.1, 60.0
WARM_UP_S = 2.0
LATEST_MS = 50.0
STEP = 1.25
KPM = (kpm.NAME, kpm.VERSION)
FIRST_GNB_ID = 0xE2000000


@dataclass(frozen=True)
class Load:
    """One run."""

    nodes: int
    ues: int
    subscribers: int
    seconds: float
    profile: str = ""


@dataclass
class Outcome:
    """What came of a run: reports sent, decoded per subscriber, delivery times [ms], usage and profile by process."""

    sent: int
    subscriptions: int
    decoded: list[int]
    delivery_ms: Any
    usage: dict[str, Usage]
    costly: list[str]
    seconds: float

    @property
    def cores(self) -> dict[str, float]:
        """CPU by process [cores]."""
        return {name: each.cpu_s / (self.seconds + 1.0) for name, each in self.usage.items()}

    @property
    def lost(self) -> int:
        """Reports that a subscriber should have decoded and did not."""
        return self.sent * len(self.decoded) - sum(self.decoded)


# Processes ------------------------------------------------------------------------------------------------------------


async def _ric(pipe: Connection, profile: str) -> None:
    platform = E2Platform(Metrics("ric"), WallClock())
    pipe.send(await platform.start("127.0.0.1:0", "127.0.0.1:0"))
    await proceed(pipe, profile=profile == "ric")
    await told(pipe)
    await platform.stop()


async def _nodes(pipe: Connection, port: int, load: Load) -> None:
    reporters, metrics = [KpmReporter(load.ues) for _ in range(load.nodes)], Metrics("nodes")
    links = [
        E2NodeConnection(f"127.0.0.1:{port}", NodeIdentity("00101", FIRST_GNB_ID + n), [reporter], metrics=metrics)
        for n, reporter in enumerate(reporters)
    ]
    for link in links:
        await link.start()
    for link in links:
        await link.connected(60.0)
    pipe.send([link.identity.e2_node_id for link in links])
    await asyncio.gather(*(reporter.subscribed.wait() for reporter in reporters))
    await told(pipe)

    async def report(number: int) -> None:
        reporter, link = reporters[number], links[number]
        if reporter.request is not None:
            name = link.identity.e2_node_id
            header, message = report_of(name, time.monotonic_ns(), reporter.items, reporter.values)
            await link.indicate(reporter.request, kpm.RAN_FUNCTION_ID, 0, header, message)

    measuring = asyncio.ensure_future(proceed(pipe, profile=load.profile == "nodes"))
    sent = await _paced(report, load)
    await measuring
    pipe.send((sent, sum(reporter.subscriptions for reporter in reporters)))
    await told(pipe)
    for link in links:
        await link.stop()


async def _subscriber(pipe: Connection, port: int, load: Load, number: int) -> None:
    loop = asyncio.get_running_loop()
    delivery_ms: list[float] = []

    def take(e2_node_id: str, header: bytes, payload: bytes) -> None:
        del e2_node_id
        report = kpm.decode_indication(header, payload)
        delivery_ms.append((time.monotonic_ns() - report.source_time_ns) / 1e6)

    async with E2Client(f"127.0.0.1:{port}", app_id=f"bench-{number}", instance_id="1") as client:
        terms = {"trigger": kpm.encode_trigger(100), "action": kpm.encode_action()}
        following = loop.create_task(client.follow(KPM, handler=take, **terms))
        await proceed(pipe, profile=load.profile == "subscriber" and number == 0)
        await told(pipe)
        pipe.send(np.array(delivery_ms))
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def _bare_nodes(pipe: Connection, port: int, load: Load) -> None:
    size = sum(map(len, report_of("00101-e2000001", 10**18, *_report(load.ues))))
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=GRPC_OPTIONS) for _ in range(load.nodes)]
    streams: list[Any] = [channel.stream_stream(f"/{SERVICE}/In", None, None) for channel in channels]
    calls = [stream(metadata=(("name", str(n)),)) for n, stream in enumerate(streams)]
    pipe.send("connected")
    await told(pipe)
    rest = bytes(size - 8)

    async def report(number: int) -> None:
        await calls[number].write(time.monotonic_ns().to_bytes(8, "big") + rest)

    measuring = asyncio.ensure_future(proceed(pipe))
    sent = await _paced(report, load)
    await measuring
    pipe.send((sent, load.nodes))
    await told(pipe)
    for call in calls:
        call.cancel()
    for channel in channels:
        await channel.close(None)


async def _bare_subscriber(pipe: Connection, port: int, load: Load, number: int) -> None:
    del number
    delivery_ms: list[float] = []

    async def read(call: Any) -> None:
        while isinstance(message := await call.read(), bytes):
            delivery_ms.append((time.monotonic_ns() - int.from_bytes(message[:8], "big")) / 1e6)

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=GRPC_OPTIONS) as channel:
        stream: Any = channel.stream_stream(f"/{SERVICE}/Out", None, None)
        calls = [stream(metadata=(("name", str(n)),)) for n in range(load.nodes)]
        for call in calls:
            await call.read()
        tasks = [asyncio.ensure_future(read(call)) for call in calls]
        await proceed(pipe)
        await told(pipe)
        pipe.send(np.array(delivery_ms))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _report(ues: int) -> tuple[Any, Any]:
    reporter = KpmReporter(ues)
    return reporter.items, reporter.values


async def _paced(step: Callable[[int], Awaitable[None]], load: Load) -> int:
    """`step(n)` for every node each period, the nodes staggered; how many steps were made."""
    loop = asyncio.get_running_loop()
    start_s, turns, sent = loop.time() + 0.1, round(load.seconds / PERIOD_S), 0

    async def one(number: int) -> None:
        nonlocal sent
        for turn in range(turns):
            await asyncio.sleep(start_s + (turn + number / load.nodes) * PERIOD_S - loop.time())
            await step(number)
            sent += 1

    await asyncio.gather(*(one(number) for number in range(load.nodes)))
    return sent


# Runs -----------------------------------------------------------------------------------------------------------------


def run(load: Load, *, bare: bool = False) -> Outcome:
    """One run through the RIC, or through the bare relay."""
    ric = Part(bare_relay) if bare else Part(_ric, load.profile)
    bound = ric.pipe.recv()
    into, out_of = (bound, bound) if bare else (bound.nodes, bound.xapps)
    nodes = Part(_bare_nodes if bare else _nodes, into, load)
    nodes.pipe.recv()
    work = _bare_subscriber if bare else _subscriber
    subscribers = [Part(work, out_of, load, number) for number in range(load.subscribers)]
    ready = [ric, *subscribers]
    for part in ready:
        part.pipe.recv()
    time.sleep(WARM_UP_S)  # subscriptions reach every node
    nodes.pipe.send("go")
    nodes.pipe.recv()
    for part in (nodes, *ready):
        part.pipe.send("measure")
    time.sleep(load.seconds + 1.0)
    names = ("nodes", "ric", *(f"subscriber-{n}" for n in range(load.subscribers)))
    measured: dict[str, Usage] = {}
    costly: list[str] = []
    for name, part in zip(names, (nodes, *ready), strict=True):
        part.pipe.send("measured")
        measured[name], found = part.pipe.recv()
        costly = costly or found
    sent, subscriptions = nodes.pipe.recv()
    time.sleep(0.5)
    arrays = []
    for part in subscribers:
        part.pipe.send("collect")
        arrays.append(part.pipe.recv())
        part.process.join(10)
    for part in (nodes, ric):
        part.end()
    return Outcome(
        sent, subscriptions, [len(a) for a in arrays], np.concatenate(arrays), measured, costly, load.seconds
    )


def holds(outcome: Outcome) -> bool:
    """Nothing was lost and 99 of 100 reports were in time."""
    return outcome.lost == 0 and percentiles(outcome.delivery_ms)["p99_ms"] <= LATEST_MS


def search(load: Load, first: Outcome) -> dict[str, Any]:
    """The most nodes that hold, in steps of a quarter up or down from `first`'s, and what limits the next step."""
    most, failed, nodes, outcome, failure = 0, 0, load.nodes, first, first
    while nodes > 1:
        if holds(outcome):
            most, nodes = nodes, round(nodes * STEP)
        else:
            failed, failure, nodes = nodes, outcome, round(nodes / STEP)
        if most and failed:
            break
        outcome = _best(Load(nodes, load.ues, load.subscribers, load.seconds))
    cpu = failure.cores
    limit = max(cpu, key=lambda name: cpu[name])
    part = limit.partition("-")[0]
    profiled = run(Load(load.nodes, load.ues, load.subscribers, min(load.seconds, 10.0), part))
    return {
        "max_nodes": most, "failed_at_nodes": failed, "limit": limit, "limit_cores": cpu[limit],
        "all_cores": sum(cpu.values()), "limit_functions": profiled.costly,
    }  # fmt: skip


def _best(load: Load) -> Outcome:
    """One of at most two runs: what others do on the machine meanwhile can only make a run worse."""
    outcome = run(load)
    return outcome if holds(outcome) else run(load)


def main(arguments: argparse.Namespace) -> None:
    """The run, its bare counterpart, and the search."""
    load = Load(arguments.nodes, UES, arguments.subscribers, arguments.seconds)
    ours = run(load)
    bare = run(Load(load.nodes, load.ues, load.subscribers, min(load.seconds, 15.0)), bare=True)
    delivery, theirs = percentiles(ours.delivery_ms), percentiles(bare.delivery_ms)
    cpu, bare_cpu = ours.cores, bare.cores
    figures: dict[str, Any] = {
        "indications_sent": float(ours.sent), "indications_lost": float(ours.lost),
        "node_side_subscriptions": float(ours.subscriptions), "p50_delivery_ms": delivery["p50_ms"],
        "p99_delivery_ms": delivery["p99_ms"], "max_delivery_ms": delivery["max_ms"],
        "ues": float(load.nodes * load.ues), "cpu_cores": sum(cpu.values()), "ric_cpu_cores": cpu["ric"],
        "nodes_cpu_cores": cpu["nodes"], "rss_mb": sum(each.rss_mb for each in ours.usage.values()),
        "ric_rss_mb": ours.usage["ric"].rss_mb,
    }  # fmt: skip
    if arguments.search:
        found = search(Load(load.nodes, load.ues, load.subscribers, arguments.search_seconds), ours)
        figures |= {name: float(value) for name, value in found.items() if not isinstance(value, str | list)}
        limit = {name: value for name, value in found.items() if isinstance(value, str | list)}
    else:
        limit = {}
    baseline = {
        "bare_lost": bare.lost, "bare_p50_delivery_ms": theirs["p50_ms"], "bare_p99_delivery_ms": theirs["p99_ms"],
        "bare_cpu_cores": sum(bare_cpu.values()), "bare_relay_cpu_cores": bare_cpu["ric"],
        "subscribers": load.subscribers, "period_s": PERIOD_S, "seconds": load.seconds, **limit,
    }  # fmt: skip
    write_result(arguments.json, figures, baseline)


if __name__ == "__main__":
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--nodes", type=int, default=NODES, help="E2 nodes")
    made.add_argument("--subscribers", type=int, default=SUBSCRIBERS, help="xApps that subscribe to every node")
    made.add_argument("--seconds", type=float, default=SECONDS, help="length of the run")
    search_help = "search for the most nodes that hold, and profile the limit"
    made.add_argument("--search", action=argparse.BooleanOptionalAction, default=True, help=search_help)
    made.add_argument("--search-seconds", type=float, default=15.0, help="length of each step of the search")
    main(made.parse_args())
