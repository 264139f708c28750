import numpy as np
import pytest

from e2sim.ran.catalogue import CATALOGUE
from e2sim.ran.traffic import PUSH_LENGTH_S, PUSH_PERIOD_S, OfferedTraffic, TrafficEvent

TERMINALS = ({"der_microgrids": 1_000}, {"fisr": 1_000}, {"advanced_metering": 1_000})


def traffic(seed=1, **more):
    return OfferedTraffic(TERMINALS, np.random.default_rng(seed), **more)


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
    source = traffic(recorded={1: lambda times_s: np.stack([np.full_like(times_s, 1_234.0), times_s], axis=1)})
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


def test_recorded_rate_is_followed_within_a_period():
    """On for the second half of every 100 ms: at the start of each period, where the rate is read, it is 0."""

    def rates_at(times_s):
        on = np.rint(times_s * 1e4) % 1_000 >= 500
        return np.stack([on * 50_000.0, on * 100.0], axis=1)

    volume = traffic(recorded={0: rates_at}).arrivals_mbit(100.0, 500, 0.2)[:, 0, 0]
    assert volume[:250].sum() == 0
    assert volume[250:].sum() == pytest.approx(2_500, rel=0.1)


def test_terminals_in_step_report_at_the_period_and_keep_their_mean():
    """Microgrids report every 20 ms; in step they do so within 2 ms."""
    event = TrafficEvent(0.0, 1_000.0, 0, in_step=1.0, spread_ms=2.0)
    loose, tight = (traffic(events=events).arrivals_mbit(100.0, 20_000, 0.2)[:, 0, 0] for events in ([], [event]))
    assert tight.sum() == pytest.approx(loose.sum(), rel=0.03)
    folded = tight.reshape(-1, 100).sum(axis=0)
    assert folded[10:].sum() == 0
    assert (folded[:10] > 0).all()


def test_services_of_an_event_are_the_only_ones_that_change():
    terminals = ({"advanced_metering": 1_000, "fault_location": 100}, {}, {})
    event = TrafficEvent(0.0, 1_000.0, 0, 5.0, services=("advanced_metering",))
    plain, stormy = (OfferedTraffic(terminals, np.random.default_rng(1), events=e) for e in ([], [event]))
    meters = CATALOGUE["advanced_metering"].ul_mbps * 1_000
    gained = stormy.mean_mbps(500.0)[1, 0] - plain.mean_mbps(500.0)[1, 0]
    assert gained == pytest.approx(4 * meters, rel=0.1)  # between two quarter-hour pushes


def test_polls_are_answered_together():
    source = OfferedTraffic(({"ev_hems_polling": 100_000},), np.random.default_rng(1))
    folded = source.arrivals_mbit(100.0, 50_000, 0.2)[:, 1, 0].reshape(10, 5_000).sum(axis=0)
    assert folded[1_000:].sum() == 0
    assert folded.sum() == pytest.approx(5_000 * 10, rel=0.05)


def test_faults_wake_terminals_with_a_burst():
    """1,000 terminals of FISR: 70 % wake and send 10 kbit each within 50 ms, besides their rate."""
    service = CATALOGUE["fisr"]
    source, quiet = traffic(fault_spans_s=[(100.0, 100.05)]), traffic(fault_spans_s=[(50.0, 100.05)])
    extra = [s.arrivals_mbit(100.0, 250, 0.2)[:, 0, 1].sum() for s in (source, quiet)]
    woken = 1_000 * (service.fault_share - service.quiet_share) * service.fault_burst_kbit / 1e3
    rate = 1_000 * service.fault_share * service.dl_mbps * 0.05
    assert extra[1] == pytest.approx(rate, rel=0.2)
    assert extra[0] == pytest.approx(rate + woken, rel=0.2)


def test_packet_octets_count_packets():
    """10 Mb/s in packets of 600 and 10 Mb/s in packets of 1,400 octets: 840 octets per packet on average."""
    terminals = ({"dg_fault_management": 10, "fault_location": 1},)
    source = OfferedTraffic(terminals, np.random.default_rng(1), fault_spans_s=[])
    rates = np.array([10 * 1.0, 100 * 0.03])
    expected = rates.sum() / (rates / np.array([600, 1_400])).sum()
    assert source.packet_octets(0.0)[0, 0] == pytest.approx(expected)
