"""The lattice holds every split and nothing else; permission is never empty."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from xapps.slice_bandwidth.lattice import (
    SPLITS,
    Bounds,
    bounds_of,
    index_of,
    nearest_split,
    permitted,
    permitted_of,
    sum_over_slices,
)  # fmt: skip
from xapps.slice_bandwidth.objective import moved_slots
from xapps.slice_bandwidth.policy import SlicePolicy

slots3 = st.lists(st.integers(0, 20), min_size=3, max_size=3).map(np.array)


def test_splits_against_brute_force():
    every = itertools.product(range(21), range(21), range(21))
    wanted = {(c, p, m) for c, p, m in every if c >= 1 and p >= 2 and p % 2 == 0 and m >= 1 and c + p + m <= 20}
    assert {tuple(split) for split in SPLITS.tolist()} == wanted
    assert all(index_of(split) == row for row, split in enumerate(SPLITS))


@settings(deadline=None)
@given(slots3, slots3, slots3, st.integers(1, 20))
def test_permitted_is_never_empty_and_keeps_what_can_be_kept(low, high, slots, moves):
    bounds = Bounds(low, high, np.array(moves))
    mask = permitted(bounds, slots)
    assert mask.any()
    inside = ((low <= SPLITS) & (high >= SPLITS)).all(axis=1)
    if inside.any():
        assert not (mask & ~inside).any()
        near = inside & (moved_slots(slots, SPLITS) <= moves)
        assert np.array_equal(mask, near if near.any() else inside)


def test_permitted_of_alarm_lifts_the_rate_limit_only_until_the_floors_hold():
    policy = SlicePolicy(max_moved_slots=1)
    far = permitted_of(policy, np.array([1, 2, 17]), alarm=True)
    assert far[index_of(np.array([5, 8, 7]))]
    assert not far[index_of(np.array([4, 8, 7]))]
    there = permitted_of(policy, np.array([5, 8, 7]), alarm=True)
    assert not there[index_of(np.array([7, 8, 5]))]
    assert there[index_of(np.array([6, 8, 6]))]


def test_bounds_that_contradict_give_up_ceilings_before_floors():
    # Two valid policies, one laid over the other, can leave no split at all.
    mixed = Bounds(np.array([12, 2, 3]), np.array([8, 20, 20]), np.array(20))
    assert (SPLITS[mixed.inside] >= [12, 2, 3]).all()
    impossible = Bounds(np.array([12, 8, 3]), np.array([20, 20, 20]), np.array(20))
    assert impossible.inside.all()


@settings(deadline=None)
@given(st.lists(st.floats(-5, 25), min_size=3, max_size=3))
def test_nearest_split_against_brute_force(wanted: list[float]):
    mask = bounds_of(SlicePolicy(), alarm=False).inside
    got = SPLITS[int(nearest_split(np.array(wanted), mask))]
    best = min(float(((split - wanted) ** 2).sum()) for split in SPLITS[mask])
    assert abs(float(((got - wanted) ** 2).sum()) - best) < 1e-3


def test_sum_over_slices_picks_one_entry_per_slice():
    table = np.arange(63.0).reshape(21, 3) ** 2
    got = sum_over_slices(table)
    for row in (0, 100, 524):
        assert got[row] == sum(table[SPLITS[row, k], k] for k in range(3))
