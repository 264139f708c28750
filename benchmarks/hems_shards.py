"""A fleet under a cap in several Ray actors, each with its homes, beside the same fleet in one process.

`python -m benchmarks.hems_shards [--homes N] [--shards K] [--in-process] [--json F]`. Three cycles a quarter of an hour
apart, as in `hems_fleet_cap`; the baseline has as many threads as there are shards. `cycle_s` is the last cycle's, from
the free plans to the agreed ones; before it `pose_s`, to hand each shard its problem, after it `plans_s`, to have the
plans back: these two grow with the homes. `octets_per_cycle` is what passed between the shards and the master in
`cycle_s`, pickled, on average.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.city import City
from benchmarks.hems_fleet_cap import CYCLES, SEED, limits_of
from benchmarks.machine import describe_machine, parser, write_result
from xapps.hems_load.fleet_problem import FleetPlan
from xapps.hems_load.shards import Host, LocalHost, RayShards, SharedFleet
from xapps.hems_load.solver import Effort, solve_fleet, warm_up
from xapps.hems_load.solver.teams import TEAMS

Floats = NDArray[np.float64]


class Counted:
    """A host that counts what passes to and from it."""

    def __init__(self, host: Host) -> None:
        self._host, self.octets = host, 0
        self.pose, self.plan = host.pose, host.plan

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._host, name)

        def counted(*arguments: Any) -> Any:
            answer = method(*arguments)
            self.octets += len(pickle.dumps((arguments, answer)))
            return answer

        return counted


def run(hosts: Sequence[Host], homes: int) -> dict[str, float]:
    """Times of the cycles, and what the last one came to."""
    city, fleet, parts = City(homes, SEED), SharedFleet(hosts), np.array_split(np.arange(homes), len(hosts))
    problem, figures = city.problem(0), dict[str, float]()
    cap = limits_of(solve_fleet(problem)[0].fleet_net_kw)
    plans: list[FleetPlan] = []
    for cycle in range(CYCLES):
        edges_h = 0.25 * cycle + np.concatenate([[0.0], np.cumsum(problem.hours)])
        start = time.perf_counter()
        fleet.pose([problem.take(rows) for rows in parts], edges_h)
        figures[f"pose_{cycle + 1}_s"] = time.perf_counter() - start
        start = time.perf_counter()
        outcome = fleet.plan(cap)
        figures[f"cycle_{cycle + 1}_s"] = time.perf_counter() - start
        start = time.perf_counter()
        plans = fleet.plans()
        figures[f"plans_{cycle + 1}_s"] = time.perf_counter() - start
        if cycle + 1 < CYCLES:
            # Every home lives on under the free plans of this process: the same for all numbers of shards.
            city.live(problem, solve_fleet(problem)[0])
            problem, cap = city.problem(cycle + 1), np.concatenate([cap[1:], cap[-1:]])
    net = sum(plan.fleet_net_kw for plan in plans)
    figures["cap_violation_pct"] = float(100 * np.maximum(np.asarray(net) / cap - 1, 0).max())
    figures["rounds"] = float(outcome.rounds)
    figures["cost_eur"] = sum(float(plan.costs.total.sum()) for plan in plans)
    return figures


def main() -> None:
    """Command line."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--homes", type=int, default=10_000)
    arguments.add_argument("--shards", type=int, default=2)
    arguments.add_argument("--in-process", action="store_true", help="shards without Ray, to try the benchmark itself")
    options = arguments.parse_args()
    warm_up()
    own: Sequence[Host]
    if options.in_process:
        own = [LocalHost(Effort(threads=1), max(TEAMS // options.shards, 1)) for _ in range(options.shards)]
    else:
        own = RayShards(options.shards, Effort(threads=1), answer_s=600.0).hosts("city")
    hosts = [Counted(host) for host in own]
    ours = run(hosts, options.homes)
    one = run([LocalHost(Effort(threads=options.shards))], options.homes)
    figures = {
        "homes": float(options.homes), "shards": float(options.shards), **ours,
        **{f"{part}_s": ours[f"{part}_{CYCLES}_s"] for part in ("pose", "cycle", "plans")},
        "octets_per_cycle": sum(host.octets for host in hosts) / CYCLES,
        "cost_over_one_process_pct": 100 * (ours["cost_eur"] - one["cost_eur"]) / max(abs(one["cost_eur"]), 1.0),
        "time_over_one_process": ours[f"cycle_{CYCLES}_s"] / one[f"cycle_{CYCLES}_s"],
    }  # fmt: skip
    baseline = {"what": f"one process with {options.shards} threads", **one}
    write_result(options.json, figures, baseline, describe_machine())


if __name__ == "__main__":
    main()
