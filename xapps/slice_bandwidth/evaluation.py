"""Every controller on the same held-out traffic: the figures of the model card, the gate and the benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xapps.slice_bandwidth.baselines import (
    Thresholds,
    gradient_transfer,
    myopic_oracle,
    predict_and_enumerate,
    static_split,
    threshold_rule,
)  # fmt: skip
from xapps.slice_bandwidth.clairvoyant import clairvoyant_course
from xapps.slice_bandwidth.environment import VectorSliceEnv
from xapps.slice_bandwidth.objective import Limits
from xapps.slice_bandwidth.rl_agent import Learned, Observation, scored
from xapps.slice_bandwidth.safety import LONGEST_S, in_budget
from xapps.slice_bandwidth.traffic import Draws

__all__ = [
    "HELD_OUT_SEEDS", "SUITES", "TUNING_SEEDS", "VALIDATION_SEEDS", "VALIDATION_SUITES", "Figures", "Rule",
    "as_served", "clairvoyant", "compare", "gap_closed", "interval", "play", "refusals", "rules", "served_mask",
    "summary",
]  # fmt: skip

Rule = Callable[[VectorSliceEnv], NDArray[np.intp]]
Prefer = Callable[[VectorSliceEnv], NDArray[np.floating]]
MaskOf = Callable[[VectorSliceEnv], NDArray[np.bool_]]

TUNING_SEEDS = (61_001, 61_002)
"""Traffic that rules are tuned on."""
VALIDATION_SEEDS = (71_001, 71_002, 71_003, 71_004)
"""Traffic that picks the checkpoint."""
HELD_OUT_SEEDS = tuple(range(90_001, 90_031))
"""Traffic that nothing was fitted to."""
SUITES: Mapping[str, Mapping[str, Any]] = {
    "default_policy": {"random_policies": False, "period_s": 0.1},
    "random_policies": {"random_policies": True, "period_s": 0.1},
    "unseen_weights_and_loads": {"random_policies": True, "period_s": 0.1, "draws": Draws.UNSEEN},
    "random_policies_and_periods": {"random_policies": True},
}
"""Suite -> arguments of the environment; periods of 100 ms but for the last, which goes to 60 s."""
VALIDATION_SUITES: Mapping[str, Mapping[str, Any]] = {
    **{name: SUITES[name] for name in ("default_policy", "random_policies")},
    "what_training_draws": {"random_policies": True, "period_s": 0.1, "draws": Draws.WIDE},
}
"""Suites on whose validation seeds checkpoints are picked; the unseen ones are not among them."""
OBJECTIVE_LIMIT = 100.0
CLAIRVOYANT_WIDTH = 40
"""Labels that the clairvoyant keeps here: at four times as many its cost falls by less than 0.5 % (tests)."""


@dataclass(frozen=True)
class Figures:
    """Means per period: cost (= -reward), eq (3) (each value cut at 100), broken limits, slots moved; cost per seed."""

    cost: float
    objective: float
    violations: float
    moved_slots: float
    cost_by_seed: tuple[float, ...]
    violations_by_seed: tuple[float, ...]


def rules(learned: Learned | None, thresholds: Thresholds | None = None) -> dict[str, Rule]:
    """The controllers by name; `myopic_oracle` alone knows the coming load and the true link."""

    def on_mask(prefer: Prefer, mask_of: MaskOf = VectorSliceEnv.mask) -> Rule:
        def choose(env: VectorSliceEnv) -> NDArray[np.intp]:
            return np.asarray(np.argmax(np.where(mask_of(env), prefer(env), -np.inf), axis=-1))

        return choose

    table = {
        "static": on_mask(lambda env: static_split((env.number,))),
        "gradient_eq2": on_mask(lambda env: gradient_transfer(env.situation(), env.policies.limits, env.believed)),
        "threshold": on_mask(
            lambda env: threshold_rule(env.situation()) if thresholds is None
            else threshold_rule(env.situation(), thresholds)
        ),
        "enumerate_last_load": on_mask(lambda env: myopic_oracle(env.situation(), env.policies.limits, env.believed)),
        "myopic_oracle": on_mask(
            lambda env: myopic_oracle(env.situation(clairvoyant=True), env.policies.limits, env.link)
        ),
    }  # fmt: skip
    if learned is not None:
        known, safe = learned, partial(served_mask, learned)
        table["predict_enumerate"] = on_mask(
            lambda env: predict_and_enumerate(env.observation(), known.forecaster, env.policies.limits), safe
        )
        if learned.actor is not None:
            table["rl"] = on_mask(lambda env: as_served(known, env.observation(), env.policies.limits), safe)
    return table


def served_mask(learned: Learned, env: VectorSliceEnv) -> NDArray[np.bool_]:
    """Splits (N, 525) that the safety layer leaves to modes `rl` and `oracle`, as the app applies it."""
    return in_budget(env.observation(), learned.forecaster, env.policies.limits, env.safe_mask())


def as_served(learned: Learned, seen: Observation, limits: Limits) -> NDArray[np.floating]:
    """What mode `rl` prefers: the actor in the Near-RT loop, forecast and enumeration at longer periods."""
    made = scored(learned, seen, limits)
    slow = seen.period_s > LONGEST_S
    if not slow.any():
        return made
    return np.where(slow[:, None], predict_and_enumerate(seen, learned.forecaster, limits), made)


def clairvoyant(width: int = CLAIRVOYANT_WIDTH, *, replan: int | None = None, horizon: int | None = None) -> Rule:
    """The clairvoyant of :mod:`clairvoyant` as a rule; plans when it is first asked in an episode.

    And anew after every `replan` periods, for plants whose queues it only has a model of. It looks `horizon` periods
    ahead, or to the end.
    """
    plan: list[NDArray[np.intp]] = []

    def choose(env: VectorSliceEnv) -> NDArray[np.intp]:
        if not plan:
            rows = np.stack([clairvoyant_course(env.course(k).next(horizon), width) for k in range(env.number)], axis=1)
            plan.extend(rows[:replan])
        return plan.pop(0)

    return choose


def play(rule: Rule, env: VectorSliceEnv, seed: int) -> NDArray[np.float64]:
    """Means per period (4,) over one episode of `seed`: cost, eq (3), broken limits, slots moved."""
    env.reset(np.random.default_rng(seed))
    sums, done = np.zeros(4), False
    while not done:
        result = env.step(rule(env))
        objective = np.minimum(result.objective.total, OBJECTIVE_LIMIT)
        values = (-result.reward, objective, result.objective.violation_count, result.moved)
        sums += [value.mean() for value in values]
        done = result.done
    return np.asarray(sums / env.steps)


def compare(
    table: Mapping[str, Rule], seeds: Sequence[int], suite: Mapping[str, Any], *, number: int = 64, steps: int = 300
) -> dict[str, Figures]:
    """Figures per controller over `seeds`, `number` environments and `steps` periods each, all on equal traffic.

    `suite`: arguments of the environment, as in `SUITES`.
    """
    env = VectorSliceEnv(number, steps, **suite)
    out = {}
    for name, rule in table.items():
        rows = np.array([play(rule, env, seed) for seed in seeds])
        cost, objective, violations, moved = (float(value) for value in rows.mean(axis=0))
        by_seed = (tuple(float(value) for value in rows[:, column]) for column in (0, 2))
        out[name] = Figures(cost, objective, violations, moved, *by_seed)
    return out


def gap_closed(figures: Mapping[str, Figures], best: str, name: str = "rl", baseline: str = "static") -> float:
    """Share of the way from `baseline` to `best` that the controller `name` goes; above 1 it beats it."""
    whole = figures[baseline].cost - figures[best].cost
    return (figures[baseline].cost - figures[name].cost) / max(whole, 1e-9)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % confidence interval of the mean over seeds (S >= 2), Student's t."""
    rows = np.asarray(values, dtype=np.float64)
    half = T_975[min(len(rows) - 1, len(T_975)) - 1] * rows.std(ddof=1) / np.sqrt(len(rows))
    return float(rows.mean() - half), float(rows.mean() + half)


T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
"""0.975 quantile of Student's t for 1, 2, .. degrees of freedom; beyond the last it is taken for all."""


def refusals(figures_by_suite: Mapping[str, Mapping[str, Figures]]) -> list[str]:
    """Why a model must not be shipped: it fails to beat the static split or eq (2) in a suite, on any held-out seed."""
    return [
        f"{suite}: rl {rl:.4f} against {name} {other:.4f} on held-out seed number {seed}"
        for suite, figures in figures_by_suite.items()
        for name in ("static", "gradient_eq2")
        for seed, (rl, other) in enumerate(zip(figures["rl"].cost_by_seed, figures[name].cost_by_seed, strict=True))
        if rl >= other
    ]


def summary(figures_by_suite: Mapping[str, Mapping[str, Figures]]) -> dict[str, Any]:
    """The figures as the model card holds them."""
    closed = {
        suite: {name: round(gap_closed(rows, "myopic_oracle", name), 4) for name in ("predict_enumerate", "rl")}
        for suite, rows in figures_by_suite.items()
    }
    rows = {suite: {name: asdict(row) for name, row in held.items()} for suite, held in figures_by_suite.items()}
    return {"held_out": rows, "gap_from_static_to_myopic_oracle_closed": closed}
