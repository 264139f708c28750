"""Vectors of homes calculate as numpy does, in both precisions."""

import numpy as np
import pytest

from xapps.hems_load.solver.compiled import compiled
from xapps.hems_load.solver.lanes import LANES, fill, get, greater, lesser, like, put


@compiled
def mixed(a, b, out):
    total = fill(a, 0.5)
    for at in range(0, a.size, LANES):
        left, right = get(a, at), get(b, at)
        put(out, at, greater(-left, 2.0 * right) - lesser(left / right, 0.25) + like(a, left * right))
        total += left
    put(a, 0, total)


@pytest.mark.parametrize("kinds", [(np.float32, np.float32), (np.float64, np.float64), (np.float32, np.float64)])
def test_lanes_calculate_as_numpy_does(kinds):
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-1, 1, 3 * LANES).astype(kinds[0]), rng.uniform(0.5, 1, 3 * LANES).astype(kinds[1])
    out, left = np.zeros(a.size, dtype=kinds[1]), a.astype(float)
    mixed(a, b, out)
    wanted = np.maximum(-left, 2 * b) - np.minimum(left / b, 0.25) + left * b
    assert np.allclose(out, wanted, rtol=0, atol=2 * np.finfo(kinds[0]).eps)
    assert np.allclose(a[:LANES], 0.5 + left.reshape(3, LANES).sum(axis=0), atol=4 * np.finfo(kinds[0]).eps)
    assert np.array_equal(a[LANES:], left[LANES:].astype(kinds[0]))
