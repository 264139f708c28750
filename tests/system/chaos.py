"""What the chaos tests do things to: a RIC as a process, a node that counts what is applied, a link that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from ric.e2.client import E2Client
from ric.e2.identities import NodeIdentity, RanFunction
from ric.e2.node import E2NodeConnection
from ric.e2.node_requests import NodeSubscription
from ric.e2sm import dapp
from ric.errors import TwinRicError
from ric.pb.twinric.bus.v1.record_pb2 import Alarm, PerceivedSeverity
from ric.telemetry import Metrics

PATIENCE_S = 60.0
MODEL = (dapp.NAME, dapp.VERSION)
"""Its controls are opaque to the RIC, so every control of a test can say something of its own."""
CLOCK_STEPS = """
import signal, sys, time
from pathlib import Path
true_time, step = time.time, [0.0]
time.time = lambda: true_time() + step[0]
signal.signal(signal.SIGUSR1, lambda *_: step.__setitem__(0, 3600.0))
signal.signal(signal.SIGUSR2, lambda *_: step.__setitem__(0, -3600.0))
from ric.platform import serve_platform
serve_platform(Path(sys.argv[1]))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(
    condition: Callable[[], bool | Coroutine[Any, Any, bool]], what: str, limit_s: float = PATIENCE_S
) -> float:
    """The seconds that it took `condition` to hold."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    while True:
        result = condition()
        if result if isinstance(result, bool) else await result:
            return loop.time() - began_s
        assert loop.time() < began_s + limit_s, f"not within {limit_s:g} s: {what}"
        await asyncio.sleep(0.05)


class Ric:
    """`twinric serve` as a process of its own, on ports and data that outlive it."""

    def __init__(self, folder: Path, bus_url: str = "memory://") -> None:
        self.folder = folder
        self.process: asyncio.subprocess.Process | None = None
        self.ports = {name: free_port() for name in ("nodes", "xapps", "a1_grpc", "rest", "health")}
        settings = {
            "bus_url": bus_url, "data_dir": str(folder / "ric"), "node_address": self.address("nodes"),
            "xapp_address": self.address("xapps"), "a1_address": self.address("a1_grpc"),
            "a1_port": self.ports["rest"], "health_port": self.ports["health"], "rest_requests_per_s": 10_000,
        }  # fmt: skip
        self.config = folder / "ric.yaml"
        self.config.write_text(yaml.safe_dump(settings))
        self.http = httpx.AsyncClient(base_url=f"http://{self.address('rest')}", trust_env=False, timeout=5)

    def address(self, name: str) -> str:
        return f"127.0.0.1:{self.ports[name]}"

    async def start(self, *, steps_of_the_clock: bool = False, largest_file: int = 0) -> float:
        """Return when it is ready; the seconds that it took."""
        words = ["-c", CLOCK_STEPS, str(self.config)] if steps_of_the_clock else []
        words = words or ["-m", "ric", "serve", "--config", str(self.config)]
        limit = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file,) * 2)) if largest_file else None
        with (self.folder / "ric.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, *words, stdout=asyncio.subprocess.DEVNULL if largest_file else log,
                stderr=asyncio.subprocess.DEVNULL if largest_file else log, preexec_fn=limit,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        return await until(self.is_ready, "the RIC is ready")

    async def is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.returncode is None, (self.folder / "ric.log").read_text()[-2_000:]
        with contextlib.suppress(httpx.TransportError):
            async with httpx.AsyncClient(trust_env=False) as http:
                return (await http.get(f"http://{self.address('health')}/readyz")).status_code == 200
        return False

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def kill(self) -> None:
        self.send(signal.SIGKILL)
        assert self.process is not None
        await self.process.wait()

    async def stop(self) -> None:
        await self.http.aclose()
        if self.process is not None and self.process.returncode is None:
            await self.kill()

    async def nodes(self) -> list[str]:
        return [row["e2NodeId"] for row in (await self.http.get("/twinric/v1/nodes")).json()]

    async def alarms(self, state: str = "active") -> dict[str, int]:
        """Managed object -> repeats."""
        rows = (await self.http.get("/o1/v1/alarms", params={"state": state})).json()
        counted = Counter(row["managedObject"] for row in rows)
        assert not counted or max(counted.values()) == 1, f"an alarm is there twice: {counted}"
        return {row["managedObject"]: row["repeats"] for row in rows}


class CountingFunction:
    """A RAN function that counts how often each control is applied, and takes its time over it."""

    definition = RanFunction(dapp.RAN_FUNCTION_ID, dapp.OID)

    def __init__(self) -> None:
        self.applied: Counter[bytes] = Counter()
        self.subscriptions: list[NodeSubscription] = []

    async def subscribe(self, subscription: NodeSubscription) -> Sequence[int]:
        self.subscriptions.append(subscription)
        return [action.ric_action_id for action in subscription.actions]

    async def delete(self, subscription: NodeSubscription) -> None:
        self.subscriptions.remove(subscription)

    async def control(self, header: bytes, message: bytes) -> bytes:
        del header
        self.applied[message] += 1
        await asyncio.sleep(0.01)
        return message


@contextlib.asynccontextmanager
async def counting_node(address: str, number: int = 1) -> AsyncIterator[tuple[E2NodeConnection, CountingFunction]]:
    function = CountingFunction()
    node = E2NodeConnection(
        address, NodeIdentity("00101", 0xE2000000 + number), [function], metrics=Metrics("node"), keep_alive_ms=1_000,
        back_off_s=(0.05, 0.5),
    )  # fmt: skip
    await node.start()
    try:
        yield node, function
    finally:
        await node.stop()


class Controls:
    """An xApp that never stops sending controls, each different; what came of each."""

    def __init__(self, client: E2Client, node_id: str, deadline_s: float = 20.0) -> None:
        self.acknowledged: list[bytes] = []
        self.failed: dict[bytes, str] = {}
        self._client = client
        self._node_id = node_id
        self._deadline_s = deadline_s

    async def run(self) -> None:
        while True:
            payload = uuid.uuid4().bytes
            try:
                await self._client.control(self._node_id, MODEL, b"", payload, deadline_s=self._deadline_s)
            except TwinRicError as error:
                self.failed[payload] = error.code
                await asyncio.sleep(0.05)
            else:
                self.acknowledged.append(payload)
            await asyncio.sleep(0.01)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Controls]:
        task = asyncio.create_task(self.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def goes_on(self) -> float:
        """The seconds until another control is acknowledged."""
        before = len(self.acknowledged)
        return await until(lambda: len(self.acknowledged) > before + 2, "controls are acknowledged")

    def check(self, function: CountingFunction) -> None:
        """Every acknowledged control was applied, and none twice, whatever was repeated on the way."""
        assert max(function.applied.values()) == 1
        assert set(self.acknowledged) <= set(function.applied)


class Link:
    """A TCP proxy on a port of its own towards `target`; while it is cut it swallows what comes, as a cable would."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.is_cut = False
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Link:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while self.is_cut:
                await asyncio.sleep(0.05)
            there, onward = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(onward)
            await asyncio.gather(self._pump(reader, onward), self._pump(there, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while octets := await reader.read(65_536):
            if self.is_cut:
                while self.is_cut:
                    await asyncio.sleep(0.05)
                raise ConnectionResetError  # what was on the wire is gone, and with it the stream
            writer.write(octets)
            await writer.drain()
        writer.close()


def alarm(name: str, severity: int = PerceivedSeverity.PERCEIVED_SEVERITY_MAJOR) -> bytes:
    return Alarm(
        managed_object=name, application="fault_alarm", specific_problem="ARCING", perceived_severity=severity,
        event_time_ns=10**18, detected_time_ns=10**18 + severity, trace_id=uuid.uuid5(uuid.NAMESPACE_OID, name).hex,
    ).SerializeToString()  # fmt: skip
