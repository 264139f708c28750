"""Which homes have caps, what caps and events ask of them, and by how much they are passed."""

from dataclasses import replace

import numpy as np
import pytest

from xapps.hems_load.caps import Caps, cap_key, capped_of
from xapps.hems_load.policy import DrEvent, HemsPolicy

FIRST, BOTH = np.array([True, False, False]), np.array([True, True, False])


@pytest.fixture
def state(make_state):
    return replace(make_state(3), groups={"pair": BOTH, "one": FIRST})


def test_groups_come_smallest_first_and_all_homes_last(state):
    asks = {"pair": HemsPolicy(import_cap_kw=4.0), "one": HemsPolicy(import_cap_kw=1.0), "gone": HemsPolicy()}
    capped = capped_of(state, HemsPolicy(), asks)
    assert [homes.name for homes in capped] == ["one", "pair", ""]
    assert [int(homes.rows.sum()) for homes in capped] == [1, 2, 3]
    assert [cap_key(homes.name) for homes in capped] == ["cap/one", "cap/pair", "cap"]


def test_cap_counts_the_homes_of_its_group_only(state):
    (pair, everyone) = capped_of(state, HemsPolicy(), {"pair": HemsPolicy(import_cap_kw=4.0)})
    cap = Caps().at(pair, state.time_s)
    assert float(cap.over_kw(np.array([3.0, 2.5, 50.0]))) == pytest.approx(1.5)
    assert cap.is_over(np.array([3.0, 2.5, 50.0]))
    assert not cap.is_over(np.array([1.0, 3.003, 50.0]))
    assert Caps().at(everyone, state.time_s).kw == np.inf


def test_event_of_a_group_counts_from_what_the_group_had_planned(state):
    event = DrEvent(reduction_kw=1.0, start_s=state.time_s + 900, end_s=state.time_s + 2700)
    (pair, everyone) = capped_of(state, HemsPolicy(), {"pair": HemsPolicy(dr_event=event)})
    caps, edges_s = Caps(), state.time_s + 900 * np.arange(5.0)
    planned = np.array([[1.0, 2.0, 4.0, 9.0], [1.0, 1.0, 1.0, 1.0], [7.0, 7.0, 7.0, 7.0]])
    caps = caps.noted(pair, edges_s, planned)
    caps = caps.noted(everyone, edges_s, planned)
    kw = caps.at(pair, edges_s[:-1]).kw
    np.testing.assert_allclose(kw, [np.inf, 3.0, 3.0, np.inf])
    caps = caps.noted(pair, edges_s, 10 * planned)
    np.testing.assert_allclose(caps.at(pair, edges_s[:-1]).kw, kw)
    caps = caps.noted(replace(pair, policy=HemsPolicy()), edges_s, planned)
    caps = caps.noted(pair, edges_s, 10 * planned)
    assert caps.at(pair, edges_s[1]).kw == pytest.approx(39.0)
