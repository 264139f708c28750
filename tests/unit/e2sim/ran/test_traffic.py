import numpy as np
import pytest

from e2sim.ran.traffic import CATALOGUE, PUSH_LENGTH_S, PUSH_PERIOD_S, OfferedTraffic, TrafficEvent

TERMINALS = ({"der_microgrids": 1_000}, {"fisr": 1_000}, {"advanced_metering": 1_000})


def traffic(seed=1, **more):
    return OfferedTraffic(TERMINALS, np.random.default_rng(seed), **more)


def test_catalogue_rows_state_source_and_doubt():
    assert len(CATALOGUE) == 10
    for service in CATALOGUE.values():
        assert service.source
        assert service.doubt
        assert service.role in ("control", "protection", "monitoring")


def test_arrivals_have_the_mean_that_is_stated():
    source = traffic()
    volume = source.arrivals_mbit(100.0, 20_000, 0.2).sum(axis=0) / 4.0
    np.testing.assert_allclose(volume, source.mean_mbps(100.0), rtol=0.08)


def test_meters_push_at_the_quarter_and_keep_their_daily_mean():
    source = traffic()
    times = np.arange(0, PUSH_PERIOD_S, 10.0)
    uplink = np.array([source.mean_mbps(time)[1, 2] for time in times])
    assert uplink[times < PUSH_LENGTH_S].min() > 1.4 * uplink[times >= PUSH_LENGTH_S].max()
    assert uplink.mean() == pytest.approx(2_000, rel=0.01)


def test_events_multiply_only_their_slice_and_rise_in_time():
    event = TrafficEvent(10.0, 20.0, 0, 3.0, rise_s=2.0)
    plain, stormy = traffic(), traffic(events=[event])
    ratio = [(stormy.mean_mbps(time) / plain.mean_mbps(time))[0] for time in (9.9, 11.0, 15.0, 19.0, 20.0)]
    np.testing.assert_allclose(ratio, [[1, 1, 1], [2, 1, 1], [3, 1, 1], [2, 1, 1], [1, 1, 1]])


def test_faults_bring_the_terminals_of_fault_services_up():
    source = traffic(fault_spans_s=[(10.0, 12.0)])
    service = CATALOGUE["fisr"]
    before, during, after = (source.mean_mbps(time)[0, 1] for time in (9.0, 10.0, 12.0))
    assert before == after == pytest.approx(10_000 * service.quiet_share)
    assert during == pytest.approx(10_000 * service.fault_share)


def test_recorded_rate_replaces_the_mean_of_its_slice():
    source = traffic(recorded={1: lambda time_s: (1_234.0, time_s)})
    rates = source.mean_mbps(50.0)
    np.testing.assert_allclose(rates[:, 1], [1_234.0, 50.0])
    np.testing.assert_allclose(rates[:, 0], traffic().mean_mbps(50.0)[:, 0])


def test_wander_keeps_the_mean_and_is_seeded():
    first, second = traffic(4), traffic(4)
    factors = []
    for _ in range(4_000):
        first.wander(10.0)
        second.wander(10.0)
        factors.append(first.mean_mbps(100.0)[0, 0])
    assert first.mean_mbps(100.0)[0, 0] == second.mean_mbps(100.0)[0, 0]
    assert np.mean(factors) == pytest.approx(5_400, rel=0.02)
    assert 0.03 < np.std(factors) / np.mean(factors) < 0.1
