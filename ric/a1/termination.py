"""A1 termination: keeps policies over restarts, hands them to the apps over gRPC and collects what became of them."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from ric.a1.commits import GroupCommit, Step
from ric.a1.destinations import AllowedHosts
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
    longest: int = MAX_WAITING
    left: bool = False
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

    def __init__(
        self, sdl: Sdl, metrics: Metrics, notifications: Delivery, *, allowed_hosts: AllowedHosts | None = None
    ) -> None:
        self._commits = GroupCommit(sdl)
        self._metrics = metrics
        self._notifications = notifications
        self._allowed_hosts = allowed_hosts or AllowedHosts()
        self._log = logger("a1_termination")
        self._streams: dict[str, set[_Stream]] = {}
        self._numbers = itertools.count(1)
        self.book = PolicyBook(int(sdl.read(COUNTERS).get("revision", "0")))
        for text in sdl.read(TYPES).values():
            row = json.loads(text)
            self.book.set_type(PolicyType(row["id"], row["app"], row["policy_schema"], row["status_schema"]))
        rows = [json.loads(text) for text in sdl.read(POLICIES).values()]
        self.book.restore(
            Policy(row["type"], row["id"], row["revision"], row["body"], row["destination"]) for row in rows
        )

    # Northbound

    async def put(
        self, type_id: str, policy_id: str, body: Mapping[str, Any], *, destination: str = "", actor: str = ""
    ) -> tuple[Policy, bool]:
        """The policy as stored and whether it is new.

        Raises TwinRicError as :meth:`PolicyBook.draft` does, A1-DESTINATION for a host that is not allowed, and
        SDL-FAILED when the disk refuses it.
        """
        if destination:
            self._allowed_hosts.check("query.notificationDestination", destination)
        return await self._commits.perform(
            policy_id, lambda: self._draft_put(type_id, policy_id, body, destination=destination, actor=actor)
        )

    def _draft_put(
        self, type_id: str, policy_id: str, body: Mapping[str, Any], *, destination: str, actor: str
    ) -> Step[tuple[Policy, bool]]:
        policy = self.book.draft(type_id, policy_id, body, destination)
        held = self.book.find(policy_id)
        if policy == held:
            return Step(lambda: (policy, False))
        row = {
            "type": type_id, "id": policy_id, "revision": policy.revision, "body": dict(body),
            "destination": destination,
        }  # fmt: skip
        changes = [
            Change(POLICIES, policy_id, json.dumps(row)),
            Change(COUNTERS, "revision", str(max(policy.revision, self.book.last_revision))),
        ]

        def apply() -> tuple[Policy, bool]:
            self._notify(self.book.put(policy))
            if held is None or held.revision != policy.revision:
                self._broadcast(type_id, _put_message(policy))
            return policy, held is None

        return Step(apply, changes, [AuditEntry(actor, "a1.put", f"{type_id}/{policy_id}", row)])

    async def delete(self, type_id: str, policy_id: str, *, actor: str = "") -> None:
        """Return once the policy is gone from the disk and the apps are told. Raises TwinRicError (A1-UNKNOWN)."""

        def draft() -> Step[None]:
            policy = self.book.policy(type_id, policy_id)
            entry = AuditEntry(actor, "a1.delete", f"{type_id}/{policy_id}", {"revision": policy.revision})
            message = policy_pb2.PolicyDelete(policy_id=policy_id, revision=policy.revision)

            def apply() -> None:
                self.book.delete(policy)
                self._broadcast(type_id, policy_pb2.RicMessage(delete=message))

            return Step(apply, [Change(POLICIES, policy_id, None)], [entry])

        await self._commits.perform(policy_id, draft)

    def status(self, type_id: str, policy_id: str) -> Status:
        """The policy's status now. Raises TwinRicError (A1-UNKNOWN)."""
        return self.book.status(self.book.policy(type_id, policy_id))

    def _notify(self, changes: Sequence[StatusChange]) -> None:
        for change in changes:
            policy = change.policy
            self._log.info("policy status", policy_id=policy.policy_id, **change.status.body(), text=change.status.text)
            destination = policy.notification_destination
            if destination and self._allowed_hosts.allows(destination):  # a stored one may not be, since a restart
                self._notifications.post(policy.policy_id, destination, change.status.body())

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
            self._leave(stream)
            self._log.info("app disconnected", policy_type=stream.type_id, instance=stream.instance_id)

    async def _register(self, request: policy_pb2.RegisterPolicyType) -> _Stream:
        policy_type = parse_type(request.app_id, request.policy_type_id, request.policy_type_json)
        type_id = policy_type.policy_type_id
        stream = _Stream(type_id, request.app_instance_id, next(self._numbers))

        def draft() -> Step[None]:
            self.book.check_owner(policy_type)
            if policy_type in self.book.types():
                return Step(lambda: self._join(stream))
            row = {
                "id": type_id, "app": policy_type.app_id, "policy_schema": policy_type.policy_schema,
                "status_schema": policy_type.status_schema,
            }  # fmt: skip

            def apply() -> None:
                self._notify(self.book.set_type(policy_type))
                self._join(stream)

            entry = AuditEntry(policy_type.app_id, "a1.register", type_id)
            return Step(apply, [Change(TYPES, type_id, json.dumps(row))], [entry])

        try:
            await self._commits.perform("", draft)
        except BaseException:
            self._leave(stream)
            raise
        self._log.info("app connected", policy_type=type_id, app=request.app_id, instance=request.app_instance_id)
        return stream

    def _join(self, stream: _Stream) -> None:
        """Replay all policies to the stream; in its place an older one of the same instance, which is dead, ends."""
        if stream.left:
            return
        others = self._streams.setdefault(stream.type_id, set())
        for old in [other for other in others if other.instance_id == stream.instance_id]:
            old.outbox.put_nowait(None)
            self.book.disconnect(stream.type_id, old.key)
        others.add(stream)
        for policy in filter(self.book.fits, self.book.policies(stream.type_id)):
            stream.outbox.put_nowait(_put_message(policy))
        stream.longest += stream.outbox.qsize()
        stream.outbox.put_nowait(policy_pb2.RicMessage(replay_complete=policy_pb2.ReplayComplete()))
        self._notify(self.book.connect(stream.type_id, stream.key))

    def _leave(self, stream: _Stream) -> None:
        stream.left = True
        if stream in self._streams.get(stream.type_id, ()):
            self._streams[stream.type_id].discard(stream)
            self._notify(self.book.disconnect(stream.type_id, stream.key))

    async def _read(self, stream: _Stream, requests: AsyncIterator[policy_pb2.AppMessage]) -> None:
        try:
            async for message in requests:
                self._metrics.count_message("a1", "in")
                try:
                    self._notify(self._confirm(stream, message))
                except TwinRicError as error:
                    self._refuse(stream, error)
        except grpc.aio.BaseError:
            pass
        except TwinRicError as error:  # octets that are no message: the stream ends
            self._refuse(stream, error)
        finally:
            stream.outbox.put_nowait(None)

    def _refuse(self, stream: _Stream, error: TwinRicError) -> None:
        self._metrics.count_refused(error.code)
        self._log.info("status refused", instance=stream.instance_id, fault=str(error))

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
        for stream in self._streams.get(type_id, ()):
            if stream.outbox.qsize() < stream.longest:
                stream.outbox.put_nowait(message)
            else:  # it does not read: end it, it gets everything when it comes back
                self._metrics.count_dropped("a1_policies")
                stream.outbox.put_nowait(None)


def _put_message(policy: Policy) -> policy_pb2.RicMessage:
    put = policy_pb2.PolicyPut(
        policy_id=policy.policy_id, revision=policy.revision, policy_json=json.dumps(dict(policy.body))
    )
    return policy_pb2.RicMessage(put=put)
