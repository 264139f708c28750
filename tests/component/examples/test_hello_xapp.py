"""The README's xApp: the text that is shown is the file, and the file works against a RIC and a simulated node."""

import asyncio
import importlib.util
from pathlib import Path

import pytest

from e2sim.network import GridParts, Network
from e2sim.scenario import parse_scenario
from e2sim.system import System

pytestmark = pytest.mark.timeout(120)
ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "docs" / "examples" / "hello_xapp.py"


def load_example():
    spec = importlib.util.spec_from_file_location("hello_xapp", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_readme_shows_the_example_as_it_is():
    assert EXAMPLE.read_text(encoding="utf-8") in (ROOT / "README.md").read_text(encoding="utf-8")


async def test_hello_xapp_gives_monitoring_a_slot_while_its_queue_is_long(tmp_path):
    scenario = parse_scenario({
        "seed": 1, "start": "2016-04-19T00:00:00Z", "duration_s": 4,
        "windows": [{"start_s": 0, "duration_s": 4}],
        "nodes": [{"gnb_id": 1}],
        "traffic_events": [{"at_s": 1, "duration_s": 1, "slice": "monitoring", "factor": 6}],
    })  # fmt: skip
    node_id = scenario.nodes[0].e2_node_id
    network = Network(scenario, {node_id: GridParts()})
    slots = []
    network.listeners.append(lambda node, sample: slots.append(int(sample.ran.flexe_slots[2])))
    # One slot must be free before monitoring can have a sixth.
    network.nodes[node_id].allocate({"1-000001": 4})
    hello = load_example().HelloApp
    async with System(network, tmp_path, {"hello": hello}) as system:
        async with asyncio.timeout(60):
            await system.run()
        reasons = {decision.reason_code for decision in system.journal.decisions}
    assert reasons == {"QUEUE"}
    assert slots[5] == 5
    assert 6 in slots[10:25]
    assert slots[-1] == 5
