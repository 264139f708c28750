"""A1-P v2 towards the Non-RT RIC: policy types, policies, their status. Base path `/A1-P/v2`.

Source: O-RAN.WG2.A1AP, as its open clients use it (OSC A1 simulator suite, ONAP Policy Management Service).
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request
from fastapi.responses import JSONResponse, Response

from ric.a1.bodies import parse_object
from ric.a1.destinations import DESTINATION_PATTERN
from ric.a1.ei_rest import ei_router
from ric.a1.enrichment_service import EnrichmentService
from ric.a1.openapi import IDS, OBJECT, answers, describe, ref
from ric.a1.policies import ID_PATTERN
from ric.a1.termination import A1Termination
from ric.security import RateLimit, TokenVerifier
from ric.servers import require_scope, rest_app
from ric.telemetry import Metrics

__all__ = ["BASE", "READ_SCOPE", "WRITE_SCOPE", "a1_app"]

BASE = "/A1-P/v2"
READ_SCOPE, WRITE_SCOPE = "a1:read", "a1:write"

TypeId = Annotated[str, Path(alias="policyTypeId", pattern=ID_PATTERN, description="Policy type")]
PolicyId = Annotated[str, Path(alias="policyId", pattern=ID_PATTERN, description="Policy")]
Destination = Annotated[
    str | None,
    Query(
        alias="notificationDestination", max_length=2_048, pattern=DESTINATION_PATTERN,
        description="Where the status object is posted on every status change",
    ),
]  # fmt: skip


def a1_app(
    termination: A1Termination,
    metrics: Metrics,
    *,
    enrichment: EnrichmentService,
    verifier: TokenVerifier | None = None,
    limit: RateLimit | None = None,
) -> FastAPI:
    """A1-P v2 and A1-EI v1; with a `verifier` they ask for tokens with the scopes a1:read and a1:write."""
    app = rest_app("TwinRIC A1", metrics, limit=limit)
    describe(app, "A1-P v2 (policies) and A1-EI v1 (enrichment information) of the TwinRIC Near-RT RIC")
    reader, writer = Depends(require_scope(verifier, READ_SCOPE)), require_scope(verifier, WRITE_SCOPE)
    router = APIRouter(prefix=BASE)
    _add_type_routes(router, termination, reader)
    _add_policy_reads(router, termination, reader)
    _add_policy_writes(router, termination, writer)
    app.include_router(router)
    app.include_router(ei_router(enrichment, verifier, read=READ_SCOPE, write=WRITE_SCOPE))
    return app


def _add_type_routes(router: APIRouter, termination: A1Termination, reader: Any) -> None:
    @router.get("/policytypes", dependencies=[reader], responses=answers({200: IDS}), response_class=JSONResponse)
    async def list_policy_types() -> Response:
        """Ids of the policy types that apps registered."""
        return JSONResponse([row.policy_type_id for row in termination.book.types()])

    @router.get(
        "/policytypes/{policyTypeId}",
        dependencies=[reader],
        responses=answers({200: ref("PolicyType")}, 400, 404),
        response_class=JSONResponse,
    )
    async def read_policy_type(type_id: TypeId) -> Response:
        """Schemas of one policy type."""
        return JSONResponse(termination.book.policy_type(type_id).body())


def _add_policy_reads(router: APIRouter, termination: A1Termination, reader: Any) -> None:
    @router.get(
        "/policytypes/{policyTypeId}/policies",
        dependencies=[reader],
        responses=answers({200: IDS}, 400, 404),
        response_class=JSONResponse,
    )
    async def list_policies(type_id: TypeId) -> Response:
        """Ids of the policies of one type, in order of acceptance."""
        return JSONResponse([row.policy_id for row in termination.book.policies(type_id)])

    @router.get(
        "/policytypes/{policyTypeId}/policies/{policyId}",
        dependencies=[reader],
        responses=answers({200: OBJECT}, 400, 404),
        response_class=JSONResponse,
    )
    async def read_policy(type_id: TypeId, policy_id: PolicyId) -> Response:
        """Content of one policy."""
        return JSONResponse(dict(termination.book.policy(type_id, policy_id).body))

    @router.get(
        "/policytypes/{policyTypeId}/policies/{policyId}/status",
        dependencies=[reader],
        responses=answers({200: ref("PolicyStatus")}, 400, 404),
        response_class=JSONResponse,
    )
    async def read_policy_status(type_id: TypeId, policy_id: PolicyId) -> Response:
        """Whether one policy is enforced."""
        return JSONResponse(termination.status(type_id, policy_id).body())


def _add_policy_writes(router: APIRouter, termination: A1Termination, writer: Any) -> None:
    location = {"Location": {"description": "Path of the policy", "schema": {"type": "string"}}}
    put_answers = answers({200: OBJECT, 201: OBJECT}, 400, 404, 409, 413, 503)
    put_answers[201]["headers"] = location
    ids = {"policyTypeId": "$request.path.policyTypeId", "policyId": "$request.path.policyId"}
    for code in (200, 201):
        put_answers[code]["links"] = {
            name: {"operationId": name, "parameters": ids}
            for name in ("read_policy", "read_policy_status", "delete_policy")
        }
    body = {"required": True, "content": {"application/json": {"schema": OBJECT}}}

    @router.put(
        "/policytypes/{policyTypeId}/policies/{policyId}",
        responses=put_answers,
        response_class=JSONResponse,
        openapi_extra={"requestBody": body},
    )
    async def put_policy(
        request: Request,
        type_id: TypeId,
        policy_id: PolicyId,
        destination: Destination = None,
        actor: str = Depends(writer),
    ) -> Response:
        """Create a policy or replace it; answered once it is on disk."""
        content = parse_object(await request.body(), "body")
        policy, created = await termination.put(type_id, policy_id, content, destination=destination or "", actor=actor)
        headers = {"Location": f"{BASE}/policytypes/{type_id}/policies/{policy_id}"} if created else None
        return JSONResponse(dict(policy.body), 201 if created else 200, headers)

    @router.delete(
        "/policytypes/{policyTypeId}/policies/{policyId}",
        status_code=204,
        responses=answers({204: None}, 400, 404, 503),
        response_class=Response,
    )
    async def delete_policy(type_id: TypeId, policy_id: PolicyId, actor: str = Depends(writer)) -> Response:
        """Remove a policy."""
        await termination.delete(type_id, policy_id, actor=actor)
        return Response(status_code=204)
