"""What the apps said of single devices: the newest line per device from `ric.decisions`, for REST and the CLI.

An app explains a device in its decision record by a detail `<node>/<subject>/<device>` whose text is
`CODE name=value ...: sentence`. Lines are sent when they change, so the newest one still holds.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Depends, Query
from google.protobuf.message import DecodeError

from ric.bus.bus import RIC_DECISIONS, Bus, BusMessage
from ric.pb.twinric.bus.v1.record_pb2 import DecisionRecord
from ric.security import TokenVerifier
from ric.servers import require_scope
from ric.telemetry import Metrics

__all__ = ["Explanation", "Explanations", "explanations_router"]

READ_SCOPE = "ric:read"
KEPT = 500_000
_LINE = re.compile(r"(?P<code>[A-Z][A-Z0-9_]*)(?P<numbers>(?: [a-z0-9_]+=[-+.e0-9]+)*) ?: (?P<text>.+)", re.DOTALL)


@dataclass(frozen=True)
class Explanation:
    """What one device does, why, and since when; `as_of_ns` is the app's newest decision."""

    app: str
    node: str
    subject: str
    device: str
    code: str
    numbers: dict[str, float]
    text: str
    since_ns: int
    as_of_ns: int = 0


class Explanations:
    """Follows the decisions and keeps the newest line of each device; the ones unchanged longest go first."""

    def __init__(self, bus: Bus, metrics: Metrics) -> None:
        self._bus, self._metrics = bus, metrics
        self._lines: OrderedDict[tuple[str, str, str, str], Explanation] = OrderedDict()
        self._newest_ns: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take what the bus holds, then every new decision, until :meth:`stop`. Raises TwinRicError BUS-UNREACHABLE."""
        messages = self._bus.follow([RIC_DECISIONS], from_start=True)
        self._task = asyncio.get_running_loop().create_task(self._run(messages))

    async def stop(self) -> None:
        """End following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, messages: AsyncIterator[BusMessage]) -> None:
        async for message in messages:
            self.take(message.value)

    def take(self, value: bytes) -> None:
        """Take one decision record; one that is none is counted and left."""
        try:
            record = DecisionRecord.FromString(value)
        except DecodeError:
            self._metrics.count_refused("BUS-MALFORMED")
            return
        self._newest_ns[record.app] = max(self._newest_ns.get(record.app, 0), record.source_time_ns)
        for path, text in record.details.items():
            parts, line = path.split("/"), _LINE.fullmatch(text)
            if len(parts) != 3 or line is None:
                continue
            numbers = dict(_number(pair) for pair in line["numbers"].split())
            node, subject, device = parts
            key = (record.app, node, subject, device)
            said = Explanation(*key, line["code"], numbers, line["text"], record.source_time_ns)
            if key not in self._lines or self._lines[key].since_ns <= said.since_ns:
                self._lines[key] = said
                self._lines.move_to_end(key)
        while len(self._lines) > KEPT:
            self._lines.popitem(last=False)

    def find(self, subject: str, device: str = "") -> list[Explanation]:
        """The newest lines of `subject`, of one `device` or of all, by node and device."""
        found = [
            replace(line, as_of_ns=self._newest_ns[line.app])
            for line in self._lines.values()
            if line.subject == subject and device in ("", line.device)
        ]
        return sorted(found, key=lambda line: (line.node, line.device))


def _number(pair: str) -> tuple[str, float]:
    name, _, value = pair.partition("=")
    try:
        return name, float(value)
    except ValueError:
        return name, 0.0


def explanations_router(explanations: Explanations, verifier: TokenVerifier | None = None) -> APIRouter:
    """`GET /twinric/v1/explanations`; with a `verifier`, for tokens with scope ric:read."""
    router = APIRouter(prefix="/twinric/v1", dependencies=[Depends(require_scope(verifier, READ_SCOPE))])

    @router.get("/explanations")
    async def list_explanations(
        subject: str = Query(min_length=1, max_length=128), device: str = Query(default="", max_length=64)
    ) -> list[dict[str, Any]]:
        """What the devices of one subject (a home's id) do, and why; empty where no decision was ever told."""
        return [
            {
                "app": line.app, "e2NodeId": line.node, "subject": line.subject, "device": line.device,
                "code": line.code, "numbers": line.numbers, "text": line.text, "sinceNs": line.since_ns,
                "asOfNs": line.as_of_ns,
            }
            for line in explanations.find(subject, device)
        ]  # fmt: skip

    return router
