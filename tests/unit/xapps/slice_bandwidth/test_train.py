"""Training: the export is the network, seeds repeat, a model that is no good is refused."""

import json
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ric.learned import load_model  # noqa: E402
from xapps.slice_bandwidth import evaluation, train  # noqa: E402
from xapps.slice_bandwidth.rl_agent import FEATURES  # noqa: E402

TINY = train.Settings(environments=4, steps=4, all_action_iterations=1, ppo_iterations=1, width=8, threads=1)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    suite = "default_policy_100ms"
    small = {"default_policy_100ms": evaluation.SUITES[suite]}
    monkeypatch.setattr(train, "SUITES", small)
    real = evaluation.compare
    monkeypatch.setattr(
        train, "compare", lambda table, seeds, name, **_: real(table, seeds[:1], name, number=2, steps=3)
    )


def test_export_against_the_network(tmp_path):
    torch.manual_seed(0)
    net = train.ScoreNet(8)
    torch.nn.init.normal_(net.body[4].weight)
    train.export(net, tmp_path / "a.onnx")
    model = load_model(tmp_path / "a.onnx", {"rows": (-1, FEATURES)}, {"scores": (-1,)})
    rows = np.random.default_rng(0).normal(size=(63, FEATURES)).astype(np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(rows)).numpy()
    assert model.run(rows=rows)[0] == pytest.approx(expected, abs=1e-4)


def test_untrained_network_scores_as_the_prior_times_its_sharpness():
    net = train.ScoreNet(8)
    rows = np.random.default_rng(1).normal(size=(63, FEATURES)).astype(np.float32)
    with torch.no_grad():
        got = net(torch.from_numpy(rows)).numpy()
    assert got == pytest.approx(np.exp(1.5) * evaluation.prior_scores(rows), rel=1e-4, abs=1e-4)


def test_iterations_change_the_actor_and_repeat_with_the_seed():
    runs = []
    for _ in range(2):
        trainer = train.Trainer(TINY, 0)
        trainer.iterate(ppo=False, share=0.0)
        first = trainer.copy_average()
        trainer.iterate(ppo=True, share=0.0)
        runs.append([*first.values(), *trainer.copy_average().values()])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(runs[0][: len(first)], runs[0][len(first) :], strict=True))


def test_all_action_steps_lower_the_cost_that_they_descend():
    trainer = train.Trainer(TINY, 0)
    batch = trainer.batches()[0]

    def expected():
        with torch.no_grad():
            log_p = train.log_probabilities(trainer.net, batch.rows.flatten(0, 1), batch.mask.flatten(0, 1))
            return float((log_p.exp() * batch.held_cost.flatten(0, 1)).sum(dim=-1).mean())

    before = expected()
    for _ in range(30):
        trainer.all_action_step(batch)
    assert expected() < before


def test_main_refuses_a_model_that_loses_and_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "Settings", lambda **_: TINY)
    train.Settings.seed, train.Settings.threads = 1, 1
    train.Settings.all_action_iterations, train.Settings.ppo_iterations = 1, 1
    monkeypatch.setattr(sys, "argv", ["train", "--out", str(tmp_path)])
    monkeypatch.setattr(train, "refusals", lambda _: ["suite: rl 2 against static 1 on held-out seed number 0"])
    with pytest.raises(SystemExit, match="does not beat the baselines"):
        train.main()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(train, "refusals", lambda _: [])
    train.main()
    card = json.loads((tmp_path / "model_card.json").read_text())
    assert (tmp_path / card["model"]).is_file()
    assert set(card["held_out"]["default_policy_100ms"]) >= {"static", "gradient_eq2", "oracle_coming_load", "rl"}
