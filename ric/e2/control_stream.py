"""The xApp's end of `twinric.xapp.v1.ControlStream`: many RIC Controls under way on one stream.

A stream message costs about half of a unary call. The stream opens with the first control and again after a loss.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import Any

import grpc

from ric.errors import Fault, TwinRicError
from ric.pb.onos.e2t.e2.v1beta1 import control_pb2
from ric.pb.twinric.xapp.v1 import controls_pb2, controls_pb2_grpc
from ric.servers import error_of_rpc

__all__ = ["BrokenStreamError", "ControlStream", "failure_of", "faults_of"]

SHOWN_FAULTS = 20


class BrokenStreamError(Exception):
    """The way to the RIC broke; whether the control arrived is unknown, repeating it under its id is safe."""


class ControlStream:
    """Controls of one client. `ask` may be called from many tasks of one event loop."""

    def __init__(self, channel: grpc.aio.Channel, address: str) -> None:
        self._stub: Any = controls_pb2_grpc.ControlStreamStub(channel)
        self._address = address
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[control_pb2.ControlResponse]] = {}
        self._call: Any = None
        self._reader: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()

    async def ask(
        self, request: control_pb2.ControlRequest, deadline_s: float, *, no_ack: bool = False
    ) -> control_pb2.ControlResponse:
        """The RIC's response. Raises what the RIC answers, TimeoutError after `deadline_s`, BrokenStreamError."""
        number = next(self._numbers)
        deadline_ms = max(1, min(round(deadline_s * 1e3), 1_000))
        ask = controls_pb2.ControlAsk(number=number, deadline_ms=deadline_ms, no_ack=no_ack, request=request)
        answer: asyncio.Future[control_pb2.ControlResponse] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            async with asyncio.timeout(deadline_s):
                await self._write(ask)
                return await answer
        finally:
            self._waiting.pop(number, None)
            if answer.done() and not answer.cancelled():
                answer.exception()  # looked at, also where nobody waits any more

    async def stop(self) -> None:
        """End the stream; whoever waits gets BrokenStreamError."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)

    async def _write(self, ask: controls_pb2.ControlAsk) -> None:
        async with self._writing:  # gRPC takes one write at a time
            if self._call is None:
                self._call = self._stub.Open()
                self._reader = asyncio.get_running_loop().create_task(self._read(self._call))
            try:
                await self._call.write(ask)
            except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError) as error:
                raise BrokenStreamError(str(error)) from error

    async def _read(self, call: Any) -> None:
        why = "the stream ended"
        try:
            async for answer in call:
                self._take(answer)
        except grpc.aio.AioRpcError as error:
            why = str(error_of_rpc(error, self._address, "E2-LOST"))
        finally:
            call.cancel()
            if self._call is call:
                self._call = None
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(BrokenStreamError(why))

    def _take(self, answer: controls_pb2.ControlAnswer) -> None:
        waiting = self._waiting.get(answer.number)
        if waiting is None or waiting.done():
            return
        if answer.WhichOneof("result") == "response":
            waiting.set_result(answer.response)
        else:
            waiting.set_exception(failure_of(answer.failure))


def failure_of(failure: controls_pb2.Failure) -> TwinRicError:
    """The error that the RIC raised; codes that this release does not know count as a failure of the RIC."""
    faults = []
    for row in failure.faults:
        with contextlib.suppress(KeyError):
            faults.append(Fault(row.code, row.field, row.value, row.accepted, row.remedy))
    if faults:
        return TwinRicError.of(faults)
    return TwinRicError("INTERNAL", "control", [row.code for row in failure.faults], "a known failure")


def faults_of(error: TwinRicError) -> controls_pb2.Failure:
    """The wire form of `error`."""
    return controls_pb2.Failure(
        faults=[
            controls_pb2.Fault(
                code=each.code, field=each.field, value=str(each.value)[:80], accepted=each.accepted, remedy=each.remedy
            )
            for each in error.faults[:SHOWN_FAULTS]
        ]
    )
