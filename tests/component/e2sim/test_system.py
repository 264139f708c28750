"""The whole loop in one process: it closes, it gains, and one seed gives one run."""

import json

import pytest
from rich.console import Console
from rich.progress import Progress

from e2sim.demo import run_scenario
from e2sim.scenario import load_scenario

pytestmark = [pytest.mark.timeout(280), pytest.mark.slow]

WALL = {"wall_s", "put_ms", "p50_ms", "p99_ms", "late", "compute_ms"}


def without_wall_times(value):
    if isinstance(value, dict):
        return {name: without_wall_times(item) for name, item in value.items() if name not in WALL}
    return [without_wall_times(item) for item in value] if isinstance(value, list) else value


async def run_smoke():
    with Progress(console=Console(quiet=True)) as progress:
        return await run_scenario(load_scenario("smoke"), progress)


async def test_smoke_scenario_closes_every_loop_and_repeats_bit_for_bit():
    result = await run_smoke()
    summary, page = result.summary, result.page
    one, two = without_wall_times(summary), without_wall_times((await run_smoke()).summary)
    for run in (one, two):
        # How many windows one cycle takes depends on who is faster, DU or dApp; what it finds does not.
        del run["loops"]["fault_alarm"]
    assert one == two
    json.dumps(summary, allow_nan=False)

    loops = summary["loops"]
    deciding = {"fault_alarm", "hems_load", "microgrid_guard", "slice_bandwidth"}
    assert all(loops[app]["cycles"] > 0 for app in deciding)
    assert all(loops[app]["safe_actions"] == 0 for app in loops)

    slices = summary["slices"]["objective_eq3_mean"]
    assert slices["with_apps"] < slices["without_apps"]
    (attack,) = summary["attacks"]
    assert attack["with_apps"]["sharing_spread_end"] < 0.5 * attack["without_apps"]["sharing_spread_end"]
    assert all(fault["detected"] for fault in summary["faults"])
    assert summary["false_fault_alarms"] == 0

    assert result.picture is not None
    assert result.picture.startswith(b"\x89PNG")
    assert page.count("<svg") >= 4
    assert "http" not in page.replace("http://www.w3.org", "").replace("https://www.w3.org", "").split("<main>")[0]
