"""Train the actor: all-action policy gradient on the cost of holding each split, then PPO on what really follows.

`python -m xapps.slice_bandwidth.train` writes models/actor.onnx and models/model_card.json, unless the trained actor
fails the gate: it must beat the static split and eq (2) on every held-out seed of every suite.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from ric.learned import load_model
from xapps.slice_bandwidth.environment import VectorSliceEnv
from xapps.slice_bandwidth.evaluation import (
    HELD_OUT_SEEDS,
    SUITES,
    VALIDATION_SEEDS,
    Figures,
    compare,
    refusals,
    rules,
    summary,
)  # fmt: skip
from xapps.slice_bandwidth.lattice import SPLITS
from xapps.slice_bandwidth.rl_agent import BASE, FEATURES, MOVE, MOVE_WEIGHT, features

MODELS = Path(__file__).parent / "models"
PICK = torch.zeros(63, len(SPLITS)).scatter_(0, torch.from_numpy((SPLITS * 3 + np.arange(3)).T.copy()), 1.0)
"""(63, 525): which three scores make a split's logit."""
NEVER = -1e9
COST_CAP = 30.0
HELD_PERIODS, HELD_DISCOUNT = 4, 0.7


@dataclass(frozen=True)
class Settings:
    """What a run depends on; all of it is in the model card."""

    seed: int = 1
    environments: int = 192
    steps: int = 40
    all_action_iterations: int = 110
    ppo_iterations: int = 50
    width: int = 48
    epochs: int = 2
    minibatch: int = 512
    learning_rate: float = 1e-3
    averaging: float = 0.97
    ppo_learning_rate: float = 5e-4
    discount: float = 0.9
    gae: float = 0.9
    clip: float = 0.2
    entropy: float = 2e-3
    threads: int = 2


class ScoreNet(nn.Module):
    """Scores (R,) of feature rows (R, 36): minus the predicted cost, corrected by a small perceptron, sharpened."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(FEATURES, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
        )
        nn.init.zeros_(self.body[4].weight)
        nn.init.zeros_(self.body[4].bias)
        self.log_sharpness = nn.Parameter(torch.tensor(1.5))

    def forward(self, rows: Any) -> Any:
        """See the class."""
        prior = -rows[..., BASE] - MOVE_WEIGHT * rows[..., MOVE]
        return (self.body(rows)[..., 0] + prior) * self.log_sharpness.exp()


class ValueNet(nn.Module):
    """Discounted reward to come from the three slices' rows at their present slot counts (..., 108)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(3 * FEATURES, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)
        )

    def forward(self, rows: Any) -> Any:
        """See the class."""
        return self.body(rows)[..., 0]


def log_probabilities(net: Any, rows: Any, mask: Any) -> Any:
    """(B, 525) from feature rows (B, 21, 3, 36) and permitted splits (B, 525)."""
    logits = (net(rows).flatten(-2) @ PICK).masked_fill(~mask, NEVER)
    return torch.log_softmax(logits, dim=-1)


@dataclass
class Batch:
    """One rollout (T, N, ...): what was seen, done and paid."""

    rows: Any
    mask: Any
    action: Any
    log_probability: Any
    reward: Any
    held_cost: Any
    here: Any


class Rollout:
    """Plays episodes with a copy of the actor; local or as a Ray actor."""

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(settings.threads)
        self.env = VectorSliceEnv(settings.environments, settings.steps)
        self.net = ScoreNet(settings.width)

    def collect(self, weights: dict[str, Any], seed: int) -> Batch:
        """One episode of all environments with traffic of `seed`, actions drawn from the actor."""
        self.net.load_state_dict(weights)
        env = self.env
        columns: list[list[Any]] = [[] for _ in range(7)]
        env.reset(np.random.default_rng(seed))
        draw, done = torch.Generator().manual_seed(seed), False
        while not done:
            rows, mask = features(env.observation(), env.policies.limits, env.nominal), env.mask()
            cost = env.held_cost(HELD_PERIODS, HELD_DISCOUNT)
            with torch.no_grad():
                tensor = torch.from_numpy(rows)
                log_p = log_probabilities(self.net, tensor, torch.from_numpy(mask))
                action = torch.multinomial(log_p.exp(), 1, generator=draw)
            here = np.take_along_axis(rows, env.slots[:, None, :, None], axis=1)[:, 0].reshape(env.number, -1)
            result = env.step(action[:, 0].numpy())
            best = np.where(mask, cost, np.inf).min(axis=1, keepdims=True)
            for column, value in zip(columns, (
                tensor, torch.from_numpy(mask), action[:, 0], log_p.gather(1, action)[:, 0],
                torch.from_numpy(result.reward).float(), torch.from_numpy(np.minimum(cost - best, COST_CAP)).float(),
                torch.from_numpy(here),
            ), strict=True):  # fmt: skip
                column.append(value)
            done = result.done
        return Batch(*(torch.stack(column) for column in columns))


class Trainer:
    """Owns the networks, the optimisers and the rollouts."""

    def __init__(self, settings: Settings, ray_actors: int) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.net, self.value = ScoreNet(settings.width), ValueNet()
        self.average = ScoreNet(settings.width)
        self.average.load_state_dict(self.net.state_dict())
        self.optimiser = torch.optim.Adam(self.net.parameters(), settings.learning_rate)
        self.value_optimiser = torch.optim.Adam(self.value.parameters(), 2e-3)
        self.seeds = np.random.default_rng(settings.seed)
        self.remote: list[Any] = []
        if ray_actors:
            import ray

            ray.init(num_cpus=ray_actors, include_dashboard=False, log_to_driver=False)
            self.remote = [ray.remote(Rollout).remote(settings) for _ in range(ray_actors)]
        self.local = Rollout(settings)

    def batches(self) -> list[Batch]:
        """Fresh episodes: one from this process, or one per Ray actor."""
        weights = self.net.state_dict()
        if not self.remote:
            return [self.local.collect(weights, int(self.seeds.integers(2**31)))]
        import ray

        pending = [actor.collect.remote(weights, int(self.seeds.integers(2**31))) for actor in self.remote]
        return list(ray.get(pending))

    def iterate(self, *, ppo: bool, share: float) -> float:
        """One round of rollouts and descent; `share` of the phase is done. Returns the mean cost met."""
        rate = self.settings.ppo_learning_rate if ppo else self.settings.learning_rate
        self.optimiser.param_groups[0]["lr"] = rate * max(0.03, 1 - share)
        cost = 0.0
        for batch in self.batches():
            cost = float(-batch.reward.mean())
            if ppo:
                self.ppo_step(batch)
                continue
            for _ in range(self.settings.epochs):
                self.all_action_step(batch)
            self.fit_value(batch)
        return cost

    def copy_average(self) -> dict[str, Any]:
        """The averaged weights as they are now."""
        return {name: value.clone() for name, value in self.average.state_dict().items()}

    def restore(self, weights: dict[str, Any]) -> None:
        """Go back to `weights`."""
        self.net.load_state_dict(weights)
        self.average.load_state_dict(weights)

    def all_action_step(self, batch: Batch) -> None:
        """Descend the expected cost of holding the split drawn: exact over all splits, so without their variance."""
        rows, mask, cost = batch.rows.flatten(0, 1), batch.mask.flatten(0, 1), batch.held_cost.flatten(0, 1)
        for index in torch.randperm(len(rows)).split(self.settings.minibatch):
            log_p = log_probabilities(self.net, rows[index], mask[index])
            loss = (log_p.exp() * cost[index]).sum(dim=-1).mean()
            self._descend(self.optimiser, self.net, loss)
            self._follow()

    def ppo_step(self, batch: Batch) -> None:
        """PPO with a clipped ratio and generalised advantages; the episode's end is a truncation."""
        advantage, target = self._advantages(batch)
        rows, mask, here = batch.rows.flatten(0, 1), batch.mask.flatten(0, 1), batch.here.flatten(0, 1)
        action, old = batch.action.flatten(), batch.log_probability.flatten()
        advantage, target = advantage.flatten(), target.flatten()
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-6)
        clip = self.settings.clip
        for _ in range(self.settings.epochs):
            for index in torch.randperm(len(rows)).split(self.settings.minibatch):
                log_p = log_probabilities(self.net, rows[index], mask[index])
                ratio = (log_p.gather(1, action[index, None])[:, 0] - old[index]).exp()
                gain = torch.minimum(ratio * advantage[index], ratio.clamp(1 - clip, 1 + clip) * advantage[index])
                entropy = -(log_p.exp() * log_p.clamp(min=-50)).sum(dim=-1).mean()
                self._descend(self.optimiser, self.net, -gain.mean() - self.settings.entropy * entropy)
                self._follow()
                value_loss = nn.functional.smooth_l1_loss(self.value(here[index]), target[index])
                self._descend(self.value_optimiser, self.value, value_loss)

    def fit_value(self, batch: Batch) -> None:
        """Teach the critic alone, before PPO relies on it."""
        _, target = self._advantages(batch)
        here, goal = batch.here.flatten(0, 1), target.flatten()
        for index in torch.randperm(len(here)).split(self.settings.minibatch):
            self._descend(
                self.value_optimiser, self.value, nn.functional.smooth_l1_loss(self.value(here[index]), goal[index])
            )

    def _advantages(self, batch: Batch) -> tuple[Any, Any]:
        with torch.no_grad():
            values = self.value(batch.here)
        discount, gae = self.settings.discount, self.settings.gae
        reward = batch.reward.clamp(-40, 0) / 5
        advantage = torch.zeros_like(reward)
        # The last period has no successor in the batch: its own value stands in for what follows.
        following, carried = values[-1], torch.zeros_like(reward[0])
        for step in reversed(range(len(reward))):
            delta = reward[step] + discount * following - values[step]
            carried = delta + discount * gae * carried
            advantage[step] = carried
            following = values[step]
        return advantage, advantage + values

    def _follow(self) -> None:
        keep = self.settings.averaging
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.net.parameters(), strict=True):
                mean.mul_(keep).add_(value, alpha=1 - keep)

    @staticmethod
    def _descend(optimiser: Any, module: Any, loss: Any) -> None:
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()

    def numpy_actor(self) -> Any:
        """The averaged network as an `Actor`."""

        def score(rows: NDArray[np.float32]) -> NDArray[np.float32]:
            with torch.no_grad():
                return np.asarray(self.average(torch.from_numpy(rows)).numpy())

        return score


def _tell(what: object) -> None:
    sys.stderr.write(json.dumps(what) + "\n")


def validation_cost(trainer: Trainer) -> float:
    """Mean cost of the averaged, greedy actor over the validation seeds of both suites."""
    table = {"rl": rules(trainer.numpy_actor())["rl"]}
    costs = [compare(table, VALIDATION_SEEDS, suite, number=32, steps=100)["rl"].cost for suite in SUITES]
    return float(np.mean(costs))


def train(settings: Settings, ray_actors: int) -> tuple[Trainer, list[dict[str, float | str]]]:
    """The trainer with the weights of the best validation, and the learning curve."""
    torch.set_num_threads(settings.threads)
    trainer = Trainer(settings, ray_actors)
    best, kept = validation_cost(trainer), trainer.copy_average()
    curve: list[dict[str, float | str]] = [{"iteration": 0, "phase": "start", "validation_cost": best}]
    for phase, number in (("all_action", settings.all_action_iterations), ("ppo", settings.ppo_iterations)):
        trainer.restore(kept)
        for iteration in range(1, number + 1):
            cost = trainer.iterate(ppo=phase == "ppo", share=iteration / number)
            if iteration % 10:
                continue
            validated = validation_cost(trainer)
            curve.append({"iteration": iteration, "phase": phase, "train_cost": cost, "validation_cost": validated})
            _tell(curve[-1])
            if validated < best:
                best, kept = validated, trainer.copy_average()
    trainer.restore(kept)
    return trainer, curve


def export(net: ScoreNet, path: Path) -> None:
    """Write the network as ONNX: input `rows` (R, 36), output `scores` (R,)."""
    helper, arrays, nodes, name = onnx.helper, {}, [], "rows"
    for layer in (0, 2, 4):
        linear = net.body[layer]
        arrays[f"w{layer}"] = linear.weight.detach().numpy().T.copy()
        arrays[f"b{layer}"] = linear.bias.detach().numpy()
        nodes.append(helper.make_node("Gemm", [name, f"w{layer}", f"b{layer}"], [f"y{layer}"]))
        name = f"y{layer}"
        if layer < 4:
            nodes.append(helper.make_node("Relu", [name], [f"a{layer}"]))
            name = f"a{layer}"
    prior = np.zeros((FEATURES, 1), dtype=np.float32)
    prior[BASE, 0], prior[MOVE, 0] = -1.0, -MOVE_WEIGHT
    arrays |= {"prior": prior, "sharpness": net.log_sharpness.detach().exp().numpy().reshape(1), "last": np.array([1])}
    nodes += [
        helper.make_node("MatMul", ["rows", "prior"], ["base"]),
        helper.make_node("Add", [name, "base"], ["sum"]),
        helper.make_node("Mul", ["sum", "sharpness"], ["sharp"]),
        helper.make_node("Squeeze", ["sharp", "last"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes, "slice_bandwidth_actor",
        [helper.make_tensor_value_info("rows", onnx.TensorProto.FLOAT, ["R", FEATURES])],
        [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["R"])],
        [onnx.numpy_helper.from_array(value, key) for key, value in arrays.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))


def judge(path: Path) -> dict[str, dict[str, Figures]]:
    """Held-out figures per suite of the exported model, run as the app runs it."""
    model = load_model(path, {"rows": (-1, FEATURES)}, {"scores": (-1,)})
    table = rules(lambda rows: model.run(rows=rows)[0])
    return {suite: compare(table, HELD_OUT_SEEDS, suite, number=48, steps=200) for suite in SUITES}


def main() -> None:
    """Train, export, judge on held-out traffic; refuse or ship."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=Settings.seed)
    parser.add_argument("--all-action", type=int, default=Settings.all_action_iterations, help="iterations")
    parser.add_argument("--ppo", type=int, default=Settings.ppo_iterations, help="iterations after those")
    parser.add_argument("--threads", type=int, default=Settings.threads)
    parser.add_argument("--ray-actors", type=int, default=0, help="collect rollouts in this many Ray actors")
    parser.add_argument("--out", type=Path, default=MODELS)
    chosen = parser.parse_args()
    settings = Settings(
        seed=chosen.seed, threads=chosen.threads, all_action_iterations=chosen.all_action, ppo_iterations=chosen.ppo
    )
    started_s = time.perf_counter()
    trainer, curve = train(settings, chosen.ray_actors)
    candidate = chosen.out / "candidate.onnx"
    export(trainer.average, candidate)
    minutes = (time.perf_counter() - started_s) / 60
    figures = judge(candidate)
    problems = refusals(figures)
    card = {
        "model": "actor.onnx",
        "sha256": hashlib.sha256(candidate.read_bytes()).hexdigest(),
        "inputs": {"rows": f"(R, {FEATURES}) float32, xapps.slice_bandwidth.rl_agent.features"},
        "outputs": {"scores": "(R,) float32, logit contribution per slot count and slice"},
        "data": "surrogate traffic of xapps.slice_bandwidth.traffic, domain-randomised per episode; no recorded data",
        "command": f"python -m xapps.slice_bandwidth.train --seed {settings.seed} --threads {settings.threads} "
        f"--all-action {settings.all_action_iterations} --ppo {settings.ppo_iterations}",
        "settings": asdict(settings),
        "training_minutes": round(minutes, 2),
        "held_out_seeds": HELD_OUT_SEEDS,
        **summary(figures),
        "curve": curve,
    }
    _tell(summary(figures)["gap_to_oracle_of_coming_load_closed"])
    if problems:
        candidate.unlink()
        sys.exit("refused, the model does not beat the baselines:\n" + "\n".join(problems))
    candidate.replace(chosen.out / "actor.onnx")
    (chosen.out / "model_card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
