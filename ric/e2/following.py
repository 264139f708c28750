"""One subscription at every E2 node that offers a service model, now and later, read as batches by one reader.

The RIC's channels stay as they are, one per node with its own bounded queue; a reader that falls behind finds more in
its next batch, and loses only its own oldest indications.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ric.e2.identities import NodeView
from ric.e2.service_models import ServiceModelId, oid_of
from ric.e2.subscription_manager import Channel, ChannelIdentity, ChannelSpec, SubscriptionAction
from ric.errors import TwinRicError

if TYPE_CHECKING:
    from ric.e2.exchange import E2Exchange

__all__ = ["Batch", "Following", "NodeIndication"]

MAX_BATCH_OCTETS = 1 << 20
PACED_OCTETS = 1 << 16
RETRY_S = (0.1, 5.0)
PACE_S, PACED_AFTER, PACED_SHARE = 0.004, 32, 1.1
"""Least time between batches at a high rate [s]; that rate is this many batches within (1.1) times as many paces."""
GONE = ("E2-LOST", "E2-NODE-UNKNOWN", "E2-FUNCTION-UNKNOWN", "E2-STATE")


class NodeIndication(NamedTuple):
    """Header and message of one indication, and whose it is."""

    e2_node_id: str
    header: bytes
    message: bytes


@dataclass
class Batch:
    """What waited: indications in order per node, and why nodes are not followed any more."""

    indications: list[NodeIndication] = field(default_factory=list)
    failures: list[tuple[str, TwinRicError]] = field(default_factory=list)
    octets: int = 0


@dataclass
class _Node:
    """One followed node; `channel` is None until the subscription is asked for, `is_open` once the node has it."""

    channel: Channel | None = None
    generation: int = 0
    is_marked: bool = False
    is_open: bool = False


class Following:
    """Follows until :meth:`stop`. `app` is (app id, instance id); `transaction_id` names the channels at all nodes."""

    def __init__(
        self,
        exchange: E2Exchange,
        app: tuple[str, str],
        transaction_id: str,
        service_model: ServiceModelId,
        terms: tuple[bytes, tuple[SubscriptionAction, ...]],
    ) -> None:
        self._exchange = exchange
        self._app = app
        self._transaction_id = transaction_id
        self._service_model = service_model
        self._oid = oid_of(service_model)
        self._trigger, self._actions = terms
        self._nodes: dict[str, _Node] = {}
        self._marked: deque[str] = deque()
        self._failures: list[tuple[str, TwinRicError]] = []
        self._waiter: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Follow the nodes that are there."""
        for view in self._exchange.termination.nodes.values():
            self.node_ready(view)

    def stop(self) -> None:
        """Leave every channel; it lingers for a reader that returns."""
        for task in self._tasks:
            task.cancel()
        for node in self._nodes.values():
            self._leave(node)
        self._nodes.clear()

    def node_ready(self, view: NodeView) -> None:
        """A node set up, or its functions changed."""
        known = self._nodes.get(view.e2_node_id)
        if known is not None and known.is_open and known.channel is not None and not known.channel.is_attached:
            del self._nodes[view.e2_node_id]  # it was away for less than a batch; the channel waits to be taken up
        if view.e2_node_id not in self._nodes and any(function.oid == self._oid for function in view.functions):
            node = self._nodes[view.e2_node_id] = _Node()
            self._spawn(self._open(view.e2_node_id, node))

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """What waits, each time that something does; at a lasting high rate, at most every `PACE_S`."""
        loop = asyncio.get_running_loop()
        taken_s: deque[float] = deque(maxlen=PACED_AFTER)
        while True:
            while not self._marked and not self._failures:
                self._waiter = loop.create_future()
                await self._waiter
            now_s = loop.time()
            if len(taken_s) == PACED_AFTER and now_s - taken_s[0] < PACED_AFTER * PACE_S * PACED_SHARE:
                await asyncio.sleep(max(0.0, taken_s[-1] + PACE_S - now_s))
            batch = self._take()
            if batch.indications or batch.failures:
                if self._exchange.is_paced and batch.octets < PACED_OCTETS:
                    taken_s.append(loop.time())
                else:
                    taken_s.clear()  # large messages gain nothing from company
                yield batch

    def _take(self) -> Batch:
        batch, self._failures = Batch(failures=self._failures), []
        while self._marked and batch.octets < MAX_BATCH_OCTETS:
            name = self._marked.popleft()
            node = self._nodes.get(name)
            if node is None or node.channel is None:
                continue
            node.is_marked = False
            queue = node.channel.queue
            while queue and batch.octets < MAX_BATCH_OCTETS:
                header, message = queue.popleft()
                batch.octets += len(header) + len(message)
                batch.indications.append(NodeIndication(name, header, message))
            self._look(name, node, node.channel)
        return batch

    def _look(self, name: str, node: _Node, channel: Channel) -> None:
        """See to a channel that was read as far as the batch allows."""
        if channel.queue:
            self._mark(name)
        elif not node.is_open:
            return  # whoever opens it tells
        elif channel.generation != node.generation:
            remedy = "Another reader uses the same transaction id."
            error = TwinRicError("E2-STATE", "transaction_id", self._transaction_id, "one reader", remedy)
            self._lose(name, node, error)
        elif channel.error is not None or channel.is_closed:
            accepted = "a channel that stays open"
            self._lose(name, node, channel.error or TwinRicError("E2-LOST", "channel", channel.channel_id, accepted))

    def _mark(self, name: str) -> None:
        node = self._nodes.get(name)
        if node is not None and not node.is_marked:
            node.is_marked = True
            self._marked.append(name)
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _lose(self, name: str, node: _Node, error: TwinRicError) -> None:
        if self._nodes.get(name) is node:
            del self._nodes[name]
        self._leave(node)
        self._failures.append((name, error))
        self._wake()

    def _leave(self, node: _Node) -> None:
        if node.channel is not None:
            self._exchange.manager.detach(node.channel, node.generation, asyncio.get_running_loop().time())

    async def _open(self, name: str, node: _Node) -> None:
        """Subscribe at a node; again, with back-off, while it refuses."""
        wait_s = RETRY_S[0]
        identity = ChannelIdentity(*self._app, name, self._transaction_id)
        spec = ChannelSpec(name, self._oid, self._service_model, self._trigger, self._actions)
        wake: Callable[[], None] = partial(self._mark, name)
        while self._nodes.get(name) is node:
            try:
                node.channel, subscription, node.generation = self._exchange.manager.attach(identity, spec, wake)
                await self._exchange.opened(subscription)
                node.is_open = True
                self._mark(name)  # it may hold what came while nobody read
                return
            except TwinRicError as error:
                if error.code in GONE:
                    self._lose(name, node, error)
                    return
                node.channel = None
                self._failures.append((name, error))
                self._wake()
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, RETRY_S[1])

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
