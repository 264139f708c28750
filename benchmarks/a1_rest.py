"""A1-P under load: PUT per second and latency with 10,000 stored policies, durable and confirmed by an app.

`python -m benchmarks.a1_rest [--policies N] [--puts N] [--json F]`. The A1 server runs in a process of its own, writes
to a SQLite file and fsyncs before each answer; an app in another process confirms every revision. The load is HTTP/1.1
over kept connections. At the end the server is killed with SIGKILL and the store compared with what was answered.
Baseline in the same run: a bare FastAPI endpoint that checks nothing and keeps the bodies in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request

from benchmarks.machine import describe_machine, parser, percentiles, write_result
from rapps.storage_scheduling.policy import StorageSchedulingPolicy
from ric.a1.client import PolicyFeed
from ric.a1.enrichment_service import EnrichmentService
from ric.a1.rest import a1_app
from ric.a1.termination import A1Termination
from ric.app_policies import policy_type_object
from ric.app_spec import AppSpec, Ric
from ric.bus.bus import MemoryBus
from ric.clock import WallClock
from ric.delivery import Delivery
from ric.heap import settle_heap
from ric.pb.twinric.a1.v1.policy_pb2_grpc import add_PolicyServiceServicer_to_server
from ric.sdl import Sdl
from ric.servers import bind_grpc, grpc_server, serve
from ric.telemetry import Metrics, configure_logging

SPEC = AppSpec("storage_scheduling", Ric.NON_RT, 1_000.0, "twinric_storage_scheduling_1.0.0", frozenset())
PATH = f"/A1-P/v2/policytypes/{SPEC.policy_type_id}/policies"
CONNECTIONS = 16
WARM_UP = 50


# The processes under test --------------------------------------------------------------------------------------------


async def _serve_a1(store: Path) -> None:
    clock, metrics = WallClock(), Metrics("a1")
    sdl, delivery = Sdl(store, clock), Delivery("a1_notifications", clock, metrics)
    termination = A1Termination(sdl, metrics, delivery)
    enrichment = EnrichmentService(MemoryBus(metrics), sdl, clock, metrics, delivery)
    server = grpc_server(metrics)
    add_PolicyServiceServicer_to_server(termination, server)
    grpc_port = bind_grpc(server, "a1_address", "127.0.0.1:0", None)
    await server.start()
    async with serve(a1_app(termination, metrics, enrichment=enrichment), "127.0.0.1", 0) as port:
        settle_heap()
        print(json.dumps({"port": port, "grpc": grpc_port}), flush=True)
        await asyncio.Event().wait()


async def _serve_bare() -> None:
    app, bodies = FastAPI(), dict[str, Any]()

    @app.put("/policies/{policy_id}")
    async def put(policy_id: str, request: Request) -> Any:
        bodies[policy_id] = await request.json()
        return bodies[policy_id]

    async with serve(app, "127.0.0.1", 0) as port:
        settle_heap()
        print(json.dumps({"port": port}), flush=True)
        await asyncio.Event().wait()


async def _confirm_all(grpc_port: int) -> None:
    feed = PolicyFeed(
        f"127.0.0.1:{grpc_port}", app_id=SPEC.name, instance_id="1", policy_type_id=SPEC.policy_type_id,
        policy_type=policy_type_object(StorageSchedulingPolicy, SPEC),
    )  # fmt: skip

    def put(policy_id: str, revision: int, _: dict[str, Any]) -> None:
        feed.report(policy_id, revision, True)

    await feed.run(put, lambda *_: None, lambda: print("{}", flush=True))


@contextlib.asynccontextmanager
async def _process(*arguments: str) -> AsyncIterator[tuple[dict[str, int], asyncio.subprocess.Process]]:
    """This module in another process; what it printed first, and the process."""
    command = [sys.executable, "-m", "benchmarks.a1_rest", *arguments]
    pipe, nowhere = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=nowhere)
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 60)
        yield json.loads(line), process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


# The load ------------------------------------------------------------------------------------------------------------


class _Connection:
    """One kept HTTP/1.1 connection; as little of a client as can be, since it shares the cores with the server."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    async def put(self, path: str, body: bytes) -> int:
        """The answer's status."""
        head = f"PUT {path} HTTP/1.1\r\nhost: a1\r\ncontent-type: application/json\r\n"
        self._writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await self._reader.readexactly(int(length.partition(b":")[2]))
        return int(answer[9:12])

    async def get(self, path: str) -> Any:
        """The answer's JSON."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nhost: a1\r\n\r\n".encode())
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return json.loads(await self._reader.readexactly(int(length.partition(b":")[2])))


def _body(number: int, generator: random.Random) -> dict[str, Any]:
    return {
        "scope": {"e2_node_id": f"00101-{number:07x}"},
        "reserve_share": round(generator.uniform(0, 1), 6),
        "wear_eur_per_kwh": round(generator.uniform(0, 1), 6),
        "peak_price_eur_per_kw": round(generator.uniform(0, 10), 6),
        "soc_target": round(generator.uniform(0, 1), 6),
    }


async def _load(
    port: int, base: str, jobs: list[tuple[str, dict[str, Any]]], connections: int, answered: dict[str, Any]
) -> tuple[list[float], float]:
    """Latency of each PUT [ms] and the time for all [s]; what was answered 200 or 201 goes to `answered`."""
    waiting = list(reversed(jobs))
    latencies_ms: list[float] = []

    async def work(connection: _Connection) -> None:
        await connection.open()
        while waiting:
            policy_id, body = waiting.pop()
            octets = json.dumps(body).encode()
            started = time.perf_counter()
            status = await connection.put(f"{base}/{policy_id}", octets)
            latencies_ms.append((time.perf_counter() - started) * 1e3)
            if status not in (200, 201):
                raise SystemExit(f"PUT {policy_id} was answered {status}")
            answered[policy_id] = body

    started = time.perf_counter()
    await asyncio.gather(*(work(_Connection(port)) for _ in range(connections)))
    return latencies_ms, time.perf_counter() - started


def _updates(policies: int, puts: int, generator: random.Random) -> list[tuple[str, dict[str, Any]]]:
    """PUTs of new contents to stored policies; no two of one id are under way at once."""
    order = generator.sample(range(policies), min(puts, policies))
    return [(f"p{number}", _body(number, generator)) for number in order]


# Measuring -----------------------------------------------------------------------------------------------------------


async def _measure(policies: int, puts: int, store: Path) -> tuple[dict[str, float], dict[str, float]]:
    generator, answered = random.Random(0), dict[str, Any]()
    async with _process("--serve", str(store)) as (ports, server), _process("--app", str(ports["grpc"])):
        port = ports["port"]
        fill = [(f"p{number}", _body(number, generator)) for number in range(policies)]
        _, fill_s = await _load(port, PATH, fill, CONNECTIONS, answered)
        await _load(port, PATH, _updates(policies, WARM_UP, generator), CONNECTIONS, answered)
        cpu_s = _cpu_s(server.pid)
        many_ms, many_s = await _load(port, PATH, _updates(policies, puts, generator), CONNECTIONS, answered)
        cpu_s = _cpu_s(server.pid) - cpu_s
        single_ms, single_s = await _load(port, PATH, _updates(policies, puts // 4, generator), 1, answered)
        enforced_s = await _until_enforced(port, f"p{policies - 1}", answered)
        lists_ms = await _repeat(port, lambda connection: connection.get(PATH), 20)
        rss_mb = _rss_mb(server.pid)
        server.send_signal(signal.SIGKILL)
        await server.wait()
    many, single = percentiles(many_ms), percentiles(single_ms)
    figures = {
        "puts_per_s": len(many_ms) / many_s,
        "p50_ms": many["p50_ms"],
        "p99_ms": many["p99_ms"],
        "max_ms": many["max_ms"],
        "server_cpu_ms_per_put": 1e3 * cpu_s / len(many_ms),
        "one_client_puts_per_s": len(single_ms) / single_s,
        "one_client_p50_ms": single["p50_ms"],
        "one_client_p99_ms": single["p99_ms"],
        "fill_puts_per_s": policies / fill_s,
        "put_to_enforced_ms": 1e3 * enforced_s,
        "list_all_ms": percentiles(lists_ms)["p50_ms"],
        "stored_policies": float(policies),
        "connections": float(CONNECTIONS),
        "rss_mb": rss_mb,
        "lost_after_sigkill": float(_lost(store, answered)),
    }
    return figures, await _baseline(puts)


async def _baseline(puts: int) -> dict[str, float]:
    generator = random.Random(1)
    async with _process("--bare") as (ports, server):
        await _load(ports["port"], "/policies", _updates(WARM_UP, WARM_UP, generator), CONNECTIONS, {})
        cpu_s = _cpu_s(server.pid)
        bare_ms, bare_s = await _load(ports["port"], "/policies", _updates(puts, puts, generator), CONNECTIONS, {})
        cpu_s = _cpu_s(server.pid) - cpu_s
    bare = percentiles(bare_ms)
    return {
        "bare_fastapi_puts_per_s": len(bare_ms) / bare_s,
        "bare_fastapi_p50_ms": bare["p50_ms"],
        "bare_fastapi_p99_ms": bare["p99_ms"],
        "bare_fastapi_cpu_ms_per_put": 1e3 * cpu_s / len(bare_ms),
    }


async def _until_enforced(port: int, policy_id: str, answered: dict[str, Any]) -> float:
    """From the PUT of a change to the first status that says ENFORCED [s]."""
    connection = _Connection(port)
    await connection.open()
    body = _body(10**6, random.Random(2))
    started = time.perf_counter()
    await connection.put(f"{PATH}/{policy_id}", json.dumps(body).encode())
    answered[policy_id] = body
    while (await connection.get(f"{PATH}/{policy_id}/status"))["enforceStatus"] != "ENFORCED":
        if time.perf_counter() - started > 30:
            raise SystemExit("the policy was not enforced in 30 s")
        await asyncio.sleep(0.001)
    return time.perf_counter() - started


async def _repeat(port: int, call: Callable[[_Connection], Awaitable[Any]], times: int) -> list[float]:
    connection = _Connection(port)
    await connection.open()
    taken_ms = []
    for _ in range(times):
        started = time.perf_counter()
        await call(connection)
        taken_ms.append((time.perf_counter() - started) * 1e3)
    return taken_ms


def _lost(store: Path, answered: dict[str, Any]) -> int:
    """How many answered PUTs the killed server's store does not hold as they were."""
    sdl = Sdl(store, WallClock())
    held = {policy_id: json.loads(text)["body"] for policy_id, text in sdl.read("a1.policies").items()}
    sdl.verify_audit()
    sdl.close()
    return sum(held.get(policy_id) != body for policy_id, body in answered.items())


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1e3


def main() -> None:
    """Measure and write; or, as one of the processes under test, serve."""
    made = parser("A1-P: durable PUTs with many stored policies")
    made.add_argument("--policies", type=int, default=10_000, help="stored policies")
    made.add_argument("--puts", type=int, default=4_000, help="timed PUTs")
    made.add_argument("--serve", type=Path, help="(inside) run the A1 server on this store")
    made.add_argument("--app", type=int, help="(inside) run the app that confirms, on this gRPC port")
    made.add_argument("--bare", action="store_true", help="(inside) run the baseline's server")
    chosen = made.parse_args()
    configure_logging("INFO")  # as a deployed server does
    if chosen.serve:
        asyncio.run(_serve_a1(chosen.serve))
    elif chosen.app:
        asyncio.run(_confirm_all(chosen.app))
    elif chosen.bare:
        asyncio.run(_serve_bare())
    else:
        machine = describe_machine()
        with tempfile.TemporaryDirectory() as folder:
            figures, baseline = asyncio.run(_measure(chosen.policies, chosen.puts, Path(folder) / "ric.sqlite"))
        figures["ratio_vs_bare_fastapi"] = figures["puts_per_s"] / baseline["bare_fastapi_puts_per_s"]
        write_result(chosen.json, figures, baseline, machine)


if __name__ == "__main__":
    main()
