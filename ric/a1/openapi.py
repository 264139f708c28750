"""What our OpenAPI file says of answers, shared by A1-P and A1-EI."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from ric.a1.enrichment import EI_TYPES, job_schema

__all__ = ["API_VERSION", "IDS", "OBJECT", "answers", "describe", "ref"]

API_VERSION = "1.1.0"
"""Of our OpenAPI file; the paths carry the interfaces' own versions."""

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
    403: "The token lacks the scope, or the RIC may not post to that host",
    404: "No such type, policy or job",
    409: "The id is used with another type",
    413: "The body is too large",
    429: "Too many requests",
    500: "An unexpected failure; the log has the details",
    503: "The store cannot be written",
}
IDS = {"type": "array", "items": {"type": "string"}}
OBJECT: dict[str, Any] = {"type": "object"}
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
    "properties": {"policySchema": OBJECT, "statusSchema": OBJECT},
}


_EI_STATUS = {
    "type": "object",
    "required": ["eiJobStatus"],
    "properties": {"eiJobStatus": {"enum": ["ENABLED", "DISABLED"]}},
    "additionalProperties": False,
}
_SCHEMAS = {
    "Problem": _PROBLEM, "PolicyType": _TYPE, "PolicyStatus": _STATUS, "EiJobStatus": _EI_STATUS,
    "EiJob": job_schema(EI_TYPES.values()),
}  # fmt: skip


def ref(name: str) -> dict[str, str]:
    """A reference to one of the file's schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def answers(successes: dict[int, dict[str, Any] | None], *errors: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an operation: each success with its schema, each error as a problem."""
    titles = {200: "OK", 201: "Created", 204: "Deleted"}
    answers: dict[int | str, dict[str, Any]] = {}
    for code, schema in successes.items():
        content = {"content": {"application/json": {"schema": schema}}} if schema else {}
        answers[code] = {"description": titles[code], **content}
    for code in (*errors, 401, 403, 429, 500):
        answers[code] = {
            "description": _TEXTS[code],
            "content": {"application/problem+json": {"schema": ref("Problem")}},
        }
    return answers


def describe(app: FastAPI, description: str) -> None:
    """Let `app` describe itself as it is: our version, and no answers that FastAPI names and we never give."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=API_VERSION,
                description=description,
                openapi_version="3.1.0",
                routes=app.routes,
            )
            for path in made["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)
            schemas = made.setdefault("components", {}).setdefault("schemas", {})
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            schemas.update(_SCHEMAS)
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
