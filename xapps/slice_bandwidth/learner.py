"""How the networks are fitted: quantile regression, all-action policy gradient on hindsight, then PPO.

Rollouts run here or in Ray actors (`ray_actors` > 0), on one machine or on a cluster's nodes alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from xapps.slice_bandwidth.environment import LOOP_PERIODS_S, PERIODS_S, VectorSliceEnv
from xapps.slice_bandwidth.forecast import COLUMNS, HORIZONS, LEVELS, RATIO_LIMIT, forecast_rows
from xapps.slice_bandwidth.hindsight import Continuation, continuations
from xapps.slice_bandwidth.lattice import SPLITS, sum_over_slices
from xapps.slice_bandwidth.model import predict_table
from xapps.slice_bandwidth.networks import ForecastNet, ScoreNet, ValueNet, log_probabilities
from xapps.slice_bandwidth.objective import moved_slots, priced_table
from xapps.slice_bandwidth.rl_agent import Actor, Learned, features
from xapps.slice_bandwidth.state import HISTORY
from xapps.slice_bandwidth.traffic import Draws, draw_traffic

__all__ = ["Batch", "Rollout", "Settings", "Trainer", "as_numpy", "fit_forecaster"]

COST_CAP = 20.0
"""Hindsight costs count as at most this much above the cheapest: four limits at the default price of the dearest slice.
At 5 the actor broke more of those that a policy prices dearly; at 60 it costs the same (tuning seeds)."""
FORECAST_EPOCHS, IMITATION_EPOCHS = 2, 3
SHORT_SHARE = 0.15
"""Share of the forecaster's rows whose history is that of an app that started a moment ago."""


@dataclass(frozen=True)
class Settings:
    """What a run depends on; all of it is in the model card."""

    seed: int = 1
    environments: int = 192
    steps: int = 40
    forecast_iterations: int = 300
    imitation_iterations: int = 30
    ppo_iterations: int = 30
    width: int = 64
    forecast_width: int = 96
    epochs: int = 2
    minibatch: int = 512
    learning_rate: float = 1e-3
    averaging: float = 0.97
    ppo_learning_rate: float = 3e-4
    discount: float = 0.95
    gae: float = 0.9
    clip: float = 0.2
    entropy: float = 2e-3
    threads: int = 1
    cells: int = 1
    """Nodes that share an aggregation link in training; must divide `environments`."""


def as_numpy(net: nn.Module) -> Actor:
    """A network as a function of arrays."""

    def run(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            return np.asarray(net(torch.from_numpy(rows)).numpy())

    return run


def _forecast_batch(generator: np.random.Generator, number: int) -> tuple[Any, Any]:
    """Rows (R, COLUMNS) and targets (R, HORIZONS), log(load / last load), from fresh traffic."""
    period_s = generator.choice(np.concatenate((PERIODS_S, LOOP_PERIODS_S)), number)
    steps = HISTORY + 90
    traffic = draw_traffic(generator, steps, period_s, Draws.WIDE)
    loads = traffic.offered_mbps
    rows, targets = [], []
    for step in generator.choice(np.arange(HISTORY, steps - 2), 40, replace=False):
        past = _shortened(generator, np.moveaxis(loads[step - HISTORY : step], 0, 1))
        rows.append(forecast_rows(past, period_s, traffic.alarm_at(step)).reshape(-1, COLUMNS))
        coming = np.stack([loads[step], (loads[step + 1] + loads[step + 2]) / 2], axis=-1)
        targets.append(np.log(coming / loads[step - 1][..., None]).reshape(-1, HORIZONS))
    bounded = np.clip(np.concatenate(targets), -RATIO_LIMIT, RATIO_LIMIT).astype(np.float32)
    return torch.from_numpy(np.concatenate(rows)), torch.from_numpy(bounded)


def _shortened(generator: np.random.Generator, past: NDArray[np.float64]) -> NDArray[np.float64]:
    """Histories (N, HISTORY, 3), some of them as the app has them after its start: the oldest row repeated."""
    short = generator.random(len(past)) < SHORT_SHARE
    first = np.where(short, generator.integers(1, HISTORY, len(past)), 0)
    place = np.maximum(np.arange(HISTORY), first[:, None])
    return np.take_along_axis(past, place[..., None], axis=1)


def fit_forecaster(settings: Settings) -> tuple[ForecastNet, float]:
    """The forecaster by pinball loss on fresh traffic, and its loss on traffic of another seed."""
    torch.manual_seed(settings.seed)
    generator = np.random.default_rng([settings.seed, 1])
    net, levels = ForecastNet(settings.forecast_width), torch.tensor(LEVELS, dtype=torch.float32)
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)

    def loss_of(rows: Any, targets: Any) -> Any:
        error = targets[..., None] - net(rows).reshape(-1, HORIZONS, len(LEVELS))
        return torch.maximum(levels * error, (levels - 1) * error).mean()

    for iteration in range(settings.forecast_iterations):
        rows, targets = _forecast_batch(generator, settings.environments)
        optimiser.param_groups[0]["lr"] = 2e-3 * max(0.03, 1 - iteration / settings.forecast_iterations)
        for _ in range(FORECAST_EPOCHS):
            for index in torch.randperm(len(rows)).split(1024):
                _descend(optimiser, net, loss_of(rows[index], targets[index]))
    with torch.no_grad():
        held = _forecast_batch(np.random.default_rng([settings.seed, 2]), settings.environments)
        return net, float(loss_of(*held))


def _descend(optimiser: Any, module: Any, loss: Any) -> None:
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimiser.step()


@dataclass
class Batch:
    """One rollout (T, N, ...): what was seen, done, paid, and by how much every split would have cost more."""

    rows: Any
    mask: Any
    action: Any
    log_probability: Any
    reward: Any
    excess: Any
    here: Any


def hindsight_cost(env: VectorSliceEnv, following: Continuation, step: int, discount: float) -> NDArray[np.float64]:
    """Cost (N, 525) of each split in the coming period, its move, and the best that could follow."""
    load = env.traffic.offered_mbps[env.at]
    got = predict_table(load, env.queue_mbit, env.period_s, env.link)
    table = priced_table(got, env.policies.limits) + discount * following.after(step + 1, got.queue_mbit)
    moves = moved_slots(env.slots[:, None, :], SPLITS)
    return np.asarray(sum_over_slices(table) + env.policies.limits.slot_move_cost[:, None] * moves)


class Rollout:
    """Plays episodes with a copy of the actor; local or as a Ray actor."""

    def __init__(self, settings: Settings, forecaster: dict[str, Any]) -> None:
        torch.set_num_threads(settings.threads)
        self.settings = settings
        self.env = VectorSliceEnv(
            settings.environments, settings.steps, draws=Draws.WIDE, periods_s=LOOP_PERIODS_S, cells=settings.cells
        )
        self.net, forecast = ScoreNet(settings.width), ForecastNet(settings.forecast_width)
        forecast.load_state_dict(forecaster)
        self.forecaster = as_numpy(forecast)

    def collect(self, weights: dict[str, Any], seed: int, teach: bool) -> Batch:
        """One episode of every environment on traffic of `seed`, with actions drawn; `teach` adds `excess`."""
        self.net.load_state_dict(weights)
        env, columns = self.env, [[] for _ in range(7)]  # type: tuple[VectorSliceEnv, list[list[Any]]]
        env.reset(np.random.default_rng(seed))
        following = continuations(env.episode(), self.settings.discount) if teach else None
        draw = torch.Generator().manual_seed(seed)
        for step in range(env.steps):
            rows, mask = features(env.observation(), self.forecaster, env.policies.limits), env.safe_mask()
            excess = np.zeros((0,))
            if following is not None:
                cost = hindsight_cost(env, following, step, self.settings.discount)
                best = np.where(mask, cost, np.inf).min(axis=1, keepdims=True)
                excess = np.minimum(cost - best, COST_CAP)
            with torch.no_grad():
                tensor, allowed = torch.from_numpy(rows), torch.from_numpy(mask)
                log_p = log_probabilities(self.net, tensor, allowed)
                action = torch.multinomial(log_p.exp(), 1, generator=draw)
            here = np.take_along_axis(rows, env.slots[:, None, :, None], axis=1)[:, 0].reshape(env.number, -1)
            result = env.step(action[:, 0].numpy())
            for column, value in zip(columns, (
                tensor, allowed, action[:, 0], log_p.gather(1, action)[:, 0], torch.from_numpy(result.reward).float(),
                torch.from_numpy(excess).float(), torch.from_numpy(here),
            ), strict=True):  # fmt: skip
                column.append(value)
        return Batch(*(torch.stack(column) for column in columns))


class Trainer:
    """Owns the networks, the optimisers and the rollouts."""

    def __init__(self, settings: Settings, forecast: ForecastNet, ray_actors: int = 0) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.forecast = settings, forecast
        self.net, self.value = ScoreNet(settings.width), ValueNet()
        self.average = ScoreNet(settings.width)
        self.average.load_state_dict(self.net.state_dict())
        self.optimiser = torch.optim.Adam(self.net.parameters(), settings.learning_rate)
        self.value_optimiser = torch.optim.Adam(self.value.parameters(), 2e-3)
        self.seeds = np.random.default_rng(settings.seed)
        self.remote: list[Any] = []
        weights = forecast.state_dict()
        if ray_actors:
            import ray

            if not ray.is_initialized():
                ray.init(num_cpus=ray_actors, include_dashboard=False, log_to_driver=False)
            self.remote = [ray.remote(Rollout).remote(settings, weights) for _ in range(ray_actors)]
        else:
            self.local = Rollout(settings, weights)

    def batches(self, *, teach: bool) -> list[Batch]:
        """Fresh episodes: one from this process, or one per Ray actor."""
        weights = self.net.state_dict()
        if not self.remote:
            return [self.local.collect(weights, int(self.seeds.integers(2**31)), teach)]
        import ray

        pending = [actor.collect.remote(weights, int(self.seeds.integers(2**31)), teach) for actor in self.remote]
        return list(ray.get(pending))

    def iterate(self, *, ppo: bool, share: float) -> float:
        """One round of rollouts and descent; `share` of the phase is done. Returns the mean cost met."""
        rate = self.settings.ppo_learning_rate if ppo else self.settings.learning_rate
        self.optimiser.param_groups[0]["lr"] = rate * max(0.03, 1 - share)
        cost = 0.0
        for batch in self.batches(teach=not ppo):
            cost = float(-batch.reward.mean())
            if ppo:
                self.ppo_step(batch)
                continue
            for _ in range(IMITATION_EPOCHS):
                self.imitation_step(batch)
            self.fit_value(batch)
        return cost

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs to go on as if it had never stopped (with local rollouts: bit for bit)."""
        modules = {name: getattr(self, name).state_dict() for name in MODULES}
        return modules | {"seeds": self.seeds.bit_generator.state, "torch": torch.get_rng_state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        for name in MODULES:
            getattr(self, name).load_state_dict(state[name])
        self.seeds.bit_generator.state = state["seeds"]
        torch.set_rng_state(state["torch"])

    def copy_average(self) -> dict[str, Any]:
        """The averaged weights as they are now."""
        return {name: value.clone() for name, value in self.average.state_dict().items()}

    def take(self, weights: dict[str, Any]) -> None:
        """Make the actor and its average start from `weights`."""
        self.net.load_state_dict(weights)
        self.average.load_state_dict(weights)

    def learned(self) -> Learned:
        """The averaged actor and its forecaster as functions of arrays."""
        return Learned(as_numpy(self.forecast), as_numpy(self.average))

    def imitation_step(self, batch: Batch) -> None:
        """Descend the expected hindsight cost of the split drawn: exact over all splits, so without their variance."""
        rows, mask, excess = batch.rows.flatten(0, 1), batch.mask.flatten(0, 1), batch.excess.flatten(0, 1)
        for index in torch.randperm(len(rows)).split(self.settings.minibatch):
            log_p = log_probabilities(self.net, rows[index], mask[index])
            _descend(self.optimiser, self.net, (log_p.exp() * excess[index]).sum(dim=-1).mean())
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
                _descend(self.optimiser, self.net, -gain.mean() - self.settings.entropy * entropy)
                self._follow()
                value_loss = nn.functional.smooth_l1_loss(self.value(here[index]), target[index])
                _descend(self.value_optimiser, self.value, value_loss)

    def fit_value(self, batch: Batch) -> None:
        """Teach the critic alone, before PPO relies on it."""
        _, target = self._advantages(batch)
        here, goal = batch.here.flatten(0, 1), target.flatten()
        for index in torch.randperm(len(here)).split(self.settings.minibatch):
            loss = nn.functional.smooth_l1_loss(self.value(here[index]), goal[index])
            _descend(self.value_optimiser, self.value, loss)

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


MODULES = ("net", "value", "average", "optimiser", "value_optimiser")
"""What of a trainer has weights or moments."""
