"""RIC, simulator and the app over their real wires: the nodes of the scenario's aggregation link decide together."""

import pytest

from e2sim.network import Network
from e2sim.scenario import load_scenario, shipped_scenario
from e2sim.system import System, installed_apps

pytestmark = pytest.mark.timeout(120)


async def run(tmp_path):
    scenario = load_scenario(shipped_scenario("aggregation"))
    events = tuple(event.model_copy(update={"at_s": 1.0}) for event in scenario.traffic_events)
    window = scenario.windows[0].model_copy(update={"duration_s": 4})
    changes = {"duration_s": 4, "grid_step_s": 4, "traffic_events": events, "windows": (window,)}
    network = Network(scenario.model_copy(update=changes))
    async with System(network, tmp_path, {"slice_bandwidth": installed_apps()["slice_bandwidth"]}) as system:
        await system.run()
    return list(network.nodes), system.journal.decisions


async def test_system_nodes_of_an_aggregation_link_decide_in_one_cycle_and_the_same_twice(tmp_path):
    names, decisions = await run(tmp_path / "first")
    _, again = await run(tmp_path / "second")
    # How many cycles the first reports fall into is chance; from the second on nodes in step are due together.
    assert {decision.details["nodes"] for decision in decisions[3:]} == {"3"}
    held, held_again = (
        [decision for decision in made if decision.reason_code == "SHARED_LINK"] for made in (decisions, again)
    )
    assert len(held) > 5
    assert [dict(decision.numbers) for decision in held] == [dict(decision.numbers) for decision in held_again]
    whom = [(key, value) for decision in held for key, value in decision.details.items() if "held_back_for" in key]
    assert len(whom) > 3
    for key, value in whom:
        assert {key.split("/")[0], *value.split(",")} <= set(names)
        assert key.split("/")[0] not in value
    assert not any(decision.safe_action for decision in decisions)
