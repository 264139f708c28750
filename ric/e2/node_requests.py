"""What the RIC asks of an E2 node, handed to its RAN functions: subscriptions, deletes, controls (applied once)."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ric.e2.causes import cause_of
from ric.e2.identities import RanFunction, RicRequestId
from ric.errors import TwinRicError
from ric.pb.twinric.e2ap.v1 import e2ap_pb2 as pb
from ric.telemetry import Metrics, logger

__all__ = ["NodeAction", "NodeRequests", "NodeSubscription", "RanFunctionHandler"]

REMEMBERED_CALLS = 1_024
_TYPES: Mapping[int, str] = {
    pb.RIC_ACTION_TYPE_REPORT: "report", pb.RIC_ACTION_TYPE_INSERT: "insert", pb.RIC_ACTION_TYPE_POLICY: "policy",
}  # fmt: skip


@dataclass(frozen=True)
class NodeAction:
    """One RIC action of a subscription: id 0..255, "report", "insert" or "policy", definition octets."""

    ric_action_id: int
    type: str
    definition: bytes


@dataclass(frozen=True)
class NodeSubscription:
    """A RIC Subscription as the node sees it."""

    ric_request_id: RicRequestId
    ran_function_id: int
    event_trigger: bytes
    actions: tuple[NodeAction, ...]


class RanFunctionHandler(Protocol):
    """What serves one RAN function of a node. Requests for one function come one at a time, in order."""

    @property
    def definition(self) -> RanFunction:
        """What E2 Setup says about the function."""
        ...

    async def subscribe(self, subscription: NodeSubscription) -> Sequence[int]:
        """Ids of the admitted actions. Raises TwinRicError to refuse all of it."""
        ...

    async def delete(self, subscription: NodeSubscription) -> None:
        """Stop reporting: the RIC asked for it, or its connection is gone."""
        ...

    async def control(self, header: bytes, message: bytes) -> bytes:
        """Put the control in force and return the outcome. Raises TwinRicError when it cannot be."""
        ...


class NodeRequests:
    """The handlers of one node, its open subscriptions, and the memory that makes controls idempotent.

    `send` queues a PDU towards the RIC. Controls outlive a lost connection: what was begun is finished, and a repeat
    with the same call process id gets its answer.
    """

    def __init__(
        self, handlers: Sequence[RanFunctionHandler], send: Callable[[pb.E2apPdu], Awaitable[None]], metrics: Metrics
    ) -> None:
        self.handlers = {handler.definition.ran_function_id: handler for handler in handlers}
        self.subscriptions: dict[RicRequestId, NodeSubscription] = {}
        self._send = send
        self._metrics = metrics
        self._locks: dict[int, asyncio.Lock] = {}
        self._log = logger("e2_node")
        self._calls: OrderedDict[tuple[int, str], asyncio.Future[pb.E2apPdu]] = OrderedDict()
        self._controls: set[asyncio.Task[None]] = set()
        self._work: set[asyncio.Task[None]] = set()
        self._session = 0

    def take(self, pdu: pb.E2apPdu) -> bool:
        """Begin to serve a request of the RIC; False when the PDU is none."""
        kind = pdu.WhichOneof("pdu")
        if kind == "ric_control_request":
            _spawn(self._control(pdu), self._controls)
        elif kind == "ric_subscription_request":
            _spawn(self._subscribe(pdu), self._work)
        elif kind == "ric_subscription_delete_request":
            _spawn(self._delete(pdu), self._work)
        else:
            return False
        return True

    async def end_session(self) -> None:
        """Answer nothing more to this RIC and delete every subscription; controls that have begun are finished."""
        self._session += 1
        await _cancel(self._work)
        await self.delete_all()

    async def stop(self) -> None:
        """Finish nothing."""
        await _cancel(self._controls)
        await self.end_session()

    async def delete_all(self, ran_function_id: int | None = None) -> None:
        """Delete every subscription, or those of one RAN function, at its handler."""
        subscriptions = [
            each for each in self.subscriptions.values() if ran_function_id in (None, each.ran_function_id)
        ]
        for subscription in subscriptions:
            del self.subscriptions[subscription.ric_request_id]
        for subscription in subscriptions:
            handler = self.handlers.get(subscription.ran_function_id)
            if handler is not None:
                try:
                    await handler.delete(subscription)
                except Exception as error:  # noqa: BLE001 - the subscription is gone either way
                    self._known(error)

    async def _subscribe(self, pdu: pb.E2apPdu) -> None:
        request = pdu.ric_subscription_request
        request_id = RicRequestId.of(request.ric_request_id)
        actions = tuple(
            NodeAction(action.ric_action_id, _TYPES.get(action.type, "unknown"), action.definition)
            for action in request.actions
        )
        subscription = NodeSubscription(request_id, request.ran_function_id, request.event_trigger, actions)
        answer = pb.E2apPdu(transaction_id=pdu.transaction_id)
        try:
            admitted = await self._admit(subscription)
        except Exception as caught:  # noqa: BLE001 - the one translator of this transport
            error = self._known(caught)
            self.subscriptions.pop(request_id, None)
            failure = answer.ric_subscription_failure
            failure.cause.CopyFrom(cause_of(error))
            failure.ric_request_id.CopyFrom(request.ric_request_id)
            failure.ran_function_id = request.ran_function_id
        else:
            response = answer.ric_subscription_response
            response.ric_request_id.CopyFrom(request.ric_request_id)
            response.ran_function_id = request.ran_function_id
            response.admitted_action_ids.extend(admitted)
            for action in actions:
                if action.ric_action_id not in admitted:
                    refused = TwinRicError("E2-ACTION", "ric_action_id", action.ric_action_id, f"one of {admitted}")
                    response.not_admitted_actions[action.ric_action_id].CopyFrom(cause_of(refused))
        await self._send(answer)

    async def _admit(self, subscription: NodeSubscription) -> list[int]:
        handler, lock = self._handler(subscription.ran_function_id)
        async with lock:
            # Known before the handler is asked, so that it may indicate at once.
            self.subscriptions[subscription.ric_request_id] = subscription
            admitted = list(await handler.subscribe(subscription))
        if not admitted:
            asked = [action.ric_action_id for action in subscription.actions]
            raise TwinRicError("E2-ACTION", "actions", asked, "actions that the RAN function supports")
        return admitted

    async def _delete(self, pdu: pb.E2apPdu) -> None:
        request = pdu.ric_subscription_delete_request
        request_id = RicRequestId.of(request.ric_request_id)
        answer = pb.E2apPdu(transaction_id=pdu.transaction_id)
        try:
            subscription = self.subscriptions.pop(request_id, None)
            if subscription is None:
                raise TwinRicError("E2-REQUEST-UNKNOWN", "ric_request_id", str(request_id), "an open subscription")
            handler, lock = self._handler(subscription.ran_function_id)
            async with lock:
                await handler.delete(subscription)
        except Exception as caught:  # noqa: BLE001 - the one translator of this transport
            error = self._known(caught)
            failure = answer.ric_subscription_delete_failure
            failure.cause.CopyFrom(cause_of(error))
            failure.ric_request_id.CopyFrom(request.ric_request_id)
            failure.ran_function_id = request.ran_function_id
        else:
            response = answer.ric_subscription_delete_response
            response.ric_request_id.CopyFrom(request.ric_request_id)
            response.ran_function_id = request.ran_function_id
        await self._send(answer)

    async def _control(self, pdu: pb.E2apPdu) -> None:
        request, session = pdu.ric_control_request, self._session
        answer = await self._applied_once(request)
        if session != self._session:
            return  # who asked is gone; a repeat is answered from memory
        answer.transaction_id = pdu.transaction_id
        if answer.HasField("ric_control_failure"):
            answer.ric_control_failure.ric_request_id.CopyFrom(request.ric_request_id)
        else:
            answer.ric_control_acknowledge.ric_request_id.CopyFrom(request.ric_request_id)
            if request.ack_request == pb.RIC_CONTROL_ACK_REQUEST_NO_ACK:
                return
        await self._send(answer)

    async def _applied_once(self, request: pb.RicControlRequest) -> pb.E2apPdu:
        """The answer to a control, from memory when its call process id was seen before."""
        if not request.call_process_id:
            return await self._apply(request)
        key = (request.ran_function_id, request.call_process_id)
        seen = self._calls.get(key)
        if seen is None:
            seen = self._calls[key] = asyncio.get_running_loop().create_future()
            if len(self._calls) > REMEMBERED_CALLS:
                self._calls.popitem(last=False)
            seen.set_result(await self._apply(request))
        answer = pb.E2apPdu()
        answer.CopyFrom(await asyncio.shield(seen))
        return answer

    async def _apply(self, request: pb.RicControlRequest) -> pb.E2apPdu:
        call_process_id, function_id = request.call_process_id, request.ran_function_id
        try:
            handler, lock = self._handler(function_id)
            async with lock:
                outcome = await handler.control(request.header, request.message)
        except Exception as caught:  # noqa: BLE001 - the one translator of this transport
            error = self._known(caught)
            failure = pb.RicControlFailure(
                ran_function_id=function_id, call_process_id=call_process_id, cause=cause_of(error)
            )
            return pb.E2apPdu(ric_control_failure=failure)
        acknowledge = pb.RicControlAcknowledge(
            ran_function_id=function_id, call_process_id=call_process_id, outcome=outcome
        )
        return pb.E2apPdu(ric_control_acknowledge=acknowledge)

    def _known(self, error: Exception) -> TwinRicError:
        """What to tell the RIC; a bug of a handler is logged here and leaves as INTERNAL."""
        if not isinstance(error, TwinRicError):
            self._log.error("RAN function failed", fault=repr(error), exc_info=error)
            error = TwinRicError(
                "INTERNAL", "ran_function", type(error).__name__, "none of this", "See the node's log."
            )
        self._metrics.count_refused(error.code)
        return error

    def _handler(self, ran_function_id: int) -> tuple[RanFunctionHandler, asyncio.Lock]:
        handler = self.handlers.get(ran_function_id)
        if handler is None:
            known = ", ".join(str(number) for number in sorted(self.handlers)) or "none"
            raise TwinRicError("E2-FUNCTION-UNKNOWN", "ran_function_id", ran_function_id, f"one of {known}")
        return handler, self._locks.setdefault(ran_function_id, asyncio.Lock())


def _spawn(work: Coroutine[Any, Any, None], among: set[asyncio.Task[None]]) -> None:
    task = asyncio.get_running_loop().create_task(work)
    among.add(task)
    task.add_done_callback(among.discard)


async def _cancel(tasks: set[asyncio.Task[None]]) -> None:
    for task in list(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
