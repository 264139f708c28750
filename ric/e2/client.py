"""What an xApp holds of E2: connected nodes, subscriptions, verified controls, over onos.e2t.e2.v1beta1."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import grpc

from ric.e2.control_stream import BrokenStreamError, ControlStream, failure_of
from ric.e2.service_models import ServiceModelId, oid_of
from ric.errors import TwinRicError
from ric.pb.onos.e2t.admin import admin_pb2, admin_pb2_grpc
from ric.pb.onos.e2t.e2.v1beta1 import control_pb2, e2_pb2, subscription_pb2, subscription_pb2_grpc
from ric.pb.twinric.xapp.v1 import indications_pb2, indications_pb2_grpc
from ric.security import TlsMaterial
from ric.servers import error_of_rpc, grpc_channel
from ric.telemetry import logger

__all__ = ["E2Client", "IndicationHandler", "NodeView"]

IndicationHandler = Callable[[str, bytes, bytes], None]
"""Called with (E2 node id, indication header, indication message)."""

BACK_OFF_S = (0.1, 5.0)
RETRY_S = 0.02


@dataclass(frozen=True)
class NodeView:
    """A connected E2 node and the object identifiers of the service models that it offers."""

    e2_node_id: str
    oids: frozenset[str]


class E2Client:
    """Channel to the RIC's E2 services. One per xApp; methods may be used from many tasks of one event loop."""

    def __init__(self, address: str, *, app_id: str, instance_id: str, tls: TlsMaterial | None = None) -> None:
        self._address = address
        self._app_id = app_id
        self._instance_id = instance_id
        self._tls = tls
        self._log = logger("e2_client")
        self._channel: grpc.aio.Channel | None = None
        self._controls: ControlStream
        self._subscription: subscription_pb2_grpc.SubscriptionServiceAsyncStub
        self._indications: indications_pb2_grpc.IndicationStreamAsyncStub
        self._admin: admin_pb2_grpc.E2TAdminServiceAsyncStub

    async def start(self) -> None:
        """Open the channel; the RIC need not be there yet."""
        self._channel = grpc_channel(self._address, self._tls)
        self._controls = ControlStream(self._channel, self._address)
        self._subscription = subscription_pb2_grpc.SubscriptionServiceStub(self._channel)
        self._indications = indications_pb2_grpc.IndicationStreamStub(self._channel)
        self._admin = admin_pb2_grpc.E2TAdminServiceStub(self._channel)

    async def stop(self) -> None:
        """Close the channel and with it every subscription stream."""
        if self._channel is not None:
            await self._controls.stop()
            await self._channel.close(None)
            self._channel = None

    async def __aenter__(self) -> E2Client:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def nodes(self) -> list[NodeView]:
        """The connected E2 nodes, by name. Raises TwinRicError (E2-LOST) when the RIC cannot be reached."""
        self._need_channel()
        try:
            views = [
                NodeView(node.id, frozenset(function.oid for function in node.ran_functions))
                async for node in self._admin.ListE2NodeConnections(admin_pb2.ListE2NodeConnectionsRequest())
            ]
        except grpc.aio.AioRpcError as error:
            raise error_of_rpc(error, self._address, "E2-LOST") from error
        return sorted(views, key=lambda view: view.e2_node_id)

    async def subscribe(
        self, e2_node_id: str, service_model: ServiceModelId, *, trigger: bytes, action: bytes, transaction_id: str
    ) -> AsyncIterator[tuple[bytes, bytes]]:
        """Indication header and message, one pair after the other, until the caller leaves.

        Asking again with the same `transaction_id` continues the same subscription, also after a lost connection.
        Raises TwinRicError: E2-NODE-UNKNOWN, E2-FUNCTION-UNKNOWN, E2-ACTION or E2-RANGE when it is refused, E2-LOST
        when the node or the RIC went away.
        """
        self._need_channel()
        call = self._subscription.Subscribe(
            subscription_pb2.SubscribeRequest(
                headers=self._headers(e2_node_id, service_model),
                transaction_id=transaction_id,
                subscription=_spec(trigger, action),
            )
        )
        try:
            async for response in call:
                if response.HasField("indication"):
                    yield response.indication.header, response.indication.payload
        except grpc.aio.AioRpcError as error:
            raise error_of_rpc(error, self._address, "E2-LOST") from error
        finally:
            call.cancel()
        raise TwinRicError("E2-LOST", "subscription", transaction_id, "a stream that stays open")

    async def unsubscribe(self, e2_node_id: str, service_model: ServiceModelId, *, transaction_id: str) -> None:
        """End a subscription now; leaving :meth:`subscribe` alone ends it after the RIC's linger time."""
        self._need_channel()
        headers = self._headers(e2_node_id, service_model)
        request = subscription_pb2.UnsubscribeRequest(headers=headers, transaction_id=transaction_id)
        try:
            await self._subscription.Unsubscribe(request)
        except grpc.aio.AioRpcError as error:
            raise error_of_rpc(error, self._address, "E2-LOST") from error

    async def control(
        self,
        e2_node_id: str,
        service_model: ServiceModelId,
        header: bytes,
        payload: bytes,
        *,
        deadline_s: float = 1.0,
        no_ack: bool = False,
    ) -> bytes:
        """RIC Control: the outcome, once the value is in force at the node; with `no_ack` b"", once it was sent there.

        Applied once, whatever is repeated on the way. Raises TwinRicError: E2-DEADLINE (value unknown, read it again),
        E2-RANGE and the like (the node refused, with field and accepted range), E2-CONFLICT, E2-UNVERIFIED, E2-LOST.
        """
        self._need_channel()
        request = control_pb2.ControlRequest(
            headers=self._headers(e2_node_id, service_model),
            message=control_pb2.ControlMessage(header=header, payload=payload),
            call_process_id=uuid.uuid4().bytes,
        )
        loop = asyncio.get_running_loop()
        until_s = loop.time() + deadline_s
        while True:
            try:
                response = await self._controls.ask(request, max(until_s - loop.time(), 0.001), no_ack=no_ack)
            except TimeoutError as error:
                remedy = "The value is unknown: read it again."
                raise TwinRicError("E2-DEADLINE", "deadline_s", deadline_s, "an answer in time", remedy) from error
            except BrokenStreamError as error:
                if loop.time() + RETRY_S >= until_s:
                    accepted = "a RIC that answers"
                    raise TwinRicError("E2-LOST", "peer", self._address, accepted, str(error)) from error
                await asyncio.sleep(RETRY_S)  # the same call process id makes a repeat safe
            else:
                return response.outcome.payload

    async def follow(
        self, service_model: ServiceModelId, *, trigger: bytes, action: bytes, handler: IndicationHandler
    ) -> None:
        """Keep a subscription at every E2 node that offers the service model, now and later, until cancelled.

        The RIC follows the nodes; a lost stream is opened again, with back-off and the same transaction id, so that
        what was queued meanwhile is not lost. Whatever `handler` raises ends this. Raises TwinRicError
        (E2-FUNCTION-UNKNOWN) for a service model that has no name.
        """
        self._need_channel()
        oid_of(service_model)
        digest = hashlib.sha256(b"\0".join((service_model[0].encode(), trigger, action))).hexdigest()[:16]
        request = indications_pb2.FollowRequest(
            headers=self._headers("", service_model), transaction_id=digest, subscription=_spec(trigger, action)
        )
        wait_s = BACK_OFF_S[0]
        while True:
            call: Any = self._indications.Follow(request)
            try:
                async for batch in call:
                    wait_s = BACK_OFF_S[0]
                    self._hand_over(batch, handler)
            except grpc.aio.AioRpcError as error:
                self._log.info("indications ended", fault=str(error_of_rpc(error, self._address, "E2-LOST")))
            finally:
                call.cancel()
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, BACK_OFF_S[1])

    def _hand_over(self, batch: indications_pb2.IndicationBatch, handler: IndicationHandler) -> None:
        for each in batch.indications:
            handler(each.e2_node_id, each.header, each.payload)
        for failed in batch.failures:
            fault = str(failure_of(failed.failure))
            self._log.info("not followed", e2_node_id=failed.e2_node_id, fault=fault)

    def _headers(self, e2_node_id: str, service_model: ServiceModelId) -> e2_pb2.RequestHeaders:
        return e2_pb2.RequestHeaders(
            app_id=self._app_id,
            app_instance_id=self._instance_id,
            e2_node_id=e2_node_id,
            service_model=e2_pb2.ServiceModel(name=service_model[0], version=service_model[1]),
            encoding=e2_pb2.PROTO,
        )

    def _need_channel(self) -> None:
        if self._channel is None:
            raise TwinRicError("E2-STATE", "client", "(stopped)", "a client after start() and before stop()")


def _spec(trigger: bytes, action: bytes) -> subscription_pb2.SubscriptionSpec:
    return subscription_pb2.SubscriptionSpec(
        event_trigger=subscription_pb2.EventTrigger(payload=trigger),
        actions=[subscription_pb2.Action(id=0, type=subscription_pb2.ACTION_TYPE_REPORT, payload=action)],
    )
