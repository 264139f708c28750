"""What the RIC asks of an E2 node, handed to its RAN functions: subscriptions, deletes, controls (applied once)."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ric.e2.causes import cause_of
from ric.e2.identities import RanFunction, RicRequestId
from ric.errors import TwinRicError
from ric.pb.twinric.e2ap.v1 import e2ap_pb2 as pb
from ric.telemetry import Metrics

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
        self._calls: OrderedDict[tuple[int, str], asyncio.Task[pb.E2apPdu]] = OrderedDict()
        self._work: set[asyncio.Task[None]] = set()

    def take(self, pdu: pb.E2apPdu) -> bool:
        """Begin to serve a request of the RIC; False when the PDU is none."""
        kind = pdu.WhichOneof("pdu")
        if kind == "ric_control_request":
            self._spawn(self._control(pdu))
        elif kind == "ric_subscription_request":
            self._spawn(self._subscribe(pdu))
        elif kind == "ric_subscription_delete_request":
            self._spawn(self._delete(pdu))
        else:
            return False
        return True

    async def end_all(self) -> None:
        """Answer nothing more to the RIC and delete every subscription at its handler."""
        for task in list(self._work):
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        await self.delete_all()

    async def delete_all(self) -> None:
        """Delete every subscription at its handler."""
        subscriptions = list(self.subscriptions.values())
        self.subscriptions.clear()
        for subscription in subscriptions:
            handler = self.handlers.get(subscription.ran_function_id)
            if handler is not None:
                with contextlib.suppress(TwinRicError):  # the subscription is gone either way
                    await handler.delete(subscription)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

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
        except TwinRicError as error:
            self.subscriptions.pop(request_id, None)
            self._metrics.count_refused(error.code)
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
        except TwinRicError as error:
            self._metrics.count_refused(error.code)
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
        request = pdu.ric_control_request
        answer = await self._applied_once(request)
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
        task = self._calls.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._apply(request))
            self._calls[key] = task
            if len(self._calls) > REMEMBERED_CALLS:
                self._calls.popitem(last=False)
        answer = pb.E2apPdu()
        answer.CopyFrom(await asyncio.shield(task))
        return answer

    async def _apply(self, request: pb.RicControlRequest) -> pb.E2apPdu:
        call_process_id, function_id = request.call_process_id, request.ran_function_id
        try:
            handler, lock = self._handler(function_id)
            async with lock:
                outcome = await handler.control(request.header, request.message)
        except TwinRicError as error:
            self._metrics.count_refused(error.code)
            failure = pb.RicControlFailure(
                ran_function_id=function_id, call_process_id=call_process_id, cause=cause_of(error)
            )
            return pb.E2apPdu(ric_control_failure=failure)
        acknowledge = pb.RicControlAcknowledge(
            ran_function_id=function_id, call_process_id=call_process_id, outcome=outcome
        )
        return pb.E2apPdu(ric_control_acknowledge=acknowledge)

    def _handler(self, ran_function_id: int) -> tuple[RanFunctionHandler, asyncio.Lock]:
        handler = self.handlers.get(ran_function_id)
        if handler is None:
            known = ", ".join(str(number) for number in sorted(self.handlers)) or "none"
            raise TwinRicError("E2-FUNCTION-UNKNOWN", "ran_function_id", ran_function_id, f"one of {known}")
        return handler, self._locks.setdefault(ran_function_id, asyncio.Lock())
