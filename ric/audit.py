"""Writes RIC Controls to the audit log in batches: a control loop never waits for the disk."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque

from ric.e2.controls import ControlCall
from ric.errors import TwinRicError
from ric.sdl import AuditEntry, Sdl
from ric.telemetry import Metrics, logger

__all__ = ["ControlAudit"]

EVERY_S = 0.25
MAX_WAITING = 20_000


class ControlAudit:
    """Takes each control as it ends; at most `EVERY_S` later it is on disk, and on :meth:`stop` all are.

    Policy changes do not go this way: those are written before they are answered.
    """

    def __init__(self, sdl: Sdl, metrics: Metrics) -> None:
        self._sdl = sdl
        self._metrics = metrics
        self._log = logger("audit")
        self._waiting: deque[AuditEntry] = deque()
        self._task: asyncio.Task[None] | None = None

    def record(self, call: ControlCall, error: TwinRicError | None) -> None:
        """Take one control and why it failed, if it did; drops are counted when the disk cannot keep up."""
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self._metrics.count_dropped("audit")
        digest = hashlib.blake2b(call.header + call.payload, digest_size=16).hexdigest()
        details = {
            "service_model": call.service_model[0], "call_process_id": call.call_process_id,
            "payload_blake2b": digest, "outcome": error.code if error else "acknowledged",
        }  # fmt: skip
        self._waiting.append(AuditEntry(call.app_id, "e2.control", call.e2_node_id, details))

    async def start(self) -> None:
        """Write every quarter of a second, on the wall clock."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Write what waits. A disk that fails is logged and counted, not raised."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._write()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            if self._waiting:
                await asyncio.to_thread(self._write)

    def _write(self) -> None:
        batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
        try:
            self._sdl.commit([], batch)
        except TwinRicError as error:
            self._metrics.count_dropped("audit", len(batch))
            self._log.error("controls not audited", number=len(batch), fault=str(error))
