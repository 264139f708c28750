"""KPM reports and alarms to state: units, sums over cells, order, what is refused."""

import numpy as np
import pytest

from ric.e2sm.dapp import DAppReport
from ric.e2sm.kpm import KpmItem, KpmReport
from ric.errors import TwinRicError
from ric.pb.twinric.bus.v1.record_pb2 import PERCEIVED_SEVERITY_CLEARED, PERCEIVED_SEVERITY_CRITICAL, Alarm
from xapps.slice_bandwidth.model import S_NSSAI
from xapps.slice_bandwidth.state import HISTORY, MEASUREMENT_NAMES, NodeWindow

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


def test_window_alarm_moves_the_source_time_on():
    window = NodeWindow("n1")
    window.add_report(report(1.0))
    window.add_alarm(alarm(time_s=1.05))
    assert window.state(2 * SECOND).source_time_ns == 1_050_000_000
