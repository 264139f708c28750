"""What the RIC looks after, read-only, for the CLI and the console: `GET /twinric/v1/...`."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from fastapi import APIRouter, Depends, Query

from ric.a1.termination import A1Termination
from ric.bus.bus import RIC_DECISIONS, Bus
from ric.bus.record import cloudevents_headers
from ric.clock import Clock, to_ns
from ric.e2.conflict_mitigation import ConflictDecision
from ric.e2.exchange import E2Exchange
from ric.errors import TwinRicError
from ric.pb.twinric.bus.v1.record_pb2 import DecisionRecord
from ric.sdl import Sdl
from ric.security import TokenVerifier
from ric.servers import require_scope
from ric.telemetry import logger

__all__ = ["ConflictLog", "overview_router"]

READ_SCOPE = "ric:read"
KEPT = 500


class ConflictLog:
    """The newest conflict decisions; each is also published on `ric.decisions` as app `conflict_mitigation`."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._log = logger("conflict_mitigation")
        self._tasks: set[asyncio.Task[None]] = set()
        self.rows: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def record(self, decision: ConflictDecision) -> None:
        """Keep and publish one decision."""
        now_ns = to_ns(self._clock.now_s())
        reason = decision.reason
        self.rows.append(
            {
                "timeNs": now_ns, "app": decision.intent.app_id, "e2NodeId": decision.intent.e2_node_id,
                "admitted": decision.is_admitted, "winner": decision.winner, "losers": list(decision.losers),
                "parameters": list(decision.keys), "reason": reason.code, "numbers": dict(reason.numbers),
                "details": dict(reason.details),
            }
        )  # fmt: skip
        task = asyncio.get_running_loop().create_task(self._publish(decision, now_ns))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Wait for what is being published."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _publish(self, decision: ConflictDecision, now_ns: int) -> None:
        intent, reason = decision.intent, decision.reason
        details = {"app": intent.app_id, "e2_node_id": intent.e2_node_id, "winner": decision.winner}
        record = DecisionRecord(
            app="conflict_mitigation", decision_id=f"{intent.app_id}/{intent.e2_node_id}/{now_ns}",
            source_time_ns=now_ns, decided_time_ns=now_ns, reason_code=reason.code, numbers=reason.numbers,
            details={**details, **reason.details},
        )  # fmt: skip
        headers = cloudevents_headers("/twinric/conflict_mitigation", "twinric.decision.v1", now_ns, "")
        try:
            await self._bus.publish(RIC_DECISIONS, "conflict_mitigation", record.SerializeToString(), headers)
        except TwinRicError as error:
            self._log.warning("decision not published", fault=str(error))


def overview_router(
    e2: E2Exchange, a1: A1Termination, sdl: Sdl, conflicts: ConflictLog, verifier: TokenVerifier | None = None
) -> APIRouter:
    """E2 nodes, subscriptions, conflicts, apps and audit log; with a `verifier`, for tokens with scope ric:read."""
    router = APIRouter(prefix="/twinric/v1", dependencies=[Depends(require_scope(verifier, READ_SCOPE))])

    @router.get("/nodes")
    async def list_nodes() -> list[dict[str, Any]]:
        """Connected E2 nodes with their RAN functions."""
        return [
            {
                "e2NodeId": name,
                "keepAliveMs": view.keep_alive_ms,
                "ranFunctions": [
                    {"id": f.ran_function_id, "oid": f.oid, "revision": f.revision} for f in view.functions
                ],
            }
            for name, view in sorted(e2.termination.nodes.items())
        ]

    @router.get("/subscriptions")
    async def list_subscriptions() -> list[dict[str, Any]]:
        """Subscriptions at the nodes, each with the apps that share it and what their queues dropped."""
        return [
            {
                "subscriptionId": row.subscription_id, "e2NodeId": row.spec.e2_node_id,
                "serviceModel": row.spec.service_model[0], "inForce": row.is_in_force,
                "channels": [
                    {"app": c.identity.app_id, "instance": c.identity.instance_id, "dropped": c.dropped}
                    for c in row.channels.values()
                ],
            }
            for row in e2.manager.subscriptions()
        ]  # fmt: skip

    @router.get("/conflicts")
    async def list_conflicts() -> list[dict[str, Any]]:
        """The newest conflict decisions, newest first."""
        return list(reversed(conflicts.rows))

    @router.get("/apps")
    async def list_apps() -> list[dict[str, Any]]:
        """Apps that registered a policy type, with their connected instances and policies."""
        return [
            {
                "app": row.app_id, "policyTypeId": row.policy_type_id,
                "instances": [name.rpartition("#")[0] for name in a1.book.instances(row.policy_type_id)],
                "policies": [
                    {"policyId": p.policy_id, "revision": p.revision, **a1.book.status(p).body(),
                     "text": a1.book.status(p).text}
                    for p in a1.book.policies(row.policy_type_id)
                ],
            }
            for row in a1.book.types()
        ]  # fmt: skip

    @router.get("/audit")
    async def read_audit(
        after: int = Query(default=0, ge=0), limit: int = Query(default=100, ge=1, le=1_000), verify: bool = False
    ) -> dict[str, Any]:
        """Audit rows numbered above `after`; with `verify` (which reads the whole log) the chain's `head` too."""
        head = str(await asyncio.to_thread(sdl.verify_audit)) if verify else None
        rows = await asyncio.to_thread(sdl.audit_rows, after=after, limit=limit)
        entries = [
            {
                "number": row.number, "timeNs": row.time_ns, "actor": row.entry.actor, "action": row.entry.action,
                "subject": row.entry.subject, "details": row.entry.details, "hash": row.hash.hex(),
            }
            for row in rows
        ]  # fmt: skip
        return {"head": head, "rows": entries}

    return router
