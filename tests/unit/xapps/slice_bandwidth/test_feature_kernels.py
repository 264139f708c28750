"""Feature rows, one node, slot count and slice at a time and compiled, against NumPy over all of them."""

import numpy as np
import pytest

from xapps.slice_bandwidth.feature_kernels import FEATURES, NEWEST, Coming, Node, feature_rows
from xapps.slice_bandwidth.kernels import Links, Terms

NODES, COUNTS, SCENARIOS = 5, 21, 7


def drawn(seed=0):
    draw = np.random.default_rng(seed).uniform
    loads, masses = np.sort(draw(0, 9e4, (2, SCENARIOS, NODES, 3)), axis=1), draw(0, 1, SCENARIOS)
    coming = Coming(
        draw(0, 20, (3, SCENARIOS, NODES, COUNTS, 3)), draw(0, 900, (SCENARIOS, NODES, COUNTS, 3)), loads,
        masses / masses.sum(), np.array([0.5, 0.25, 0.25]),
    )  # fmt: skip
    node = Node(
        draw(0, 5e4, (NODES, NEWEST, 3)), *(draw(0, 300, (NODES, 3)) for _ in range(3)),
        draw(0, 21, (NODES, 3)).astype(np.int64), draw(0.01, 60, NODES), draw(0, 1, NODES) < 0.5,
        Links(*(draw(0.1, 9, (NODES, 3)) for _ in range(4))),
    )  # fmt: skip
    terms = Terms(
        draw(0, 1, (NODES, 3, 3)), *(draw(1, 100, (NODES, 3)) for _ in range(2)), draw(5e3, 2e4, (NODES, 3)),
        draw(0, 9, (NODES, 3)), draw(0, 1, NODES) < 0.5, draw(0, 1, NODES),
    )  # fmt: skip
    return coming, node, terms


def columns(coming, node, terms):
    """The rows' columns, each (N, 21, 3) or the same for every slot count or slice, as `rl_agent.features` has them."""
    counts = np.arange(COUNTS)[:, None]
    capacity = np.maximum(counts, 0.2) * 5_000.0
    expected = np.tensordot(coming.masses, coming.stages, (0, 1))
    yield np.minimum(np.tensordot(coming.blend, expected, (0, 0)), 30)
    yield from np.log1p(expected)
    yield from np.log1p(coming.stages[0, [0, 5]])
    yield from np.minimum(coming.left[[2, 5]] / (capacity * terms.d_max_ms[:, None] / 1e3), 5)
    last, before = node.newest_mbps[:, -1], node.newest_mbps[:, -2]
    for load in (last, *coming.loads[0, [0, 2, 5]]):
        yield np.clip(np.log2((load[:, None] + 1) / capacity), -4, 4)
    yield np.minimum((node.queue_mbit / node.period_s[:, None])[:, None] / capacity, 5)
    change = counts - node.slots[:, None]
    yield from (change / 20, abs(change) * terms.slot_move_cost[:, None, None], counts / 20)
    yield from np.eye(3)
    whole = last.sum(axis=1)
    for value in (
        node.alarm, terms.shortfall, np.log10(node.period_s / 0.1), terms.slot_move_cost * 10,
        1 - node.slots.sum(axis=1) / 20, whole / 1e5, (whole - before.sum(axis=1)) / 5e3,
    ):  # fmt: skip
        yield value[:, None, None]
    yield from np.moveaxis(terms.weights, -1, 0)[:, :, None]
    for value in (
        terms.violation_cost, node.delay_ms / terms.d_max_ms, node.jitter_ms / terms.j_max_ms,
        terms.weights[..., 2] * 5e3 / terms.b_min_mbps, 1e3 * terms.weights[..., 0] / terms.d_max_ms,
        node.links.base_delay_ms / terms.d_max_ms, node.links.burst_mbit - 1,
    ):  # fmt: skip
        yield np.log1p(value)[:, None]
    yield (node.newest_mbps.mean(axis=1) / 5e3 % 1)[:, None]


@pytest.mark.parametrize("seed", range(3))
def test_feature_rows_against_numpy(seed):
    given = drawn(seed)
    got = np.empty((NODES, COUNTS, 3, FEATURES), dtype=np.float32)
    feature_rows(*given, got)
    want = [np.broadcast_to(column, got.shape[:-1]) for column in columns(*given)]
    assert len(want) == FEATURES
    want[1:] = np.clip(want[1:], -10, 10)
    assert got == pytest.approx(np.stack(want, axis=-1), abs=1e-5, rel=1e-5)
