"""The E2 node's side of E2: dial the RIC, set up, serve its requests, send indications, come back after a loss.

For the simulator, for tests and for whatever else wants to be an E2 node. Transport timers (keep-alive, back-off)
are on the wall clock: they are about sockets, also where the node's own time is simulated.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from ric.e2.causes import cause_of, error_of
from ric.e2.identities import NodeIdentity, RicRequestId
from ric.e2.node_requests import NodeAction, NodeRequests, NodeSubscription, RanFunctionHandler
from ric.errors import TwinRicError
from ric.pb.twinric.e2ap.v1 import e2ap_pb2 as pb
from ric.security import TlsMaterial
from ric.servers import error_of_rpc, grpc_channel
from ric.telemetry import Metrics, logger

__all__ = ["E2NodeConnection", "NodeAction", "NodeIdentity", "NodeSubscription", "RanFunctionHandler"]

CONNECT = "/twinric.e2ap.v1.E2Termination/Connect"
ANSWER_S = 5.0
OUTBOUND = 1_024
STALL_S = 0.1
LONGEST_WAIT_S = 60.0
_ANSWERS = frozenset({
    "ric_service_update_acknowledge", "ric_service_update_failure", "e2_node_configuration_update_acknowledge",
    "e2_node_configuration_update_failure", "reset_response",
})  # fmt: skip


class E2NodeConnection:
    """One E2 node's connection to the RIC. `start` returns at once; `connected` waits for a successful E2 Setup.

    A control that carries a call process id already seen is answered again, not applied again. After a loss every
    subscription is deleted at its handler and the node dials again, with back-off.
    """

    def __init__(
        self,
        address: str,
        identity: NodeIdentity,
        handlers: Sequence[RanFunctionHandler],
        *,
        metrics: Metrics,
        component_configuration: Mapping[str, bytes] | None = None,
        keep_alive_ms: int = 5_000,
        back_off_s: tuple[float, float] = (0.05, 5.0),
        tls: TlsMaterial | None = None,
    ) -> None:
        self.identity = identity
        self._address = address
        self._requests = NodeRequests(handlers, self._send, metrics)
        self._metrics = metrics
        self._components = dict(component_configuration or {})
        self._keep_alive_ms = keep_alive_ms
        self._back_off_s = back_off_s
        self._tls = tls
        self._log = logger("e2_node").bind(e2_node_id=identity.e2_node_id)
        self._ready = asyncio.Event()
        self._outbound: asyncio.Queue[pb.E2apPdu] = asyncio.Queue(OUTBOUND)
        self._answers: dict[int, asyncio.Future[pb.E2apPdu]] = {}
        self._serials: dict[RicRequestId, int] = {}
        self._transaction = 0
        self._heard_s = 0.0
        self._asked_to_wait_s = 0.0
        self._stopping = False
        self._session_task: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None

    # Life cycle -------------------------------------------------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        """True between a successful E2 Setup and the loss of the connection."""
        return self._ready.is_set()

    @property
    def subscriptions(self) -> Mapping[RicRequestId, NodeSubscription]:
        """The open subscriptions."""
        return self._requests.subscriptions

    async def start(self) -> None:
        """Begin to dial."""
        self._stopping = False
        self._running = asyncio.get_running_loop().create_task(self._run())

    async def connected(self, timeout_s: float | None = None) -> None:
        """Return once E2 Setup has succeeded. Raises TwinRicError (E2-LOST) after `timeout_s`."""
        try:
            await asyncio.wait_for(self._ready.wait(), timeout_s)
        except TimeoutError as error:
            raise TwinRicError("E2-LOST", "address", self._address, "a RIC that answers E2 Setup in time") from error

    async def stop(self) -> None:
        """Leave the RIC and end."""
        self._stopping = True
        await self.drop()
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            self._running = None
        await self._requests.stop()

    async def drop(self) -> None:
        """Cut the connection as a link failure would; the node dials again unless it is stopping."""
        if self._session_task is not None:
            self._session_task.cancel()
            await asyncio.gather(self._session_task, return_exceptions=True)

    # What the node says on its own ------------------------------------------------------------------------------------

    async def indicate(
        self, ric_request_id: RicRequestId, ran_function_id: int, ric_action_id: int, header: bytes, message: bytes
    ) -> bool:
        """Send a RIC Indication; False when that subscription is not there (any more). Waits when the link is slow."""
        if ric_request_id not in self._requests.subscriptions:
            return False
        serial = self._serials.get(ric_request_id, 0)
        self._serials[ric_request_id] = (serial + 1) % 65_536
        indication = pb.RicIndication(
            ric_request_id=ric_request_id.to_wire(), ran_function_id=ran_function_id, ric_action_id=ric_action_id,
            indication_sn=serial, header=header, message=message,
        )  # fmt: skip
        await self._send(pb.E2apPdu(ric_indication=indication))
        return True

    async def update_functions(
        self,
        *,
        added: Sequence[RanFunctionHandler] = (),
        modified: Sequence[RanFunctionHandler] = (),
        deleted: Sequence[int] = (),
    ) -> None:
        """RIC Service Update; functions that the RIC rejects alone are logged and not offered.

        Raises TwinRicError when the RIC refuses it all; then nothing has changed.
        """
        update = pb.RicServiceUpdate(
            added=[handler.definition.to_wire() for handler in added],
            modified=[handler.definition.to_wire() for handler in modified], deleted=deleted,
        )  # fmt: skip
        answer = await self._ask(pb.E2apPdu(ric_service_update=update), "RIC Service Update")
        if answer.HasField("ric_service_update_failure"):
            raise error_of(answer.ric_service_update_failure.cause, "RIC Service Update")
        rejected = answer.ric_service_update_acknowledge.rejected_ran_functions
        self._log_rejected(rejected, "RIC Service Update")
        for handler in (*added, *modified):
            if handler.definition.ran_function_id not in rejected:
                self._requests.handlers[handler.definition.ran_function_id] = handler
        for number in deleted:
            await self._requests.delete_all(number)
            self._requests.handlers.pop(number, None)

    async def update_configuration(self, components: Mapping[str, bytes]) -> None:
        """E2 Node Configuration Update. Raises TwinRicError when the RIC refuses it."""
        update = pb.E2NodeConfigurationUpdate(component_configuration=dict(components))
        answer = await self._ask(pb.E2apPdu(e2_node_configuration_update=update), "E2 Node Configuration Update")
        if answer.HasField("e2_node_configuration_update_failure"):
            raise error_of(answer.e2_node_configuration_update_failure.cause, "E2 Node Configuration Update")
        self._components |= components

    async def reset(self, cause: TwinRicError) -> None:
        """Reset towards the RIC: all subscriptions are gone on both sides; the RIC subscribes again as it needs."""
        await self._requests.delete_all()
        await self._ask(pb.E2apPdu(reset_request=pb.ResetRequest(cause=cause_of(cause))), "Reset")

    async def _ask(self, pdu: pb.E2apPdu, procedure: str) -> pb.E2apPdu:
        if not self.is_connected:
            raise TwinRicError("E2-LOST", procedure, self.identity.e2_node_id, "a connected E2 node")
        self._transaction = (self._transaction + 1) % 256
        pdu.transaction_id = self._transaction
        answer: asyncio.Future[pb.E2apPdu] = asyncio.get_running_loop().create_future()
        self._answers[pdu.transaction_id] = answer
        try:
            await self._send(pdu)
            return await asyncio.wait_for(answer, ANSWER_S)
        except TimeoutError as error:
            raise TwinRicError("E2-DEADLINE", procedure, ANSWER_S, "an answer in time") from error
        finally:
            self._answers.pop(pdu.transaction_id, None)

    async def _send(self, pdu: pb.E2apPdu) -> None:
        await self._outbound.put(pdu)

    # The session ------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        low_s, high_s = self._back_off_s
        wait_s = low_s
        while not self._stopping:
            began_s = loop.time()
            self._session_task = loop.create_task(self._session())
            await asyncio.wait([self._session_task])
            if not self._session_task.cancelled() and (error := self._session_task.exception()) is not None:
                if isinstance(error, TwinRicError):
                    self._log.info("E2 connection lost", fault=str(error))
                else:
                    self._log.error("E2 connection failed unexpectedly", fault=repr(error), exc_info=error)
            if loop.time() - began_s > high_s:
                wait_s = low_s
            await asyncio.sleep(max(wait_s, self._asked_to_wait_s))
            wait_s, self._asked_to_wait_s = min(2 * wait_s, high_s), 0.0

    async def _session(self) -> None:
        self._outbound = asyncio.Queue(OUTBOUND)
        async with grpc_channel(self._address, self._tls) as channel:
            call: Any = channel.stream_stream(CONNECT, pb.E2apPdu.SerializeToString, None)(None)
            try:
                await self._set_up(call)
                await self._exchange(call)
            except grpc.aio.AioRpcError as error:
                raise error_of_rpc(error, self._address, "E2-LOST") from error
            except (asyncio.InvalidStateError, grpc.aio.UsageError) as error:  # written after the RIC ended the stream
                raise await self._reason_of_end(call) from error
            finally:
                self._ready.clear()
                call.cancel()
                for answer in self._answers.values():
                    if not answer.done():
                        answer.set_exception(TwinRicError("E2-LOST", "address", self._address, "a connected RIC"))
                await self._requests.end_session()
                self._serials.clear()

    async def _exchange(self, call: Any) -> None:
        """Read, write and keep alive until one of them fails; raises why."""
        loop = asyncio.get_running_loop()
        jobs = [loop.create_task(job) for job in (self._read(call), self._write(call), self._keep_alive())]
        self._ready.set()
        try:
            done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_EXCEPTION)
            for job in done:
                job.result()
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

    async def _set_up(self, call: Any) -> None:
        request = pb.E2SetupRequest(
            global_e2_node_id=self.identity.to_wire(), component_configuration=self._components,
            ran_functions=[handler.definition.to_wire() for handler in self._requests.handlers.values()],
            keep_alive_ms=self._keep_alive_ms,
        )  # fmt: skip
        try:
            async with asyncio.timeout(ANSWER_S):
                await call.write(pb.E2apPdu(e2_setup_request=request))
                octets = await call.read()
        except TimeoutError as error:
            raise TwinRicError("E2-DEADLINE", "e2_setup", ANSWER_S, "an answer in time") from error
        pdu = _parsed(octets) if isinstance(octets, bytes) else None
        if pdu is None:
            raise await self._reason_of_end(call)
        if pdu.HasField("e2_setup_failure"):
            self._asked_to_wait_s = min(pdu.e2_setup_failure.time_to_wait_ms / 1e3, LONGEST_WAIT_S)
            raise error_of(pdu.e2_setup_failure.cause, "E2 Setup")
        if not pdu.HasField("e2_setup_response"):
            raise TwinRicError("E2-STATE", "e2ap_pdu", pdu.WhichOneof("pdu"), "e2_setup_response")
        self._log_rejected(pdu.e2_setup_response.rejected_ran_functions, "E2 Setup")
        self._heard_s = asyncio.get_running_loop().time()

    def _log_rejected(self, rejected: Mapping[int, pb.Cause], procedure: str) -> None:
        for number, cause in rejected.items():
            fault = str(error_of(cause, procedure))
            self._log.warning("RAN function rejected", ran_function_id=number, fault=fault)

    async def _reason_of_end(self, call: Any) -> TwinRicError:
        code = await call.code()
        details = f"{code.name}: {await call.details()}"
        return TwinRicError("E2-LOST", "address", self._address, "a stream that stays open", details)

    async def _read(self, call: Any) -> None:
        loop = asyncio.get_running_loop()
        while True:
            octets = await call.read()
            if not isinstance(octets, bytes):
                raise await self._reason_of_end(call)
            self._heard_s = loop.time()
            self._metrics.count_message("e2", "in")
            try:
                await self._dispatch(_parsed(octets))
            except TwinRicError as error:
                self._metrics.count_refused(error.code)
                self._log.warning("E2AP PDU refused", fault=str(error))
                await self._send(pb.E2apPdu(error_indication=pb.ErrorIndication(cause=cause_of(error))))

    async def _write(self, call: Any) -> None:
        while True:
            await call.write(await self._outbound.get())
            self._metrics.count_message("e2", "out")

    async def _keep_alive(self) -> None:
        period_s = self._keep_alive_ms / 2e3
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + period_s
            await asyncio.sleep(period_s)
            late_s = loop.time() - due_s
            if late_s > STALL_S:
                self._heard_s += late_s  # a stall of our own loop is not the RIC's silence
            if loop.time() - self._heard_s > 2 * self._keep_alive_ms / 1e3:
                raise TwinRicError("E2-LOST", "keep_alive_ms", self._keep_alive_ms, "a RIC that answers keep-alives")
            with contextlib.suppress(asyncio.QueueFull):  # then other PDUs keep the connection alive
                self._outbound.put_nowait(pb.E2apPdu(keep_alive=pb.KeepAlive()))

    async def _dispatch(self, pdu: pb.E2apPdu) -> None:
        kind = pdu.WhichOneof("pdu") or "(none)"
        if self._requests.take(pdu) or kind == "keep_alive":
            return
        if kind in _ANSWERS:
            answer = self._answers.get(pdu.transaction_id)
            if answer is not None and not answer.done():
                answer.set_result(pdu)
        elif kind == "ric_service_query":
            functions = [handler.definition.to_wire() for handler in self._requests.handlers.values()]
            update = pb.RicServiceUpdate(modified=functions)
            await self._send(pb.E2apPdu(transaction_id=pdu.transaction_id, ric_service_update=update))
        elif kind == "reset_request":
            await self._requests.delete_all()
            await self._send(pb.E2apPdu(transaction_id=pdu.transaction_id, reset_response=pb.ResetResponse()))
        elif kind == "error_indication":
            fault = error_of(pdu.error_indication.cause, "Error Indication")
            self._metrics.count_refused(fault.code)
            self._log.warning("the RIC reports an error", fault=str(fault))
        else:
            raise TwinRicError("E2-STATE", "e2ap_pdu", kind, "a PDU that the RIC sends")


def _parsed(octets: bytes) -> pb.E2apPdu:
    pdu = pb.E2apPdu()
    try:
        pdu.ParseFromString(octets)
    except DecodeError as error:
        raise TwinRicError("E2-MALFORMED", "e2ap_pdu", octets[:16], "an E2apPdu") from error
    return pdu
