"""The app's analytic queue against the simulator's burst-by-burst queue, which was written apart from it.

Random loads (5 to 160 % of capacity), splits and starting backlogs, one period of 100 ms. The tolerance is stated in
the spread of what random bursts bring in one period, sqrt(load x burst x period), because no model can know better, or
in tenths of the value where that is more: each mean backlog, delay and jitter within 1.0 of it, nine of ten within 0.4,
the medians within 0.08.
"""

import numpy as np
import pytest

from e2sim.ran.queues import STEP_MS, SliceQueues
from xapps.slice_bandwidth.model import SLOT_MBPS, LinkModel, predict

PERIOD_S, BURST_MBIT, BUFFER_MBIT = 0.1, np.array([1.2, 1.2, 3.6]), 2_500.0
REPEATS = 8


def simulate(generator, load_mbps, slots, backlog_mbit):
    steps = round(PERIOD_S * 1e3 / STEP_MS)
    queues = SliceQueues(np.full(3, BUFFER_MBIT))
    queues.backlog_mbit = np.tile(backlog_mbit, (2, 1))
    per_step = load_mbps * STEP_MS / 1e3
    bursts = generator.poisson(per_step / BURST_MBIT, size=(steps, 2, 3)) * BURST_MBIT
    return queues.run(bursts, np.tile(slots * SLOT_MBPS, (steps, 1)), np.tile(BURST_MBIT, (2, 1)))


@pytest.fixture(scope="module")
def errors():
    """Errors (150 x 3) of backlog, delay and jitter, in spreads."""
    generator = np.random.default_rng(2024)
    link = LinkModel(np.zeros(3), BURST_MBIT, np.full(3, BUFFER_MBIT))
    out = []
    for _ in range(150):
        slots = generator.integers(1, 12, 3)
        load = generator.uniform(0.05, 1.6, 3) * slots * SLOT_MBPS
        backlog = np.where(generator.random(3) < 0.5, 0.0, generator.uniform(0, 1_500, 3))
        runs = [simulate(generator, load, slots, backlog) for _ in range(REPEATS)]
        delay, jitter, queue = (
            np.mean([getattr(run, name) for run in runs], axis=(0, 1))
            for name in ("delay_ms", "jitter_ms", "backlog_mbit")
        )
        got = predict(load, backlog, slots, PERIOD_S, link)
        spread_mbit = np.sqrt(load * BURST_MBIT * PERIOD_S)
        spread_ms = spread_mbit / (slots * SLOT_MBPS) * 1e3
        pairs = (
            (got.queue_mbit, queue, spread_mbit),
            (got.delay_ms, delay, spread_ms),
            (got.jitter_ms, jitter, spread_ms),
        )
        out.append([(mine - theirs) / np.maximum(spread, 0.1 * theirs) for mine, theirs, spread in pairs])
    return np.abs(np.array(out)).transpose(1, 0, 2).reshape(3, -1)


@pytest.mark.parametrize("row", [0, 1, 2], ids=["backlog", "mean delay", "jitter"])
def test_queue_model_against_simulator(errors, row):
    assert errors[row].max() < 1.0
    assert np.quantile(errors[row], 0.9) < 0.4
    assert np.median(errors[row]) < 0.08
