"""The unmodified PyPI client `onos-ric-sdk-python` 0.2.5 against our E2 termination, as its authors wrote it: it dials
localhost:5151. It lives in a virtual environment of its own, made here on first use."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

from ric.clock import WallClock
from ric.e2.platform import E2Platform
from ric.e2sm import ccc, kpm
from ric.errors import TwinRicError
from ric.telemetry import Metrics

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
ENVIRONMENT = ROOT / ".venv-onos"
REQUIREMENTS = HERE / "onos_requirements.txt"
SDK_PORT = 5151


@pytest.fixture(scope="session")
def onos_python() -> Path:
    """Interpreter of an environment that has the SDK; made anew when the requirements change."""
    python = ENVIRONMENT / "bin" / "python"
    stamp = ENVIRONMENT / "requirements.sha256"
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    if not (stamp.exists() and stamp.read_text() == digest):
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
        command = [python, "-m", "pip", "install", "--quiet", "--no-deps", "-r", REQUIREMENTS]
        subprocess.run(command, check=True, timeout=240)
        stamp.write_text(digest)
    return python


async def _bind_5151(platform: E2Platform):
    """Bind the port that the SDK insists on; another test run on this machine may hold it for a while."""
    for attempt in range(60):
        try:
            return await platform.start("127.0.0.1:0", f"127.0.0.1:{SDK_PORT}")
        except TwinRicError:
            if attempt == 59:
                raise
            await asyncio.sleep(0.5)
    raise AssertionError


def _report(name: str, turn: int) -> tuple[bytes, bytes]:
    items = (kpm.KpmItem("cell", "1-000001"), kpm.KpmItem("cell", "1-000002"))
    values = np.array([[turn + 0.5, turn + 1.5]])
    return kpm.encode_indication(kpm.KpmReport(name, 10**18 + turn, 100, ("DRB.UEThpDl",), items, values))


@pytest.mark.timeout(300)
async def test_onos_sdk_subscribes_to_kpm_and_controls_a_slice(onos_python: Path, make_house) -> None:
    platform = E2Platform(Metrics("ric"), WallClock())
    house = make_house(platform, await _bind_5151(platform))
    try:
        node = await house.node()
        ratios = (ccc.SliceRatio(s_nssai="1-000001", rrm_policy_dedicated_ratio=30),)
        control_header, control_message = ccc.encode_control(ratios)
        task = {
            "e2_node_id": node.name, "kpm": [kpm.NAME, kpm.VERSION], "ccc": [ccc.NAME, ccc.VERSION],
            "subscription_id": "sdk-1", "indications": 3,
            "octets": {
                "trigger": kpm.encode_trigger(100).hex(), "action": kpm.encode_action(("DRB.UEThpDl",)).hex(),
                "control_header": control_header.hex(), "control_message": control_message.hex(),
                "bad_message": control_message.replace(b": 30", b": 130").hex(),
            },
        }  # fmt: skip
        xapp = await asyncio.create_subprocess_exec(
            str(onos_python), str(HERE / "onos_xapp.py"),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        running = asyncio.create_task(xapp.communicate(json.dumps(task).encode()))
        await house.until(lambda: bool(node.kpm.subscriptions) or running.done(), 30.0)
        subscription = next(iter(node.kpm.subscriptions.values()), None)
        for turn in range(3):
            await node.report(*_report(node.name, turn))
        out, err = await asyncio.wait_for(running, 30.0)
        assert xapp.returncode == 0, err.decode()
        seen = json.loads(out)
    finally:
        await house.stop()

    assert subscription is not None
    assert kpm.decode_trigger(subscription.event_trigger) == 100
    assert [(action.ric_action_id, action.type) for action in subscription.actions] == [(1, "report")]
    assert kpm.decode_action(subscription.actions[0].definition) == ("DRB.UEThpDl",)
    reports = [kpm.decode_indication(bytes.fromhex(head), bytes.fromhex(body)) for head, body in seen["indications"]]
    assert [report.source_time_ns for report in reports] == [10**18, 10**18 + 1, 10**18 + 2]
    assert reports[2].values.tolist() == [[2.5, 3.5]]
    assert node.ccc.controls == [(control_header, control_message)]
    assert ccc.decode_outcome(bytes.fromhex(seen["outcome"])) == ratios
    assert seen["refusal"]["status"] == "INVALID_ARGUMENT"
    assert "rrm_policy_dedicated_ratio" in seen["refusal"]["message"]
    assert [each.ric_request_id for each in node.kpm.deleted] == [subscription.ric_request_id]
