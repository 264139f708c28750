"""The DU's side of E3 for simulated nodes: set-up, subscriptions, waveform indications out, dApp reports in."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import zmq
import zmq.asyncio

from ric.e3.e3ap import (
    FEEDER_FUNCTION_ID,
    ISOLATE_CONTROL_ID,
    MAX_ID,
    PROTOCOL_VERSION,
    WAVEFORM_TELEMETRY_ID,
    Waveform,
    decode_pdu,
    encode_pdu,
    encode_waveform,
)  # fmt: skip
from ric.e3.session import E3Endpoints
from ric.errors import TwinRicError
from ric.pb.libe3.e3ap.v1 import e3ap_pb2 as pb
from ric.telemetry import Metrics, logger

__all__ = ["E3Agent"]

MAX_DAPPS = 64
ACKNOWLEDGE_S = 0.5
"""How long a dApp may take over an xApp's control."""
ReportHandler = Callable[[int, int, bytes], Awaitable[None]]
"""Called with (dApp identifier, sequence id, report data)."""
ControlHandler = Callable[[int, bytes], Awaitable[None]]
"""Called with (control id, action data); TwinRicError refuses the control."""


@dataclass
class _DApp:
    name: str
    subscription_id: int = 0
    last_sequence: int = 0


class E3Agent:
    """One DU's E3 agent. `sent` counts waveform indications, `reports` the dApp reports handed on."""

    def __init__(
        self,
        endpoints: E3Endpoints,
        ran_identifier: str,
        *,
        on_report: ReportHandler,
        metrics: Metrics,
        on_control: ControlHandler | None = None,
    ) -> None:
        self.endpoints = endpoints
        self.sent = 0
        self.reports = 0
        self._ran_identifier = ran_identifier
        self._on_report = on_report
        self._on_control = on_control
        self._metrics = metrics
        self._log = logger("e3_agent")
        self._dapps: dict[int, _DApp] = {}
        self._ids = itertools.cycle(range(1, MAX_ID + 1))
        self._numbers = itertools.count(1)
        self._controls: dict[int, asyncio.Future[bool]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._context: zmq.asyncio.Context | None = None

    @property
    def subscribers(self) -> int:
        """DApps that have subscribed to waveforms."""
        return sum(dapp.subscription_id > 0 for dapp in self._dapps.values())

    async def start(self) -> None:
        """Bind the three sockets; a TCP port 0 takes a free one, and `endpoints` says which.

        Raises TwinRicError (CONFIG-RANGE) when an address is taken.
        """
        self._context = zmq.asyncio.Context()
        self._setup, setup = self._bind(zmq.REP, self.endpoints.setup)
        self._inbound, inbound = self._bind(zmq.SUB, self.endpoints.inbound)
        self._inbound.setsockopt(zmq.SUBSCRIBE, b"")
        self._outbound, outbound = self._bind(zmq.PUB, self.endpoints.outbound)
        self.endpoints = E3Endpoints(setup, inbound, outbound)
        self._tasks = [asyncio.create_task(self._serve_setup()), asyncio.create_task(self._serve_inbound())]

    async def stop(self) -> None:
        """Close the sockets."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._context is not None:
            for socket in (self._setup, self._inbound, self._outbound):
                socket.close(0)
            self._context.term()

    def _bind(self, kind: int, endpoint: str) -> tuple[zmq.asyncio.Socket, str]:
        assert self._context is not None
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, 10_000)
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            raise TwinRicError("CONFIG-RANGE", "e3_endpoint", endpoint, "an address that can be bound") from error
        return socket, socket.getsockopt_string(zmq.LAST_ENDPOINT)

    async def indicate(self, waveform: Waveform) -> int:
        """Send one window to every subscribed dApp; how many that were. Raises TwinRicError (E3-RANGE)."""
        data = encode_waveform(waveform)
        number = 0
        for identifier, dapp in self._dapps.items():
            if dapp.subscription_id:
                message = pb.IndicationMessage(
                    dapp_identifier=identifier, ran_function_identifier=FEEDER_FUNCTION_ID, protocol_data=data
                )
                await self._send(pb.E3Pdu(indication_message=message))
                number += 1
        self.sent += number
        return number

    async def control_dapp(self, dapp_identifier: int, sequence_id: int, data: bytes) -> None:
        """Pass an xApp's control to a dApp; return when the dApp has acknowledged it.

        Raises TwinRicError (E3-STATE) for a dApp that is not set up, that refuses, or that does not answer in time.
        """
        if dapp_identifier not in self._dapps:
            raise TwinRicError("E3-STATE", "dapp_identifier", dapp_identifier, f"one of {sorted(self._dapps)}")
        message = pb.XAppControlAction(
            dapp_identifier=dapp_identifier, ran_function_identifier=FEEDER_FUNCTION_ID, xapp_control_data=data,
            sequence_id=sequence_id,
        )  # fmt: skip
        pdu = self._stamped(pb.E3Pdu(xapp_control_action=message))
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._controls[pdu.id] = answer
        try:
            await self._send_stamped(pdu)
            accepted = await asyncio.wait_for(answer, ACKNOWLEDGE_S)
        except TimeoutError as error:
            raise TwinRicError("E3-STATE", "message_ack", "(none)", f"one within {ACKNOWLEDGE_S:g} s") from error
        finally:
            self._controls.pop(pdu.id, None)
        if not accepted:
            raise TwinRicError("E3-STATE", "xapp_control_data", "refused", "what the dApp accepts")

    async def _serve_setup(self) -> None:
        while True:
            octets = await self._setup.recv()
            response = pb.SetupResponse(
                response_code=pb.RESPONSE_CODE_NEGATIVE, e3ap_protocol_version=PROTOCOL_VERSION,
                ran_identifier=self._ran_identifier,
            )  # fmt: skip
            try:
                pdu = decode_pdu(octets)
                self._accept(pdu, response)
            except TwinRicError as error:
                self._refuse(error)
            await self._setup.send(encode_pdu(self._stamped(pb.E3Pdu(setup_response=response))))

    def _accept(self, pdu: pb.E3Pdu, response: pb.SetupResponse) -> None:
        response.request_id = pdu.id
        if pdu.WhichOneof("msg") != "setup_request":
            raise TwinRicError("E3-STATE", "msg", pdu.WhichOneof("msg"), "setup_request on the setup socket")
        if len(self._dapps) >= MAX_DAPPS:
            raise TwinRicError("E3-STATE", "dapps", len(self._dapps), f"at most {MAX_DAPPS} dApps")
        identifier = next(self._numbers)
        self._dapps[identifier] = _DApp(pdu.setup_request.dapp_name)
        response.response_code = pb.RESPONSE_CODE_POSITIVE
        response.dapp_identifier = identifier
        function = response.ran_function_list.add(ran_function_identifier=FEEDER_FUNCTION_ID)
        function.telemetry_identifier_list.append(WAVEFORM_TELEMETRY_ID)
        function.control_identifier_list.append(ISOLATE_CONTROL_ID)
        self._log.info("dApp set up", dapp=pdu.setup_request.dapp_name, dapp_identifier=identifier)

    async def _serve_inbound(self) -> None:
        while True:
            octets = await self._inbound.recv()
            try:
                await self._take(decode_pdu(octets))
            except TwinRicError as error:
                self._refuse(error)

    async def _take(self, pdu: pb.E3Pdu) -> None:
        kind = pdu.WhichOneof("msg")
        if kind == "message_ack":
            self._acknowledged(pdu.message_ack)
            return
        if kind not in (
            "subscription_request", "subscription_delete", "dapp_control_action", "dapp_report", "release_message"
        ):  # fmt: skip
            raise TwinRicError("E3-STATE", "msg", kind, "a message from a dApp to the RAN")
        identifier = getattr(pdu, kind).dapp_identifier
        dapp = self._dapps.get(identifier)
        if dapp is None:
            raise TwinRicError("E3-STATE", f"{kind}.dapp_identifier", identifier, f"one of {sorted(self._dapps)}")
        if kind == "dapp_report":
            await self._report(identifier, dapp, pdu.dapp_report)
        elif kind == "subscription_request":
            await self._subscribe(identifier, dapp, pdu)
        elif kind == "release_message":
            del self._dapps[identifier]
        elif kind == "subscription_delete":
            dapp.subscription_id = 0
            await self._acknowledge(pdu.id, pb.RESPONSE_CODE_POSITIVE)
        else:
            await self._control(pdu)

    def _acknowledged(self, ack: pb.MessageAck) -> None:
        answer = self._controls.get(ack.request_id)
        if answer is None or answer.done():
            raise TwinRicError("E3-STATE", "message_ack.request_id", ack.request_id, "the id of a control under way")
        answer.set_result(ack.response_code == pb.RESPONSE_CODE_POSITIVE)

    async def _control(self, pdu: pb.E3Pdu) -> None:
        """Apply a dApp's control where somebody takes it, and say whether it was."""
        action = pdu.dapp_control_action
        try:
            if self._on_control is None or action.control_identifier != ISOLATE_CONTROL_ID:
                raise TwinRicError("E3-STATE", "control_identifier", action.control_identifier, "a control on offer")
            await self._on_control(action.control_identifier, action.action_data)
        except TwinRicError:
            await self._acknowledge(pdu.id, pb.RESPONSE_CODE_NEGATIVE)
            raise
        await self._acknowledge(pdu.id, pb.RESPONSE_CODE_POSITIVE)

    async def _acknowledge(self, request_id: int, code: pb.ResponseCode.ValueType) -> None:
        await self._send(pb.E3Pdu(message_ack=pb.MessageAck(request_id=request_id, response_code=code)))

    async def _report(self, identifier: int, dapp: _DApp, report: pb.DAppReport) -> None:
        """Hand a report on once: sequence ids grow, an old one is a repetition."""
        if report.sequence_id <= dapp.last_sequence:
            raise TwinRicError("E3-STATE", "dapp_report.sequence_id", report.sequence_id, f"> {dapp.last_sequence}")
        dapp.last_sequence = report.sequence_id
        await self._on_report(identifier, report.sequence_id, report.report_data)
        self.reports += 1

    async def _subscribe(self, identifier: int, dapp: _DApp, pdu: pb.E3Pdu) -> None:
        request = pdu.subscription_request
        known = request.ran_function_identifier == FEEDER_FUNCTION_ID
        if known and not dapp.subscription_id:
            dapp.subscription_id = identifier
        response = pb.SubscriptionResponse(
            request_id=pdu.id, dapp_identifier=identifier, subscription_id=dapp.subscription_id,
            response_code=pb.RESPONSE_CODE_POSITIVE if known else pb.RESPONSE_CODE_NEGATIVE,
        )  # fmt: skip
        await self._send(pb.E3Pdu(subscription_response=response))

    def _refuse(self, error: TwinRicError) -> None:
        self._metrics.count_refused(error.code)
        self._log.warning("E3 PDU refused", fault=str(error))

    async def _send(self, pdu: pb.E3Pdu) -> None:
        await self._send_stamped(self._stamped(pdu))

    async def _send_stamped(self, pdu: pb.E3Pdu) -> None:
        await self._outbound.send(encode_pdu(pdu))

    def _stamped(self, pdu: pb.E3Pdu) -> pb.E3Pdu:
        pdu.id = next(self._ids)
        pdu.timestamp = time.time_ns()
        return pdu
