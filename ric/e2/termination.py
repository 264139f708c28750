"""E2 termination: the gRPC service that E2 nodes connect to. A shell around :class:`~ric.e2.procedures.NodeProcedures`.

Any octets of a node give an Error Indication and a count, never the end of the stream. Keep-alive and deadlines run on
the event loop's monotonic clock: they are about sockets, also where the network's time is simulated.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol, TypeVar, cast

import grpc

from ric.e2.effects import (
    Answered,
    ConfigurationChanged,
    Effect,
    FunctionsChanged,
    Indicated,
    Missed,
    NodeReady,
    NodeReset,
    PendingKey,
    Refused,
    RicIdentity,
    Send,
)  # fmt: skip
from ric.e2.identities import NodeView, RicRequestId
from ric.e2.procedures import NodeProcedures
from ric.e2.subscription_manager import SubscriptionAction
from ric.errors import TwinRicError, nearest
from ric.pb.twinric.e2ap.v1 import e2ap_pb2 as pb
from ric.telemetry import Metrics, logger

__all__ = ["E2Termination", "NodeListener"]

SERVICE = "twinric.e2ap.v1.E2Termination"
SETUP_TIMEOUT_S = 10.0
SUBSCRIPTION_TIMEOUT_S = 2.0
STALL_S = 0.1
WATCH_S = 0.25
OUTBOUND = 4_096
CUT_AFTER_S = 1.0  # a peer that does not read must not hold a closed stream open

T = TypeVar("T")


class NodeListener(Protocol):
    """What the termination tells the rest of the RIC. Calls are made on the event loop and must not block."""

    def node_ready(self, view: NodeView) -> None:
        """E2 Setup of a node succeeded, or its RAN functions changed."""
        ...

    def node_reset(self, view: NodeView) -> None:
        """The node lost its subscriptions; it is still connected."""
        ...

    def node_lost(self, view: NodeView, error: TwinRicError) -> None:
        """The node's connection is gone."""
        ...

    def indication(self, e2_node_id: str, request: RicRequestId, header: bytes, message: bytes) -> None:
        """A RIC Indication arrived."""
        ...


class E2Termination:
    """All connected E2 nodes by name. A node that sets up again displaces its older connection."""

    def __init__(self, metrics: Metrics, listener: NodeListener, *, ric: RicIdentity | None = None) -> None:
        self._metrics = metrics
        self._listener = listener
        self._ric = ric or RicIdentity()
        self._links: dict[str, NodeLink] = {}

    def add_to(self, server: grpc.aio.Server) -> None:
        """Offer the service on a server that is not started yet."""
        # Octets come undecoded: what does not parse must not end the stream.
        method = grpc.stream_stream_rpc_method_handler(
            cast(Any, self._connect), request_deserializer=None, response_serializer=pb.E2apPdu.SerializeToString
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Connect": method}),))

    def close_all(self) -> None:
        """End every connection."""
        for link in list(self._links.values()):
            link.close(TwinRicError("E2-LOST", "ric", "(stopping)", "a RIC that runs"))

    # For the rest of the RIC ------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> Mapping[str, NodeView]:
        """Connected E2 nodes by name."""
        return {name: cast(NodeView, link.procedures.view) for name, link in self._links.items()}

    def node(self, e2_node_id: str) -> NodeView:
        """A connected node. Raises TwinRicError (E2-NODE-UNKNOWN)."""
        return cast(NodeView, self._link(e2_node_id).procedures.view)

    def peer(self, e2_node_id: str) -> tuple[str, float]:
        """Remote address and age of the connection [s]. Raises TwinRicError (E2-NODE-UNKNOWN)."""
        link = self._link(e2_node_id)
        return link.peer, asyncio.get_running_loop().time() - link.since_s

    def components(self, e2_node_id: str) -> Mapping[str, bytes]:
        """Component configuration of a node. Raises TwinRicError (E2-NODE-UNKNOWN)."""
        return dict(self._link(e2_node_id).procedures.components)

    def drop(self, e2_node_id: str, error: TwinRicError) -> None:
        """Close a node's connection. Raises TwinRicError (E2-NODE-UNKNOWN)."""
        self._link(e2_node_id).close(error)

    def begin_subscription(
        self, e2_node_id: str, ran_function_id: int, event_trigger: bytes, actions: tuple[SubscriptionAction, ...]
    ) -> tuple[RicRequestId, asyncio.Future[Any]]:
        """RIC Subscription: its request id at once, and a future that ends when the node admitted or refused it."""
        link = self._link(e2_node_id)
        wire = [
            pb.RicAction(ric_action_id=number, type=cast(Any, kind), definition=definition)
            for number, kind, definition in actions
        ]
        key, pdu = link.procedures.request_subscription(ran_function_id, event_trigger, wire)
        return key[1], link.ask(key, pdu, SUBSCRIPTION_TIMEOUT_S)

    async def delete_subscription(self, e2_node_id: str, request: RicRequestId) -> None:
        """RIC Subscription Delete. Raises TwinRicError when the node is gone or refuses."""
        link = self._link(e2_node_id)
        key, pdu = link.procedures.request_delete(request)
        await link.ask(key, pdu, SUBSCRIPTION_TIMEOUT_S)

    def begin_control(
        self,
        e2_node_id: str,
        ran_function_id: int,
        call_process_id: str,
        payload: tuple[bytes, bytes],
        deadline_s: float,
        *,
        no_ack: bool = False,
    ) -> asyncio.Future[bytes]:
        """RIC Control with header and message `payload`: a future of the outcome that the node acknowledges.

        The future fails with what the node's Cause says, E2-LOST, or E2-DEADLINE after `deadline_s` (with `no_ack`: it
        did not refuse). Raises TwinRicError (E2-NODE-UNKNOWN, LIMIT-RATE).
        """
        link = self._link(e2_node_id)
        key, pdu = link.procedures.request_control(ran_function_id, call_process_id, *payload, no_ack=no_ack)
        return link.ask(key, pdu, deadline_s)

    async def reset(self, e2_node_id: str, cause: TwinRicError) -> None:
        """Reset towards a node: it drops its subscriptions; the listener is told, as if the node had asked."""
        link = self._link(e2_node_id)
        key, pdu = link.procedures.request_reset(cause)
        await link.ask(key, pdu, SUBSCRIPTION_TIMEOUT_S)
        self._listener.node_reset(cast(NodeView, link.procedures.view))

    def query(self, e2_node_id: str) -> None:
        """RIC Service Query; the answer arrives as changed RAN functions. Raises TwinRicError (E2-NODE-UNKNOWN)."""
        link = self._link(e2_node_id)
        link.send(link.procedures.request_query())

    def _link(self, e2_node_id: str) -> NodeLink:
        link = self._links.get(e2_node_id)
        if link is None:
            raise TwinRicError(
                "E2-NODE-UNKNOWN", "e2_node_id", e2_node_id, "a connected E2 node", nearest(e2_node_id, self._links)
            )
        return link

    # The stream -------------------------------------------------------------------------------------------------------

    async def _connect(self, octets: AsyncIterator[bytes], context: Any) -> AsyncIterator[pb.E2apPdu]:
        procedures = NodeProcedures(self._ric, asyncio.get_running_loop().time())
        link = NodeLink(procedures, str(context.peer()), self._lost)
        jobs = [asyncio.ensure_future(self._read(link, octets)), asyncio.ensure_future(self._watch(link))]
        try:
            while True:
                pdu = await link.next_outbound()
                yield pdu
                self._metrics.count_message("e2", "out")
        finally:
            for job in jobs:
                job.cancel()
            link.close(TwinRicError("E2-LOST", "peer", link.peer, "a connection that stays open"))
            link.ended()
            await asyncio.gather(*jobs, return_exceptions=True)

    async def _read(self, link: NodeLink, octets: AsyncIterator[bytes]) -> None:
        loop = asyncio.get_running_loop()
        reason = "The node ended the stream."
        try:
            async for pdu in octets:
                self._metrics.count_message("e2", "in")
                for effect in link.procedures.receive(pdu, loop.time()):
                    self._apply(link, effect)
        except grpc.aio.AbortError:
            reason = "The stream was aborted."
        link.close(TwinRicError("E2-LOST", "peer", link.peer, "a connection that stays open", reason))

    async def _watch(self, link: NodeLink) -> None:
        """Close the connection of a node that is silent past its keep-alive, or that does not set up."""
        loop = asyncio.get_running_loop()
        setup_until_s = loop.time() + SETUP_TIMEOUT_S
        while True:
            due_s = min(link.procedures.silent_after_s, loop.time() + WATCH_S)
            await asyncio.sleep(max(due_s - loop.time(), 0.01))
            late_s = loop.time() - due_s
            view = link.procedures.view
            if late_s > STALL_S:
                link.procedures.forgive(late_s)  # our own loop stood still; what the node sent is still unread
            elif view is None and loop.time() > setup_until_s:
                link.close(TwinRicError("E2-LOST", "e2_setup", "(none)", f"E2 Setup within {SETUP_TIMEOUT_S:g} s"))
            elif loop.time() >= link.procedures.silent_after_s:
                kept_ms = view.keep_alive_ms if view else 0
                link.close(TwinRicError("E2-LOST", "keep_alive_ms", "(silent)", f"a PDU every {kept_ms} ms"))

    def _apply(self, link: NodeLink, effect: Effect) -> None:
        if isinstance(effect, Indicated):
            view, indication = cast(NodeView, link.procedures.view), effect.indication
            self._listener.indication(view.e2_node_id, effect.request, indication.header, indication.message)
        elif isinstance(effect, Send):
            link.send(effect.pdu)
        elif isinstance(effect, Answered):
            link.answer(effect.key, effect.result)
        elif isinstance(effect, Missed):
            self._metrics.count_dropped("e2_node", effect.number)
        elif isinstance(effect, Refused):
            self._metrics.count_refused(effect.error.code)
            logger("e2_termination").warning("E2AP PDU refused", peer=link.peer, fault=str(effect.error))
        else:
            self._apply_change(link, effect)

    def _apply_change(self, link: NodeLink, effect: Effect) -> None:
        log = logger("e2_termination")
        if isinstance(effect, NodeReady):
            self._ready(link, effect.view)
        elif isinstance(effect, FunctionsChanged):
            self._listener.node_ready(effect.view)
        elif isinstance(effect, ConfigurationChanged):
            log.info("E2 node configuration updated", peer=link.peer, components=sorted(effect.components))
        elif isinstance(effect, NodeReset):
            log.warning("E2 node was reset", peer=link.peer, fault=str(effect.cause))
            self._listener.node_reset(cast(NodeView, link.procedures.view))

    def _ready(self, link: NodeLink, view: NodeView) -> None:
        older = self._links.get(view.e2_node_id)
        if older is not None:
            older.close(
                TwinRicError("E2-LOST", "e2_node_id", view.e2_node_id, "one connection per node", "Set up again.")
            )
        self._links[view.e2_node_id] = link
        logger("e2_termination").info("E2 node connected", e2_node_id=view.e2_node_id, peer=link.peer)
        self._listener.node_ready(view)

    def _lost(self, link: NodeLink) -> None:
        view = link.procedures.view
        if view is None or self._links.get(view.e2_node_id) is not link:
            return
        del self._links[view.e2_node_id]
        error = cast(TwinRicError, link.error)
        logger("e2_termination").warning("E2 node lost", e2_node_id=view.e2_node_id, fault=str(error))
        self._listener.node_lost(view, error)


class NodeLink:
    """One open stream: its procedures, the PDUs to send, and the requests that wait for an answer."""

    def __init__(self, procedures: NodeProcedures, peer: str, on_closed: Callable[[NodeLink], None]) -> None:
        self.procedures = procedures
        self.peer = peer
        self.since_s = procedures.now_s
        self.error: TwinRicError | None = None
        self._outbound: deque[pb.E2apPdu] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._answers: dict[PendingKey, asyncio.Future[Any]] = {}
        self._on_closed = on_closed
        self._rpc = asyncio.current_task()
        self._cut: asyncio.TimerHandle | None = None

    def send(self, pdu: pb.E2apPdu) -> None:
        """Queue a PDU. A node that does not take them off any more is closed."""
        if len(self._outbound) >= OUTBOUND:
            self.close(TwinRicError("E2-LOST", "peer", self.peer, f"fewer than {OUTBOUND} unread PDUs"))
            return
        self._outbound.append(pdu)
        self._wake()

    async def next_outbound(self) -> pb.E2apPdu:
        """The next PDU to write. Raises TwinRicError once the link is closed and the queue is empty."""
        while not self._outbound:
            if self.error is not None:
                raise self.error
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._outbound.popleft()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def ask(self, key: PendingKey, pdu: pb.E2apPdu, deadline_s: float) -> asyncio.Future[Any]:
        """Send a request; a future for its answer, which fails with TwinRicError (E2-DEADLINE) after `deadline_s`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if self.error is not None:
            self.procedures.forget(key)
            future.set_exception(self.error)
            return future
        self._answers[key] = future
        timer = loop.call_later(deadline_s, self._expire, key, deadline_s)
        future.add_done_callback(lambda _: self._finished(key, timer))
        self.send(pdu)
        return future

    def answer(self, key: PendingKey, result: object) -> None:
        """The node answered."""
        future = self._answers.get(key)
        if future is None or future.done():
            return
        if isinstance(result, TwinRicError):
            future.set_exception(result)
        else:
            future.set_result(result)

    def _expire(self, key: PendingKey, deadline_s: float) -> None:
        remedy = "The value is unknown: read it again." if key[0] == "control" else ""
        self.answer(key, TwinRicError("E2-DEADLINE", key[0], deadline_s, "an answer of the E2 node in time", remedy))

    def _finished(self, key: PendingKey, timer: asyncio.TimerHandle) -> None:
        timer.cancel()
        future = self._answers.pop(key, None)
        if future is not None and not future.cancelled():
            future.exception()  # looked at, also where nobody waits any more
        self.procedures.forget(key)

    def close(self, error: TwinRicError) -> None:
        """End the stream with `error`, once what is queued was written; the first reason counts."""
        if self.error is not None:
            return
        self.error = error
        for future in list(self._answers.values()):
            if not future.done():
                future.set_exception(error)
        self._wake()
        if self._rpc is not None:
            self._cut = asyncio.get_running_loop().call_later(CUT_AFTER_S, self._rpc.cancel)
        self._on_closed(self)

    def ended(self) -> None:
        """The stream is over; nothing is left to cut."""
        if self._cut is not None:
            self._cut.cancel()
