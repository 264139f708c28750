"""The shipped actor on the simulator's own transport and traffic, which it was never trained on.

Cost is eq (3) with the price of broken limits and of moves, as the simulator's queues measure it.
"""

import numpy as np
import pytest

from e2sim.network import build_transport
from e2sim.ran.transport import kpm_values
from e2sim.scenario import load_scenario, shipped_scenario
from e2sim.streams import Streams
from ric.e2sm.kpm import KpmItem, KpmReport
from xapps.slice_bandwidth.decision import decide
from xapps.slice_bandwidth.model import S_NSSAI, Prediction
from xapps.slice_bandwidth.objective import evaluate, limits_of
from xapps.slice_bandwidth.policy import Mode, SlicePolicy
from xapps.slice_bandwidth.state import MEASUREMENT_NAMES, NodeWindow
from xapps.slice_bandwidth.train import ACTOR, FORECASTER, MODELS, load_learned

PERIOD_S = 0.1
MEASURED = ("delay_ms", "jitter_ms", "backlog_mbit", "dropped_mbit")
ITEMS = tuple(KpmItem("", name) for name in S_NSSAI)


def play(mode, learned, seed):
    """Mean cost and broken limits over the demo's congestion of the control slice."""
    scenario = load_scenario(shipped_scenario("demo"))
    transport = build_transport(scenario, scenario.nodes[0], Streams(seed))
    event = next(event for event in scenario.traffic_events if event.slice == "control")
    policy, window = SlicePolicy(mode=mode), NodeWindow("n1")
    limits, start_s = limits_of(policy), scenario.start_s + event.at_s - 2.0
    costs, broken, moved = [], 0, 0
    for step in range(1, 101):
        sample = transport.step(start_s + step * PERIOD_S, PERIOD_S)
        values = kpm_values(sample, PERIOD_S)
        down = Prediction(*(getattr(sample.stats, name)[0] for name in MEASURED))
        got = evaluate(down, sample.flexe_slots, limits)
        costs.append(float(got.total + got.penalty(limits)) + policy.slot_move_cost * moved)
        broken += int(got.violation_count)
        rows = np.array([values[name] for name in MEASUREMENT_NAMES])
        window.add_report(KpmReport("n1", step * 100_000_000, 100, MEASUREMENT_NAMES, ITEMS, rows))
        decision = decide(window.state(step * 100_000_000), policy, learned)
        moved = transport.calendar.allocate(decision.slots.tolist()) if decision.changed else 0
    return float(np.mean(costs)), broken


@pytest.mark.parametrize("seed", [1, 2])
def test_shipped_actor_beats_static_and_eq_2_on_the_simulators_congestion(seed):
    learned = load_learned(MODELS / ACTOR, MODELS / FORECASTER)
    static, broken_static = play(Mode.STATIC, None, seed)
    gradient, _ = play(Mode.GRADIENT, None, seed)
    rl, broken_rl = play(Mode.RL, learned, seed)
    enumerate_cost, broken_enumerate = play(Mode.ORACLE, learned, seed)
    assert max(rl, enumerate_cost) < min(static, gradient)
    assert max(broken_rl, broken_enumerate) < 0.2 * broken_static
