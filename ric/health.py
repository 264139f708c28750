"""What probes and Prometheus ask a process: is it alive, is it ready, how is it doing."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import generate_latest

from ric.servers import rest_app
from ric.telemetry import Metrics

__all__ = ["health_app"]


def health_app(
    ready: Callable[[], bool], metrics: Metrics, parts: Callable[[], Mapping[str, bool]] | None = None
) -> FastAPI:
    """Liveness `/healthz`, readiness `/readyz` (503 until ready; names the `parts` that are not) and `/metrics`."""
    app = rest_app("TwinRIC health", metrics)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz")
    async def readyz() -> Response:
        states = dict(parts()) if parts else {}
        is_ready = ready() and all(states.values())
        return JSONResponse({"ready": is_ready, "parts": states}, 200 if is_ready else 503)

    @app.get("/metrics")
    async def prometheus() -> Response:
        return PlainTextResponse(generate_latest(metrics.registry), media_type="text/plain; version=0.0.4")

    return app
