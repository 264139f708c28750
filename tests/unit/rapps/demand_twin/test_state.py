"""Windows of the demand twin: averaging, gaps, restoring."""

import numpy as np
import pytest

from rapps.demand_twin.state import FEEDER, FIFTEEN_MINUTES, NodeWindow, State
from ric.columns import Table

MINUTE_NS = 60 * 10**9


def report(end_ns, *loads_kw):
    ids = tuple(f"home-{i}" for i in range(len(loads_kw)))
    return Table(
        "home_report", ids, {"inflexible_kw": np.array(loads_kw), "pv_available_kw": np.zeros(len(loads_kw))}, end_ns
    )


def test_node_window_quarter_is_the_mean_of_its_minutes():
    window = NodeWindow(("home-0",))
    closed = [window.add(report((minute + 1) * MINUTE_NS, float(minute))) for minute in range(15)]
    assert closed == [False] * 14 + [True]
    assert window.quarters.load_kw[0, -1] == pytest.approx(7.0)
    assert window.minutes.load_kw[0, -3:].tolist() == [12.0, 13.0, 14.0]


def test_node_window_repeated_report_changes_nothing():
    window = NodeWindow(("home-0",))
    window.add(report(MINUTE_NS, 4.0))
    window.add(report(MINUTE_NS, 400.0))
    assert window.minutes.load_kw[0, -1] == 4.0


def test_node_window_gap_moves_the_window_on():
    window = NodeWindow(("home-0",))
    window.add(report(15 * MINUTE_NS, 1.0))
    window.add(report(60 * MINUTE_NS, 5.0))
    tail = window.quarters.load_kw[0, -4:]
    assert tail[0] == 1.0
    assert np.isnan(tail[1:3]).all()
    assert tail[3] == 5.0


def test_state_of_gaps_take_the_same_quarter_of_the_other_day():
    window = NodeWindow(("a", "b"))
    window.quarters.load_kw[:, :96] = np.arange(96.0)
    window.quarters.load_kw[1, 96:] = 2.0
    window.quarters.end_ns = 192 * FIFTEEN_MINUTES.step_s * 10**9
    state = State.of("node", window)
    assert state.ids == ("a", "b", FEEDER)
    assert state.load_kw[0, 96:].tolist() == list(range(96))
    assert state.load_kw[2, 100] == pytest.approx(4.0 + 2.0)
    assert state.seen_share == pytest.approx(0.75)


def test_node_window_restore_gives_back_what_history_holds():
    window = NodeWindow(("a",))
    window.quarters.load_kw[:] = np.arange(192.0)
    window.quarters.pv_kw[:] = 1.0
    window.quarters.end_ns = 900 * 10**9
    again = NodeWindow(("a",))
    again.restore(window.history())
    assert np.array_equal(again.quarters.load_kw, window.quarters.load_kw)
    assert again.quarters.end_ns == window.quarters.end_ns
