"""A1-EI towards consumers of enrichment information: types, jobs, their status. Base path `/A1-EI/v1`.

Source: O-RAN.WG2.A1AP, as the OSC Information Coordination Service serves it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse, Response

from ric.a1.bodies import parse_object
from ric.a1.enrichment import EI_TYPES
from ric.a1.enrichment_service import EnrichmentService
from ric.a1.openapi import IDS, OBJECT, answers, ref
from ric.a1.policies import ID_PATTERN
from ric.errors import TwinRicError, nearest
from ric.security import TokenVerifier
from ric.servers import require_scope

__all__ = ["EI_BASE", "ei_router"]

EI_BASE = "/A1-EI/v1"
Handler = TypeVar("Handler", bound=Callable[..., Any])
EiTypeId = Annotated[str, Path(alias="eiTypeId", pattern=ID_PATTERN, description="Type of enrichment information")]
EiJobId = Annotated[str, Path(alias="eiJobId", pattern=ID_PATTERN, description="Job")]
OfType = Annotated[str | None, Query(alias="eiTypeId", max_length=128, description="Jobs of this type only")]
OfOwner = Annotated[str | None, Query(alias="owner", max_length=128, description="Jobs of this owner only")]


def ei_router(enrichment: EnrichmentService, verifier: TokenVerifier | None, *, read: str, write: str) -> APIRouter:
    """The A1-EI routes; with a `verifier` they ask for tokens with the scopes `read` and `write`."""
    reader, writer = Depends(require_scope(verifier, read)), require_scope(verifier, write)
    router = APIRouter(prefix=EI_BASE)
    _add_reads(router, enrichment, reader)
    _add_writes(router, enrichment, writer)
    return router


def _add_reads(router: APIRouter, enrichment: EnrichmentService, reader: Any) -> None:
    def get(path: str, schema: dict[str, Any], *errors: int) -> Callable[[Handler], Handler]:
        responses = answers({200: schema}, *errors)
        return router.get(path, dependencies=[reader], responses=responses, response_class=JSONResponse)

    @get("/eitypes", IDS)
    async def list_ei_types() -> Response:
        """Ids of the types of enrichment information."""
        return JSONResponse(sorted(EI_TYPES))

    @get("/eitypes/{eiTypeId}", OBJECT, 400, 404)
    async def read_ei_type(ei_type_id: EiTypeId) -> Response:
        """Schema of a job's definition, units of the data, and where the data lies on the twin bus."""
        if ei_type_id not in EI_TYPES:
            remedy = nearest(ei_type_id, EI_TYPES)
            raise TwinRicError("A1-UNKNOWN", "eiTypeId", ei_type_id, "a type of enrichment information", remedy)
        return JSONResponse(EI_TYPES[ei_type_id].body())

    @get("/eijobs", IDS, 400)
    async def list_ei_jobs(of_type: OfType = None, owner: OfOwner = None) -> Response:
        """Ids of the jobs."""
        jobs = enrichment.book.jobs.values()
        return JSONResponse(
            [
                job.ei_job_id
                for job in jobs
                if of_type in (None, job.ei_type.ei_type_id) and owner in (None, job.body["jobOwner"])
            ]
        )

    @get("/eijobs/{eiJobId}", ref("EiJob"), 400, 404)
    async def read_ei_job(ei_job_id: EiJobId) -> Response:
        """The job object as it was put."""
        return JSONResponse(dict(enrichment.book.job(ei_job_id).body))

    @get("/eijobs/{eiJobId}/status", ref("EiJobStatus"), 400, 404)
    async def read_ei_job_status(ei_job_id: EiJobId) -> Response:
        """ENABLED while there is data for the job that is still valid."""
        return JSONResponse(enrichment.status(ei_job_id))


def _add_writes(router: APIRouter, enrichment: EnrichmentService, writer: Any) -> None:
    put_answers = answers({200: ref("EiJob"), 201: ref("EiJob")}, 400, 404, 409, 413, 503)
    put_answers[201]["headers"] = {"Location": {"description": "Path of the job", "schema": {"type": "string"}}}
    body = {"required": True, "content": {"application/json": {"schema": ref("EiJob")}}}

    @router.put(
        "/eijobs/{eiJobId}", responses=put_answers, response_class=JSONResponse, openapi_extra={"requestBody": body}
    )
    async def put_ei_job(request: Request, ei_job_id: EiJobId, actor: str = Depends(writer)) -> Response:
        """Create a job or replace it; answered once it is on disk. What is known already is delivered at once."""
        job, created = await enrichment.put(ei_job_id, parse_object(await request.body(), "body"), actor=actor)
        headers = {"Location": f"{EI_BASE}/eijobs/{ei_job_id}"} if created else None
        return JSONResponse(dict(job.body), 201 if created else 200, headers)

    @router.delete(
        "/eijobs/{eiJobId}", status_code=204, responses=answers({204: None}, 400, 404, 503), response_class=Response
    )
    async def delete_ei_job(ei_job_id: EiJobId, actor: str = Depends(writer)) -> Response:
        """Remove a job."""
        await enrichment.delete(ei_job_id, actor=actor)
        return Response(status_code=204)
