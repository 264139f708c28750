"""Fitting: seeds repeat, each step lowers what it descends, a state restored goes on as if never interrupted."""

import copy
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from xapps.slice_bandwidth import learner  # noqa: E402
from xapps.slice_bandwidth.networks import ForecastNet, log_probabilities  # noqa: E402

TINY = learner.Settings(environments=4, steps=4, forecast_iterations=3, width=8, forecast_width=8, threads=1)


def new_trainer():
    torch.manual_seed(0)
    return learner.Trainer(TINY, ForecastNet(TINY.width))


def test_fit_forecaster_repeats_with_the_seed_and_learns():
    (first, loss), (second, _) = learner.fit_forecaster(TINY), learner.fit_forecaster(TINY)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    _, longer = learner.fit_forecaster(replace(TINY, forecast_iterations=20))
    assert longer < loss


def test_iterations_change_the_actor_and_repeat_with_the_seed():
    runs = []
    for _ in range(2):
        trainer = new_trainer()
        trainer.iterate(ppo=False, share=0.0)
        first = trainer.copy_average()
        trainer.iterate(ppo=True, share=0.0)
        runs.append([*first.values(), *trainer.copy_average().values()])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(runs[0][: len(first)], runs[0][len(first) :], strict=True))


def test_imitation_steps_lower_the_cost_that_they_descend():
    trainer = new_trainer()
    batch = trainer.batches(teach=True)[0]

    def expected():
        with torch.no_grad():
            log_p = log_probabilities(trainer.net, batch.rows.flatten(0, 1), batch.mask.flatten(0, 1))
            return float((log_p.exp() * batch.excess.flatten(0, 1)).sum(dim=-1).mean())

    before = expected()
    for _ in range(30):
        trainer.imitation_step(batch)
    assert expected() < before


def test_rollout_pays_for_the_actions_that_it_drew():
    trainer = new_trainer()
    batch = trainer.batches(teach=False)[0]
    assert batch.mask.gather(-1, batch.action[..., None]).all()
    assert (batch.log_probability <= 0).all()
    assert batch.excess.numel() == 0
    assert np.isfinite(batch.reward.numpy()).all()


def test_restored_trainer_goes_on_bit_for_bit():
    whole = new_trainer()
    whole.iterate(ppo=False, share=0.0)
    held = copy.deepcopy(whole.state())
    whole.iterate(ppo=True, share=0.5)
    other = new_trainer()
    other.restore(held)
    other.iterate(ppo=True, share=0.5)
    pairs = zip(whole.copy_average().values(), other.copy_average().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
