"""Readiness and metrics as probes see them."""

from __future__ import annotations

import httpx
import pytest

from ric.health import health_app
from ric.telemetry import Metrics


@pytest.mark.parametrize(
    ("ready", "parts", "status"),
    [(True, {"bus": True}, 200), (False, {"bus": True}, 503), (True, {"bus": False}, 503), (True, {}, 200)],
)
async def test_readiness_names_its_parts(ready: bool, parts: dict[str, bool], status: int) -> None:
    app = health_app(lambda: ready, Metrics("t"), lambda: parts)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()) == (status, {"ready": status == 200, "parts": parts})
        assert (await client.get("/healthz")).json() == {"status": "alive"}
        assert "twinric_" in (await client.get("/metrics")).text
