import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2sim.network import build_transport
from e2sim.ran.encryption import Encryption
from e2sim.ran.transport import kpm_values, merge_samples
from e2sim.ran.tsn import gating_bound_ms
from e2sim.scenario import parse_scenario
from e2sim.streams import Streams
from ric.e2sm.kpm import MEASUREMENTS

START_S = 1_465_948_800.0


def transport(**changes):
    scenario = parse_scenario({
        "seed": changes.pop("seed", 3), "start": "2016-06-15T00:00:00Z", "duration_s": 600,
        "nodes": [{"gnb_id": 1, **changes.pop("node", {})}], **changes,
    })  # fmt: skip
    return build_transport(scenario, scenario.nodes[0], Streams(scenario.seed))


def run(subject, seconds, dt_s=0.1, start_s=START_S):
    return [subject.step(start_s + (n + 1) * dt_s, dt_s) for n in range(round(seconds / dt_s))]


@given(st.floats(0.3, 4.0), st.sampled_from([(5, 10, 5), (8, 8, 4), (2, 16, 2), (16, 2, 2)]))
@settings(max_examples=25, deadline=None)
def test_delay_stays_below_eq_1_plus_queue_bound(factor, slots):
    subject = transport(
        traffic_events=[{"at_s": 0, "duration_s": 600, "slice": "control", "factor": factor, "rise_s": 0}]
    )
    subject.calendar.allocate(slots)
    bound = gating_bound_ms(subject.hop, (1, 1, 1))
    smallest = np.minimum(np.array([5, 10, 5]), slots) * 5_000.0
    burst_ms = subject.traffic.burst_mbit(START_S) / smallest * 1e3
    queue_ms = 2_500.0 / smallest * 1e3
    for sample in run(subject, 0.5):
        assert (sample.stats.delay_max_ms <= bound + queue_ms + burst_ms + 2 * 0.125 + 1e-6).all()
        assert (sample.stats.delay_ms <= sample.stats.delay_max_ms).all()


def test_congestion_breaks_the_static_split_and_another_split_carries_it():
    event = [{"at_s": 0, "duration_s": 600, "slice": "control", "factor": 2.8, "rise_s": 0}]
    static, better = transport(traffic_events=event), transport(traffic_events=event)
    better.calendar.allocate((8, 8, 4))
    bad, good = (run(subject, 2.0)[-1].stats for subject in (static, better))
    assert bad.delay_ms[0, 0] > 50
    assert bad.dropped_mbit[0, 0] > 0
    assert (good.delay_ms[0] < 3).all()
    assert not good.dropped_mbit.any()
    np.testing.assert_array_equal(bad.offered_mbit, good.offered_mbit)


def test_fast_forward_reports_full_queues_of_a_lasting_overload():
    event = [{"at_s": 0, "duration_s": 600, "slice": "control", "factor": 2.8, "rise_s": 0}]
    sample = transport(traffic_events=event).step(START_S + 60, 60.0)
    assert sample.stats.extrapolated
    assert sample.stats.delay_ms[0, 0] == pytest.approx(100, rel=0.02)
    np.testing.assert_allclose(
        sample.stats.offered_mbit,
        sample.stats.delivered_mbit + sample.stats.dropped_mbit + sample.stats.backlog_mbit,
        rtol=1e-9,
    )


def test_small_cells_limit_what_slots_carry():
    subject = transport(node={"cells": [{"cell_id": 1, "prb": 273, "mbps_per_prb": 40}]})
    sample = run(subject, 1.0)[-1]
    assert sample.stats.delivered_mbit[0, 0] / 0.1 == pytest.approx(273 * 40 / 4, rel=1e-6)
    assert sample.prb_share[0] == pytest.approx(1.0)


@pytest.mark.parametrize("mode", ["macsec_aes_gcm", "ipsec"])
def test_encryption_costs_latency_and_volume(mode):
    plain, coded = (run(transport(node={"transport": {"encryption": name}}), 0.5)[-1].stats for name in ("none", mode))
    kind, octets = Encryption(mode), transport().traffic.packet_octets(START_S)
    assert (coded.delay_ms[0] - plain.delay_ms[0] >= 0.9 * kind.latency_ms(octets[0])).all()
    np.testing.assert_allclose(coded.offered_mbit, plain.offered_mbit * kind.growth(octets), rtol=1e-3)


def test_kpm_values_are_all_measurements_and_finite():
    first, second = run(transport(), 0.2)
    values = kpm_values(merge_samples(first, second), 0.2)
    assert set(values) == set(MEASUREMENTS)
    assert all(np.isfinite(row).all() and (row >= 0).all() and row.shape == (3,) for row in values.values())
    np.testing.assert_allclose(
        values["DRB.PdcpSduVolumeDL"], first.stats.offered_mbit[0] + second.stats.offered_mbit[0]
    )


def test_kpm_volume_is_that_of_the_granularity_period_after_fast_forward():
    sample = transport().step(START_S + 60, 60.0)
    values = kpm_values(sample, 0.1)
    rate = sample.stats.offered_mbit[0] / 60
    np.testing.assert_allclose(values["DRB.PdcpSduVolumeDL"], rate * 0.1)


@given(
    st.floats(0.3, 3.0), st.sampled_from([(5, 10, 5), (8, 8, 4), (2, 16, 2), (16, 2, 2)]),
    st.sampled_from(["none", "ipsec"]), st.floats(0, 1), st.floats(0.3, 1.0), st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_measured_delay_stays_below_the_network_calculus_bound(factor, slots, encryption, in_step, share, seed):
    event = {"at_s": 0, "duration_s": 600, "slice": "control", "factor": factor, "rise_s": 0, "in_step": in_step}
    subject = transport(
        traffic_events=[event], seed=seed, node={"transport": {"encryption": encryption}},
        link_events=[{"at_s": 0.3, "duration_s": 0.3, "capacity_share": share}],
    )  # fmt: skip
    finite = 0
    for period in range(10):
        if period % 3 == 1:  # slots change hands with traffic in the queues and at the gates
            subject.calendar.allocate(slots if period % 2 else (5, 10, 5))
        (sample,) = run(subject, 0.1, start_s=START_S + period * 0.1)
        assert (sample.stats.delay_max_ms <= sample.delay_bound_ms + 1e-9).all()
        finite += np.isfinite(sample.delay_bound_ms).sum()
    assert finite > 0


def test_degraded_link_costs_capacity_delay_and_volume():
    event = {"at_s": 0.5, "duration_s": 0.5, "capacity_share": 0.3, "extra_delay_ms": 4, "loss": 0.1}
    samples = run(transport(link_events=[event]), 1.5)
    before, during, after = (samples[n].stats for n in (4, 9, 14))
    assert (during.delay_ms >= before.delay_ms + 4).all()
    assert during.delay_ms[0, 0] > 20
    assert during.delivered_mbit[0, 0] / 0.1 == pytest.approx(0.9 * 0.3 * 25_000, rel=1e-6)
    np.testing.assert_allclose(
        during.dropped_mbit[0, 1:] / (during.dropped_mbit + during.delivered_mbit)[0, 1:], 0.1, rtol=1e-6
    )
    assert (after.delay_ms[:, 1:] < 1).all()


def test_terminals_in_step_wait_longer_at_the_same_rate():
    event = {"at_s": 0, "duration_s": 600, "slice": "control", "in_step": 1, "spread_ms": 1}
    loose, tight = (run(transport(traffic_events=events), 2.0) for events in ([], [event]))
    rates = [np.mean([s.stats.offered_mbit[0, 0] for s in samples]) for samples in (loose, tight)]
    assert rates[1] == pytest.approx(rates[0], rel=0.1)
    delays = [np.mean([s.stats.delay_ms[0, 0] for s in samples]) for samples in (loose, tight)]
    assert delays[1] > 3 * delays[0]
