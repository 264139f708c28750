"""The dApp's side of E3: set-up, subscription, indications in, reports and controls out, over ZeroMQ.

Roles and framing are libe3's: the RAN binds REP (setup), SUB (inbound) and PUB (outbound); the dApp connects; one PDU
per message, no topics.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

import zmq
import zmq.asyncio

from ric.e3.e3ap import (
    FEEDER_FUNCTION_ID,
    ISOLATE_CONTROL_ID,
    MAX_ID,
    PROTOCOL_VERSION,
    WAVEFORM_TELEMETRY_ID,
    decode_pdu,
    encode_pdu,
)
from ric.errors import TwinRicError
from ric.pb.libe3.e3ap.v1 import e3ap_pb2 as pb
from ric.telemetry import Metrics, logger

__all__ = ["E3Endpoints", "E3Session"]

ANSWER_S = 1.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 5.0
HEARTBEAT_MS, SILENCE_MS = 1_000, 3_000
AT_ONCE = 64
"""Messages taken before others have their turn."""
MAX_KEPT = 128
"""Reports that are sent again after a new set-up."""

IndicationHandler = Callable[[int, memoryview], None]
ControlHandler = Callable[[int, bytes], None]


@dataclass(frozen=True)
class E3Endpoints:
    """ZeroMQ endpoints of one E3 agent, `tcp://host:port` or `ipc://path`; inbound is towards the RAN."""

    setup: str = "tcp://127.0.0.1:9990"
    inbound: str = "tcp://127.0.0.1:9999"
    outbound: str = "tcp://127.0.0.1:9991"


class E3Session:
    """One dApp at one E3 agent. `reports` counts the dApp reports sent.

    E3 acknowledges no report, so the newest under each `keep` key are sent again after every new set-up: what was
    lost with a DU, or on the way to it, arrives late instead of never. Receivers know repetitions by their content.

    `busy_poll`, set before :meth:`follow`, keeps asking for messages instead of sleeping until one comes: that spares
    the wake-up, and takes the whole core.
    """

    def __init__(
        self, endpoints: E3Endpoints, *, dapp_name: str, dapp_version: str, vendor: str, metrics: Metrics,
        on_xapp_control: ControlHandler | None = None,
    ) -> None:  # fmt: skip
        self.endpoints = endpoints
        self.dapp_identifier = 0
        self.reports = 0
        self.busy_poll = False
        self._request = pb.SetupRequest(
            e3ap_protocol_version=PROTOCOL_VERSION, dapp_name=dapp_name, dapp_version=dapp_version, vendor=vendor
        )
        self._metrics = metrics
        self._log = logger("e3")
        self.on_xapp_control = on_xapp_control
        """Takes an xApp's control (sequence id, data); TwinRicError refuses it, and so does None."""
        self._ids = itertools.cycle(range(1, MAX_ID + 1))
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._inbound: zmq.Socket[bytes] | None = None
        self._outbound: zmq.Socket[bytes] | None = None
        self._events: zmq.Socket[bytes] | None = None
        self._monitor: asyncio.Task[None] | None = None
        self._subscribed = asyncio.Event()
        self._subscription_id = 0
        self._asked: set[int] = set()
        self._kept: dict[str, bytes] = {}

    async def start(self) -> None:
        """Open the sockets and set up; returns when the agent has accepted, however long that takes.

        Raises TwinRicError (E3-STATE) when the agent refuses the dApp.
        """
        self._context = zmq.Context()
        self._outbound = self._context.socket(zmq.PUB)
        self._outbound.setsockopt(zmq.LINGER, 0)
        self._outbound.connect(self.endpoints.inbound)
        self._inbound = self._context.socket(zmq.SUB)
        for option, value in (
            (zmq.LINGER, 0), (zmq.HEARTBEAT_IVL, HEARTBEAT_MS), (zmq.HEARTBEAT_TIMEOUT, SILENCE_MS),
            (zmq.RCVHWM, 10_000),
        ):  # fmt: skip
            self._inbound.setsockopt(option, value)
        self._inbound.setsockopt(zmq.SUBSCRIBE, b"")
        self._events = self._inbound.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._inbound.connect(self.endpoints.outbound)
        await self._set_up()
        self._monitor = asyncio.create_task(self._watch(self._events))

    async def stop(self) -> None:
        """Release and close."""
        if self._monitor is not None:
            self._monitor.cancel()
            await asyncio.gather(self._monitor, return_exceptions=True)
        if self._outbound is not None and self.dapp_identifier:
            with contextlib.suppress(zmq.ZMQError):
                release = pb.ReleaseMessage(dapp_identifier=self.dapp_identifier)
                self._send(self._stamped(pb.E3Pdu(release_message=release)))
        if self._inbound is not None:
            self._inbound.disable_monitor()
            self._inbound.close(0)
        if self._events is not None:
            self._events.close(0)
        if self._outbound is not None:
            self._outbound.close(50)
        if self._context is not None:
            self._context.term()
        self._context = self._inbound = self._outbound = self._events = None

    async def follow(self, handler: IndicationHandler) -> None:
        """Hand every indication for this dApp to `handler(ran_function_id, data)` until cancelled.

        PDUs that are malformed, out of range or unexpected are counted and dropped. Raises TwinRicError (E3-STATE)
        before :meth:`start`.
        """
        inbound = self._inbound
        if inbound is None:
            raise TwinRicError("E3-STATE", "session", "not started", "start() first")

        def take(octets: bytes) -> None:
            try:
                self._take(decode_pdu(octets), handler)
            except TwinRicError as error:
                self._metrics.count_refused(error.code)
                self._log.warning("E3 PDU refused", fault=str(error))

        subscribing = asyncio.create_task(self._subscribe())
        try:
            await _Arrivals(inbound, take, busy_poll=self.busy_poll).run()
        finally:
            subscribing.cancel()

    async def report(self, report_data: bytes, *, keep: str = "") -> int:
        """Send a dApp report; returns its sequence id. Raises TwinRicError (E3-RANGE, E3-STATE).

        `keep` names what the report is about: the newest report of each name is sent again after a new set-up, in the
        order in which they were made, for the MAX_KEPT newest names.
        """
        if keep:
            self._kept.pop(keep, None)
            self._kept[keep] = report_data
            if len(self._kept) > MAX_KEPT:
                del self._kept[next(iter(self._kept))]
        return await self._report(report_data)

    async def _report(self, report_data: bytes) -> int:
        sequence_id = self.reports + 1
        message = pb.DAppReport(
            dapp_identifier=self.dapp_identifier, ran_function_identifier=FEEDER_FUNCTION_ID, report_data=report_data,
            sequence_id=sequence_id,
        )  # fmt: skip
        self._send(self._stamped(pb.E3Pdu(dapp_report=message)))
        self.reports = sequence_id
        return sequence_id

    async def _report_again(self) -> None:
        """What is kept, once the subscription's answer has proved that both sockets have joined."""
        for report_data in list(self._kept.values()):
            await self._report(report_data)

    async def control(self, action_data: bytes, *, control_id: int = ISOLATE_CONTROL_ID, sequence_id: int = 0) -> None:
        """Send a dApp control action. Raises TwinRicError (E3-RANGE, E3-STATE)."""
        message = pb.DAppControlAction(
            dapp_identifier=self.dapp_identifier, ran_function_identifier=FEEDER_FUNCTION_ID,
            control_identifier=control_id, action_data=action_data, sequence_id=sequence_id,
        )  # fmt: skip
        self._send(self._stamped(pb.E3Pdu(dapp_control_action=message)))

    def _take(self, pdu: pb.E3Pdu, handler: IndicationHandler) -> None:
        kind = pdu.WhichOneof("msg")
        if kind == "message_ack":
            return
        if kind not in ("indication_message", "subscription_response", "xapp_control_action"):
            raise TwinRicError("E3-STATE", "msg", kind, "a message from the RAN to a dApp")
        if getattr(pdu, kind).dapp_identifier != self.dapp_identifier:
            return  # the outbound socket serves all dApps
        if kind == "indication_message":
            indication = pdu.indication_message
            handler(indication.ran_function_identifier, memoryview(indication.protocol_data))
        elif kind == "subscription_response":
            if pdu.subscription_response.request_id not in self._asked:
                return  # the answer of a DU that is gone, to a request of before
            self._subscribed.set()
            self._subscription_id = pdu.subscription_response.subscription_id
            if pdu.subscription_response.response_code != pb.RESPONSE_CODE_POSITIVE:
                raise TwinRicError("E3-STATE", "subscription", "refused", "a RAN function that the agent offers")
        else:
            self._control(pdu.id, pdu.xapp_control_action)

    def _control(self, request_id: int, action: pb.XAppControlAction) -> None:
        """Let the dApp take an xApp's control, and tell the RAN whether it did."""
        try:
            if self.on_xapp_control is None:
                raise TwinRicError("E3-STATE", "xapp_control_action", action.sequence_id, "none: not for this dApp")
            self.on_xapp_control(action.sequence_id, action.xapp_control_data)
        except TwinRicError:
            self._acknowledge(request_id, pb.RESPONSE_CODE_NEGATIVE)
            raise
        self._acknowledge(request_id, pb.RESPONSE_CODE_POSITIVE)

    def _acknowledge(self, request_id: int, code: pb.ResponseCode.ValueType) -> None:
        self._send(self._stamped(pb.E3Pdu(message_ack=pb.MessageAck(request_id=request_id, response_code=code))))

    async def _set_up(self) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            answer = await self._ask_setup()
            if answer is not None:
                break
            self._log.info("no E3 agent yet", endpoint=self.endpoints.setup, wait_s=wait_s)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        if answer.response_code != pb.RESPONSE_CODE_POSITIVE:
            raise TwinRicError("E3-STATE", "setup", "refused", "a dApp that the agent accepts")
        self.dapp_identifier = answer.dapp_identifier

    async def _ask_setup(self) -> pb.SetupResponse | None:
        """One attempt on a fresh REQ socket: one that waits for a lost answer accepts no second request."""
        if self._context is None:
            raise TwinRicError("E3-STATE", "session", "not started", "start() first")
        socket = zmq.asyncio.Context(self._context).socket(zmq.REQ)
        socket.setsockopt(zmq.LINGER, 0)
        try:
            socket.connect(self.endpoints.setup)
            await socket.send(encode_pdu(self._stamped(pb.E3Pdu(setup_request=self._request))))
            pdu = decode_pdu(await asyncio.wait_for(socket.recv(), ANSWER_S))
        except TimeoutError:
            return None
        except TwinRicError as error:
            self._metrics.count_refused(error.code)
            return None
        finally:
            socket.close(0)
        return pdu.setup_response if pdu.WhichOneof("msg") == "setup_response" else None

    async def _subscribe(self) -> None:
        """Ask until answered: what is published before the sockets have joined is lost."""
        self._subscribed.clear()
        self._asked.clear()
        while not self._subscribed.is_set():
            request = pb.SubscriptionRequest(
                dapp_identifier=self.dapp_identifier, ran_function_identifier=FEEDER_FUNCTION_ID,
                telemetry_identifier_list=[WAVEFORM_TELEMETRY_ID], control_identifier_list=[ISOLATE_CONTROL_ID],
            )  # fmt: skip
            pdu = self._stamped(pb.E3Pdu(subscription_request=request))
            self._asked.add(pdu.id)
            self._send(pdu)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._subscribed.wait(), FIRST_WAIT_S)

    async def _watch(self, events: zmq.Socket[bytes]) -> None:
        """Set up and subscribe again when the agent went away."""
        waiting = zmq.asyncio.Socket(events)
        while True:
            await waiting.recv_multipart()
            self._log.warning("E3 agent lost; setting up again", endpoint=self.endpoints.setup)
            self.dapp_identifier = 0
            await self._set_up()
            await self._subscribe()
            await self._report_again()

    def _send(self, pdu: pb.E3Pdu) -> None:
        if self._outbound is None:
            raise TwinRicError("E3-STATE", "session", "not started", "start() first")
        self._outbound.send(encode_pdu(pdu), zmq.NOBLOCK)  # PUB never blocks: it drops
        self._metrics.count_message("e3", "out")

    def _stamped(self, pdu: pb.E3Pdu) -> pb.E3Pdu:
        pdu.id = next(self._ids)
        pdu.timestamp = time.time_ns()
        return pdu


class _Arrivals:
    """Calls `take(octets)` for every message that `socket` receives while :meth:`run` is awaited.

    Straight from the event loop's reader: `zmq.asyncio` wakes a task per message, two more turns of the loop.
    """

    def __init__(self, socket: zmq.Socket[bytes], take: Callable[[bytes], None], *, busy_poll: bool) -> None:
        self._socket = socket
        self._take = take
        self._busy_poll = busy_poll
        self._ended: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Until cancelled. Raises what `take` raises."""
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        descriptor = int(self._socket.getsockopt(zmq.FD))
        if not self._busy_poll:
            loop.add_reader(descriptor, self._drain)
        loop.call_soon(self._drain)
        try:
            await self._ended
        finally:
            loop.remove_reader(descriptor)

    def _drain(self) -> None:
        """Take what is there. ZeroMQ signals changes, not states: what is left over would never be signalled again."""
        if self._ended is None or self._ended.done() or self._socket.closed:
            return
        try:
            for _ in range(AT_ONCE):
                self._take(self._socket.recv(zmq.NOBLOCK))
        except zmq.Again:
            if not self._busy_poll:
                return
        except Exception as error:  # noqa: BLE001 - a failing consumer ends run(), it does not vanish in the loop
            self._ended.set_exception(error)
            return
        asyncio.get_running_loop().call_soon(self._drain)
