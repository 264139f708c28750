"""Every controller on the same held-out traffic: the figures of the model card, the gate and the benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xapps.slice_bandwidth.baselines import gradient_transfer, myopic_oracle, static_split
from xapps.slice_bandwidth.environment import VectorSliceEnv
from xapps.slice_bandwidth.rl_agent import BASE, MOVE, MOVE_WEIGHT, Actor, choose

__all__ = [
    "HELD_OUT_SEEDS", "SUITES", "VALIDATION_SEEDS", "Figures", "compare", "gap_closed",
    "refusals", "rules", "summary",
]  # fmt: skip

Rule = Callable[[VectorSliceEnv], NDArray[np.intp]]

VALIDATION_SEEDS = (71_001, 71_002)
"""Traffic that picks the checkpoint."""
HELD_OUT_SEEDS = (90_001, 90_002, 90_003, 90_004, 90_005)
"""Traffic that nothing was fitted to."""
SUITES: Mapping[str, Mapping[str, float | bool]] = {
    "default_policy_100ms": {"random_policies": False, "period_s": 0.1},
    "random_policies_and_periods": {"random_policies": True},
}
"""Suite -> arguments of the environment."""
OBJECTIVE_LIMIT = 100.0


@dataclass(frozen=True)
class Figures:
    """Means per period: cost (= -reward), eq (3) (each value cut at 100), broken limits, slots moved; cost per seed."""

    cost: float
    objective: float
    violations: float
    moved_slots: float
    cost_by_seed: tuple[float, ...]


def prior_scores(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the actor scores before training, so that the card shows what training adds."""
    return np.asarray(-rows[:, BASE] - MOVE_WEIGHT * rows[:, MOVE])


def rules(actor: Actor | None) -> dict[str, Rule]:
    """The controllers by name; `oracle_coming_load` knows the coming load and the true link, nobody else does."""
    table: dict[str, Rule] = {
        "static": lambda env: static_split(env.mask()),
        "gradient_eq2": lambda env: gradient_transfer(env.situation(), env.policies.limits, env.nominal, env.mask()),
        "oracle_last_load": lambda env: myopic_oracle(env.situation(), env.policies.limits, env.nominal, env.mask()),
        "oracle_coming_load": lambda env: myopic_oracle(
            env.situation(clairvoyant=True), env.policies.limits, env.table_link, env.mask()
        ),
    }
    table["untrained_prior"] = lambda env: choose(
        prior_scores, env.observation(), env.policies.limits, env.nominal, env.mask()
    )
    if actor is not None:
        trained = actor
        table["rl"] = lambda env: choose(trained, env.observation(), env.policies.limits, env.nominal, env.mask())
    return table


def _one(rule: Rule, env: VectorSliceEnv, seed: int) -> NDArray[np.float64]:
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
    table: Mapping[str, Rule], seeds: Sequence[int], suite: str, *, number: int = 64, steps: int = 300
) -> dict[str, Figures]:
    """Figures per controller over `seeds`, `number` environments and `steps` periods each, all on equal traffic."""
    settings = SUITES[suite]
    period_s = float(settings["period_s"]) if "period_s" in settings else None
    env = VectorSliceEnv(number, steps, random_policies=bool(settings["random_policies"]), period_s=period_s)
    out = {}
    for name, rule in table.items():
        rows = np.array([_one(rule, env, seed) for seed in seeds])
        cost, objective, violations, moved = (float(value) for value in rows.mean(axis=0))
        out[name] = Figures(cost, objective, violations, moved, tuple(float(value) for value in rows[:, 0]))
    return out


def gap_closed(figures: Mapping[str, Figures], baseline: str) -> float:
    """Share of the way from `baseline` to the oracle of the coming load that the actor goes; above 1 it beats it."""
    best = figures["oracle_coming_load"].cost
    return (figures[baseline].cost - figures["rl"].cost) / max(figures[baseline].cost - best, 1e-9)


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
    others = ("static", "gradient_eq2", "oracle_last_load")
    closed = {
        suite: {name: round(gap_closed(rows, name), 4) for name in others} for suite, rows in figures_by_suite.items()
    }
    rows = {suite: {name: asdict(row) for name, row in held.items()} for suite, held in figures_by_suite.items()}
    return {"held_out": rows, "gap_to_oracle_of_coming_load_closed": closed}
