"""Eq (3) under every slice controller, beside oracles that see the traffic, on traffic that nothing was fitted to.

`python -m benchmarks.slice_rl [--seeds N] [--nodes N] [--periods N] [--json F]`. Controllers see past KPM only: static,
eq (2), threshold rule, enumeration of the last load, predict-and-enumerate, the trained actor. Oracles: myopic
enumeration of the coming period and the clairvoyant with switching cost. Suites: the surrogate's held-out seeds,
policies and loads from outside of what training draws, all periods, the simulator's situations, nodes that share an
aggregation link (surrogate and simulator; the actor decides alone and jointly, the oracle is joint) and, where the data
is there, runs of TRACTOR. Broken limits are compared as (1 + actor) / (1 + clairvoyant) per 1,000 decisions, because an
oracle may break none at all; both counts stand beside it, and what a controller that sees no more than the actor breaks
when limits are `WARY` times as dear to it: about the least that foresight from KPM allows. `--tune` prints the grid of
the threshold rule on training seeds instead, `--rows F` the rows of the app's README from a result.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import parser, percentiles, write_result
from benchmarks.slice_decision import latencies_ms
from benchmarks.slice_plants import SETTLING_S, CoupledSituationEnv, RecordedEnv, SituationEnv, recorded_loads
from e2sim.ran.catalogue import CATALOGUE, DEFAULT_TERMINALS
from e2sim.ran.situations import SITUATIONS
from xapps.slice_bandwidth import evaluation
from xapps.slice_bandwidth.baselines import Thresholds, predict_and_enumerate
from xapps.slice_bandwidth.environment import VectorSliceEnv
from xapps.slice_bandwidth.evaluation import (
    HELD_OUT_SEEDS,
    SUITES,
    TUNING_SEEDS,
    clairvoyant,
    interval,
    play,
    rules,
    served_mask,
)
from xapps.slice_bandwidth.joint_oracle import joint_oracle
from xapps.slice_bandwidth.joint_rule import decide_jointly
from xapps.slice_bandwidth.model import SLICES
from xapps.slice_bandwidth.policy import Mode, SlicePolicy
from xapps.slice_bandwidth.rl_agent import Learned
from xapps.slice_bandwidth.train import ACTOR, CARD, FORECASTER, MODELS, load_learned

TRACTOR = Path(__file__).resolve().parents[2] / "shared" / "data" / "oran_tractor_kpm" / "kpm_250ms.csv.xz"
TRACTOR_PERIOD_S = 0.25
WARY = 30.0
"""How much dearer broken limits are to the wary form of predict-and-enumerate."""
REPLANNED = 20
"""Periods after which the clairvoyant plans anew on the simulator's queues, of which it has a calibrated model only."""
RESAMPLED = 2_000
MET_SHARE = 0.99
"""A service's latency budget counts as met where the longest delay of so many periods is within it, from `SETTLING_S`
after a controller took over."""
CLAIMS = ("default_policy", "unseen_weights_and_loads")
"""Suites that are played on all seeds, because costs of rare surges make a share of a gap waver from seed to seed; the
others on a third of them, the simulator's on a ninth."""
CELLS, SHARED_SHARE = 3, 0.40
"""Nodes on a shared link, and its rate in the simulator as a share of theirs together: surges of several fill it."""
COUPLED_RULES = ("static", "gradient_eq2", "predict_enumerate", "rl", "rl_jointly", "joint_oracle")
Rows = dict[str, np.ndarray]
"""Controller -> (seeds, 4): cost, eq (3), broken limits, slots moved, per period."""


def main() -> None:
    """Measure and write."""
    made = parser("Slice controllers on held-out traffic")
    made.add_argument(
        "--seeds", type=int, default=len(HELD_OUT_SEEDS), help="traffic seeds (2 or more) of the claims' suites"
    )
    made.add_argument("--nodes", type=int, default=24, help="nodes per seed, surrogate and recorded runs")
    made.add_argument("--simulator-nodes", type=int, default=8, help="nodes per seed, simulator and shared links")
    made.add_argument("--periods", type=int, default=80, help="periods per node")
    made.add_argument("--decisions", type=int, default=2_000, help="timed decisions")
    made.add_argument("--suites", nargs="*", help="only these surrogate suites and situations, tractor_runs or coupled")
    made.add_argument("--tune", action="store_true", help="print the grid of the threshold rule and stop")
    made.add_argument("--rows", type=Path, help="print this result as rows of the app's README and stop")
    chosen = made.parse_args()
    if chosen.tune or chosen.rows:
        tune_thresholds() if chosen.tune else print_rows(chosen.rows)
        return
    learned = load_learned(MODELS / ACTOR, MODELS / FORECASTER)
    table = {**rules(learned), "wary": wary(learned), "clairvoyant": clairvoyant()}
    seeds, size = HELD_OUT_SEEDS[: chosen.seeds], (chosen.nodes, chosen.periods)
    wanted = set(chosen.suites or [*SUITES, *SITUATIONS, "tractor_runs"])
    some, few = (seeds[: max(2, len(seeds) // part)] for part in (3, 9))
    suites = {
        name: measured(table, VectorSliceEnv(*size, **SUITES[name]), seeds if name in CLAIMS else some)
        for name in SUITES if name in wanted
    }  # fmt: skip
    latencies: dict[str, Any] = {}
    for name in (name for name in SITUATIONS if name in wanted):
        env = SituationEnv(name, chosen.simulator_nodes, chosen.periods)
        replanned = table | {"clairvoyant": clairvoyant(replan=REPLANNED)}
        suites[f"simulator_{name}"], latencies[name] = with_latencies(replanned, env, few)
    if "tractor_runs" in wanted and TRACTOR.exists():
        env_recorded = RecordedEnv(recorded_loads(TRACTOR), *size, TRACTOR_PERIOD_S)
        suites["tractor_runs"] = measured(table, env_recorded, some)
    coupled: dict[str, Rows] = {}
    if chosen.suites is None or "coupled" in wanted:
        oracle = {"rl_jointly": lambda env: decide_jointly(learned, env), "joint_oracle": joint_oracle}
        coupled = coupled_suites(table | oracle, chosen.simulator_nodes, chosen.periods, some)
    rl_ms, _ = latencies_ms(Mode.RL, learned, chosen.decisions)
    card = json.loads((MODELS / CARD).read_text(encoding="utf-8"))
    write_result(chosen.json, figures(suites, latencies) | coupled_figures(coupled) | {
        "p99_ms": percentiles(rl_ms)["p99_ms"], "train_min": card["training_minutes"],
    }, baseline(suites, latencies) | coupled_baseline(coupled))  # fmt: skip


def wary(learned: Learned) -> evaluation.Rule:
    """Predict-and-enumerate to which broken limits are `WARY` times as dear, whatever that costs."""

    def choose(env: VectorSliceEnv) -> NDArray[np.intp]:
        limits = replace(env.policies.limits, violation_cost=WARY * env.policies.limits.violation_cost)
        prefers = predict_and_enumerate(env.observation(), learned.forecaster, limits)
        return np.asarray(np.argmax(np.where(served_mask(learned, env), prefers, -np.inf), axis=-1))

    return choose


def measured(table: Mapping[str, evaluation.Rule], env: VectorSliceEnv, seeds: Sequence[int]) -> Rows:
    """Every controller on every seed, all on equal traffic."""
    played = [[play(rule, env, seed) for rule in table.values()] for seed in seeds]
    return {name: np.array([row[k] for row in played]) for k, name in enumerate(table)}


def with_latencies(
    table: Mapping[str, evaluation.Rule], env: SituationEnv, seeds: Sequence[int]
) -> tuple[Rows, dict[str, dict[str, list[float]]]]:
    """As :func:`measured`, and per controller and slice the longest delay [ms] of 50 and 99 % of settled periods."""
    played: dict[str, list[np.ndarray]] = {name: [] for name in table}
    seen: dict[str, list[np.ndarray]] = {name: [] for name in table}
    settled = round(SETTLING_S / float(env.period_s[0]))
    for seed in seeds:
        for name, rule in table.items():
            played[name].append(play(rule, env, seed))
            seen[name].append(np.concatenate(env.longest_ms[settled:]))
    longest = {}
    for name in table:
        levels = np.percentile(np.concatenate(seen[name]), [50, 100 * MET_SHARE], axis=0, method="inverted_cdf")
        longest[name] = {
            slice_name: [float(f"{value:.4g}") for value in levels[:, k]] for k, slice_name in enumerate(SLICES)
        }
    return {name: np.array(rows) for name, rows in played.items()}, longest


def gap_by_seed(rows: Rows, name: str, best: str = "clairvoyant") -> list[float]:
    """Share of the way from static to `best` that `name` goes, per seed."""
    static, reached, oracle = (rows[key][:, 0] for key in ("static", name, best))
    return [float(value) for value in (static - reached) / np.maximum(static - oracle, 1e-9)]


def pooled_gap(rows: Rows, name: str, best: str = "clairvoyant") -> float:
    """The same of the means over all seeds."""
    static, reached, oracle = (float(rows[key][:, 0].mean()) for key in ("static", name, best))
    return (static - reached) / max(static - oracle, 1e-9)


def figures(suites: Mapping[str, Rows], latencies: Mapping[str, Any]) -> dict[str, Any]:
    """The claims' figures, with 95 % intervals over seeds where a suite was run."""
    made: dict[str, Any] = {}
    for name, claim in (("default_policy", "gap_closed"), ("unseen_weights_and_loads", "gap_closed_unseen")):
        if name in suites:
            low, high = interval(gap_by_seed(suites[name], "rl"))
            made |= {claim: pooled_gap(suites[name], "rl"), f"{claim}_ci95_low": low, f"{claim}_ci95_high": high}
    if "default_policy" in suites:
        known = suites["default_policy"]
        low, high = interval([float(value) for value in gains_pct(known)])
        made |= violations([known]) | {
            "gain_over_predict_enumerate_pct": gain_pct(known),
            "gain_over_predict_enumerate_pct_ci95_low": low, "gain_over_predict_enumerate_pct_ci95_high": high,
        }  # fmt: skip
    simulator = [rows for name, rows in suites.items() if name.startswith("simulator_")]
    if simulator:
        made |= violations(simulator, "_simulator")
    if suites:
        made |= violations(list(suites.values()), "_all_suites")
    made |= {f"gap_closed_{name}": pooled_gap(rows, "rl") for name, rows in suites.items()}
    made |= {f"gain_over_predict_enumerate_pct_{name}": gain_pct(rows) for name, rows in suites.items()}
    verdicts = list(budgets(latencies))
    made["service_budgets_oracle_meets"] = float(sum(oracle for *_, oracle in verdicts))
    made["service_budgets_met_of_those"] = float(sum(mine and oracle for *_, mine, oracle in verdicts))
    made["default_mode_is_rl"] = float(SlicePolicy().mode is Mode.RL)
    return made


def gains_pct(rows: Rows) -> np.ndarray:
    """By how much the actor's cost is below that of predict-and-enumerate, per seed [%]."""
    return np.asarray(100 * (1 - rows["rl"][:, 0] / rows["predict_enumerate"][:, 0]))


def gain_pct(rows: Rows) -> float:
    """The same of the means over all seeds [%]."""
    return 100 * (1 - float(rows["rl"][:, 0].mean()) / float(rows["predict_enumerate"][:, 0].mean()))


def broken_per_1000(suites: Sequence[Rows], name: str) -> float:
    """Broken limits of a controller per 1,000 decisions, mean over suites."""
    return 1e3 * float(np.mean([rows[name][:, 2].mean() for rows in suites]))


def violations(suites: Sequence[Rows], suffix: str = "") -> dict[str, float]:
    """Broken limits per 1,000 decisions of actor, clairvoyant and wary; (1 + the first) / (1 + the second).

    The ratio's interval is that of 95 % of `RESAMPLED` resamplings of the seeds.
    """
    mine, oracle, least = (broken_per_1000(suites, name) for name in ("rl", "clairvoyant", "wary"))
    drawn, ratios = np.random.default_rng(1), []
    for _ in range(RESAMPLED):
        again: list[Rows] = []
        for rows in suites:
            held = drawn.integers(len(rows["rl"]), size=len(rows["rl"]))
            again.append({name: rows[name][held] for name in ("rl", "clairvoyant")})
        ratios.append((1 + broken_per_1000(again, "rl")) / (1 + broken_per_1000(again, "clairvoyant")))
    low, high = np.percentile(ratios, [2.5, 97.5])
    return {
        f"hard_violations_ratio_vs_oracle{suffix}": (1 + mine) / (1 + oracle),
        f"hard_violations_ratio_vs_oracle{suffix}_ci95_low": float(low),
        f"hard_violations_ratio_vs_oracle{suffix}_ci95_high": float(high),
        f"broken_limits_per_1000{suffix}": mine,
        f"broken_limits_per_1000_oracle{suffix}": oracle,
        f"broken_limits_per_1000_wary{suffix}": least,
    }


def coupled_suites(
    table: Mapping[str, evaluation.Rule], nodes: int, periods: int, seeds: Sequence[int]
) -> dict[str, Rows]:
    """Nodes that share links, on the surrogate and on the simulator's queues in surges; the oracle is joint."""
    number = CELLS * max(1, nodes // CELLS)
    rules_of_all = {name: table[name] for name in COUPLED_RULES}
    surrogate = VectorSliceEnv(number, periods, random_policies=False, period_s=0.1, cells=CELLS)
    simulator = CoupledSituationEnv("surge", number, periods, CELLS, SHARED_SHARE)
    return {
        "coupled": measured(rules_of_all, surrogate, seeds),
        "coupled_simulator": measured(rules_of_all, simulator, seeds),
    }


def coupled_figures(suites: Mapping[str, Rows]) -> dict[str, float]:
    """Gap that the actor closes towards the joint oracle, deciding jointly and alone, and the limits that all break."""
    made = {}
    for name, rows in suites.items():
        for rule, suffix in (("rl_jointly", ""), ("rl", "_alone")):
            made[f"gap_closed_{name}{suffix}"] = pooled_gap(rows, rule, "joint_oracle")
        for rule, suffix in (("rl_jointly", ""), ("rl", "_alone"), ("joint_oracle", "_oracle")):
            made[f"broken_limits_per_1000{suffix}_{name}"] = broken_per_1000([rows], rule)
    return made


def coupled_baseline(suites: Mapping[str, Rows]) -> dict[str, Any]:
    """Every controller on the nodes that share links."""
    return {
        f"{suite}/{name}": {
            **summarised(row), "gap_closed": float(f"{pooled_gap(rows, name, 'joint_oracle'):.4g}"),
        }
        for suite, rows in suites.items()
        for name, row in rows.items()
    }  # fmt: skip


def summarised(row: np.ndarray) -> dict[str, float]:
    """Means over seeds by name."""
    names = ("cost", "eq3", "violations", "moved_slots")
    return {name: float(f"{value:.5g}") for name, value in zip(names, row.mean(axis=0), strict=True)}


def budgets(latencies: Mapping[str, Any]) -> Any:
    """(situation, service, budget [ms], met by the actor, met by the clairvoyant) for every catalogue service."""
    for situation, by_rule in latencies.items():
        for index, role in enumerate(SLICES):
            for service in DEFAULT_TERMINALS[SLICES[index]]:
                budget = CATALOGUE[service].latency_ms
                yield (
                    situation, service, budget,
                    by_rule["rl"][role][1] <= budget, by_rule["clairvoyant"][role][1] <= budget,
                )  # fmt: skip


def baseline(suites: Mapping[str, Rows], latencies: Mapping[str, Any]) -> dict[str, Any]:
    """Mean cost, eq (3), broken limits and moves of every controller and suite; delays; missed budgets."""
    held: dict[str, Any] = {}
    for suite, rows in suites.items():
        for name, row in rows.items():
            held[f"{suite}/{name}"] = summarised(row) | {"gap_closed": float(f"{pooled_gap(rows, name):.4g}")}
    held["longest_delay_ms_p50_p99"] = {
        situation: {name: by_rule[name] for name in ("static", "predict_enumerate", "rl", "clairvoyant")}
        for situation, by_rule in latencies.items()
    }
    held["missed_service_budgets"] = [
        {"situation": situation, "service": service, "budget_ms": budget, "oracle_meets": bool(oracle)}
        for situation, service, budget, mine, oracle in budgets(latencies)
        if not mine
    ]
    return held


SHOWN_SUITES = {
    "default_policy": "surrogate, default policy", "unseen_weights_and_loads": "other weights, other families of load",
    "simulator_surge": "simulator, surge", "simulator_wide_area_sync": "simulator, terminals in step",
    "tractor_runs": "TRACTOR runs", "coupled": "three nodes on a shared link, surrogate",
    "coupled_simulator": "three nodes on a shared link, simulator, surge",
}  # fmt: skip
SHOWN_RULES = {
    "static": "static 25/50/25", "gradient_eq2": "eq (2)", "threshold": "threshold rule",
    "predict_enumerate": "predict-and-enumerate", "wary": "the same, limits 30 times as dear", "rl": "**actor**",
    "rl_jointly": "**actor, jointly**", "myopic_oracle": "myopic oracle (sees the coming load)",
    "clairvoyant": "clairvoyant", "joint_oracle": "joint oracle",
}  # fmt: skip


def print_rows(path: Path) -> None:
    """A result as rows of the table in the app's README."""
    held = json.loads(path.read_text(encoding="utf-8"))["baseline"]
    for suite, where in SHOWN_SUITES.items():
        for rule, who in SHOWN_RULES.items():
            if f"{suite}/{rule}" in held:
                row = held[f"{suite}/{rule}"]
                means = f"{row['cost']:.3f} | {row['eq3']:.3f} | {row['violations']:.4f} | {row['moved_slots']:.3f}"
                print(f"| {where} | {who} | {means} | {row['gap_closed']:.3f} |")


def tune_thresholds() -> None:
    """Mean cost of each threshold rule of a grid over the tuning seeds of the default policy, best first."""
    env = VectorSliceEnv(32, 120, **SUITES["default_policy"])
    found = []
    for high, low, target in itertools.product(
        (0.8, 0.9, 1.0, 1.1, 1.2, 1.4), (0.4, 0.6, 0.75, 0.85, 0.92, 0.96, 1.0), (0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1)
    ):
        if low < target < high:
            rule = rules(None, Thresholds(high, low, target))["threshold"]
            cost = float(np.mean([play(rule, env, seed)[0] for seed in TUNING_SEEDS]))
            found.append((cost, high, low, target))
    for row in sorted(found)[:10]:
        print(row)


if __name__ == "__main__":
    main()
