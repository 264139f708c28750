import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from e2sim.ran.bounds import QueueLoad, hop_bound_ms, wait_bound_ms
from e2sim.ran.calculus import TokenBucket
from e2sim.ran.gating import GatedHops
from e2sim.ran.queues import STEP_MS, SliceQueues
from e2sim.ran.tsn import TsnHop, default_gates, gating_bound_ms

PEAKS = st.sampled_from([(25e3, 50e3, 25e3), (5e3, 90e3, 5e3), (60e3, 20e3, 20e3), (30e3, 30e3, 10e3)])


@given(PEAKS, st.floats(0.1, 1.6), st.floats(0, 200), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_wait_stays_below_the_bound(peaks, load, before_mbit, seed):
    """Queues and hops together, bursts of up to 10 Mbit, from an empty or a busy start."""
    generator, hop, steps = np.random.default_rng(seed), TsnHop(default_gates()), 200
    capacity = np.tile(peaks, (steps, 1))
    mean_mbit = np.array(peaks) * load * STEP_MS / 1e3
    burst = np.full((2, 3), 10.0)
    arrivals = generator.poisson(mean_mbit / 10.0, (steps, 2, 3)) * 10.0
    queues = SliceQueues(np.full(3, 500.0))
    queues.backlog_mbit = np.full((2, 3), before_mbit)
    given_load = QueueLoad(
        arrivals, capacity, burst, queues.backlog_mbit, queues.buffer_mbit, np.zeros((2, 3)), STEP_MS
    )
    bound = wait_bound_ms(hop, given_load)
    stats = queues.run(arrivals, capacity, burst)
    for way in range(2):
        waits = GatedHops(hop, 3).run(queues.departed_mbit[:, way], STEP_MS)
        assert (stats.delay_max_ms[way] + waits.max_ms <= bound[way] + 1e-9).all()


def test_hop_bound_is_at_most_eq_1_where_that_applies():
    hop, sent = TsnHop(default_gates()), TokenBucket(np.full(3, 5e3), np.array([1.0, 1.0, 1.0]))
    light = hop_bound_ms(hop, np.full(3, 10e3), sent, np.zeros(3))
    assert (light <= gating_bound_ms(hop, [1, 1, 1])).all()
    whole_cycle = TsnHop(default_gates(), offset_us=1_000.0)
    assert whole_cycle.aligned
    np.testing.assert_allclose(hop_bound_ms(whole_cycle, np.full(3, 10e3), sent, np.zeros(3)), light)


def test_hop_bound_is_unknown_for_a_starved_slice_behind_hops_apart():
    hop = TsnHop(default_gates(), offset_us=200.0)
    bounds = hop_bound_ms(hop, np.array([90e3, 5e3, 5e3]), TokenBucket(np.full(3, 5e3), np.ones(3)), np.zeros(3))
    assert np.isinf(bounds[2])
