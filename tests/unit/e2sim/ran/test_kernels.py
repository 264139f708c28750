import numpy as np
import pytest
from scipy import stats

from e2sim.ran import kernels

STEPS, STEP_MS = 20_000, 0.2


def drawn(mean, seed=1, queues=1):
    """Counts that the kernel draws, read from what an endless buffer without service keeps."""
    load = np.tile([[mean], [1.0]], (1, queues))
    given = np.zeros((4, queues))
    given[2] = 1e12
    keys = np.random.default_rng(seed).integers(0, 2**63, queues).astype(np.uint64)
    level, sums = np.zeros(queues), np.zeros((kernels.SUMS, queues))
    kernels.serve_drawn(load, given, keys, level, sums, STEPS, STEP_MS)
    return sums[kernels.OFFERED]


@pytest.mark.parametrize("mean", [0.003, 0.4, 2.5, 39.0, 41.0, 130.0])
def test_drawn_volumes_have_the_mean_and_spread_of_poisson(mean):
    """The sum of 20,000 counts of 300 queues: mean and variance are both 20,000 times the mean."""
    volumes = drawn(mean, queues=300)
    expected = STEPS * mean
    assert abs(volumes.mean() - expected) < 5 * np.sqrt(expected / 300)
    assert volumes.var() == pytest.approx(expected, rel=0.35)


@pytest.mark.parametrize("mean", [0.4, 2.5, 12.0])
def test_drawn_counts_against_the_poisson_distribution(mean):
    """One step per call and 60,000 queues: a chi-square test of the counts."""
    queues = 60_000
    load, given = np.tile([[mean], [1.0]], (1, queues)), np.zeros((4, queues))
    given[2] = 1e12
    keys = np.random.default_rng(3).integers(0, 2**63, queues).astype(np.uint64)
    level, sums = np.zeros(queues), np.zeros((kernels.SUMS, queues))
    kernels.serve_drawn(load, given, keys, level, sums, 1, STEP_MS)
    counts = np.rint(sums[kernels.OFFERED]).astype(int)
    last = int(stats.poisson.ppf(0.9995, mean))
    seen = np.bincount(np.minimum(counts, last), minlength=last + 1)
    chances = stats.poisson.pmf(np.arange(last + 1), mean)
    chances[-1] = 1 - chances[:-1].sum()
    assert stats.chisquare(seen, chances * queues).pvalue > 1e-3


def test_draws_depend_on_the_key_alone():
    """Neither the other queues nor their number shift a queue's bursts."""
    keys = np.random.default_rng(0).integers(0, 2**63, 300).astype(np.uint64)
    load, given = np.tile([[2.0], [1.5]], (1, 300)), np.full((4, 300), 4.0)
    results = []
    for part in (slice(0, 300), slice(250, 300)):
        level, sums = np.zeros(300)[part].copy(), np.zeros((kernels.SUMS, 300))[:, part].copy()
        kernels.serve_drawn(load[:, part], given[:, part], keys[part], level, sums, 500, STEP_MS)
        results.append(sums[:, -50:])
    np.testing.assert_array_equal(results[0], results[1])


def test_gained_volume_is_missing_while_the_outage_lasts():
    """A queue that never runs empty: 10 steps of 4 Mbit, of which 3 are gained and out for 1 ms, are 40 - 5 x 3."""
    load, given = np.array([[50.0], [1.0]]), np.array([[4.0], [3.0], [1e9], [1.0]])
    level, sums = np.array([1_000.0]), np.zeros((kernels.SUMS, 1))
    kernels.serve_drawn(load, given, np.array([7], dtype=np.uint64), level, sums, 10, STEP_MS)
    assert 1_000 + sums[kernels.OFFERED, 0] - level[0] == pytest.approx(25.0)


def test_compiled_runs_where_nothing_can_be_kept(monkeypatch):
    """A read-only image: numba finds no place for its cache and says so when asked to use one."""

    def njit(function, *, cache=False, **_):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return function

    monkeypatch.setattr(kernels.numba, "njit", njit)
    assert kernels.compiled(lambda value: value + 1)(1) == 2
