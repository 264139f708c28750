"""Who follows its desired state: whatever a device does within its limits is taken for following, nothing else is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ric.columns import Table
from xapps.hems_load.confirmation import Confirmation

NS = 10**9
T0 = 1_460_462_400
IDS = ("a", "b")
POWERS = ("battery_kw", "ev_kw", "hvac_kw")


def desired(at_s, battery, ev=0.0, pv_limit=100.0):
    columns = {"battery_kw": battery, "ev_kw": ev, "hvac_kw": 0.5, "pv_limit_kw": pv_limit, "wind_limit_kw": 100.0}
    return Table("home_set_point", IDS, {name: full(value) for name, value in columns.items()}, (T0 + at_s) * NS)


def full(value):
    return np.broadcast_to(np.asarray(value, float), 2).copy()


def reported(at_s, battery, ev=0.0, pv=0.0):
    columns = {"battery_kw": battery, "ev_kw": ev, "hvac_kw": 0.5, "pv_kw": pv, "wind_kw": 0.0}
    return Table("home_report", IDS, {name: full(value) for name, value in columns.items()}, (T0 + at_s) * NS)


def limits(at_s, low=-5.0, high=5.0):
    columns = {f"{name}_{side}_kw": full(value) for name in ("battery", "ev", "hvac")
               for side, value in (("low", low), ("high", high))}  # fmt: skip
    return Table("home_in_force", IDS, columns, (T0 + at_s) * NS)


def watched(minutes, shown, *, asked=2.0, within_s=180.0, answer=None, **report):
    """The verdict after `minutes` in which home a shows `shown` and home b what it was asked."""
    watch = Confirmation(within_s)
    for minute in range(minutes):
        watch.ask(desired(60 * minute, asked))
        if answer is not None:
            watch.answer(answer)
        at_s = 60 * (minute + 1)
        last = watch.see(reported(at_s, [shown, asked], **report), limits(at_s), (T0 + 60 * minute) * NS)
    return last


def test_home_that_shows_what_it_was_asked_is_never_overdue():
    assert watched(30, 2.015).ids == ()


def test_home_that_shows_something_else_is_overdue_once_the_deadline_is_over():
    assert watched(3, 0.0) is None
    late = watched(5, 0.0)
    assert (late.ids, late.for_s) == (("a",), 300.0)
    assert late.text == "no answer; a battery_kw asked 2.00, shown 0.00"


def test_overdue_home_says_what_was_answered():
    assert watched(9, 0.0, answer="rejected: BUS-RANGE").text.startswith("rejected: BUS-RANGE; a battery_kw")
    assert watched(9, 0.0, answer="").text.startswith("accepted; a battery_kw")


def test_home_that_follows_again_is_no_longer_overdue():
    watch = Confirmation(60.0)
    verdicts = []
    for minute in range(6):
        watch.ask(desired(60 * minute, 2.0))
        at_s = 60 * (minute + 1)
        shown = 0.0 if minute < 4 else 2.0
        verdicts.append(watch.see(reported(at_s, shown), limits(at_s), (T0 + 60 * minute) * NS))
    assert verdicts[0] is None
    assert [verdict.ids for verdict in verdicts[1:]] == [IDS, IDS, IDS, (), ()]


def test_solar_power_above_its_limit_is_a_departure_and_below_is_none():
    watch = Confirmation(60.0)
    for minute in range(4):
        watch.ask(desired(60 * minute, 0.0, pv_limit=[1.0, 3.0]))
        at_s = 60 * (minute + 1)
        verdict = watch.see(reported(at_s, 0.0, pv=2.0), limits(at_s), (T0 + 60 * minute) * NS)
    assert verdict.ids == ("a",)
    assert "pv_kw asked 1.00, shown 2.00" in verdict.text


@pytest.mark.parametrize("ids", [("a",), ("b", "a")], ids=["fewer homes", "another order"])
def test_report_of_other_homes_says_nothing(ids):
    watch = Confirmation(1.0)
    for minute in range(5):
        watch.ask(desired(60 * minute, 2.0))
        report = reported(60 * (minute + 1), 0.0)
        rows = {name: values[: len(ids)] for name, values in report.columns.items()}
        other = Table("home_report", ids, rows, report.source_time_ns)
        assert watch.see(other, limits(0), (T0 + 60 * minute) * NS) is None


amounts = st.floats(-4, 4)


@given(st.lists(st.tuples(amounts, st.floats(-5, 0), st.floats(0, 5), st.floats(0, 1)), min_size=3, max_size=8))
def test_device_that_takes_each_value_as_far_as_it_can_is_never_flagged(periods):
    """At some moment of each period the newest value comes into force; before it the last one holds."""
    watch, before = Confirmation(1.0), 0.0
    for minute, (asked, low, high, share) in enumerate(periods):
        watch.ask(desired(60 * minute, asked))
        at_s = 60 * (minute + 1)
        mean = share * np.clip(before, low, high) + (1 - share) * np.clip(asked, low, high)
        limit = limits(at_s, low, high)
        verdict = watch.see(reported(at_s, mean), limit, (T0 + 60 * minute) * NS)
        assert verdict is None if minute == 0 else verdict.ids == ()
        before = asked
