"""schemathesis plays every operation of our own OpenAPI file, with good input and bad, and must find nothing.

TWINRIC_SCHEMATHESIS_EXAMPLES=2000 makes the run long: examples per operation and phase, 10 without it.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema

from ric.security import TokenVerifier

EXAMPLES = int(os.environ.get("TWINRIC_SCHEMATHESIS_EXAMPLES", "10"))
SECRET = "a-secret-of-thirty-two-octets-or-more"


def _play(url: str, type_id: str) -> tuple[set[str], int]:
    token = jwt.encode({"exp": time.time() + 600, "scope": "a1:read a1:write"}, SECRET, "HS256")
    config = SchemathesisConfig.from_dict(
        {
            "headers": {"Authorization": f"Bearer {token}"},
            "parameters": {"path.policyTypeId": type_id},
            "generation": {"max-examples": EXAMPLES, "deterministic": True, "database": "none"},
            # In chains of calls it takes linked ids, which are valid, for its own invalid ones; the other phases check.
            "phases": {"stateful": {"max-steps": 6, "checks": {"negative_data_rejection": {"enabled": False}}}},
        }
    )
    findings, cases = set(), 0
    for event in from_schema(schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            findings.add(repr(event))
        if isinstance(event, events.ScenarioFinished):
            cases += len(event.recorder.cases)
            for checks in event.recorder.checks.values():
                findings |= {f"{c.name}: {c.failure_info}" for c in checks if c.status is Status.FAILURE}
    return findings, cases


@pytest.mark.timeout(300 if EXAMPLES <= 10 else 0)
async def test_schemathesis_finds_nothing_in_a1(tmp_path: Path, kit: SimpleNamespace, monkeypatch: Any) -> None:
    monkeypatch.setitem(kit.POLICY_TYPE, "policySchema", {"type": "object"})  # our file promises no more of a body
    async with kit.running_a1(tmp_path / "a1.sqlite", verifier=TokenVerifier(SECRET)) as a1:  # noqa: SIM117
        async with kit.FakeApp(a1.grpc_address, confirms=False):  # else notifications go to made-up hosts
            findings, cases = await asyncio.to_thread(_play, a1.url, kit.TYPE_ID)
            assert findings == set()
            assert cases > 100, "schemathesis did not reach the operations"
            written = [row for row in a1.sdl.audit_rows() if row.entry.action == "a1.put"]
            assert written, "no generated policy was accepted"
            assert any(row.entry.action == "a1ei.put" for row in a1.sdl.audit_rows()), "no generated job was accepted"
