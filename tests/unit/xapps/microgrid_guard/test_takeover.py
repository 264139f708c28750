from dataclasses import replace

import numpy as np
import pytest

from ric.columns import ESTIMATED, GOOD, decode_table, encode_table
from ric.schemas import GRID_SCHEMAS, TWIN_SCHEMAS
from xapps.microgrid_guard.config import GuardConfig
from xapps.microgrid_guard.model import AGENTS
from xapps.microgrid_guard.policy import GuardPolicy
from xapps.microgrid_guard.state import Sample, State, restored
from xapps.microgrid_guard.takeover import Decision, decide

CONFIG, POLICY, NODE = GuardConfig(), GuardPolicy(), "00101-e2000001"
START_NS, STEP_NS = 1_700_000_000_000_000_000, 100_000_000


class Echo:
    """A network whose agents are always at R; it counts its steps and remembers the R that it was given."""

    def __init__(self) -> None:
        self.given: list[float] = []

    def run(self, **inputs):
        self.given.append(float(inputs["features"][0, 0]))
        factor = np.full((1, AGENTS), inputs["features"][0, 0], dtype=np.float32)
        return [factor, inputs["hidden"], inputs["cell"]]


class Broken(Echo):
    def run(self, **inputs):
        return [np.full((1, AGENTS), np.nan, dtype=np.float32), inputs["hidden"], inputs["cell"]]


def sample(
    step: float, factors: tuple[float, ...] = (0.6, 0.6, 0.6), r: float = 0.6, node: str = "00101-e2000001"
) -> Sample:
    time_ns = START_NS + round(step * STEP_NS)
    ids = tuple(f"MG{n + 1}" for n in range(len(factors)))
    return Sample(node, time_ns, ids, np.array(factors), np.array(factors) != 0.0, r)


def feed(samples: list[Sample], network: Echo | None = None, policy: GuardPolicy = POLICY, memories=None) -> Decision:
    return decide(State(tuple(samples), memories or {}), policy, network or Echo(), CONFIG)


DOS = (0.6, 0.0, 0.6)
WARM = [sample(step) for step in range(40)]


def test_decide_attack_substitutes_locally_then_in_the_consensus():
    decision = feed(WARM + [sample(step, DOS) for step in range(40, 100)])
    points = {o.time_ns: o.set_points for o in decision.outcomes if o.set_points is not None}
    first = points[START_NS + 50 * STEP_NS]
    assert min(points) == START_NS + 50 * STEP_NS
    assert first.ids == ("MG2",)
    assert first["contribution_factor"] == pytest.approx([0.6])
    assert (first["in_local_control"].tolist(), first["in_consensus"].tolist()) == ([1.0], [0.0])
    assert points[START_NS + 89 * STEP_NS]["in_consensus"].tolist() == [0.0]
    assert points[START_NS + 90 * STEP_NS]["in_consensus"].tolist() == [1.0]
    assert decision.reason.code == "TAKEN_OVER"
    assert [(a.microgrid, a.cleared) for o in decision.outcomes for a in o.alarms] == [("MG2", False)]


def test_decide_release_sends_the_agent_back_at_once():
    back = [sample(step) for step in range(100, 125)]
    decision = feed(WARM + [sample(step, DOS) for step in range(40, 100)] + back)
    last = [o for o in decision.outcomes if o.set_points is not None][-1]
    assert last.time_ns == START_NS + 120 * STEP_NS
    assert (last.set_points["in_local_control"].tolist(), last.set_points["in_consensus"].tolist()) == ([0.0], [0.0])
    assert [(a.microgrid, a.cleared) for a in last.alarms] == [("MG2", True)]


def test_decide_one_by_one_equals_all_at_once():
    samples = WARM + [sample(step, DOS) for step in range(40, 100)]
    together, memories, apart = feed(samples), {}, []
    for one in samples:
        decision = feed([one], memories=memories)
        memories, apart = decision.memories, apart + list(decision.outcomes)
    for ours, theirs in zip(together.outcomes, apart, strict=True):
        assert all((ours.twin[name] == theirs.twin[name]).all() for name in ours.twin.columns)
        assert ours.alarms == theirs.alarms


def test_decide_never_gives_the_network_what_an_agent_states():
    ours, theirs = Echo(), Echo()
    feed([sample(step, (0.9, 0.1, 0.4)) for step in range(30)], ours)
    feed([sample(step) for step in range(30)], theirs)
    assert ours.given == theirs.given


def test_decide_old_and_repeated_samples_are_passed_over():
    decision = feed([sample(2), sample(1), sample(2), sample(3)])
    assert [o.time_ns for o in decision.outcomes] == [START_NS + 2 * STEP_NS, START_NS + 3 * STEP_NS]


def test_decide_short_gap_interpolates_r():
    network = Echo()
    feed([sample(0), sample(1), sample(4, r=0.9, factors=(0.9, 0.9, 0.9))], network)
    assert network.given[-3:] == pytest.approx([0.7, 0.8, 0.9])


def test_decide_gap_starts_the_twin_anew_and_warms_up():
    network = Echo()
    decision = feed([*WARM, sample(640), sample(641)], network)
    assert network.given[-200:] == pytest.approx([0.6] * 200)
    qualities = [int(o.twin.quality["contribution_factor"][0]) for o in decision.outcomes]
    assert qualities[39:] == [GOOD, ESTIMATED, ESTIMATED]


def test_decide_coarse_reports_cost_no_network_steps():
    network = Echo()
    feed([sample(600 * step) for step in range(20)], network)
    assert network.given == []


def test_decide_set_points_hold_over_coarse_reports():
    attacked = [sample(step, DOS) for step in range(40, 60)]
    decision = feed([*WARM, *attacked, sample(1859, DOS)])
    last = decision.outcomes[-1]
    assert last.set_points is not None
    assert last.valid_until_ns - last.time_ns == 1.5 * 180_000_000_000


def test_decide_nodes_do_not_mix():
    ours = WARM + [sample(step, DOS) for step in range(40, 60)]
    theirs = [replace(one, node="00101-2", contribution_factor=np.full(3, 0.6), alive=np.ones(3, bool)) for one in ours]
    decision = feed([one for pair in zip(ours, theirs, strict=True) for one in pair])
    assert {a.node for o in decision.outcomes for a in o.alarms} == {NODE}


def test_decide_tables_pass_their_schemas():
    decision = feed(WARM + [sample(step, (0.6, -9.9, 10.0)) for step in range(40, 60)])
    for outcome in decision.outcomes:
        decode_table(encode_table(outcome.twin), TWIN_SCHEMAS, "BUS")
        if outcome.set_points is not None:
            decode_table(encode_table(outcome.set_points), GRID_SCHEMAS, "E2")


def test_decide_node_that_the_twin_does_not_fit_is_judged_without_it():
    network = Echo()
    pair = [replace(sample(step, (0.6, 0.6 if step < 40 else 0.0)), node="00101-2") for step in range(60)]
    decision = feed([*pair, *WARM], network)
    assert [(a.node, a.microgrid) for o in decision.outcomes for a in o.alarms] == [("00101-2", "MG2")]
    assert len(network.given) == 200 + 38  # the other node's twin: primed at its second sample, then stepped


def test_decide_diverging_network_is_refused():
    with pytest.raises(ArithmeticError, match="finite"):
        feed([sample(0), sample(1)], Broken())


def test_restored_takeover_goes_on_and_is_not_alarmed_again():
    before = feed(WARM + [sample(step, DOS) for step in range(40, 100)])
    memory = restored(before.outcomes[-1].twin)
    assert memory.watch.in_consensus.tolist() == [False, True, False]
    after = feed([sample(step, DOS) for step in range(140, 200)], memories={NODE: memory})
    assert all(o.set_points is not None and o.set_points.ids == ("MG2",) for o in after.outcomes)
    assert not [a for o in after.outcomes for a in o.alarms]
    cleared = feed([sample(step) for step in range(200, 240)], memories=after.memories)
    assert [(a.microgrid, a.problem, a.cleared) for o in cleared.outcomes for a in o.alarms] == [("MG2", "DOS", True)]
