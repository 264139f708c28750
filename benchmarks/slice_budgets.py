"""Latency budgets of the catalogue's services, with a decision every 100 ms and in the 10 ms mode.

`python -m benchmarks.slice_budgets [--seeds N] [--nodes N] [--seconds S] [--situations NAME ..] [--json F]`. The
shipped actor on the simulator's queues, in every situation, over the same stretch of the same happenings at both
cadences, under a policy that names the budgets; beside it the clairvoyant of the same cadence and the static split. A
budget counts as met where the longest delay of 99 % of the periods is within it. A surge that begins within a period is
served by the slots of before until that period has been reported: that is what shorter periods are for. All of it is
simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import parser, write_result
from benchmarks.slice_plants import SETTLING_S, SituationEnv
from e2sim.ran.catalogue import CATALOGUE, DEFAULT_TERMINALS
from e2sim.ran.situations import SITUATIONS
from xapps.slice_bandwidth.environment import TAIL
from xapps.slice_bandwidth.evaluation import HELD_OUT_SEEDS, Rule, clairvoyant, rules
from xapps.slice_bandwidth.model import CONTROL, SLICES
from xapps.slice_bandwidth.state import HISTORY
from xapps.slice_bandwidth.train import ACTOR, FORECASTER, MODELS, load_learned

CADENCES_S = (0.1, 0.01)
MET_SHARE = 0.99
REPLANNED, HORIZON = 20, 40
"""Periods after which the clairvoyant plans anew, and how far it looks ahead."""
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

    def longest_of(make: Callable[[], Rule], period_s: float) -> Longest:
        return {name: longest_ms(make, name, seeds, size, period_s) for name in chosen.situations}

    static = longest_of(lambda: table["static"], CADENCES_S[0])
    figures: dict[str, Any] = {"budgets": float(len(list(budgets(static))))}
    baseline: dict[str, Any] = {
        "what": "the static split 25/50/25, every 100 ms; the clairvoyant of the same cadence",
        "budgets_met": sum(met for *_, met in budgets(static)),
    }
    for period_s in CADENCES_S:
        cadence = f"at_{round(1e3 * period_s)}_ms"
        mine = longest_of(lambda: table["rl"], period_s)
        oracle = longest_of(lambda: clairvoyant(replan=REPLANNED, horizon=HORIZON), period_s)
        figures |= met_figures(mine, oracle, cadence)
        baseline |= {
            f"missed_by_the_actor_{cadence}": missed(mine), f"missed_by_the_clairvoyant_{cadence}": missed(oracle),
        }  # fmt: skip
    write_result(chosen.json, figures, baseline)


def met_figures(mine: Longest, oracle: Longest, cadence: str) -> dict[str, float]:
    """Budgets met by the actor, by the clairvoyant and by both, and the control slice's delays [ms]."""
    pairs = [(row[-1], other[-1]) for row, other in zip(budgets(mine), budgets(oracle), strict=True)]
    return {
        f"budgets_met_{cadence}": float(sum(met for met, _ in pairs)),
        f"budgets_oracle_meets_{cadence}": float(sum(met for _, met in pairs)),
        f"budgets_met_of_those_{cadence}": float(sum(met and known for met, known in pairs)),
        **{f"{name}_control_p99_ms_{cadence}": float(values[CONTROL]) for name, values in mine.items()},
    }


def longest_ms(
    make: Callable[[], Rule], situation: str, seeds: Sequence[int], size: tuple[int, float], period_s: float
) -> NDArray[np.float64]:
    """Longest delay [ms] of `MET_SHARE` of the periods (3,); `size` is nodes per seed and the stretch's length [s].

    The stretch is the same whatever the cadence; the static split leads up to it.
    """
    nodes, seconds = size
    lead = round(HISTORY * CADENCES_S[0] / period_s) - HISTORY
    settling, judged, after = (round(span_s / period_s) for span_s in (SETTLING_S, seconds, TAIL * CADENCES_S[0]))
    env, found = SituationEnv(situation, nodes, lead + settling + judged + after - TAIL, period_s=period_s), []
    static = rules(None)["static"]
    for seed in seeds:
        env.reset(np.random.default_rng(seed))
        rule = make()
        for step in range(lead + settling + judged):
            env.step(static(env) if step < lead else rule(env))
        found.append(np.concatenate(env.longest_ms[-judged:]))
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
