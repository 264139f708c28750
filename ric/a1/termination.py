"""A1 termination: keeps policies over restarts, hands them to the apps over gRPC and collects what became of them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from ric.a1.policies import Policy, PolicyBook, PolicyType, Reason, Status, StatusChange, parse_type
from ric.delivery import Delivery
from ric.errors import TwinRicError
from ric.pb.twinric.a1.v1 import policy_pb2
from ric.pb.twinric.a1.v1.policy_pb2_grpc import PolicyServiceServicer
from ric.sdl import AuditEntry, Change, Sdl
from ric.telemetry import Metrics, logger

__all__ = ["A1Termination"]

MAX_WAITING = 10_000
TYPES, POLICIES, COUNTERS = "a1.types", "a1.policies", "a1.counters"
_REASONS: dict[int, Reason] = {
    policy_pb2.ENFORCE_REASON_SCOPE_NOT_APPLICABLE: "SCOPE_NOT_APPLICABLE",
    policy_pb2.ENFORCE_REASON_STATEMENT_NOT_APPLICABLE: "STATEMENT_NOT_APPLICABLE",
    policy_pb2.ENFORCE_REASON_OTHER_REASON: "OTHER_REASON",
}


@dataclass(eq=False)
class _Stream:
    """One connected instance; `outbox` ends with None when the RIC ends the stream."""

    type_id: str
    instance_id: str
    number: int
    outbox: asyncio.Queue[policy_pb2.RicMessage | None] = field(default_factory=asyncio.Queue)

    @property
    def key(self) -> str:
        """Name of this connection among those of the policy type."""
        return f"{self.instance_id}#{self.number}"


class A1Termination(PolicyServiceServicer):
    """The RIC's policies: REST and gRPC are two views of this object.

    Every change is on disk before it is answered or sent on. Restores what `sdl` holds, or raises TwinRicError
    (SDL-FAILED).
    """

    def __init__(self, sdl: Sdl, metrics: Metrics, notifications: Delivery) -> None:
        self._sdl = sdl
        self._metrics = metrics
        self._notifications = notifications
        self._log = logger("a1_termination")
        self._lock = asyncio.Lock()
        self._streams: set[_Stream] = set()
        self._numbers = itertools.count(1)
        self.book = PolicyBook(int(sdl.read(COUNTERS).get("revision", "0")))
        self._restore()

    def _restore(self) -> None:
        for text in self._sdl.read(TYPES).values():
            row = json.loads(text)
            self.book.set_type(PolicyType(row["id"], row["app"], row["policy_schema"], row["status_schema"]))
        for text in self._sdl.read(POLICIES).values():
            row = json.loads(text)
            self.book.put(Policy(row["type"], row["id"], row["revision"], row["body"], row["destination"]))

    # Northbound

    async def put(
        self, type_id: str, policy_id: str, body: Mapping[str, Any], *, destination: str = "", actor: str = ""
    ) -> tuple[Policy, bool]:
        """The policy as stored and whether it is new. Raises TwinRicError as :meth:`PolicyBook.draft` does."""
        async with self._lock:
            policy = self.book.draft(type_id, policy_id, body, destination)
            held = {p.policy_id: p for p in self.book.policies(type_id)}.get(policy_id)
            if policy == held:
                return policy, False
            row = {
                "type": type_id, "id": policy_id, "revision": policy.revision, "body": dict(body),
                "destination": destination,
            }  # fmt: skip
            changes = [
                Change(POLICIES, policy_id, json.dumps(row)),
                Change(COUNTERS, "revision", str(max(policy.revision, self.book.last_revision))),
            ]
            await self._commit(changes, AuditEntry(actor, "a1.put", f"{type_id}/{policy_id}", row))
            self._notify(self.book.put(policy))
            if held is None or held.revision != policy.revision:
                self._broadcast(type_id, _put_message(policy))
            return policy, held is None

    async def delete(self, type_id: str, policy_id: str, *, actor: str = "") -> None:
        """Return once the policy is gone from the disk and the apps are told. Raises TwinRicError (A1-UNKNOWN)."""
        async with self._lock:
            policy = self.book.policy(type_id, policy_id)
            entry = AuditEntry(actor, "a1.delete", f"{type_id}/{policy_id}", {"revision": policy.revision})
            await self._commit([Change(POLICIES, policy_id, None)], entry)
            self.book.delete(policy)
            message = policy_pb2.PolicyDelete(policy_id=policy_id, revision=policy.revision)
            self._broadcast(type_id, policy_pb2.RicMessage(delete=message))

    def status(self, type_id: str, policy_id: str) -> Status:
        """The policy's status now. Raises TwinRicError (A1-UNKNOWN)."""
        return self.book.status(self.book.policy(type_id, policy_id))

    async def _commit(self, changes: Sequence[Change], audit: AuditEntry) -> None:
        # In a worker thread: the disk must not hold up the control loops that share this event loop.
        await asyncio.to_thread(self._sdl.commit, changes, [audit])

    def _notify(self, changes: Sequence[StatusChange]) -> None:
        for change in changes:
            policy = change.policy
            self._log.info("policy status", policy_id=policy.policy_id, **change.status.body(), text=change.status.text)
            if policy.notification_destination:
                self._notifications.post(policy.policy_id, policy.notification_destination, change.status.body())

    # Southbound

    async def Policies(  # noqa: N802 - the wire's name
        self, request_iterator: AsyncIterator[policy_pb2.AppMessage], _: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[policy_pb2.RicMessage]:
        """One app instance: its type, then all policies, then each change, while its statuses come in."""
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("message") != "register":
            raise TwinRicError("A1-MALFORMED", "message", "(no register)", "RegisterPolicyType as the first message")
        try:
            stream = await self._register(first.register)
        except TwinRicError as error:
            self._metrics.count_refused(error.code)
            yield policy_pb2.RicMessage(refused=policy_pb2.RegistrationRefused(code=error.code, text=str(error)))
            return
        reader = asyncio.get_running_loop().create_task(self._read(stream, request_iterator))
        try:
            while (message := await stream.outbox.get()) is not None:
                self._metrics.count_message("a1", "out")
                yield message
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            self._streams.discard(stream)
            self._notify(self.book.disconnect(stream.type_id, stream.key))
            self._log.info("app disconnected", policy_type=stream.type_id, instance=stream.instance_id)

    async def _register(self, request: policy_pb2.RegisterPolicyType) -> _Stream:
        policy_type = parse_type(request.app_id, request.policy_type_id, request.policy_type_json)
        type_id = policy_type.policy_type_id
        async with self._lock:
            self.book.check_owner(policy_type)
            if policy_type not in self.book.types():
                row = {
                    "id": type_id, "app": policy_type.app_id, "policy_schema": policy_type.policy_schema,
                    "status_schema": policy_type.status_schema,
                }  # fmt: skip
                entry = AuditEntry(policy_type.app_id, "a1.register", type_id)
                await self._commit([Change(TYPES, type_id, json.dumps(row))], entry)
                self._notify(self.book.set_type(policy_type))
            for old in [s for s in self._streams if (s.type_id, s.instance_id) == (type_id, request.app_instance_id)]:
                old.outbox.put_nowait(None)  # the same instance again: the old connection is dead
                self.book.disconnect(type_id, old.key)
            stream = _Stream(type_id, request.app_instance_id, next(self._numbers))
            self._streams.add(stream)
            for policy in filter(self.book.fits, self.book.policies(type_id)):
                stream.outbox.put_nowait(_put_message(policy))
            stream.outbox.put_nowait(policy_pb2.RicMessage(replay_complete=policy_pb2.ReplayComplete()))
            self._notify(self.book.connect(type_id, stream.key))
        self._log.info("app connected", policy_type=type_id, app=request.app_id, instance=request.app_instance_id)
        return stream

    async def _read(self, stream: _Stream, requests: AsyncIterator[policy_pb2.AppMessage]) -> None:
        with contextlib.suppress(grpc.aio.BaseError):
            async for message in requests:
                self._metrics.count_message("a1", "in")
                try:
                    self._notify(self._confirm(stream, message))
                except TwinRicError as error:
                    self._metrics.count_refused(error.code)
                    self._log.info("status refused", instance=stream.instance_id, fault=str(error))
        stream.outbox.put_nowait(None)

    def _confirm(self, stream: _Stream, message: policy_pb2.AppMessage) -> list[StatusChange]:
        if message.WhichOneof("message") != "status":
            raise TwinRicError("A1-MALFORMED", "message", message.WhichOneof("message"), "status")
        told = message.status
        if told.enforce_status == policy_pb2.ENFORCE_STATUS_ENFORCED:
            status = Status(True, text=told.text[:400])
        elif told.enforce_status == policy_pb2.ENFORCE_STATUS_NOT_ENFORCED:
            status = Status(False, _REASONS.get(told.enforce_reason, "OTHER_REASON"), told.text[:400])
        else:
            raise TwinRicError("A1-RANGE", "status.enforce_status", told.enforce_status, "ENFORCED or NOT_ENFORCED")
        return self.book.confirm(stream.type_id, stream.key, told.policy_id, revision=told.revision, status=status)

    def _broadcast(self, type_id: str, message: policy_pb2.RicMessage) -> None:
        for stream in self._streams:
            if stream.type_id != type_id:
                continue
            if stream.outbox.qsize() < MAX_WAITING:
                stream.outbox.put_nowait(message)
            else:  # it does not read: end it, it gets everything when it comes back
                self._metrics.count_dropped("a1_policies")
                stream.outbox.put_nowait(None)


def _put_message(policy: Policy) -> policy_pb2.RicMessage:
    put = policy_pb2.PolicyPut(
        policy_id=policy.policy_id, revision=policy.revision, policy_json=json.dumps(dict(policy.body))
    )
    return policy_pb2.RicMessage(put=put)
