import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2sim.network import Network
from e2sim.ran.aggregation import AggregationLink
from e2sim.ran.plant import SharedLinks, pass_shared_links
from e2sim.ran.queues import STEP_MS, PeriodStats
from e2sim.ran.transport import RanSample
from e2sim.scenario import load_scenario, parse_scenario
from ric.errors import TwinRicError

STEPS = 500


def sample(departed):
    volume = departed.sum(axis=0)
    nothing = np.zeros_like(volume)
    stats = PeriodStats(
        STEPS * STEP_MS / 1e3, volume, volume, nothing, nothing, volume, nothing, nothing, nothing
    )  # fmt: skip
    return RanSample(stats, np.array([5, 10, 5]), np.zeros(3), np.zeros(3), nothing)


def steady(gbps):
    return np.tile(np.array(gbps) * STEP_MS, (STEPS, 2, 1))


def join(link, *rates):
    departed = [steady(gbps) for gbps in rates]
    return link.join([sample(one) for one in departed], departed)


def test_link_with_room_adds_next_to_nothing():
    joined = join(AggregationLink(85.0, 3, buffer_mbit=5_000), (10, 9, 8), (10, 9, 8))
    for one in joined:
        assert (one.stats.delay_max_ms < 0.001).all()
        assert not one.stats.dropped_mbit.any()
        assert (one.stats.delay_max_ms <= one.delay_bound_ms).all()


def test_link_that_is_too_small_makes_the_last_slice_wait():
    """60 Gb/s into 50: the first two slices pass, the last has 10 of its 20 Gb/s; after 0.1 s 1,000 Mbit wait."""
    link = AggregationLink(50.0, 3, buffer_mbit=5_000)
    one, other = join(link, (10, 10, 10), (10, 10, 10))
    assert (one.stats.delay_max_ms[:, :2] < 0.001).all()
    assert link.queues[0].backlog_mbit[0, 2] == pytest.approx(1_000)
    assert one.stats.delay_max_ms[0, 2] == pytest.approx(100, rel=0.01)
    assert one.stats.delay_ms[0, 2] == pytest.approx(50, rel=0.01)
    np.testing.assert_array_equal(one.stats.delay_ms, other.stats.delay_ms)


def test_losses_are_shared_in_proportion_and_take_the_last_slice_first():
    link = AggregationLink(50.0, 3, buffer_mbit=400)
    one, other = join(link, (10, 10, 15), (10, 10, 5))
    assert link.queues[0].backlog_mbit.sum() == pytest.approx(400)
    lost = [joined.stats.dropped_mbit[0] for joined in (one, other)]
    np.testing.assert_allclose(lost, [[0, 0, 450], [0, 0, 150]], rtol=1e-6)
    np.testing.assert_allclose(one.stats.delivered_mbit[0] + lost[0], [1_000, 1_000, 1_500])


rates = st.tuples(st.floats(0.5, 25), st.floats(0.5, 40), st.floats(0.5, 25))


@given(rates, rates, st.floats(20, 120), st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_plants_shared_link_against_the_measured_one(first, second, capacity_gbps, periods):
    link = AggregationLink(capacity_gbps, 3, buffer_mbit=3_000)
    shared = SharedLinks(np.array([0, 0]), np.array([capacity_gbps * 1e3]), 3_000)
    backlog = np.zeros((1, 3))
    for _ in range(periods):
        measured = join(link, first, second)
        volumes = np.stack([one.stats.offered_mbit[0] for one in measured])
        nothing = np.zeros_like(volumes)
        stats = PeriodStats(0.1, volumes, volumes, nothing, nothing, volumes, nothing, nothing, nothing)
        backlog, fluid = pass_shared_links(backlog, stats, shared)
        np.testing.assert_allclose(backlog[0], link.queues[0].backlog_mbit[0], rtol=1e-3, atol=0.5)
        lost = np.stack([one.stats.dropped_mbit[0] for one in measured])
        np.testing.assert_allclose(fluid.dropped_mbit, lost, rtol=0.01, atol=2)


def test_plants_shared_link_waits_as_measured_in_an_overload():
    link, shared = AggregationLink(50.0, 3, buffer_mbit=5_000), SharedLinks(np.array([0, 0]), np.array([50e3]))
    backlog = np.zeros((1, 3))
    for _ in range(2):
        measured = join(link, (10, 10, 10), (10, 10, 10))
        volumes = np.stack([one.stats.offered_mbit[0] for one in measured])
        nothing = np.zeros_like(volumes)
        stats = PeriodStats(0.1, volumes, volumes, nothing, nothing, volumes, nothing, nothing, nothing)
        backlog, fluid = pass_shared_links(backlog, stats, shared)
        np.testing.assert_allclose(fluid.delay_ms[0], measured[0].stats.delay_ms[0], rtol=0.02, atol=0.01)
        np.testing.assert_allclose(fluid.delay_max_ms[0], measured[0].stats.delay_max_ms[0], rtol=0.02, atol=0.01)


def test_shipped_scenario_couples_its_nodes():
    """Node 3 has no surge of its own; its monitoring waits while the other two have."""
    network = Network(load_scenario("aggregation"))
    start_s, delays = network.scenario.start_s, {}
    for end_s in network.scenario.instants():
        if end_s - start_s > 7.05:
            break
        third = network.advance(end_s)[2]
        delays[round(end_s - start_s, 1)] = third.ran.stats.delay_ms[0]
    assert delays[7.0][2] > 50 * delays[3.0][2]
    assert delays[7.0][0] < 2 * delays[3.0][0]


@pytest.mark.parametrize(
    ("aggregation", "says"),
    [
        ([{"capacity_gbps": 10, "nodes": ["00101-9"]}], "aggregation.0.nodes"),
        ([{"capacity_gbps": 10}, {"capacity_gbps": 10, "nodes": ["00101-1"]}], "aggregation.1.nodes"),
        ([{"capacity_gbps": 0}], "capacity_gbps"),
    ],
    ids=["unknown node", "node twice", "no capacity"],
)
def test_wrong_aggregation_is_named(aggregation, says):
    with pytest.raises(TwinRicError) as error:
        parse_scenario({
            "seed": 1, "start": "2016-06-15T00:00:00Z", "duration_s": 60, "nodes": [{"gnb_id": 1}],
            "aggregation": aggregation,
        })  # fmt: skip
    assert says in str(error.value)
