"""The app's fluid of a shared link against the simulator's batched one, which was written apart from it."""

import numpy as np
import pytest

from e2sim.ran.plant import SharedLinks, pass_shared_links
from e2sim.ran.queues import PeriodStats
from xapps.slice_bandwidth.aggregation import pass_link

PERIOD_S, BUFFER_MBIT = 0.1, 5_000.0


@pytest.mark.parametrize("share", [0.3, 0.9, 1.5], ids=["room", "nearly full", "overloaded"])
def test_pass_link_against_the_simulators_shared_links(share):
    generator = np.random.default_rng(int(share * 10))
    volumes = generator.uniform(0, 3_000, (6, 3))
    group = np.repeat([0, 1], 3)
    together = volumes.reshape(2, 3, 3).sum(axis=1)
    capacity = together.sum(axis=1) / PERIOD_S / share
    before = generator.uniform(0, 800, (2, 3))
    blank = np.zeros((6, 3))
    stats = PeriodStats(**{
        name: volumes if name == "delivered_mbit" else (PERIOD_S if name == "period_s" else blank)
        for name in PeriodStats.__dataclass_fields__
    })  # fmt: skip
    theirs, measured = pass_shared_links(before, stats, SharedLinks(group, capacity, BUFFER_MBIT))
    ours = pass_link(together, before, capacity, np.full(2, PERIOD_S), BUFFER_MBIT)
    assert ours.queue_mbit == pytest.approx(theirs)
    assert ours.mean_ms[group] == pytest.approx(measured.delay_ms)
    assert np.sqrt(ours.variance_ms2)[group] == pytest.approx(measured.jitter_ms)
