"""Latency budgets of the catalogue's services, with a decision every 100 ms and in the 10 ms mode.

`python -m benchmarks.slice_budgets [--seeds N] [--nodes N] [--seconds S] [--situations NAME ..] [--json F]`. The
shipped actor on the simulator's queues, in every situation, over the same stretch of the same happenings at both
cadences; beside it the static split. A budget counts as met where the longest delay of 99 % of the periods is within
it. A surge that begins within a period is served by the slots of before until that period has been reported: that is
what shorter periods are for. All of it is simulated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import parser, write_result
from benchmarks.slice_plants import SituationEnv
from e2sim.ran.catalogue import CATALOGUE, DEFAULT_TERMINALS
from e2sim.ran.situations import SITUATIONS
from xapps.slice_bandwidth.environment import TAIL
from xapps.slice_bandwidth.evaluation import HELD_OUT_SEEDS, Rule, rules
from xapps.slice_bandwidth.model import SLICES
from xapps.slice_bandwidth.state import HISTORY
from xapps.slice_bandwidth.train import ACTOR, FORECASTER, MODELS, load_learned

CADENCES_S = (0.1, 0.01)
MET_SHARE = 0.99
Longest = Mapping[str, NDArray[np.float64]]
"""Situation -> longest delay [ms] of `MET_SHARE` of the periods, per slice (3,)."""


def main() -> None:
    """Measure and write."""
    made = parser("Latency budgets at two cadences")
    made.add_argument("--seeds", type=int, default=3, help="traffic seeds per situation")
    made.add_argument("--nodes", type=int, default=8, help="nodes per seed")
    made.add_argument("--seconds", type=float, default=8.0, help="stretch that is judged [s]")
    made.add_argument("--situations", nargs="*", default=list(SITUATIONS), choices=list(SITUATIONS))
    chosen = made.parse_args()
    table = rules(load_learned(MODELS / ACTOR, MODELS / FORECASTER))
    seeds, size = HELD_OUT_SEEDS[: chosen.seeds], (chosen.nodes, chosen.seconds)

    def longest_of(rule: Rule, period_s: float) -> Longest:
        return {name: longest_ms(rule, name, seeds, size, period_s) for name in chosen.situations}

    static, *actor = (longest_of(*given) for given in (
        (table["static"], CADENCES_S[0]), *((table["rl"], period_s) for period_s in CADENCES_S),
    ))  # fmt: skip
    figures: dict[str, float] = {"budgets": float(len(list(budgets(static))))}
    for period_s, longest in zip(CADENCES_S, actor, strict=True):
        cadence = f"{round(1e3 * period_s)}_ms"
        figures[f"budgets_met_at_{cadence}"] = float(sum(met for *_, met in budgets(longest)))
        for name, values in longest.items():
            figures[f"{name}_control_p99_ms_at_{cadence}"] = float(values[SLICES.index("control")])
    write_result(chosen.json, figures, {
        "what": "the static split 25/50/25, every 100 ms",
        "budgets_met": sum(met for *_, met in budgets(static)),
        "missed_by_the_actor_at_100_ms": missed(actor[0]),
        "missed_by_the_actor_at_10_ms": missed(actor[1]),
    })  # fmt: skip


def longest_ms(
    rule: Rule, situation: str, seeds: Sequence[int], size: tuple[int, float], period_s: float
) -> NDArray[np.float64]:
    """Longest delay [ms] of `MET_SHARE` of the periods (3,); `size` is nodes per seed and the stretch's length [s].

    The stretch begins where the first decision at the longest cadence does, whatever the cadence.
    """
    nodes, seconds = size
    skipped = round(HISTORY * CADENCES_S[0] / period_s) - HISTORY
    judged, after = round(seconds / period_s), round(TAIL * CADENCES_S[0] / period_s) - TAIL
    env, found = SituationEnv(situation, nodes, skipped + judged + after, period_s=period_s), []
    for seed in seeds:
        env.reset(np.random.default_rng(seed))
        for _ in range(skipped + judged):
            env.step(rule(env))
        found.append(np.concatenate(env.longest_ms[skipped : skipped + judged]))
    return np.asarray(np.percentile(np.concatenate(found), 100 * MET_SHARE, axis=0, method="inverted_cdf"))


def budgets(longest: Longest) -> Iterator[tuple[str, str, float, bool]]:
    """(situation, service, budget [ms], met) for every service of the catalogue."""
    for situation, values in longest.items():
        for role, value in zip(SLICES, values, strict=True):
            for service in DEFAULT_TERMINALS[role]:
                budget_ms = CATALOGUE[service].latency_ms
                yield situation, service, budget_ms, bool(value <= budget_ms)


def missed(longest: Longest) -> list[str]:
    """`situation: service, budget` of those that are not met."""
    return [f"{situation}: {service}, {budget:g} ms" for situation, service, budget, met in budgets(longest) if not met]


if __name__ == "__main__":
    main()
