"""E2AP with one E2 node as the RIC sees it: octets in, effects out. Pure: no I/O, time is an argument.

Source: O-RAN.WG3.E2AP procedures; encoding `proto/twinric/e2ap/v1/e2ap.proto`. Transport times
(`now_s`) are seconds of any clock that only grows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

from google.protobuf.message import DecodeError

from ric.e2.causes import CAUSES, cause_of, error_of
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
from ric.e2.identities import (
    NodeIdentity,
    NodeView,
    RicRequestId,
    check_keep_alive,
    read_functions,
    read_identity,
    updated_view,
)  # fmt: skip
from ric.errors import TwinRicError
from ric.pb.twinric.e2ap.v1 import e2ap_pb2 as pb

__all__ = ["CAUSES", "NodeProcedures"]

SUBSCRIPTIONS, CONTROLS = 1, 2  # requestor ids of the RIC's own requests
MAX_INSTANCES = 65_536
KEEP_ALIVE_GRACE = 2.0
REMEMBERED = 256  # ended requests whose late answers are no protocol error


@dataclass
class _Pending:
    ran_function_id: int
    call_process_id: str = ""


@dataclass
class NodeProcedures:
    """State of one E2 connection. Feed :meth:`receive`; make requests with the other methods, which return a PDU.

    Any octets give a typed Cause, never an exception; an Error Indication is never answered by another.
    """

    ric: RicIdentity
    now_s: float
    view: NodeView | None = None
    components: dict[str, bytes] = field(default_factory=dict)
    _heard_s: float = field(init=False)
    _pending: dict[PendingKey, _Pending] = field(default_factory=dict)
    _subscribed: dict[RicRequestId, int] = field(default_factory=dict)
    _serials: dict[RicRequestId, int] = field(default_factory=dict)
    _ended: deque[RicRequestId] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _instances: dict[int, int] = field(default_factory=lambda: {SUBSCRIPTIONS: 0, CONTROLS: 0})
    _transaction: int = 0

    def __post_init__(self) -> None:
        self._heard_s = self.now_s

    # Timers -----------------------------------------------------------------------------------------------------------

    @property
    def silent_after_s(self) -> float:
        """Instant at which the node counts as lost: twice its promised keep-alive after its last PDU."""
        keep_alive_ms = self.view.keep_alive_ms if self.view else 10_000
        return self._heard_s + KEEP_ALIVE_GRACE * keep_alive_ms / 1e3

    def forgive(self, stalled_s: float) -> None:
        """Leave a stall of the RIC's own process out of the node's silence."""
        self._heard_s += stalled_s

    # Requests of the RIC ----------------------------------------------------------------------------------------------

    def request_subscription(
        self, ran_function_id: int, event_trigger: bytes, actions: list[pb.RicAction]
    ) -> tuple[PendingKey, pb.E2apPdu]:
        """RIC Subscription Request; its request id is known to indications from now on. Raises E2-STATE, LIMIT-RATE."""
        key = self._open("subscription", SUBSCRIPTIONS, ran_function_id)
        self._subscribed[key[1]] = ran_function_id
        self._serials.pop(key[1], None)
        request = pb.RicSubscriptionRequest(
            ric_request_id=key[1].to_wire(), ran_function_id=ran_function_id, event_trigger=event_trigger,
            actions=actions,
        )  # fmt: skip
        return key, self._pdu(ric_subscription_request=request)

    def request_delete(self, request: RicRequestId) -> tuple[PendingKey, pb.E2apPdu]:
        """RIC Subscription Delete Request. Raises TwinRicError (E2-REQUEST-UNKNOWN)."""
        ran_function_id = self._subscribed.pop(request, None)
        if ran_function_id is None:
            raise TwinRicError("E2-REQUEST-UNKNOWN", "ric_request_id", str(request), "an open subscription")
        self._ended.append(request)
        key = ("delete", request)
        self._pending[key] = _Pending(ran_function_id)
        message = pb.RicSubscriptionDeleteRequest(ric_request_id=request.to_wire(), ran_function_id=ran_function_id)
        return key, self._pdu(ric_subscription_delete_request=message)

    def request_control(
        self, ran_function_id: int, call_process_id: str, header: bytes, message: bytes, *, no_ack: bool = False
    ) -> tuple[PendingKey, pb.E2apPdu]:
        """RIC Control Request; with `no_ack` the node answers only to refuse. Raises E2-STATE, LIMIT-RATE."""
        key = self._open("control", CONTROLS, ran_function_id, call_process_id)
        request = pb.RicControlRequest(
            ric_request_id=key[1].to_wire(), ran_function_id=ran_function_id, call_process_id=call_process_id,
            header=header, message=message,
            ack_request=pb.RIC_CONTROL_ACK_REQUEST_NO_ACK if no_ack else pb.RIC_CONTROL_ACK_REQUEST_ACK,
        )  # fmt: skip
        return key, self._pdu(ric_control_request=request)

    def request_reset(self, cause: TwinRicError) -> tuple[PendingKey, pb.E2apPdu]:
        """Reset Request: the node drops every subscription."""
        self._ended.extend(self._subscribed)
        self._subscribed.clear()
        pdu = self._pdu(reset_request=pb.ResetRequest(cause=cause_of(cause)))
        key = ("reset", RicRequestId(0, pdu.transaction_id))
        self._pending[key] = _Pending(0)
        return key, pdu

    def request_query(self) -> pb.E2apPdu:
        """RIC Service Query: the node answers with a RIC Service Update."""
        accepted = [function.ran_function_id for function in self.view.functions] if self.view else []
        return self._pdu(ric_service_query=pb.RicServiceQuery(accepted_ran_function_ids=accepted))

    def forget(self, key: PendingKey) -> None:
        """Stop waiting for an answer; one that comes late is no error."""
        if self._pending.pop(key, None) is None:
            return
        self._ended.append(key[1])
        if key[0] == "subscription":
            self._subscribed.pop(key[1], None)

    def _open(self, procedure: str, requestor: int, ran_function_id: int, call_process_id: str = "") -> PendingKey:
        if self.view is None:
            raise TwinRicError("E2-STATE", "e2_node", "(no E2 Setup)", "a node whose E2 Setup succeeded")
        for _ in range(MAX_INSTANCES):
            self._instances[requestor] = (self._instances[requestor] + 1) % MAX_INSTANCES
            request = RicRequestId(requestor, self._instances[requestor])
            key = (procedure, request)
            if key not in self._pending and request not in self._subscribed:
                self._pending[key] = _Pending(ran_function_id, call_process_id)
                return key
        raise TwinRicError("LIMIT-RATE", "ric_request_id", MAX_INSTANCES, "fewer requests under way at one node")

    def _pdu(self, **content: object) -> pb.E2apPdu:
        self._transaction = (self._transaction + 1) % 256
        return pb.E2apPdu(transaction_id=self._transaction, **content)  # type: ignore[arg-type]

    # PDUs of the node -------------------------------------------------------------------------------------------------

    def receive(self, octets: bytes, now_s: float) -> list[Effect]:
        """What follows from a PDU of the node."""
        self._heard_s = now_s
        pdu = pb.E2apPdu()
        try:
            pdu.ParseFromString(octets)
        except DecodeError:
            error = TwinRicError("E2-MALFORMED", "e2ap_pdu", octets[:16], "an E2apPdu")
            return [Refused(error), self._error_indication(error, pdu)]
        kind = pdu.WhichOneof("pdu")
        handle = _HANDLERS.get(kind or "")
        try:
            if pdu.transaction_id > 255:
                raise TwinRicError("E2-RANGE", "transaction_id", pdu.transaction_id, "0..255")
            if handle is None:
                raise TwinRicError("E2-STATE", "e2ap_pdu", kind or "(none)", "a PDU that E2 nodes send")
            if self.view is None and kind != "e2_setup_request":
                raise TwinRicError("E2-STATE", "e2ap_pdu", kind, "e2_setup_request first")
            return handle(self, pdu)
        except TwinRicError as error:
            if kind == "error_indication":
                return [Refused(error)]
            return [Refused(error), self._error_indication(error, pdu)]

    def _error_indication(self, error: TwinRicError, pdu: pb.E2apPdu) -> Send:
        message = pb.ErrorIndication(cause=cause_of(error))
        return Send(pb.E2apPdu(transaction_id=pdu.transaction_id % 256, error_indication=message))

    def _setup(self, pdu: pb.E2apPdu) -> list[Effect]:
        message = pdu.e2_setup_request
        if self.view is not None:
            raise TwinRicError("E2-STATE", "e2_setup_request", "(second)", "one E2 Setup per connection")
        try:
            identity: NodeIdentity = read_identity(message.global_e2_node_id)
            keep_alive_ms = check_keep_alive(message.keep_alive_ms)
            accepted, rejected = read_functions(message.ran_functions, "ran_functions")
        except TwinRicError as error:
            failure = pb.E2SetupFailure(cause=cause_of(error), time_to_wait_ms=1_000)
            answer = pb.E2apPdu(transaction_id=pdu.transaction_id, e2_setup_failure=failure)
            return [Refused(error), Send(answer)]
        self.components = dict(message.component_configuration)
        self.view = NodeView(identity, accepted, keep_alive_ms)
        response = pb.E2SetupResponse(
            ric_id=self.ric.ric_id,
            plmn_id=self.ric.plmn_id,
            accepted_ran_function_ids=[function.ran_function_id for function in accepted],
            rejected_ran_functions={number: cause_of(error) for number, error in rejected.items()},
        )
        answer = pb.E2apPdu(transaction_id=pdu.transaction_id, e2_setup_response=response)
        refusals: list[Effect] = [Refused(error) for error in rejected.values()]
        return [Send(answer), *refusals, NodeReady(self.view)]

    def _indication(self, pdu: pb.E2apPdu) -> list[Effect]:
        message = pdu.ric_indication
        request = RicRequestId(message.ric_request_id.requestor_id, message.ric_request_id.instance_id)
        ran_function_id = self._subscribed.get(request)
        if ran_function_id is None:
            if request in self._ended:
                return []
            raise TwinRicError("E2-REQUEST-UNKNOWN", "ric_request_id", str(request), "an open subscription")
        if ran_function_id != message.ran_function_id:
            raise TwinRicError("E2-RANGE", "ran_function_id", message.ran_function_id, str(ran_function_id))
        number, before = message.indication_sn, self._serials.get(request)
        self._serials[request] = number
        if before is None or (not number and not before):
            return [Indicated(request, message)]  # the first one, or a node that does not number them
        ahead = (number - before) % MAX_INSTANCES
        if not 1 <= ahead < MAX_INSTANCES // 2:
            self._serials[request] = before
            accepted = f"one that follows {before}"
            return [Refused(TwinRicError("E2-STATE", "indication_sn", number, accepted, "It came before: ignored."))]
        return [Indicated(request, message)] if ahead == 1 else [Missed(ahead - 1), Indicated(request, message)]

    def _control_acknowledge(self, pdu: pb.E2apPdu) -> list[Effect]:
        message = pdu.ric_control_acknowledge
        key = ("control", RicRequestId.of(message.ric_request_id))
        pending = self._take(key, message.ran_function_id)
        if pending is None:
            return []
        if pending.call_process_id != message.call_process_id:
            error = TwinRicError("E2-RANGE", "call_process_id", message.call_process_id, pending.call_process_id)
            return [Answered(key, error), Refused(error)]
        return [Answered(key, message.outcome)]

    def _control_failure(self, pdu: pb.E2apPdu) -> list[Effect]:
        message = pdu.ric_control_failure
        return self._failed("control", message.ric_request_id, message.ran_function_id, message.cause)

    def _subscription_response(self, pdu: pb.E2apPdu) -> list[Effect]:
        message = pdu.ric_subscription_response
        key = ("subscription", RicRequestId.of(message.ric_request_id))
        if self._take(key, message.ran_function_id) is None:
            if key[1] in self._subscribed or ("delete", key[1]) in self._pending:
                return []
            # Nobody waits for it any more: take it back, or the node would report for ever.
            self._subscribed[key[1]] = message.ran_function_id
            return [Send(self.request_delete(key[1])[1])]
        if not message.admitted_action_ids:
            self._subscribed.pop(key[1], None)
            causes = [message.not_admitted_actions[number] for number in sorted(message.not_admitted_actions)]
            error = error_of(causes[0] if causes else pb.Cause(), "RIC Subscription")
            return [Answered(key, error)]
        return [Answered(key, message)]

    def _subscription_failure(self, pdu: pb.E2apPdu) -> list[Effect]:
        message = pdu.ric_subscription_failure
        request = RicRequestId.of(message.ric_request_id)
        effects = self._failed("subscription", message.ric_request_id, message.ran_function_id, message.cause)
        self._subscribed.pop(request, None)
        return effects

    def _delete_response(self, pdu: pb.E2apPdu) -> list[Effect]:
        message = pdu.ric_subscription_delete_response
        key = ("delete", RicRequestId.of(message.ric_request_id))
        return [] if self._take(key, message.ran_function_id) is None else [Answered(key, None)]

    def _delete_failure(self, pdu: pb.E2apPdu) -> list[Effect]:
        message = pdu.ric_subscription_delete_failure
        return self._failed("delete", message.ric_request_id, message.ran_function_id, message.cause)

    def _failed(self, procedure: str, request: pb.RicRequestId, function_id: int, cause: pb.Cause) -> list[Effect]:
        key = (procedure, RicRequestId.of(request))
        if self._take(key, function_id) is None:
            return []
        return [Answered(key, error_of(cause, _PROCEDURES[procedure]))]

    def _take(self, key: PendingKey, ran_function_id: int) -> _Pending | None:
        """The request that an answer is for; None when it is late. Raises TwinRicError when there never was one."""
        pending = self._pending.get(key)
        if pending is None:
            if key[1] in self._ended and key[1].requestor_id == _REQUESTORS[key[0]]:
                return None
            raise TwinRicError("E2-REQUEST-UNKNOWN", "ric_request_id", str(key[1]), f"an open {_PROCEDURES[key[0]]}")
        if pending.ran_function_id != ran_function_id:
            raise TwinRicError("E2-RANGE", "ran_function_id", ran_function_id, str(pending.ran_function_id))
        del self._pending[key]
        return pending

    def _service_update(self, pdu: pb.E2apPdu) -> list[Effect]:
        message = pdu.ric_service_update
        try:
            self.view, changed, rejected = updated_view(cast(NodeView, self.view), message)
        except TwinRicError as error:
            failure = pb.RicServiceUpdateFailure(cause=cause_of(error))
            answer = pb.E2apPdu(transaction_id=pdu.transaction_id, ric_service_update_failure=failure)
            return [Refused(error), Send(answer)]
        ended = [effect for number in message.deleted for effect in self._function_gone(number)]
        acknowledge = pb.RicServiceUpdateAcknowledge(
            accepted_ran_function_ids=[function.ran_function_id for function in changed],
            rejected_ran_functions={number: cause_of(error) for number, error in rejected.items()},
        )
        answer = pb.E2apPdu(transaction_id=pdu.transaction_id, ric_service_update_acknowledge=acknowledge)
        refused = [Refused(error) for error in rejected.values()]
        return [Send(answer), *refused, *ended, FunctionsChanged(self.view)]

    def _function_gone(self, number: int) -> list[Effect]:
        """End what was asked of a RAN function that the node took away."""
        for request in [request for request, function_id in self._subscribed.items() if function_id == number]:
            del self._subscribed[request]
            self._ended.append(request)
        keys = [
            key for key, pending in self._pending.items() if pending.ran_function_id == number and key[0] != "reset"
        ]
        for key in keys:
            self.forget(key)
        error = TwinRicError("E2-FUNCTION-UNKNOWN", "ran_function_id", number, "a RAN function that the node still has")
        return [Answered(key, error) for key in keys]

    def _configuration_update(self, pdu: pb.E2apPdu) -> list[Effect]:
        components = dict(pdu.e2_node_configuration_update.component_configuration)
        if not components or "" in components:
            error = TwinRicError(
                "E2-RANGE", "component_configuration", len(components), "named components, at least one"
            )
            failure = pb.E2NodeConfigurationUpdateFailure(cause=cause_of(error))
            failed = pb.E2apPdu(transaction_id=pdu.transaction_id, e2_node_configuration_update_failure=failure)
            return [Refused(error), Send(failed)]
        self.components |= components
        message = pb.E2NodeConfigurationUpdateAcknowledge(accepted_components=sorted(components))
        answer = pb.E2apPdu(transaction_id=pdu.transaction_id, e2_node_configuration_update_acknowledge=message)
        return [Send(answer), ConfigurationChanged(dict(self.components))]

    def _reset_request(self, pdu: pb.E2apPdu) -> list[Effect]:
        cause = error_of(pdu.reset_request.cause, "Reset")
        pending = [key for key in self._pending if key[0] != "reset"]
        for key in pending:
            self.forget(key)
        self._ended.extend(self._subscribed)
        self._subscribed.clear()
        answer = Send(pb.E2apPdu(transaction_id=pdu.transaction_id, reset_response=pb.ResetResponse()))
        return [answer, *(Answered(key, cause) for key in pending), NodeReset(cause)]

    def _reset_response(self, pdu: pb.E2apPdu) -> list[Effect]:
        key = ("reset", RicRequestId(0, pdu.transaction_id))
        return [] if self._take(key, 0) is None else [Answered(key, None)]

    def _error_report(self, pdu: pb.E2apPdu) -> list[Effect]:
        message = pdu.error_indication
        error = error_of(message.cause, "Error Indication")
        request = RicRequestId.of(message.ric_request_id)
        keys = [key for key in self._pending if key[1] == request and message.HasField("ric_request_id")]
        for key in keys:
            self.forget(key)
        return [Refused(error), *(Answered(key, error) for key in keys)]

    def _keep_alive(self, pdu: pb.E2apPdu) -> list[Effect]:
        return [Send(pb.E2apPdu(transaction_id=pdu.transaction_id, keep_alive=pb.KeepAlive()))]


_HANDLERS: Mapping[str, Callable[[NodeProcedures, pb.E2apPdu], list[Effect]]] = {
    "e2_setup_request": NodeProcedures._setup,
    "ric_indication": NodeProcedures._indication,
    "ric_control_acknowledge": NodeProcedures._control_acknowledge,
    "ric_control_failure": NodeProcedures._control_failure,
    "ric_subscription_response": NodeProcedures._subscription_response,
    "ric_subscription_failure": NodeProcedures._subscription_failure,
    "ric_subscription_delete_response": NodeProcedures._delete_response,
    "ric_subscription_delete_failure": NodeProcedures._delete_failure,
    "ric_service_update": NodeProcedures._service_update,
    "e2_node_configuration_update": NodeProcedures._configuration_update,
    "reset_request": NodeProcedures._reset_request,
    "reset_response": NodeProcedures._reset_response,
    "error_indication": NodeProcedures._error_report,
    "keep_alive": NodeProcedures._keep_alive,
}
_REQUESTORS = {"subscription": SUBSCRIPTIONS, "delete": SUBSCRIPTIONS, "control": CONTROLS, "reset": 0}
_PROCEDURES = {
    "subscription": "RIC Subscription", "delete": "RIC Subscription Delete", "control": "RIC Control",
    "reset": "Reset",
}  # fmt: skip
