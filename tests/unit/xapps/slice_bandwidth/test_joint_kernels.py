"""The compiled sum of waits, stopped early or not, against the one per node."""

import numpy as np
import pytest

from xapps.slice_bandwidth import joint_kernels as kernels
from xapps.slice_bandwidth.joint_kernels import Carried, Foreseen, Terms

SCENARIOS, STAGES, NODES, COUNTS = 3, 2, 3, 5


def drawn(seed):
    generator = np.random.default_rng(seed)
    shape = (SCENARIOS, STAGES, NODES, 3, COUNTS)
    delay, jitter, passed = (generator.uniform(0, high, shape) for high in (5.0, 1.0, 900.0))
    weights = generator.uniform(0, 1, (NODES, 3, 3))
    terms = Terms(weights, *(generator.uniform(1, 20, (NODES, 3)) for _ in range(3)), np.zeros((NODES, 3, COUNTS)))
    cost = np.empty(shape)
    for at in np.ndindex(shape):
        n, k = at[2:4]
        cost[at] = min(weights[n, k, 0] * delay[at] / terms.d_max_ms[n, k], 10) + min(
            weights[n, k, 1] * jitter[at] / terms.j_max_ms[n, k], 10
        )
        cost[at] += terms.price[n, k] * ((delay[at] > terms.d_max_ms[n, k]) + (jitter[at] > terms.j_max_ms[n, k]))
    link = Carried(
        generator.uniform(0, 50, 3), 30_000.0, 800.0, np.array([0.1, 0.2]), np.full((SCENARIOS, STAGES), 1 / 6)
    )
    return (
        Foreseen(delay, jitter, cost, np.zeros(shape), passed),
        terms,
        link,
        generator.integers(0, COUNTS, (NODES, 3)),
    )


@pytest.mark.parametrize("seed", range(4))
def test_sum_added_against_the_waits_of_each_node(seed):
    seen, terms, link, held = drawn(seed)
    each, others = np.empty((NODES, 3)), np.empty((SCENARIOS, STAGES, 3))
    kernels.added(held, seen, terms, link, each)
    assert each.sum() > 0
    for node in range(NODES):
        kernels._others(node, held, seen, others)
        whole = kernels._sum_added(node, held, others, seen, terms, link, np.inf)
        assert whole == pytest.approx(each.sum())
        stopped = kernels._sum_added(node, held, others, seen, terms, link, 0.3 * whole)
        assert 0.3 * whole <= stopped <= whole + 1e-9


def test_pass_what_fits_an_empty_link_leaves_nothing_behind():
    wait, left = np.ones((3, 3)), np.ones(3)
    kernels._pass(np.array([1e3, 1e3, 999.0]), np.zeros(3), (30_000.0, 0.1, 800.0), wait, left)
    assert not wait.any()
    assert not left.any()


def test_pass_share_lost_is_what_found_no_room():
    wait, left = np.ones((3, 3)), np.ones(3)
    kernels._pass(np.array([1e3, 2e3, 4e3]), np.zeros(3), (30_000.0, 0.1, 1_000.0), wait, left)
    assert left == pytest.approx([0, 0, 1_000])
    assert wait[2] == pytest.approx([0, 0, 3_000 / 4_000])
