"""The RIC's gRPC servers and the E3 agent's sockets as they listen, for `benchmarks.fuzz`: octets arrive over loopback.

Each answers for itself: a status or a count of refusals says that an input was refused; an internal error, an end of
the server or a valid request that fails afterwards is a crash.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import zmq
import zmq.asyncio
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from e2sim.e3_agent import E3Agent
from ric.bus.bus import MemoryBus
from ric.clock import WallClock
from ric.e2.identities import RanFunction
from ric.e2.node import E2NodeConnection, NodeIdentity, NodeSubscription
from ric.e2sm import ccc, kpm
from ric.e3.session import E3Endpoints
from ric.errors import TwinRicError
from ric.pb.onos.e2t.admin import admin_pb2
from ric.pb.onos.e2t.e2.v1beta1 import control_pb2, e2_pb2, subscription_pb2
from ric.pb.twinric.a1.v1 import policy_pb2
from ric.pb.twinric.e2ap.v1 import e2ap_pb2
from ric.pb.twinric.xapp.v1 import controls_pb2, indications_pb2
from ric.platform import RicConfig, RicPlatform
from ric.servers import CODE_KEY
from ric.telemetry import Metrics

__all__ = ["LiveE3", "LiveServers"]

Pieces = tuple[bytes, ...]
FILES: tuple[Any, ...] = (
    admin_pb2, control_pb2, subscription_pb2, policy_pb2, e2ap_pb2, controls_pb2, indications_pb2,
)  # fmt: skip
OPEN_S = 0.02
"""How long a stream that was taken is left open [s]."""
STUCK_S = 4.0
LOOK_EVERY = 200
CUT = frozenset({"E2-LOST"})
"""What every stream that we end ourselves is counted as."""
DEADLINES = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


class _Function:
    """A RAN function that takes everything."""

    def __init__(self, number: int, oid: str) -> None:
        self.definition = RanFunction(number, oid)

    async def subscribe(self, subscription: NodeSubscription) -> Sequence[int]:
        """All actions."""
        return [action.ric_action_id for action in subscription.actions]

    async def delete(self, subscription: NodeSubscription) -> None:
        """Nothing to do."""
        del subscription

    async def control(self, header: bytes, message: bytes) -> bytes:
        """As asked."""
        del header
        return message


def refusals(metrics: Metrics) -> dict[str, float]:
    """Inputs refused so far by code."""
    return {
        sample.labels["code"]: sample.value
        for metric in metrics.refused.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    }


def filled(descriptor: Any, depth: int = 3) -> Message:
    """A message of that type with something in every field."""
    message: Message = GetMessageClass(descriptor)()
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None:
            if depth and not field.message_type.GetOptions().map_entry:
                inner = filled(field.message_type, depth - 1)
                if field.is_repeated:
                    getattr(message, field.name).append(inner)
                else:
                    getattr(message, field.name).CopyFrom(inner)
            continue
        value: Any = 1
        if field.type == FieldDescriptor.TYPE_STRING:
            value = {"name": kpm.NAME, "version": kpm.VERSION}.get(field.name, "00101-e2000001")
        elif field.type == FieldDescriptor.TYPE_BYTES:
            value = b"octets"
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
    return message


class LiveServers:
    """A whole RIC with its servers, one E2 node, and a client that sends octets to any method."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.methods: list[MethodDescriptor] = [
            method
            for file in FILES
            for service in file.DESCRIPTOR.services_by_name.values()
            for method in service.methods
        ]
        self._asked = 0
        self._folder = tempfile.mkdtemp(prefix="twinric-fuzz-")
        self.loop.run_until_complete(self._start())

    async def _start(self) -> None:
        free = dict.fromkeys(("node_address", "xapp_address", "a1_address"), "127.0.0.1:0")
        self._metrics = Metrics("fuzz")
        config = RicConfig.model_validate({**free, "a1_port": 0, "grpc_calls_per_s": 1e6, "data_dir": self._folder})
        self._platform = RicPlatform(config, MemoryBus(), WallClock(), self._metrics, environ={})
        bound = await self._platform.start()
        functions = [_Function(kpm.RAN_FUNCTION_ID, kpm.OID), _Function(ccc.RAN_FUNCTION_ID, ccc.OID)]
        identity = NodeIdentity("00101", 0xE2000001)
        # Fuzzed requests drop it now and then; it comes back at once.
        self._node = E2NodeConnection(bound.nodes, identity, functions, metrics=Metrics("node"), back_off_s=(0.02, 0.1))
        await self._node.start()
        await self._node.connected(10.0)
        self._channels = {
            "twinric.e2ap": grpc.aio.insecure_channel(bound.nodes),
            "twinric.a1": grpc.aio.insecure_channel(bound.a1_grpc),
            "": grpc.aio.insecure_channel(bound.xapps),
        }

    def seeds(self) -> list[Pieces]:
        """A filled message per method and per PDU of E2AP, and a slice control that goes all the way."""
        seeds: list[Pieces] = [
            (bytes([index]), filled(method.input_type).SerializeToString()) for index, method in enumerate(self.methods)
        ]
        connect = next(index for index, method in enumerate(self.methods) if method.input_type.name == "E2apPdu")
        for field in e2ap_pb2.E2apPdu.DESCRIPTOR.oneofs_by_name["pdu"].fields:
            pdu = e2ap_pb2.E2apPdu(transaction_id=1)
            getattr(pdu, field.name).CopyFrom(filled(field.message_type))
            seeds.append((bytes([connect]), pdu.SerializeToString()))
        header, payload = ccc.encode_control((ccc.SliceRatio(s_nssai="1-000001", rrm_policy_dedicated_ratio=25),))
        control = control_pb2.ControlRequest(
            headers=e2_pb2.RequestHeaders(
                app_id="fuzz", e2_node_id="00101-e2000001", encoding=e2_pb2.PROTO,
                service_model=e2_pb2.ServiceModel(name=ccc.NAME, version=ccc.VERSION),
            ),
            message=control_pb2.ControlMessage(header=header, payload=payload),
        )  # fmt: skip
        ask = controls_pb2.ControlAsk(number=1, request=control)
        good = {"ControlRequest": control, "ControlAsk": ask}
        seeds += [
            (bytes([index]), good[method.input_type.name].SerializeToString())
            for index, method in enumerate(self.methods)
            if method.input_type.name in good
        ]
        return seeds

    def take(self, pieces: Pieces) -> object:
        """Send the octets to the method that the first piece names. Raises TwinRicError when they are refused."""
        method = self.methods[pieces[0][0] % len(self.methods) if pieces[0] else 0]
        self._asked += 1
        if self._asked % LOOK_EVERY == 0:
            self.loop.run_until_complete(self._look())
        return self.loop.run_until_complete(self._ask(method, pieces[-1]))

    async def _look(self) -> None:
        """A valid request must be answered, whatever came before it."""
        await self._node.connected(5.0)
        call = self._channels[""].unary_stream("/onos.e2t.admin.E2TAdminService/ListE2NodeConnections", None, None)(b"")
        async for _ in call:
            pass

    async def _ask(self, method: MethodDescriptor, octets: bytes) -> None:
        before = refusals(self._metrics)
        status, code = await self._call(method, octets)
        after = refusals(self._metrics)
        new = {name for name, number in after.items() if number > before.get(name, 0.0)} - CUT
        where = f"{method.full_name} answered {status}"
        is_ended_by_us = code in CUT
        is_failure = status in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE) and not is_ended_by_us
        if "INTERNAL" in new or code == "INTERNAL" or is_failure:
            raise RuntimeError(f"{where} {code}")
        if new or (status is not grpc.StatusCode.OK and status not in DEADLINES and not is_ended_by_us):
            raise TwinRicError("E2-MALFORMED", "request", octets[:16], "a request that is taken", where)

    async def _call(self, method: MethodDescriptor, octets: bytes) -> tuple[grpc.StatusCode, str]:
        """Status of the call and the RIC's code, if it gave one."""
        full = f"/{method.containing_service.full_name}/{method.name}"
        channel = next(channel for prefix, channel in self._channels.items() if full.startswith(f"/{prefix}"))
        streams = ("stream" if method.client_streaming else "unary", "stream" if method.server_streaming else "unary")
        make: Any = getattr(channel, "_".join(streams))(full, None, None)
        call = make(timeout=STUCK_S) if method.client_streaming else make(octets, timeout=OPEN_S)
        try:
            if method.client_streaming:
                await call.write(octets)
                await call.done_writing()
            async with asyncio.timeout(STUCK_S):
                if method.server_streaming:
                    async for _ in call:
                        pass
                else:
                    await call
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass
        finally:
            call.cancel()
        trailing = await call.trailing_metadata() or ()
        return await call.code(), dict(trailing).get(CODE_KEY, "")


class LiveE3:
    """An E3 agent with its sockets, and a peer that sends octets to the one for setups or the one for messages."""

    PROBE = b"\xff\xff\xff"
    """No PDU; its refusal says that what came before it was dealt with."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self._start())

    async def _start(self) -> None:
        async def drop(*_: Any) -> None:
            return None

        self._metrics = Metrics("fuzz")
        folder = Path(tempfile.mkdtemp(prefix="twinric-fuzz-"))
        endpoints = E3Endpoints(*(f"ipc://{folder / name}" for name in ("setup", "inbound", "outbound")))
        self._agent = E3Agent(endpoints, "du-1", on_report=drop, on_control=drop, metrics=self._metrics)
        await self._agent.start()
        context = zmq.asyncio.Context()
        self._setup, self._inbound = context.socket(zmq.REQ), context.socket(zmq.PUB)
        self._setup.connect(endpoints.setup)
        self._inbound.connect(endpoints.inbound)
        while not sum(refusals(self._metrics).values()):  # a PUB socket drops what it sends before it is connected
            await self._inbound.send(self.PROBE)
            await asyncio.sleep(0.01)

    def take(self, pieces: Pieces) -> object:
        """Send the octets. Raises TwinRicError when they are refused."""
        refused = self.loop.run_until_complete(self._send(*pieces))
        if "INTERNAL" in refused:
            raise RuntimeError("E3 agent failed")
        if refused:
            raise TwinRicError(next(iter(refused)), "e3_pdu", pieces[-1][:16], "a PDU that is taken")
        return None

    async def _send(self, way: bytes, octets: bytes) -> set[str]:
        if len(self._agent._dapps) > 1:  # setups that were taken
            self._agent._dapps.clear()
        before = refusals(self._metrics)
        if way == b"setup":
            await self._setup.send(octets)
            await self._setup.recv()
            expected = before
        else:
            await self._inbound.send(octets)
            await self._inbound.send(self.PROBE)
            expected = {**before, "E3-MALFORMED": before.get("E3-MALFORMED", 0.0) + 1}
            while refusals(self._metrics).get("E3-MALFORMED", 0.0) < expected["E3-MALFORMED"]:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
        after = refusals(self._metrics)
        return {code for code, number in after.items() if number > expected.get(code, 0.0)}
