"""A1-P v2 towards the Non-RT RIC: policy types, policies, their status. Base path `/A1-P/v2`.

Source: O-RAN.WG2.A1AP, as its open clients use it (OSC A1 simulator suite, ONAP Policy Management Service).
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request
from fastapi.responses import JSONResponse, Response

from ric.a1.policies import ID_PATTERN, parse_object
from ric.a1.termination import A1Termination
from ric.security import RateLimit, TokenVerifier
from ric.servers import require_scope, rest_app
from ric.telemetry import Metrics

__all__ = ["BASE", "READ_SCOPE", "WRITE_SCOPE", "a1_app"]

BASE = "/A1-P/v2"
READ_SCOPE, WRITE_SCOPE = "a1:read", "a1:write"
_HOST = r"([A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])"
_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
DESTINATION_PATTERN = f"^https?://{_HOST}(:{_PORT})?(/[!-~]*)?$"

_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "field", "faults"],
    "properties": {
        "type": {"type": "string", "description": "urn:twinric:error:<code>"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "every fault, one per line"},
        "instance": {"type": "string"},
        "code": {"type": "string", "description": "catalogue code of the first fault"},
        "field": {"type": "string", "description": "offending field of the first fault"},
        "faults": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["code", "field", "value", "accepted", "remedy"],
                "additionalProperties": {"type": "string"},
            },
        },
    },
}
_TEXTS = {
    400: "A parameter or a field of the body is refused; `faults` names each with its accepted range",
    401: "No valid bearer token",
    403: "The token lacks the scope",
    404: "No such policy type or policy",
    409: "The policy id is used by another policy type",
    413: "The body is too large",
    429: "Too many requests",
    500: "An unexpected failure; the log has the details",
    503: "The policy store cannot be written",
}
_IDS = {"type": "array", "items": {"type": "string"}}
_OBJECT = {"type": "object"}
_STATUS = {
    "type": "object",
    "required": ["enforceStatus"],
    "properties": {
        "enforceStatus": {"enum": ["ENFORCED", "NOT_ENFORCED"]},
        "enforceReason": {"enum": ["SCOPE_NOT_APPLICABLE", "STATEMENT_NOT_APPLICABLE", "OTHER_REASON"]},
    },
    "additionalProperties": False,
}
_TYPE = {
    "type": "object",
    "required": ["policySchema"],
    "properties": {"policySchema": _OBJECT, "statusSchema": _OBJECT},
}

TypeId = Annotated[str, Path(alias="policyTypeId", pattern=ID_PATTERN, description="Policy type")]
PolicyId = Annotated[str, Path(alias="policyId", pattern=ID_PATTERN, description="Policy")]
Destination = Annotated[
    str | None,
    Query(
        alias="notificationDestination", max_length=2_048, pattern=DESTINATION_PATTERN,
        description="Where the status object is posted on every status change",
    ),
]  # fmt: skip


def _answers(successes: dict[int, dict[str, Any] | None], *errors: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an operation: each success with its schema, each error as a problem."""
    titles = {200: "OK", 201: "Created", 204: "Deleted"}
    answers: dict[int | str, dict[str, Any]] = {}
    for code, schema in successes.items():
        content = {"content": {"application/json": {"schema": schema}}} if schema else {}
        answers[code] = {"description": titles[code], **content}
    for code in (*errors, 401, 403, 429, 500):
        answers[code] = {"description": _TEXTS[code], "content": {"application/problem+json": {"schema": _PROBLEM}}}
    return answers


def a1_app(
    termination: A1Termination,
    metrics: Metrics,
    *,
    verifier: TokenVerifier | None = None,
    limit: RateLimit | None = None,
) -> FastAPI:
    """The A1-P v2 application; with a `verifier` it asks for tokens with the scopes a1:read and a1:write."""
    app = rest_app("TwinRIC A1-P", metrics, limit=limit)
    reader, writer = Depends(require_scope(verifier, READ_SCOPE)), require_scope(verifier, WRITE_SCOPE)
    router = APIRouter(prefix=BASE)
    _add_type_routes(router, termination, reader)
    _add_policy_reads(router, termination, reader)
    _add_policy_writes(router, termination, writer)
    app.include_router(router)
    return app


def _add_type_routes(router: APIRouter, termination: A1Termination, reader: Any) -> None:
    @router.get("/policytypes", dependencies=[reader], responses=_answers({200: _IDS}), response_class=JSONResponse)
    async def list_policy_types() -> Response:
        """Ids of the policy types that apps registered."""
        return JSONResponse([row.policy_type_id for row in termination.book.types()])

    @router.get(
        "/policytypes/{policyTypeId}",
        dependencies=[reader],
        responses=_answers({200: _TYPE}, 400, 404),
        response_class=JSONResponse,
    )
    async def read_policy_type(type_id: TypeId) -> Response:
        """Schemas of one policy type."""
        return JSONResponse(termination.book.policy_type(type_id).body())


def _add_policy_reads(router: APIRouter, termination: A1Termination, reader: Any) -> None:
    @router.get(
        "/policytypes/{policyTypeId}/policies",
        dependencies=[reader],
        responses=_answers({200: _IDS}, 400, 404),
        response_class=JSONResponse,
    )
    async def list_policies(type_id: TypeId) -> Response:
        """Ids of the policies of one type, in order of acceptance."""
        return JSONResponse([row.policy_id for row in termination.book.policies(type_id)])

    @router.get(
        "/policytypes/{policyTypeId}/policies/{policyId}",
        dependencies=[reader],
        responses=_answers({200: _OBJECT}, 400, 404),
        response_class=JSONResponse,
    )
    async def read_policy(type_id: TypeId, policy_id: PolicyId) -> Response:
        """Content of one policy."""
        return JSONResponse(dict(termination.book.policy(type_id, policy_id).body))

    @router.get(
        "/policytypes/{policyTypeId}/policies/{policyId}/status",
        dependencies=[reader],
        responses=_answers({200: _STATUS}, 400, 404),
        response_class=JSONResponse,
    )
    async def read_policy_status(type_id: TypeId, policy_id: PolicyId) -> Response:
        """Whether one policy is enforced."""
        return JSONResponse(termination.status(type_id, policy_id).body())


def _add_policy_writes(router: APIRouter, termination: A1Termination, writer: Any) -> None:
    location = {"Location": {"description": "Path of the policy", "schema": {"type": "string"}}}
    put_answers = _answers({200: _OBJECT, 201: _OBJECT}, 400, 404, 409, 413, 503)
    put_answers[201]["headers"] = location
    ids = {"policyTypeId": "$request.path.policyTypeId", "policyId": "$request.path.policyId"}
    for code in (200, 201):
        put_answers[code]["links"] = {
            name: {"operationId": name, "parameters": ids}
            for name in ("read_policy", "read_policy_status", "delete_policy")
        }
    body = {"required": True, "content": {"application/json": {"schema": _OBJECT}}}

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
        responses=_answers({204: None}, 400, 404, 503),
        response_class=Response,
    )
    async def delete_policy(type_id: TypeId, policy_id: PolicyId, actor: str = Depends(writer)) -> Response:
        """Remove a policy."""
        await termination.delete(type_id, policy_id, actor=actor)
        return Response(status_code=204)
