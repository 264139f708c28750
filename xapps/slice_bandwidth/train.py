"""Train forecaster and actor: quantile regression, imitation of hindsight, then PPO on what really follows.

`python -m xapps.slice_bandwidth.train` writes models/{forecaster,actor}.onnx, models/model_card.json and the learning
curve, unless the trained actor fails the gate: it must beat the static split and eq (2) on every held-out seed of every
suite. With `--ray-actors N` the rollouts run in N Ray actors: on this machine, or on the cluster that RAY_ADDRESS
names. `--resume` goes on from the checkpoint in `--out`.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ric.learned import load_model
from xapps.slice_bandwidth.evaluation import (
    HELD_OUT_SEEDS,
    SUITES,
    VALIDATION_SEEDS,
    VALIDATION_SUITES,
    Figures,
    compare,
    refusals,
    rules,
    summary,
)  # fmt: skip
from xapps.slice_bandwidth.forecast import COLUMNS, OUTPUTS
from xapps.slice_bandwidth.learner import Settings, Trainer, fit_forecaster
from xapps.slice_bandwidth.networks import ForecastNet, export_actor, export_forecaster
from xapps.slice_bandwidth.rl_agent import FEATURES, Learned

MODELS = Path(__file__).parent / "models"
ACTOR, FORECASTER, CARD, CHECKPOINT, CURVE = (
    "actor.onnx", "forecaster.onnx", "model_card.json", "checkpoint.pt", "curve.csv",
)  # fmt: skip
VALIDATE_EVERY = 10
GATE_SEEDS = HELD_OUT_SEEDS[:3]
GATE_RULES = ("static", "gradient_eq2", "predict_enumerate", "rl", "myopic_oracle")


@dataclass
class Progress:
    """How far a run is: iterations done per phase, the best weights so far, the curve and the minutes spent."""

    done: dict[str, int] = field(default_factory=lambda: {"imitation": 0, "ppo": 0})
    best: float = float("inf")
    kept: dict[str, Any] = field(default_factory=dict)
    curve: list[dict[str, float | str]] = field(default_factory=list)
    minutes: float = 0.0


def _tell(what: object) -> None:
    sys.stderr.write(json.dumps(what) + "\n")


def validation_cost(trainer: Trainer) -> float:
    """Mean cost of the averaged, greedy actor over validation seeds: the default policy, and what training draws."""
    table = {"rl": rules(trainer.learned())["rl"]}
    suites = VALIDATION_SUITES.values()
    costs = [compare(table, VALIDATION_SEEDS, suite, number=40, steps=100)["rl"].cost for suite in suites]
    return float(np.mean(costs))


def save(trainer: Trainer, progress: Progress, path: Path) -> None:
    """Write a checkpoint; the old one stays until the new one is whole."""
    part = path.with_suffix(".part")
    torch.save({"settings": asdict(trainer.settings), "forecast": trainer.forecast.state_dict(),
                "trainer": trainer.state(), "progress": vars(progress)}, part)  # fmt: skip
    part.replace(path)


def resumed(path: Path, ray_actors: int) -> tuple[Trainer, Progress]:
    """The run of a checkpoint. Raises FileNotFoundError."""
    held = torch.load(path, weights_only=False)  # our own file: it holds generator states beside tensors
    settings = Settings(**held["settings"])
    forecast = ForecastNet(settings.forecast_width)
    forecast.load_state_dict(held["forecast"])
    trainer = Trainer(settings, forecast, ray_actors)
    trainer.restore(held["trainer"])
    return trainer, Progress(**held["progress"])


def begun(settings: Settings, ray_actors: int) -> tuple[Trainer, Progress]:
    """A new run: the forecaster is fitted first."""
    started_s = time.perf_counter()
    forecast, loss = fit_forecaster(settings)
    trainer, progress = Trainer(settings, forecast, ray_actors), Progress()
    progress.minutes = (time.perf_counter() - started_s) / 60
    progress.best, progress.kept = validation_cost(trainer), trainer.copy_average()
    progress.curve.append({"phase": "start", "iteration": 0, "train_cost": 0.0, "validation_cost": progress.best})
    _tell({"forecaster_pinball_loss": round(loss, 5), **progress.curve[-1]})
    return trainer, progress


def train(
    trainer: Trainer, progress: Progress, out: Path, *, budget_min: float = float("inf"), stop_after: int | None = None
) -> None:
    """Both phases to their end, from wherever `progress` is, and the weights of the best validation at last.

    Checkpoints to `out` at every validation; a spent `budget_min` [min] ends both phases early, `stop_after` the run
    after so many iterations, as a crash would.
    """
    torch.set_num_threads(trainer.settings.threads)
    totals = {"imitation": trainer.settings.imitation_iterations, "ppo": trainer.settings.ppo_iterations}
    spent, started_s, before = 0, time.perf_counter(), progress.minutes
    for phase, total in totals.items():
        while progress.done[phase] < total and progress.minutes < budget_min:
            if progress.done[phase] == 0 and progress.kept:
                trainer.take(progress.kept)
            cost = trainer.iterate(ppo=phase == "ppo", share=(progress.done[phase] + 1) / total)
            progress.done[phase] += 1
            spent += 1
            progress.minutes = before + (time.perf_counter() - started_s) / 60
            if progress.done[phase] % VALIDATE_EVERY == 0 or progress.done[phase] == total:
                _validate(trainer, progress, phase, cost)
                save(trainer, progress, out / CHECKPOINT)
            if spent == stop_after:
                return
    trainer.take(progress.kept)


def _validate(trainer: Trainer, progress: Progress, phase: str, cost: float) -> None:
    validated = validation_cost(trainer)
    row: dict[str, float | str] = {
        "phase": phase,
        "iteration": progress.done[phase],
        "train_cost": cost,
        "validation_cost": validated,
    }
    progress.curve.append(row)
    _tell(row | {"minutes": round(progress.minutes, 2)})
    if validated < progress.best:
        progress.best, progress.kept = validated, trainer.copy_average()


def judge(actor: Path, forecaster: Path, *, number: int = 24, steps: int = 60) -> dict[str, dict[str, Figures]]:
    """Held-out figures per suite of exported models, run as the app runs them."""
    every = rules(load_learned(actor, forecaster))
    table = {name: every[name] for name in GATE_RULES}
    return {name: compare(table, GATE_SEEDS, suite, number=number, steps=steps) for name, suite in SUITES.items()}


def load_learned(actor: Path, forecaster: Path) -> Learned:
    """The exported models as the app runs them. Raises TwinRicError MODEL-MISSING and MODEL-SHAPE."""
    scores = load_model(actor, {"rows": (-1, FEATURES)}, {"scores": (-1,)})
    quantiles = load_model(forecaster, {"rows": (-1, COLUMNS)}, {"quantiles": (-1, OUTPUTS)})
    return Learned(lambda rows: quantiles.run(rows=rows)[0], lambda rows: scores.run(rows=rows)[0])


def promote(trainer: Trainer, progress: Progress, out: Path, command: str) -> list[str]:
    """Export, judge on held-out traffic, ship; or return why not and leave what was shipped before."""
    out.mkdir(parents=True, exist_ok=True)
    candidates = out / "candidate_actor.onnx", out / "candidate_forecaster.onnx"
    export_actor(trainer.average, candidates[0])
    export_forecaster(trainer.forecast, candidates[1])
    figures = judge(*candidates)
    problems = refusals(figures)
    _tell(summary(figures)["gap_from_static_to_myopic_oracle_closed"])
    if problems:
        for path in candidates:
            path.unlink()
        return problems
    for path, name in zip(candidates, (ACTOR, FORECASTER), strict=True):
        path.replace(out / name)
    (out / CARD).write_text(json.dumps(card_of(trainer, progress, out, command, figures), indent=1) + "\n", "utf-8")
    with (out / CURVE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["phase", "iteration", "train_cost", "validation_cost"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(progress.curve)
    return []


def card_of(
    trainer: Trainer, progress: Progress, out: Path, command: str, figures: dict[str, dict[str, Figures]]
) -> dict[str, Any]:
    """The model card: what was trained on what, by which command, for how long, and how it fares."""
    sums = {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in (ACTOR, FORECASTER)}
    return {
        "model": ACTOR,
        "sha256": sums,
        "inputs": {
            ACTOR: f"rows (R, {FEATURES}) float32, xapps.slice_bandwidth.rl_agent.features",
            FORECASTER: f"rows (R, {COLUMNS}) float32, xapps.slice_bandwidth.forecast.forecast_rows",
        },
        "outputs": {
            ACTOR: "scores (R,) float32, logit contribution per slot count and slice",
            FORECASTER: f"quantiles (R, {OUTPUTS}) float32, log(load / last load)",
        },
        "data": "surrogate traffic of xapps.slice_bandwidth.traffic, domain-randomised per episode; no recorded data",
        "command": command,
        "settings": asdict(trainer.settings),
        "ray_actors": len(trainer.remote),
        "training_minutes": round(progress.minutes, 2),
        "iterations_done": progress.done,
        "load_average_1min": round(os.getloadavg()[0], 2),
        "held_out_seeds": GATE_SEEDS,
        **summary(figures),
        "curve": progress.curve,
    }


def options() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    default = Settings()
    made.add_argument("--seed", type=int, default=default.seed)
    made.add_argument("--imitation", type=int, default=default.imitation_iterations, help="iterations")
    made.add_argument("--ppo", type=int, default=default.ppo_iterations, help="iterations after those")
    made.add_argument("--environments", type=int, default=default.environments, help="nodes per rollout")
    made.add_argument("--threads", type=int, default=default.threads)
    made.add_argument("--cells", type=int, default=default.cells, help="nodes that share an aggregation link")
    made.add_argument("--ray-actors", type=int, default=0, help="collect rollouts in this many Ray actors")
    made.add_argument("--budget-min", type=float, default=float("inf"), help="end training after so many minutes")
    made.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    made.add_argument("--out", type=Path, default=MODELS)
    return made


def main() -> None:
    """Train, export, judge on held-out traffic; refuse or ship."""
    chosen = options().parse_args()
    settings = Settings(
        seed=chosen.seed, threads=chosen.threads, environments=chosen.environments, cells=chosen.cells,
        imitation_iterations=chosen.imitation, ppo_iterations=chosen.ppo,
    )  # fmt: skip
    chosen.out.mkdir(parents=True, exist_ok=True)
    if chosen.resume:
        trainer, progress = resumed(chosen.out / CHECKPOINT, chosen.ray_actors)
    else:
        trainer, progress = begun(settings, chosen.ray_actors)
    train(trainer, progress, chosen.out, budget_min=chosen.budget_min)
    held = trainer.settings
    command = (
        f"python -m xapps.slice_bandwidth.train --seed {held.seed} --threads {held.threads} "
        f"--environments {held.environments} --imitation {held.imitation_iterations} --ppo {held.ppo_iterations}"
        + (f" --cells {held.cells}" if held.cells > 1 else "")
        + (f" --ray-actors {chosen.ray_actors}" if chosen.ray_actors else "")
        + (f" --budget-min {chosen.budget_min:g}" if chosen.budget_min < float("inf") else "")
    )
    problems = promote(trainer, progress, chosen.out, command)
    if problems:
        sys.exit("refused, the model does not beat the baselines:\n" + "\n".join(problems))


if __name__ == "__main__":
    main()
