"""The RIC as an app of its own A1: takes policies on conflicts between xApps and settles conflicts by them.

ENFORCED means that the next control is already judged by the policy.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

from ric.a1.termination import A1Termination
from ric.app_policies import AppPolicies, PolicyOutcome, policy_type_object
from ric.app_spec import AppSpec, Ric
from ric.e2.conflict_mitigation import ConflictMitigation
from ric.e2.conflict_policy import POLICY_TYPE_ID, ConflictPolicy
from ric.errors import TwinRicError
from ric.pb.twinric.a1.v1 import policy_pb2
from ric.telemetry import Metrics, logger

__all__ = ["ConflictPolicies"]

SPEC = AppSpec("near_rt_ric", Ric.NEAR_RT, 0.4, POLICY_TYPE_ID, frozenset())


class ConflictPolicies:
    """`start` returns once the policies that A1 holds are in force; later ones follow until `stop`."""

    def __init__(self, a1: A1Termination, conflicts: ConflictMitigation, metrics: Metrics) -> None:
        self._a1 = a1
        self._conflicts = conflicts
        self._policies = AppPolicies(ConflictPolicy, SPEC, metrics, lambda _: True)
        self._outbox: asyncio.Queue[policy_pb2.AppMessage] = asyncio.Queue()
        self._replayed = asyncio.Event()
        self._log = logger("conflict_policies")
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Register the policy type and take what is stored. Raises TwinRicError (CONFIG-RANGE, SDL-FAILED)."""
        task = self._task = asyncio.get_running_loop().create_task(self._follow())
        replayed = asyncio.ensure_future(self._replayed.wait())
        await asyncio.wait((task, replayed), return_when=asyncio.FIRST_COMPLETED)
        if not replayed.done():
            replayed.cancel()
            task.result()

    async def stop(self) -> None:
        """Follow no more; what is in force stays."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def report(self, policy_id: str, revision: int, enforced: bool, reason: str = "", text: str = "") -> None:
        """Tell A1 a status (:class:`~ric.app_policies.StatusSink`)."""
        status = policy_pb2.EnforceStatus.Value(f"ENFORCE_STATUS_{'ENFORCED' if enforced else 'NOT_ENFORCED'}")
        name = "UNSPECIFIED" if enforced else reason or "OTHER_REASON"
        message = policy_pb2.PolicyStatus(
            policy_id=policy_id, revision=revision, enforce_status=status,
            enforce_reason=policy_pb2.EnforceReason.Value(f"ENFORCE_REASON_{name}"), text=text,
        )  # fmt: skip
        self._outbox.put_nowait(policy_pb2.AppMessage(status=message))

    async def _follow(self) -> None:
        # The gRPC service's own method, called in the process: the RIC needs no socket to itself.
        stream = cast(Any, self._a1.Policies(self._messages(), cast(Any, None)))
        async with aclosing(stream) as messages:
            async for message in messages:
                self._take(message)

    async def _messages(self) -> AsyncIterator[policy_pb2.AppMessage]:
        body = json.dumps(policy_type_object(ConflictPolicy, SPEC))
        yield policy_pb2.AppMessage(
            register=policy_pb2.RegisterPolicyType(
                app_id=SPEC.name, app_instance_id="1", policy_type_id=POLICY_TYPE_ID, policy_type_json=body
            )
        )
        while True:
            yield await self._outbox.get()

    def _take(self, message: policy_pb2.RicMessage) -> None:
        kind = message.WhichOneof("message")
        if kind == "put":
            put = message.put
            self._policies.put(put.policy_id, put.revision, json.loads(put.policy_json), self)
        elif kind == "delete":
            self._policies.delete(message.delete.policy_id, message.delete.revision)
        elif kind == "refused":
            raise TwinRicError("CONFIG-RANGE", "policy_type", POLICY_TYPE_ID, message.refused.text)
        elif kind == "replay_complete":
            self._replayed.set()
        if kind in ("put", "delete"):
            policy = self._policies.effective()
            self._conflicts.configure(policy)
            self._log.info("conflict policy in force", policies=self._policies.ids())
            self._policies.confirm(policy, lambda _policy, _decision: PolicyOutcome(True), self)
