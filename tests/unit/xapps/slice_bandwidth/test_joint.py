"""Joint decisions: never dearer than alone, always permitted, the best of all pairs, and silent where nobody waits."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapps.slice_bandwidth.baselines import predict_and_enumerate
from xapps.slice_bandwidth.forecast import persistence, scenarios
from xapps.slice_bandwidth.joint import LinkView, foresee_nodes, helped, settled
from xapps.slice_bandwidth.lattice import SPLITS, bounds_of, permitted
from xapps.slice_bandwidth.model import LinkModel
from xapps.slice_bandwidth.objective import limits_of
from xapps.slice_bandwidth.policy import SlicePolicy
from xapps.slice_bandwidth.rl_agent import Observation
from xapps.slice_bandwidth.state import HISTORY

POLICY = SlicePolicy()


def observed(loads_mbps, slots=(5, 10, 5), queue=(0, 0, 0)):
    """Nodes that have had the same loads (M, 3) all along."""
    loads = np.asarray(loads_mbps, dtype=np.float64)
    number = len(loads)
    link = LinkModel(*(np.tile(value, (number, 1)) for value in vars(LinkModel()).values()))
    one = np.ones((number, 3))
    return Observation(
        np.repeat(loads[:, None], HISTORY, axis=1), np.tile(np.array(queue, float), (number, 1)), one, 0.1 * one,
        np.tile(slots, (number, 1)), np.full(number, 0.1), np.zeros(number, dtype=bool), link,
    )  # fmt: skip


def wavering(rows):
    """A forecaster whose scenarios go from half to twice the last load."""
    return np.tile(np.log(np.linspace(0.5, 2.0, 7)), (len(rows), 2)).astype(np.float32)


def together(seen, forecaster=wavering):
    loads = scenarios(forecaster, seen.offered_mbps, seen.period_s, seen.alarm)
    limits = limits_of(POLICY)
    alone = -predict_and_enumerate(seen, forecaster, limits)
    mask = permitted(bounds_of(POLICY, False), seen.slots)
    return foresee_nodes(seen, loads, limits), np.where(mask, alone, np.inf), mask


def view(mbps, queue=(0, 0, 0)):
    return LinkView(mbps, 5_000.0, np.array(queue, float))


def cost(link, nodes, slots, mask):
    """What these splits cost all nodes together, under the scenarios foreseen."""
    rows = [int(np.flatnonzero((split == SPLITS).all(axis=1))[0]) for split in slots]
    at_rest, _ = settled(link, nodes, np.asarray(slots), np.empty((0, len(SPLITS)), bool))
    return nodes.own[np.arange(len(rows)), rows].sum() + at_rest.added.sum()


def test_foresee_nodes_prices_a_split_as_predict_and_enumerate_does():
    seen = observed([(8e3, 4e3, 30e3), (30e3, 4e3, 9e3)], queue=(3, 0, 40))
    endless = replace(seen, link=replace(seen.link, buffer_mbit=np.full((2, 3), 1e9)))
    nodes, alone, mask = together(endless)
    assert nodes.own[mask] == pytest.approx(alone[mask])
    # What a real buffer would drop is priced besides.
    nodes, alone, mask = together(seen)
    dearer = nodes.own[mask] - alone[mask]
    assert dearer.min() > -1e-9
    assert dearer.max() > 0.1


def test_settled_nobody_waits_and_every_choice_stays():
    nodes, alone, mask = together(observed([(8e3, 4e3, 9e3)] * 3))
    wanted = SPLITS[np.argmax(alone, axis=1)]  # the dearest that is permitted: it would pay to leave it
    made, work = settled(view(1e6), nodes, wanted, mask, work=500)
    assert made.slots.tolist() == wanted.tolist()
    assert not made.added.any()
    assert work == 500


def test_settled_a_full_link_is_relieved_by_who_fills_it_and_the_others_gain():
    loads = [(8e3, 4e3, 55e3), (8e3, 4e3, 9e3), (8e3, 4e3, 9e3)]
    nodes, alone, mask = together(observed(loads, slots=(3, 2, 12)))
    link, wanted = view(80e3), SPLITS[np.argmin(alone, axis=1)]
    made, _ = settled(link, nodes, wanted, mask)
    assert made.slots[0, 2] < wanted[0, 2]
    assert (made.slots[:, :2] == wanted[:, :2]).all()  # control and protection give up nothing
    assert made.added.sum() < 0.3 * made.added_alone.sum()
    whom = helped(link, nodes, made, wanted)
    assert whom[0, 1:].all()
    assert not whom.diagonal().any()


def test_settled_against_all_pairs_of_splits():
    nodes, alone, mask = together(observed([(8e3, 4e3, 40e3), (20e3, 4e3, 25e3)], slots=(4, 2, 8)))
    link = view(60e3, queue=(0, 0, 500))
    mask &= (np.abs(SPLITS - (4, 2, 8)) <= (2, 2, 4)).all(axis=-1)  # keeps the pairs few
    wanted = SPLITS[np.argmin(np.where(mask, alone, np.inf), axis=1)]
    made, _ = settled(link, nodes, wanted, mask)
    best = min(
        cost(link, nodes, [SPLITS[a], SPLITS[b]], mask)
        for a in np.flatnonzero(mask[0])
        for b in np.flatnonzero(mask[1])
    )
    assert cost(link, nodes, wanted, mask) > best + 0.05
    assert cost(link, nodes, made.slots, mask) == pytest.approx(best)


load = st.tuples(st.floats(0, 6e4), st.floats(0, 3e4), st.floats(0, 9e4))


@settings(max_examples=40, deadline=None)
@given(
    loads=st.lists(load, min_size=1, max_size=4),
    mbps=st.floats(100, 3e5),
    queue=st.tuples(*[st.floats(0, 2_000)] * 3),
    work=st.sampled_from([0, 7, 12_000]),
    free=st.integers(0, 4),
)
def test_settled_is_permitted_and_never_dearer_than_alone(loads, mbps, queue, work, free):
    nodes, alone, mask = together(observed(loads))
    link, free = view(mbps, queue), min(free, len(loads))
    wanted = SPLITS[np.argmin(alone, axis=1)]
    made, left = settled(link, nodes, wanted, mask[:free], work)
    assert cost(link, nodes, made.slots, mask) <= cost(link, nodes, wanted, mask) + 1e-9
    assert all(mask[n][(made.slots[n] == SPLITS).all(axis=1)].all() for n in range(free))
    assert made.slots[free:].tolist() == wanted[free:].tolist()
    assert 0 <= left <= work
    assert np.isfinite(made.added).all()
    assert (made.added >= -1e-9).all()


def test_settled_keeps_what_nodes_hold_that_do_not_choose_even_off_the_lattice():
    seen = observed([(8e3, 4e3, 60e3), (8e3, 4e3, 60e3)])
    nodes, alone, mask = together(seen)
    held = np.array([SPLITS[int(np.argmin(alone[0]))], [0, 3, 25]])
    made, _ = settled(view(50e3), nodes, held, mask[:1])
    assert made.slots[1].tolist() == [0, 3, 25]
    assert made.slots[0, 2] < held[0, 2]


def test_foresee_nodes_surges_that_come_everywhere_at_once_are_half_believed():
    """A forecast that is sure and one that wavers around the same mean differ in what they send over the link."""
    seen = observed([(8e3, 4e3, 30e3)] * 2)
    sure, wide = (together(seen, forecaster)[0].foreseen.passed_mbit for forecaster in (persistence, wavering))
    assert np.ptp(sure[:, 0, 0, 2, 20]) == 0
    spread = np.ptp(wide[:, 0, 0, 2, 20])
    assert spread == pytest.approx(0.5 * (2.0 - 0.5) * 3_000, rel=1e-3)


def test_foresee_nodes_takes_a_policy_for_all_or_one_each():
    seen = observed([(8e3, 4e3, 30e3)] * 2)
    one = limits_of(POLICY)
    each = type(one)(*(np.stack([value] * 2) for value in vars(one).values()))
    loads = scenarios(wavering, seen.offered_mbps, seen.period_s, seen.alarm)
    costs = [foresee_nodes(seen, loads, limits).own for limits in (one, each, replace(one, shortfall=np.array(True)))]
    assert costs[0] == pytest.approx(costs[1])
    assert (costs[0] != costs[2]).any()


def test_settled_prices_decide_who_yields():
    """Control delays protection on the link: it yields, unless the policy prices its limits more dearly."""
    seen = observed([(45e3, 4e3, 4e3), (45e3, 4e3, 4e3)], slots=(10, 2, 2))
    mask = permitted(bounds_of(POLICY, False), seen.slots)
    loads = scenarios(wavering, seen.offered_mbps, seen.period_s, seen.alarm)
    held = []
    for price in (3.0, 1_000.0):
        policy = SlicePolicy.model_validate({"control": {"violation_cost": price}})
        nodes = foresee_nodes(seen, loads, limits_of(policy))
        wanted = SPLITS[np.argmin(np.where(mask, nodes.own, np.inf), axis=1)]
        made, _ = settled(view(70e3), nodes, wanted, mask)
        assert made.added_alone[:, 1].sum() > 0
        held.append(made.slots[:, 0].sum())
    assert held[0] < held[1]
