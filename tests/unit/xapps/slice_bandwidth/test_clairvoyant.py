"""The clairvoyant against brute force over every sequence of short horizons, and against its own wider searches."""

import itertools

import numpy as np
import pytest

from xapps.slice_bandwidth.clairvoyant import clairvoyant_course
from xapps.slice_bandwidth.environment import VectorSliceEnv
from xapps.slice_bandwidth.evaluation import CLAIRVOYANT_WIDTH
from xapps.slice_bandwidth.lattice import SPLITS, permitted
from xapps.slice_bandwidth.model import predict
from xapps.slice_bandwidth.objective import TERM_LIMIT, evaluate, moved_slots


def cost_of(course, rows) -> float:
    """What a sequence of splits costs, step by step; infinite where the policy forbids a step."""
    slots, queue, cost = course.slots, course.queue_mbit, 0.0
    for load, alarm, row in zip(course.offered_mbps, course.alarm, rows, strict=True):
        assert not alarm, "the brute force here knows no alarms"
        if not permitted(course.quiet, slots)[row]:
            return np.inf
        split = SPLITS[row]
        got = predict(load, queue, split, course.period_s, course.link)
        whole = evaluate(got, split, course.limits)
        cost += float(np.minimum(whole.terms[:, :2], TERM_LIMIT).sum() + whole.terms[:, 2].sum())
        cost += float(whole.penalty(course.limits) + course.limits.slot_move_cost * moved_slots(slots, split))
        slots, queue = split, got.queue_mbit
    return cost


def reachable(course, rows):
    """Splits that a course of such length can get to."""
    found = {int(np.flatnonzero((course.slots == SPLITS).all(axis=1))[0])}
    for _ in range(rows):
        found |= {int(to) for row in found for to in np.flatnonzero(permitted(course.quiet, SPLITS[row]))}
    return sorted(found)


def courses(steps, *, moves, number=3, seed=0, random_policies=True):
    env = VectorSliceEnv(60, steps, period_s=0.1, random_policies=random_policies)
    env.reset(np.random.default_rng(seed))
    env.policies.quiet.max_moved[:] = moves
    calm = [k for k in range(60) if not env.course(k).alarm.any()]
    # Those that have to do something: the load of some slice leaves the static split.
    busy = [k for k in calm if (env.course(k).offered_mbps > 0.8 * 5_000 * env.slots[k]).any()]
    return [env.course(k) for k in (busy + calm)[:number]]


@pytest.mark.parametrize("course", courses(3, moves=1), ids=["first", "second", "third"])
def test_clairvoyant_against_brute_force_over_three_periods(course):
    splits = reachable(course, 1)
    first = [(row, cost_of(course_cut(course, 1), [row])) for row in splits]
    best = np.inf
    for row, cost in first:
        if np.isfinite(cost):
            seconds = np.flatnonzero(permitted(course.quiet, SPLITS[row]))
            for second in seconds:
                thirds = np.flatnonzero(permitted(course.quiet, SPLITS[second]))
                best = min(best, min(cost_of(course, (row, int(second), int(third))) for third in thirds))
    assert cost_of(course, clairvoyant_course(course)) == pytest.approx(best, abs=1e-6)


def course_cut(course, steps):
    return type(course)(
        course.offered_mbps[:steps], course.alarm[:steps], course.limits, course.quiet, course.alarmed, course.link,
        course.period_s, course.slots, course.queue_mbit,
    )  # fmt: skip


def test_clairvoyant_two_periods_of_any_move_against_brute_force():
    course = courses(2, moves=20, number=1, seed=4)[0]
    # Separable but for moves and the sum: enumerate the second choice by its own table for each first one.
    rows = range(0, 525, 5)
    best = min(cost_of(course, pair) for pair in itertools.product(rows, range(0, 525, 25)))
    assert cost_of(course, clairvoyant_course(course)) <= best + 1e-9


def test_clairvoyant_wider_searches_gain_little():
    costs = [
        sum(cost_of(course, clairvoyant_course(course, width)) for course in courses(25, moves=12))
        for width in (CLAIRVOYANT_WIDTH, 4 * CLAIRVOYANT_WIDTH)
    ]
    assert costs[0] == pytest.approx(costs[1], rel=0.005)


def test_clairvoyant_moves_before_a_jump_that_it_alone_can_see():
    course = courses(8, moves=2, number=1, random_policies=False)[0]
    slots = []
    for load_mbps in (8e3, 45e3):
        load = np.tile([8e3, 4e3, 9e3], (8, 1))
        load[4:, 0] = load_mbps
        same = (course.limits, course.quiet, course.alarmed, course.link, 0.1, course.slots, course.queue_mbit)
        slots.append(SPLITS[clairvoyant_course(type(course)(load, np.zeros(8, dtype=bool), *same))][:, 0])
    calm, jump = slots
    assert jump[3] > calm[3]  # two slots per period are too few to wait for the jump
