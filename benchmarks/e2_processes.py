"""What the E2 benchmarks share: processes with pipes, nodes with per-UE reports, subscribers, and a bare gRPC relay."""

from __future__ import annotations

import asyncio
import cProfile
import gc
import io
import multiprocessing
import pstats
import resource
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import grpc
import numpy as np

from ric.e2.identities import RanFunction, RicRequestId
from ric.e2.node import NodeSubscription
from ric.e2sm import kpm
from ric.telemetry import configure_logging

__all__ = [
    "BareRelay", "KpmReporter", "Part", "Usage", "bare_relay", "proceed", "report_of", "rows_of", "told", "usage",
]  # fmt: skip

NAMES = (
    "DRB.UEThpDl", "DRB.UEThpUl", "DRB.PdcpSduVolumeDL", "DRB.PdcpSduVolumeUL", "DRB.RlcSduDelayDl",
    "DRB.RlcPacketDropRateDl", "RRU.PrbUsedDl", "TWINRIC.QueueDl",
)  # fmt: skip
SHOWN_FUNCTIONS = 8
GRPC_OPTIONS = [
    ("grpc.max_receive_message_length", 16 << 20), ("grpc.max_send_message_length", 16 << 20),
    ("grpc.use_local_subchannel_pool", 1),
]  # fmt: skip


# Processes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Usage:
    """CPU seconds and resident memory [MB] of one process so far."""

    cpu_s: float
    rss_mb: float


def usage() -> Usage:
    """This process's usage."""
    now = resource.getrusage(resource.RUSAGE_SELF)
    return Usage(now.ru_utime + now.ru_stime, now.ru_maxrss / 1024)


def _run(work: Callable[..., Any], pipe: Connection, *arguments: Any) -> None:
    configure_logging("ERROR")
    asyncio.run(work(pipe, *arguments))


class Part:
    """One process and the pipe to it. It is a daemon: it ends with whoever started it."""

    def __init__(self, work: Callable[..., Any], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_run, args=(work, theirs, *arguments), daemon=True)
        self.process.start()

    def end(self, word: str = "end") -> None:
        """Say the last word and wait for the process."""
        self.pipe.send(word)
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()


async def told(pipe: Connection) -> Any:
    """The next word of whoever started this process."""
    return await asyncio.get_running_loop().run_in_executor(None, pipe.recv)


async def proceed(pipe: Connection, *, profile: bool = False) -> None:
    """Between two words of the parent: measure this process; answers with usage and, profiled, costly functions."""
    profiler = cProfile.Profile() if profile else None
    gc.collect()
    gc.freeze()
    pipe.send("ready")
    await told(pipe)
    before = usage()
    if profiler:
        profiler.enable()
    await told(pipe)
    if profiler:
        profiler.disable()
    after = usage()
    pipe.send((Usage(after.cpu_s - before.cpu_s, after.rss_mb), _costly(profiler) if profiler else []))


def _costly(profiler: cProfile.Profile) -> list[str]:
    """The functions with the most time of their own, each with its share."""
    stats: Any = pstats.Stats(profiler, stream=io.StringIO())
    rows = [(row[2], where) for where, row in stats.stats.items() if "select.epoll" not in where[2]]
    total = sum(own for own, _ in rows) or 1.0
    rows.sort(reverse=True)
    shown = {"<method 'run' of '_contextvars.Context' objects>": "callbacks of grpc in C"}
    return [
        f"{own / total:.0%} {file.rpartition('/')[2]}:{shown.get(name, name)}"
        for own, (file, _, name) in rows[:SHOWN_FUNCTIONS]
    ]


# Reports --------------------------------------------------------------------------------------------------------------


def rows_of(ues: int) -> tuple[kpm.KpmItem, ...]:
    """Rows for that many UEs."""
    return tuple(kpm.KpmItem("00101-0000001", "1-000003", f"ue-{number:05d}") for number in range(ues))


def report_of(
    e2_node_id: str, time_ns: int, items: tuple[kpm.KpmItem, ...], values: Any, names: Sequence[str] = NAMES
) -> tuple[bytes, bytes]:
    """An encoded KPM report with values (names, items)."""
    return kpm.encode_indication(kpm.KpmReport(e2_node_id, time_ns, 100, tuple(names), items, values))


class KpmReporter:
    """A RAN function that remembers who asked for reports."""

    definition = RanFunction(kpm.RAN_FUNCTION_ID, kpm.OID)

    def __init__(self, ues: int) -> None:
        self.items = rows_of(ues)
        self.values = np.linspace(1.0, 99.0, len(NAMES) * ues).reshape(len(NAMES), ues)
        self.request: RicRequestId | None = None
        self.subscriptions = 0
        self.subscribed = asyncio.Event()

    async def subscribe(self, subscription: NodeSubscription) -> Sequence[int]:
        """Admit the report."""
        self.request = subscription.ric_request_id
        self.subscriptions += 1
        self.subscribed.set()
        return [0]

    async def delete(self, subscription: NodeSubscription) -> None:
        """Report no more."""
        del subscription
        self.request = None

    async def control(self, header: bytes, message: bytes) -> bytes:
        """None is taken."""
        raise NotImplementedError


# The bare relay -------------------------------------------------------------------------------------------------------

SERVICE = "bench.Relay"


class BareRelay:
    """What a relay of octets costs at least in grpc.aio: sources write to `In`, each sink reads one from `Out`."""

    def __init__(self) -> None:
        self._sinks: dict[str, list[asyncio.Queue[bytes]]] = {}

    async def take(self, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """A source's stream; its metadata name it."""
        sinks = self._sinks.setdefault(dict(context.invocation_metadata())["name"], [])
        async for message in messages:
            for sink in sinks:
                sink.put_nowait(message)
        yield b""

    async def give(self, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """A sink's stream: what the named source writes."""
        del messages
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._sinks.setdefault(dict(context.invocation_metadata())["name"], []).append(queue)
        yield b""
        while True:
            yield await queue.get()


async def bare_relay(pipe: Connection) -> None:
    """Process: a bare relay."""
    relay, server = BareRelay(), grpc.aio.server(options=GRPC_OPTIONS)
    handlers = {
        "In": grpc.stream_stream_rpc_method_handler(relay.take),
        "Out": grpc.stream_stream_rpc_method_handler(relay.give),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    pipe.send(port)
    await proceed(pipe)
    await told(pipe)
    await server.stop(None)
