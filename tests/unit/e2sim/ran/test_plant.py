import numpy as np
import pytest

from e2sim.network import build_transport
from e2sim.ran.plant import PlantSettings, PlantState, serve, serve_drawn, stream_keys
from e2sim.ran.queues import STEP_MS
from e2sim.scenario import parse_scenario
from e2sim.streams import Streams

START_S = 1_465_948_800.0
BURST = np.array([1.0, 1.1, 3.6])


class Recorder:
    """A node's traffic, its arrivals kept."""

    def __init__(self, traffic):
        self.traffic, self.arrivals, self.bursts = traffic, [], []

    def __getattr__(self, name):
        return getattr(self.traffic, name)

    def arrivals_mbit(self, time_s, steps, step_ms):
        self.arrivals.append(self.traffic.arrivals_mbit(time_s, steps, step_ms))
        self.bursts.append(self.traffic.burst_mbit(time_s))
        return self.arrivals[-1]


def test_plant_against_the_simulated_node():
    """The same arrivals and slots through a simulated node: queues agree to rounding, the wait at gates to 0.1 ms."""
    event = {"at_s": 0.5, "duration_s": 3, "slice": "control", "factor": 2.6, "rise_s": 0.2}
    scenario = parse_scenario(
        {
            "seed": 5,
            "start": "2016-06-15T00:00:00Z",
            "duration_s": 600,
            "nodes": [{"gnb_id": 1}],
            "traffic_events": [event],
        }
    )
    node = build_transport(scenario, scenario.nodes[0], Streams(5))
    node.traffic = Recorder(node.traffic)
    state, splits = PlantState.empty(1), [(5, 10, 5), (5, 10, 5), (8, 8, 4), (9, 6, 5), (4, 10, 6)]
    for period in range(40):
        slots = np.array([splits[period // 8]])
        node.calendar.allocate(slots[0])
        theirs = node.step(START_S + (period + 1) * 0.1, 0.1).stats
        arrivals, burst = node.traffic.arrivals[-1][:, :1], node.traffic.bursts[-1][:1]
        state, ours = serve(state, arrivals, burst, slots)
        for name in ("offered_mbit", "delivered_mbit", "dropped_mbit", "backlog_mbit"):
            np.testing.assert_allclose(getattr(ours, name)[0], getattr(theirs, name)[0], atol=1e-6, err_msg=name)
        np.testing.assert_allclose(ours.delay_ms[0], theirs.delay_ms[0], atol=0.1)
        np.testing.assert_allclose(ours.jitter_ms[0], theirs.jitter_ms[0], atol=0.1)
        np.testing.assert_allclose(ours.delay_max_ms[0], theirs.delay_max_ms[0], atol=0.3)


@pytest.mark.parametrize("threads", [1, 2])
def test_drawn_arrivals_give_the_statistics_of_given_ones(threads):
    """Poisson bursts of numpy through `serve` against those of the kernel: 400 nodes at 60 % load, two periods."""
    number, mean = 400, np.array([15e3, 30e3, 15e3])
    generator, steps = np.random.default_rng(1), 500
    one = two = PlantState.empty(number)
    for period in range(2):
        arrivals = generator.poisson(mean * STEP_MS / 1e3 / BURST, (steps, number, 3)) * BURST
        one, given = serve(one, arrivals, np.tile(BURST, (number, 1)), one.slots)
        keys = stream_keys(np.arange(number, dtype=np.uint64), period)
        loads = np.tile(mean, (number, 1)), np.tile(BURST, (number, 1))
        two, drawn = serve_drawn(two, *loads, two.slots, keys, threads=threads)
    for name in ("offered_mbit", "delay_ms", "jitter_ms", "delay_max_ms"):
        np.testing.assert_allclose(
            getattr(drawn, name).mean(axis=0), getattr(given, name).mean(axis=0), rtol=0.03, err_msg=name
        )


def test_plant_is_pure_and_repeats_whatever_the_slots():
    """An oracle asks for the same period under other slots: the arrivals are the same, the state is not touched."""
    state = PlantState(np.full((3, 3), 10.0), np.tile([5, 10, 5], (3, 1)))
    mean, burst = np.full((3, 3), 12e3), np.tile(BURST, (3, 1))
    keys = stream_keys(np.array([4, 5, 6], dtype=np.uint64), 9)
    results = [
        serve_drawn(state, mean, burst, np.tile(slots, (3, 1)), keys)[1]
        for slots in ([5, 10, 5], [8, 8, 4], [5, 10, 5])
    ]
    np.testing.assert_array_equal(results[0].offered_mbit, results[1].offered_mbit)
    np.testing.assert_array_equal(results[0].delay_ms, results[2].delay_ms)
    assert (state.backlog_mbit == 10.0).all()


def test_more_slots_never_wait_longer():
    mean, burst = np.tile([20e3, 30e3, 22e3], (50, 1)), np.tile(BURST, (50, 1))
    keys = stream_keys(np.arange(50, dtype=np.uint64), 0)
    delays = []
    for slots in range(4, 11):
        state = PlantState.empty(50, (slots, slots, slots))
        delays.append(serve_drawn(state, mean, burst, state.slots, keys)[1].delay_ms)
    assert (np.diff(np.array(delays), axis=0) <= 1e-9).all()


def test_gained_slots_carry_nothing_at_first():
    """26 Gb/s on 5 slots and 5 more: an outage of 50 ms of the period's 100 leaves 25 Gb/s so long."""
    mean, burst = np.tile([26e3, 1e3, 1e3], (200, 1)), np.full((200, 3), 0.1)
    keys, state = stream_keys(np.arange(200, dtype=np.uint64), 0), PlantState.empty(200)
    slots = np.tile([10, 5, 5], (200, 1))
    for outage_ms in (0.0, 50.0):
        _, stats = serve_drawn(state, mean, burst, slots, keys, settings=PlantSettings(switch_outage_ms=outage_ms))
        longest = stats.delay_max_ms[:, 0].mean()
        assert (longest > 1.5) == (outage_ms > 0)


def test_stream_keys_differ_by_node_period_and_slice():
    keys = np.concatenate([stream_keys(np.arange(1_000, dtype=np.uint64), period) for period in range(50)])
    assert np.unique(keys).size == keys.size
