"""Microgrid guard: false alarms, detection delay, restored sharing and speed, on load steps and attacks new to it.

The baseline is the same guard without its twin, with R in the twin's place (its fallback), on the same runs. Time is
simulated; only `decide_us` and the speed ratios are about this machine.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from benchmarks.machine import parser, write_result
from e2sim.grid.microgrids import Microgrids, MicrogridsConfig
from ric.decision import Reason
from ric.e2sm.grid import GridReport
from ric.learned import LearnedModel, load_model
from xapps.microgrid_guard.config import GuardConfig
from xapps.microgrid_guard.fallback import hold_last_good
from xapps.microgrid_guard.model import INPUTS, MODEL_PATH, OUTPUTS
from xapps.microgrid_guard.policy import GuardPolicy
from xapps.microgrid_guard.state import NodeMemory, State, sample_of
from xapps.microgrid_guard.takeover import AlarmChange, decide

START_S = 1_700_000_000.0
RESTLESS = MicrogridsConfig(step_mean_s=8.0, level_low=0.1, level_high=1.4)
"""A load step every two seconds or so."""
CONFIG = GuardConfig()
TIGHT = GuardPolicy(threshold=0.05, tau_s=0.3)
"""A quarter of the threshold and a third of the delay: what the twin is for."""


class Run:
    """One seed of microgrids under guard."""

    def __init__(self, config: MicrogridsConfig, seed: int, network: LearnedModel | None, policy: GuardPolicy) -> None:
        self.microgrids = Microgrids(config, np.random.default_rng([seed, 99]), START_S)
        self.network, self.policy = network, policy
        self.memories: Mapping[str, NodeMemory] = {}
        self.alarms: list[AlarmChange] = []
        self.steps = 0
        self.decide_s: list[float] = []
        self.share = np.zeros(3)

    def go(self, seconds: float) -> None:
        """Advance in steps of 100 ms, guard in the loop; the agents' liveness is hidden from it."""
        for _ in range(round(seconds * 10)):
            self.steps += 1
            tables = self.microgrids.step(START_S + self.steps / 10, 0.1)
            alive = {"agent_alive": np.ones(len(tables[0]))}
            tables[0] = replace(tables[0], columns={**tables[0].columns, **alive})
            report = GridReport("node", tables[0].source_time_ns, {table.kind: table for table in tables})
            state = State((sample_of(report),), self.memories)
            began_s = time.perf_counter()
            if self.network is None:
                decision = hold_last_good(state, self.policy, Reason("MODEL_MISSING"), CONFIG)
            else:
                decision = decide(state, self.policy, self.network, CONFIG)
            self.decide_s.append(time.perf_counter() - began_s)
            self.memories = decision.memories
            for outcome in decision.outcomes:
                self.alarms.extend(outcome.alarms)
                if outcome.set_points is not None:
                    self.microgrids.apply(outcome.set_points, outcome.valid_until_ns / 1e9)
            self.share = tables[0]["dg_power_kw"] / tables[0]["rated_kw"]


def calm(network: LearnedModel | None, policy: GuardPolicy, seeds: range, seconds: float) -> dict[str, float]:
    """False alarms on load steps without an attack."""
    runs = [Run(RESTLESS, seed, network, policy) for seed in seeds]
    for run in runs:
        run.go(seconds)
    return {
        "false_alarms": float(sum(len(run.alarms) for run in runs)),
        "simulated_hours": len(runs) * seconds / 3600,
        "decide_us_p50": float(np.percentile([s for run in runs for s in run.decide_s], 50) * 1e6),
        "decide_us_p99": float(np.percentile([s for run in runs for s in run.decide_s], 99) * 1e6),
    }


def attacked(network: LearnedModel | None, seeds: range) -> dict[str, float]:
    """A DoS at 15 s on each agent in turn, loads moving; what the guard makes of it within 20 s."""
    delays, wrong, missed, spread = [], 0, 0, []
    for seed in seeds:
        victim = seed % 3
        run = Run(MicrogridsConfig(), seed, network, GuardPolicy())
        run.go(15)
        run.microgrids.attack(victim)
        run.go(20)
        raised = [alarm for alarm in run.alarms if not alarm.cleared]
        right = [alarm for alarm in raised if alarm.microgrid == f"MG{victim + 1}"]
        wrong += len(raised) - len(right)
        missed += not right
        delays += [alarm.time_ns / 1e9 - START_S - 15.0 for alarm in right[:1]]
        spread.append(float(np.ptp(run.share)))
    return {
        "attacks": float(len(seeds)), "missed": float(missed), "wrong_agent": float(wrong),
        "detection_s_p50": float(np.percentile(delays, 50)), "detection_s_max": float(np.max(delays)),
        "share_spread_after_p50": float(np.percentile(spread, 50)), "share_spread_after_max": float(np.max(spread)),
    }  # fmt: skip


def unguarded(seed: int) -> float:
    """Spread of the shares 20 s after the same attack without a guard."""
    microgrids = Microgrids(MicrogridsConfig(), np.random.default_rng([seed, 99]), START_S)
    for step in range(1, 351):
        if step == 151:
            microgrids.attack(seed % 3)
        report = microgrids.step(START_S + step / 10, 0.1)[0]
    return float(np.ptp(report["dg_power_kw"] / report["rated_kw"]))


def simulator_speed() -> float:
    """Simulated over wall seconds of the microgrids alone, at 100 ms reports."""
    microgrids = Microgrids(RESTLESS, np.random.default_rng(1), START_S)
    began_s = time.perf_counter()
    for step in range(1, 601):
        microgrids.step(START_S + step / 10, 0.1)
    return 60.0 / (time.perf_counter() - began_s)


def main() -> None:
    """Measure and write."""
    made = parser(__doc__ or "")
    made.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    options = made.parse_args()
    network = load_model(MODEL_PATH, INPUTS, OUTPUTS)
    quiet, seconds = (range(2), 30.0) if options.smoke else (range(1_000, 1_012), 600.0)
    hostile = range(2_000, 2_003) if options.smoke else range(2_000, 2_060)
    results = []
    for guard in (network, None):
        figures = calm(guard, GuardPolicy(), quiet, seconds) | attacked(guard, hostile)
        figures["false_alarms_tight"] = calm(guard, TIGHT, quiet, seconds)["false_alarms"]
        results.append(figures)
    ours, by_r = results
    ours["simulator_speed_ratio"] = simulator_speed()
    by_r["unguarded_share_spread_p50"] = float(np.median([unguarded(seed) for seed in hostile]))
    write_result(options.json, ours, by_r)


if __name__ == "__main__":
    main()
