"""Three nodes on the simulator's aggregation link, deciding alone and jointly: observer, broken limits, cost.

The app is told of the link's rate and of nothing else: what the link holds it reckons from the nodes' KPM.
"""

import numpy as np
import pytest

from e2sim.network import Network
from e2sim.ran.transport import kpm_values
from e2sim.scenario import load_scenario, shipped_scenario
from ric.e2sm.kpm import KpmItem, KpmReport
from xapps.slice_bandwidth.fleet import decide_fleet
from xapps.slice_bandwidth.model import S_NSSAI, Prediction
from xapps.slice_bandwidth.objective import evaluate, limits_of
from xapps.slice_bandwidth.policy import SlicePolicy
from xapps.slice_bandwidth.state import MEASUREMENT_NAMES, FleetState, LinkWindow, NodeWindow
from xapps.slice_bandwidth.train import ACTOR, FORECASTER, MODELS, load_learned

PERIOD_NS = 100_000_000
MEASURED = ("delay_ms", "jitter_ms", "backlog_mbit", "dropped_mbit")
ITEMS = tuple(KpmItem("", name) for name in S_NSSAI)
STEPS = 130


def play(learned, *, jointly):
    """Mean cost and broken limits per node and period; backlogs of the link, true and as observed (T, 3) [Mbit]."""
    scenario = load_scenario(shipped_scenario("aggregation"))
    network, link = Network(scenario), scenario.aggregation[0]
    names = tuple(network.nodes)
    shared = LinkWindow("ring", names, link.capacity_gbps * 1e3, link.buffer_mbit)
    windows = {name: NodeWindow(name, shared=shared if jointly else None) for name in names}
    policy, limits = SlicePolicy(), limits_of(SlicePolicy())
    cost, broken, true, observed = 0.0, 0, [], []
    for step in range(1, STEPS + 1):
        network.step(scenario.start_s + step * 0.1, 0.1)
        for name, node in network.nodes.items():
            ran = node.latest.ran
            values = kpm_values(ran, 0.1)
            down = Prediction(*(getattr(ran.stats, name)[0] for name in MEASURED))
            got = evaluate(down, ran.flexe_slots, limits)
            cost += float(np.minimum(got.terms[..., :2], 10).sum() + got.terms[..., 2].sum() + got.penalty(limits))
            broken += int(got.violation_count)
            rows = np.array([values[name] for name in MEASUREMENT_NAMES])
            windows[name].add_report(KpmReport(name, step * PERIOD_NS, 100, MEASUREMENT_NAMES, ITEMS, rows))
        true.append(network._links[0][1].queues[0].backlog_mbit.sum(axis=0).copy())
        observed.append(shared.wait.queue_mbit)
        states = tuple(window.state(step * PERIOD_NS) for window in windows.values())
        links = (shared.state(),) if jointly else ()
        for made in decide_fleet(FleetState(states, frozenset(names), links), policy, learned).nodes:
            if made.changed:
                network.nodes[made.e2_node_id].ran.calendar.allocate(made.slots.tolist())
    return cost / STEPS / 3, broken, np.array(true), np.array(observed)


@pytest.fixture(scope="module")
def learned():
    return load_learned(MODELS / ACTOR, MODELS / FORECASTER)


def test_nodes_of_a_full_link_break_fewer_limits_when_they_decide_together(learned):
    alone, broken_alone, held_alone, _ = play(learned, jointly=False)
    jointly, broken, held, observed = play(learned, jointly=True)
    assert held_alone.max() > 1_000
    assert broken < 0.4 * broken_alone
    assert jointly < 0.7 * alone
    # Nothing reports of the link: what it holds is reckoned from what its nodes let through.
    assert np.abs(observed - held).mean() < 0.02 * held.max()
    assert held[:, :2].max() < 50
