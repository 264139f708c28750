"""Training: a stopped run resumes to the same model, the gate refuses what loses, Ray gives the same kind of batch."""

import csv
import json
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from xapps.slice_bandwidth import evaluation, train  # noqa: E402
from xapps.slice_bandwidth.learner import Settings, Trainer  # noqa: E402
from xapps.slice_bandwidth.networks import ForecastNet  # noqa: E402
from xapps.slice_bandwidth.rl_agent import BASE  # noqa: E402

TINY = Settings(
    environments=4,
    steps=4,
    forecast_iterations=2,
    imitation_iterations=2,
    ppo_iterations=2,
    width=8,
    forecast_width=8,
    threads=1,
)
SUITE = "default_policy"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(train, "SUITES", {SUITE: evaluation.SUITES[SUITE]})
    monkeypatch.setattr(train, "VALIDATE_EVERY", 1)
    real = evaluation.compare
    monkeypatch.setattr(
        train, "compare", lambda table, seeds, name, **_: real(table, seeds[:1], name, number=2, steps=3)
    )


def finished(trainer, progress, out):
    train.train(trainer, progress, out)
    return list(trainer.copy_average().values()), progress.curve


def test_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path):
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole, curve = finished(*train.begun(TINY, 0), tmp_path / "whole")
    trainer, progress = train.begun(TINY, 0)
    train.train(trainer, progress, tmp_path / "cut", stop_after=3)
    resumed, curve_resumed = finished(*train.resumed(tmp_path / "cut" / train.CHECKPOINT, 0), tmp_path / "cut")
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))
    assert curve == curve_resumed
    assert [(row["phase"], row["iteration"]) for row in curve] == [
        ("start", 0), ("imitation", 1), ("imitation", 2), ("ppo", 1), ("ppo", 2)
    ]  # fmt: skip


def contrary(trainer):
    """Make the actor prefer what costs most."""
    with torch.no_grad():
        trainer.average.log_sharpness.fill_(3.0)
        trainer.average.body[4].weight.zero_()
        layers = trainer.average.body
        for layer in (layers[0], layers[2]):
            layer.weight.zero_()
            layer.bias.zero_()
        layers[0].weight[0, BASE] = 1.0
        layers[2].weight[0, 0] = 1.0
        layers[4].weight[0, 0] = 50.0


def test_promote_refuses_a_bad_model_and_leaves_the_shipped_one(tmp_path, monkeypatch):
    real = evaluation.compare
    monkeypatch.setattr(
        train, "compare", lambda table, seeds, name, **_: real(table, seeds[:2], name, number=6, steps=30)
    )
    shipped = tmp_path / train.ACTOR
    shipped.write_bytes(b"the model of last year")
    trainer, progress = train.begun(TINY, 0)
    contrary(trainer)
    problems = train.promote(trainer, progress, tmp_path, "command")
    assert problems
    assert any("static" in problem or "gradient_eq2" in problem for problem in problems)
    assert shipped.read_bytes() == b"the model of last year"
    assert [path.name for path in tmp_path.iterdir()] == [train.ACTOR]


def test_main_ships_model_card_and_curve_or_exits(tmp_path, monkeypatch):
    argv = ["train", "--out", str(tmp_path), "--environments", "4", "--imitation", "1", "--ppo", "1", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(train, "begun", lambda settings, ray: begun_small(settings, ray))
    monkeypatch.setattr(train, "refusals", lambda _: [])
    train.main()
    card = json.loads((tmp_path / train.CARD).read_text())
    assert set(card["sha256"]) == {train.ACTOR, train.FORECASTER}
    assert set(card["held_out"][SUITE]) >= {"static", "gradient_eq2", "predict_enumerate", "rl"}
    assert "--imitation 1 --ppo 1" in card["command"]
    rows = list(csv.DictReader((tmp_path / train.CURVE).read_text().splitlines()))
    assert [row["phase"] for row in rows] == ["start", "imitation", "ppo"]
    learned = train.load_learned(tmp_path / train.ACTOR, tmp_path / train.FORECASTER)
    assert learned.actor is not None
    monkeypatch.setattr(train, "refusals", lambda _: ["suite: rl 2 against static 1 on held-out seed number 0"])
    with pytest.raises(SystemExit, match="does not beat the baselines"):
        train.main()


def begun_small(settings, ray_actors):
    small = Settings(**{**vars(TINY), "imitation_iterations": 1, "ppo_iterations": 1, "seed": settings.seed})
    trainer = Trainer(small, ForecastNet(small.width), ray_actors)
    progress = train.Progress(kept=trainer.copy_average())
    progress.curve.append({"phase": "start", "iteration": 0, "train_cost": 0.0, "validation_cost": 1.0})
    return trainer, progress


def test_options_of_the_command_line():
    chosen = train.options().parse_args(["--ray-actors", "3", "--resume"])
    assert chosen.ray_actors == 3
    assert chosen.resume
    assert np.isclose(Settings().discount, 0.95)
