import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2sim.ran.flexe import FlexeCalendar
from ric.errors import TwinRicError

STATIC, STEPS = (5, 10, 5), (1, 2, 1)
splits = st.tuples(st.integers(1, 17), st.integers(1, 9).map(lambda n: 2 * n), st.integers(1, 17)).filter(
    lambda slots: sum(slots) <= 20
)


@given(splits, splits)
def test_calendar_gives_what_was_asked_and_moves_as_few_slots_as_possible(first, second):
    calendar = FlexeCalendar(first, STEPS)
    before = calendar.owners.copy()
    moved = calendar.allocate(second)
    assert tuple(calendar.slots) == second
    changed_owner = (before != calendar.owners) & (before >= 0) & (calendar.owners >= 0)
    gained = np.maximum(np.array(second) - np.array(first), 0).sum()
    assert changed_owner.sum() <= gained <= moved


@pytest.mark.parametrize(
    ("slots", "field"),
    [
        ((0, 10, 5), "slots[0]"),
        ((5, 9, 5), "slots[1]"),
        ((5, 10, 6), "slots[0]+slots[1]+slots[2]"),
        ((5, 10, -1), "slots[2]"),
    ],
    ids=["less than a granule", "not a multiple of the granule", "more than the calendar", "negative"],
)
def test_calendar_refuses_and_keeps_what_was_in_force(slots, field):
    calendar = FlexeCalendar(STATIC, STEPS)
    with pytest.raises(TwinRicError) as error:
        calendar.allocate(slots)
    assert error.value.faults[0].field == field
    assert tuple(calendar.slots) == STATIC
    assert calendar.slots_moved == 0


def test_capacity_of_moved_slots_comes_after_the_outage():
    calendar = FlexeCalendar(STATIC, STEPS, switch_outage_ms=2.0)
    calendar.allocate((8, 8, 4))
    capacity = calendar.capacity_mbps(4, 1.0)
    np.testing.assert_allclose(capacity[:, 0], [25e3, 25e3, 40e3, 40e3])
    np.testing.assert_allclose(capacity[:, 1], 40e3)
    np.testing.assert_allclose(calendar.capacity_mbps(1, 1.0), [[40e3, 40e3, 20e3]])
