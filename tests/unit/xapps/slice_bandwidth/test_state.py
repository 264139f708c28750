"""KPM reports and alarms to state: units, sums over cells, order, what is refused."""

import numpy as np
import pytest

from ric.e2sm.dapp import DAppReport
from ric.e2sm.kpm import KpmItem, KpmReport
from ric.errors import TwinRicError
from ric.pb.twinric.bus.v1.record_pb2 import PERCEIVED_SEVERITY_CLEARED, PERCEIVED_SEVERITY_CRITICAL, Alarm
from xapps.slice_bandwidth.model import S_NSSAI
from xapps.slice_bandwidth.state import HISTORY, MEASUREMENT_NAMES, LinkWindow, NodeWindow

SECOND = 1_000_000_000


def report(time_s=1.0, volume=(800.0, 300.0, 900.0), cells=("c1",), names=MEASUREMENT_NAMES, slices=S_NSSAI):
    items = tuple(KpmItem(cell, name) for cell in cells for name in slices)
    per_slice = {
        "DRB.PdcpSduVolumeDL": volume, "TWINRIC.QueueDl": (1.0, 2.0, 3.0), "TWINRIC.FlexeSlots": (5, 10, 5),
        "DRB.RlcSduDelayDl": (10.0, 20.0, 30.0), "TWINRIC.DelayJitterDl": (1, 2, 3), "TWINRIC.DelayMaxDl": (40, 50, 60),
    }  # fmt: skip
    values = np.array([[per_slice[name][S_NSSAI.index(item.s_nssai)] for item in items] for name in names])
    return KpmReport("n1", int(time_s * SECOND), 100, tuple(names), items, values)


def alarm(severity=PERCEIVED_SEVERITY_CRITICAL, section="3", time_s=1.0):
    made = Alarm(managed_object=f"feeder/lv1/section/{section}", application="fault_alarm",
                 specific_problem="PHASE_TO_GROUND", perceived_severity=severity)  # fmt: skip
    return DAppReport("n1", int(time_s * SECOND), 1, 1, made)


def test_window_report_becomes_rates_and_milliseconds():
    window = NodeWindow("n1")
    assert window.add_report(report())
    state = window.state(SECOND)
    assert state.offered_mbps.shape == (HISTORY, 3)
    assert state.offered_mbps[-1] == pytest.approx([8_000, 3_000, 9_000])
    assert state.delay_ms == pytest.approx([1, 2, 3])
    assert state.jitter_ms == pytest.approx([0.1, 0.2, 0.3])
    assert state.delay_max_ms == pytest.approx([4, 5, 6])
    assert state.slots.tolist() == [5, 10, 5]


def test_window_rows_of_two_cells_add_up_and_leave_delays_alone():
    window = NodeWindow("n1")
    window.add_report(report(cells=("c1", "c2")))
    state = window.state(SECOND)
    assert state.offered_mbps[-1] == pytest.approx([16_000, 6_000, 18_000])
    assert state.queue_mbit == pytest.approx([2, 4, 6])
    assert state.delay_ms == pytest.approx([1, 2, 3])
    assert state.slots.tolist() == [5, 10, 5]


def test_window_follows_a_node_whose_rows_change_and_weighs_delays_by_volume():
    window = NodeWindow("n1")
    window.add_report(report(1.0))
    made = report(2.0, cells=("c1", "c2"), names=MEASUREMENT_NAMES[::-1])
    volume, delay = (made.measurement_names.index(name) for name in (MEASUREMENT_NAMES[0], MEASUREMENT_NAMES[3]))
    made.values[volume], made.values[delay] = [1, 2, 3, 3, 2, 1], [10, 20, 30, 50, 60, 70]
    window.add_report(made)
    state = window.state(SECOND)
    assert state.offered_mbps[-1] == pytest.approx([40, 40, 40])
    assert state.delay_ms == pytest.approx([4, 4, 4])
    assert state.slots.tolist() == [5, 10, 5]
    window.add_report(report(3.0))
    assert window.state(SECOND).delay_ms == pytest.approx([1, 2, 3])
    assert window.state(SECOND).offered_mbps[-2] == pytest.approx([40, 40, 40])


def test_window_old_and_duplicate_reports_change_nothing():
    window = NodeWindow("n1")
    window.add_report(report(2.0))
    assert not window.add_report(report(2.0, volume=(1, 1, 1)))
    assert not window.add_report(report(1.0, volume=(1, 1, 1)))
    assert window.state(SECOND).offered_mbps[-1] == pytest.approx([8_000, 3_000, 9_000])


def test_window_keeps_the_newest_periods_oldest_first():
    window = NodeWindow("n1")
    for step in range(HISTORY + 3):
        window.add_report(report(1.0 + step, volume=(step, step, step)))
    got = window.state(SECOND).offered_mbps[:, 0]
    assert got == pytest.approx(np.arange(3, HISTORY + 3) * 10.0)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"names": MEASUREMENT_NAMES[1:]}, "DRB.PdcpSduVolumeDL"),
        ({"slices": S_NSSAI[:2]}, "1-000003"),
    ],
    ids=["measurement absent", "slice absent"],
)
def test_window_incomplete_report_is_refused_by_name(broken, said):
    window = NodeWindow("n1")
    with pytest.raises(TwinRicError, match=said):
        window.add_report(report(**broken))
    assert window.state(SECOND) is None


def test_window_alarm_raised_twice_clears_once_and_only_with_its_own_identity():
    window = NodeWindow("n1")
    window.add_report(report())
    window.add_alarm(alarm())
    window.add_alarm(alarm())
    window.add_alarm(alarm(PERCEIVED_SEVERITY_CLEARED, section="9", time_s=2))
    assert window.state(2 * SECOND).alarm_active
    window.add_alarm(alarm(PERCEIVED_SEVERITY_CLEARED, time_s=3))
    state = window.state(5 * SECOND)
    assert not state.alarm_active
    assert state.alarm_cleared_s == pytest.approx(2.0)


def test_window_alarm_is_new_until_a_whole_period_after_it_is_reported():
    window = NodeWindow("n1")
    window.add_report(report(time_s=1))
    window.add_alarm(alarm(time_s=1.02))
    window.add_alarm(alarm(time_s=1.2))  # said again: no other alarm
    assert window.state(2 * SECOND).is_alarm_new
    period_s = window.period_s
    window.add_report(report(time_s=1.02 + period_s / 2))
    assert window.state(2 * SECOND).is_alarm_new
    window.add_report(report(time_s=1.021 + period_s))
    state = window.state(2 * SECOND)
    assert state.alarm_active
    assert not state.is_alarm_new
    window.add_alarm(alarm(section="9", time_s=1.3 + period_s))
    assert window.state(2 * SECOND).is_alarm_new


def test_window_alarm_moves_the_source_time_on():
    window = NodeWindow("n1")
    window.add_report(report(1.0))
    window.add_alarm(alarm(time_s=1.05))
    assert window.state(2 * SECOND).source_time_ns == 1_050_000_000


def on_a_link(mbps=100_000.0, names=("a", "b", "c")):
    """A link and the windows of its nodes, after a first report of each, which has no period behind it yet."""
    shared = LinkWindow("ring", names, mbps, 5_000.0)
    windows = [NodeWindow(name, shared=shared) for name in names]
    for window in windows:
        window.add_report(report(1.0))
    return shared, windows


HEAVY = {"volume": (4_000.0, 6_000.0, 3_000.0)}


def test_link_window_period_is_over_when_every_node_has_told():
    shared, windows = on_a_link()
    for window in windows:
        assert not shared.wait.queue_mbit.any()
        window.add_report(report(1.1, **HEAVY))
    # Each lets 2.5, 5 and 2.5 Gbit through (its slots) in 0.1 s; the link takes 10 Gbit.
    assert shared.wait.queue_mbit[1] > 0
    assert shared.state().queue_mbit is shared.wait.queue_mbit
    assert {id(window.shared_wait) for window in windows} == {id(shared.wait)}


def test_link_window_delays_prove_a_backlog_smaller_than_reckoned():
    """Volumes alone would put 5 Gbit on the link; nobody measured more than 3 ms, so it holds less."""
    shared, windows = on_a_link()
    for window in windows:
        window.add_report(report(1.1, **HEAVY))
    state = windows[0].state(SECOND)
    assert (shared.wait.mean_ms <= state.delay_ms + 1e-9).all()
    assert shared.wait.mean_ms[1] == pytest.approx(2.0)
    own_delay, own_jitter = state.own_ms
    assert own_delay == pytest.approx(state.delay_ms - shared.wait.mean_ms)
    assert (own_jitter <= state.jitter_ms).all()


def test_link_window_a_silent_node_counts_once_more_and_is_awaited_no_longer():
    shared, windows = on_a_link()
    for window in windows:
        window.add_report(report(1.1))
    for time_s in (1.2, 1.3, 1.4):
        for window in windows[:2]:
            window.add_report(report(time_s))
    assert shared.awaited == {"a", "b"}
    assert not shared.told
    late = windows[2].shared_wait
    windows[2].add_report(report(1.4))  # its period is over
    assert "c" not in shared.told
    assert windows[2].shared_wait is shared.wait
    assert late is not shared.wait
    for window in windows:
        window.add_report(report(1.5))
    assert not shared.told
    assert shared.passed_ns == int(1.5 * SECOND)
    assert shared.awaited == {"a", "b", "c"}


def test_link_window_nodes_that_report_out_of_step_each_count_once():
    shared, windows = on_a_link(names=("a", "b"))
    passed = []
    for step in range(1, 6):
        windows[0].add_report(report(1.0 + step / 10))
        windows[1].add_report(report(1.05 + step / 10))
        passed.append(shared.passed_ns)
    assert passed == [round((1.05 + step / 10) * SECOND) for step in range(1, 6)]


def test_window_calibrates_its_own_link_without_the_wait_behind_it():
    alone, (shared, windows) = NodeWindow("a"), on_a_link()
    alone.add_report(report(1.0))
    for step in range(1, 20):
        for window in (alone, *windows):
            window.add_report(report(1.0 + step / 10, **HEAVY))
    assert shared.wait.mean_ms[1] > 0
    assert windows[0].link.base_delay_ms[1] <= alone.link.base_delay_ms[1]
    # On a link that never fills, all is as it is without one.
    _, roomy = on_a_link(mbps=1e6)
    for step in range(1, 20):
        for window in roomy:
            window.add_report(report(1.0 + step / 10, **HEAVY))
    assert roomy[0].link.base_delay_ms.tolist() == alone.link.base_delay_ms.tolist()
    assert roomy[0].link.burst_mbit.tolist() == alone.link.burst_mbit.tolist()


def test_link_window_nodes_in_step_are_due_together_and_once():
    shared, windows = on_a_link()
    due = []
    for time_s in (1.1, 1.2):
        for window in windows:
            window.add_report(report(time_s))
            due.append(window.due())
    assert due == [frozenset(), frozenset(), frozenset("abc")] * 2
    assert not shared.held


def test_link_window_a_lost_report_costs_the_others_one_decision():
    _, windows = on_a_link()
    due = {}
    for time_s, told in ((1.1, "ab"), (1.2, "ab"), (1.3, "abc"), (1.4, "abc")):
        for window in windows:
            if window.e2_node_id in told:
                window.add_report(report(time_s))
                due[time_s] = due.get(time_s, frozenset()) | window.due()
    assert due == {1.1: frozenset(), 1.2: frozenset("ab"), 1.3: frozenset("abc"), 1.4: frozenset("abc")}


def test_link_window_nodes_out_of_step_never_wait():
    _, windows = on_a_link(names=("a", "b"))
    for step in range(1, 4):
        for window, offset_s in zip(windows, (0.0, 0.05), strict=True):
            window.add_report(report(1.0 + step / 10 + offset_s))
            if step > 1:
                assert window.due() == {window.e2_node_id}
            else:
                window.due()


def test_window_that_is_on_no_link_is_due_by_itself():
    window = NodeWindow("n1")
    window.add_report(report())
    assert window.due() == {"n1"}
