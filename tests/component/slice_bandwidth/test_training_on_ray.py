"""Rollouts of nodes on shared links in two Ray actors: they come back whole, repeat with the seed, and teach."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from xapps.slice_bandwidth.learner import Settings, Trainer  # noqa: E402
from xapps.slice_bandwidth.networks import ForecastNet  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:ResourceWarning"),
]
TINY = Settings(environments=6, steps=4, forecast_iterations=1, width=8, forecast_width=8, threads=1, cells=3)


def new_trainer(actors):
    torch.manual_seed(0)
    return Trainer(TINY, ForecastNet(TINY.width), actors)


def test_ray_actors_roll_out_nodes_on_shared_links_as_one_process_does(ray_cluster):
    remote, local = new_trainer(2), new_trainer(0)
    there = remote.batches(teach=True)
    here = [local.batches(teach=True)[0] for _ in there]
    assert [batch.rows.shape for batch in there] == [(4, 6, 21, 3, here[0].rows.shape[-1])] * 2
    for one, other in zip(there, here, strict=True):
        assert torch.allclose(one.reward, other.reward)
        assert torch.equal(one.action, other.action)
    before = list(remote.copy_average().values())
    costs = [remote.iterate(ppo=ppo, share=0.0) for ppo in (False, True)]
    assert np.isfinite(costs).all()
    assert any(not torch.equal(a, b) for a, b in zip(before, remote.copy_average().values(), strict=True))
