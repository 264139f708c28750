from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2sim.impairments import ImpairedLink, is_down
from e2sim.scenario_parts import ImpairmentSpec, RestartSpec


def passed(spec, number=2_000, seed=1):
    link = ImpairedLink(ImpairmentSpec(**spec), np.random.default_rng(seed))
    out = []
    for index in range(number):
        link.offer(index, index)
        out += link.release(index)
    return link, out


def test_link_without_impairments_passes_everything_in_order():
    assert passed({}, 50)[1] == list(range(50))


def test_link_loses_about_the_share_and_counts_it():
    link, out = passed({"loss": 0.2})
    assert link.lost == 2_000 - len(out)
    assert link.lost == pytest.approx(400, rel=0.15)
    assert out == sorted(out)


def test_link_doubles_about_the_share():
    link, out = passed({"duplicate": 0.3})
    counts = Counter(out)
    assert len(counts) == 2_000
    assert sum(count == 2 for count in counts.values()) == link.doubled == pytest.approx(600, rel=0.15)


def test_link_reorders_neighbours_only():
    link, out = passed({"reorder": 0.3})
    moved = [index for index, value in enumerate(out) if value != index]
    assert link.reordered > 300
    assert moved
    assert all(abs(out[index] - index) == 1 for index in moved)


def test_link_delays_by_simulated_time():
    link = ImpairedLink(ImpairmentSpec(delay_ms=250), np.random.default_rng(0))
    link.offer(10.0, "a")
    assert link.release(10.2) == []
    assert link.release(10.25) == ["a"]


def test_changing_one_share_leaves_other_draws_alone():
    lost = set(range(2_000)) - set(passed({"loss": 0.2})[1])
    assert lost == set(range(2_000)) - set(passed({"loss": 0.2, "duplicate": 0.5})[1])


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.integers(0, 100))
def test_link_invents_nothing(loss, duplicate, reorder, seed):
    link, out = passed({"loss": loss, "duplicate": duplicate, "reorder": reorder}, 60, seed)
    counts = Counter(out)
    assert set(counts) <= set(range(60))
    assert max(counts.values(), default=0) <= 2
    held = 60 - link.lost + link.doubled - len(out)
    assert held in (0, 1)


def test_node_is_down_for_as_long_as_the_restart_says():
    restarts = (RestartSpec(at_s=10, down_s=5), RestartSpec(at_s=20, down_s=1, node="00101-2"))
    states = [is_down(restarts, "00101-1", "00101-1", offset) for offset in (9.9, 10, 14.9, 15, 20)]
    assert states == [False, True, True, False, False]
    assert is_down(restarts, "00101-2", "00101-1", 20)
