"""Training traffic: repeatable, in range, and it has the events that it claims."""

import numpy as np

from xapps.slice_bandwidth.model import NEW_ALARM, NO_ALARM, OLD_ALARM
from xapps.slice_bandwidth.traffic import Draws, TrafficBatch, draw_traffic


def test_draw_traffic_same_seed_same_traffic():
    first, second = (draw_traffic(np.random.default_rng(4), 50, np.full(8, 0.1)) for _ in range(2))
    assert np.array_equal(first.offered_mbps, second.offered_mbps)
    assert np.array_equal(first.alarm, second.alarm)
    other = draw_traffic(np.random.default_rng(5), 50, np.full(8, 0.1))
    assert not np.array_equal(first.offered_mbps, other.offered_mbps)


def test_draw_traffic_covers_congestion_bursts_storms_and_alarms():
    batch = draw_traffic(np.random.default_rng(0), 600, np.full(64, 0.1))
    offered = batch.offered_mbps
    assert offered.min() >= 50
    assert offered.max() <= 100_000
    assert np.median(offered[..., 0]) < 14e3
    # Control beyond twice its static 25 Gb/s, protection beyond 30, monitoring beyond its static 25.
    assert ((offered > [50e3, 30e3, 25e3]).mean(axis=(0, 1)) > 1e-3).all()
    during, without = offered[batch.alarm][:, 1].mean(), offered[~batch.alarm][:, 1].mean()
    assert during > 2 * without


def test_alarm_at_tells_the_first_period_of_an_alarm_from_later_ones():
    alarm = np.array([[0, 1], [1, 1], [1, 0], [0, 1]], dtype=bool)
    batch = TrafficBatch(np.ones((4, 2, 3)), alarm)
    got = [batch.alarm_at(step).tolist() for step in (1, 2, 3)]
    assert got == [[NEW_ALARM, OLD_ALARM], [OLD_ALARM, NO_ALARM], [NO_ALARM, NEW_ALARM]]


def test_draw_traffic_new_alarms_come_before_control_rises_in_what_training_draws():
    batch = draw_traffic(np.random.default_rng(2), 600, np.full(400, 0.1), Draws.WIDE)
    rise = np.log(batch.offered_mbps[1:, :, 0] / batch.offered_mbps[:-1, :, 0])
    stage = np.stack([batch.alarm_at(step) for step in range(1, 600)])
    with_new, with_old = (np.mean(rise[stage == value] > 0.15) for value in (NEW_ALARM, OLD_ALARM))
    assert with_new > 3 * with_old
