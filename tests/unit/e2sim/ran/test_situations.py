import itertools

import numpy as np
import pytest

from e2sim.network import Network
from e2sim.ran.encryption import Encryption
from e2sim.ran.plant import PlantSettings, PlantState, serve
from e2sim.ran.situations import SITUATIONS, START_S, PlantTraffic
from e2sim.ran.transport import kpm_values
from e2sim.scenario import load_scenario


@pytest.mark.parametrize("name", SITUATIONS)
def test_situation_repeats_with_its_seed_and_not_with_another(name):
    runs = [PlantTraffic(name, [1, 2], periods=20) for _ in range(2)]
    first, again = ([run.next_period() for _ in range(3)] for run in runs)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.arrivals_mbit, other.arrivals_mbit)
    assert not np.array_equal(first[0].arrivals_mbit[:, 0], first[0].arrivals_mbit[:, 1])
    assert first[0].arrivals_mbit.shape == (500, 2, 3)
    np.testing.assert_allclose(first[0].mean_mbps, first[0].arrivals_mbit.sum(axis=0) / 0.1)


def peaks(name):
    traffic = PlantTraffic(name, range(4), periods=150)
    return np.stack([traffic.next_period().mean_mbps for _ in range(150)]).max(axis=(0, 1))


def test_situations_do_what_their_summaries_say():
    normal, surge, fault, many = (peaks(name) for name in ("normal", "surge", "fault", "multi_service"))
    assert surge[0] > 1.7 * normal[0]
    assert fault[1] > 1.5 * normal[1]
    assert many[2] > 1.3 * normal[2]
    assert SITUATIONS["encrypted"].encryption is Encryption.IPSEC


def test_alarm_follows_the_fault():
    node = SITUATIONS["fault"].traffic(3, 30.0)
    start_s, end_s = node.fault_spans_s[0]
    assert not node.alarmed(start_s)
    assert node.alarmed(start_s + 0.1)
    assert not node.alarmed(end_s)
    assert start_s > START_S


def test_reports_in_step_wait_longer_on_the_plant():
    delays = []
    for name in ("normal", "wide_area_sync"):
        traffic, state = PlantTraffic(name, range(3), periods=10), PlantState.empty(3)
        settings = PlantSettings(encryption=traffic.situation.encryption)
        for _ in range(10):
            load = traffic.next_period()
            state, stats = serve(state, load.arrivals_mbit, load.burst_mbit, state.slots, settings)
        delays.append(stats.delay_ms[:, 0].mean())
    assert delays[1] > 2 * delays[0]


@pytest.mark.parametrize("name", ["slices", "aggregation"])
def test_shipped_slice_scenario_runs_twice_bit_for_bit(name):
    def begun():
        network, seen = Network(load_scenario(name)), []
        for end_s in itertools.islice(network.scenario.instants(), 60):
            seen += [kpm.tobytes() for sample in network.advance(end_s) for kpm in kpm_values(sample.ran, 0.1).values()]
        return seen

    assert begun() == begun()
