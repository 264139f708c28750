"""Steps per second of the vectorised transport, beside the simulator's own node stepped one at a time.

`python -m benchmarks.slice_env [--nodes N] [--periods K] [--threads T] [--json F]`. A step is one node through one
period of 100 ms: its slots change at random, the rates of its slices wander, 500 inner steps of bursts are drawn,
queued and measured. The baseline is the same for the simulated node (`SliceTransport`), which has more to do: it serves
the uplink too, keeps services apart, simulates the gates and computes a bound. Rates per processor second do not depend
on what else the machine does.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from benchmarks.machine import parser, write_result
from e2sim.ran.plant import PlantState, serve_drawn, stream_keys
from e2sim.ran.situations import SITUATIONS, START_S

NODES, PERIODS, THREADS = 4_096, 24, 2
PERIOD_S, CLAIM = 0.1, 200_000.0
MEAN_MBPS = np.array([11_000.0, 9_000.0, 8_000.0])
BURST_MBIT = np.array([1.0, 1.1, 3.0])
SPLITS = np.array([(5, 10, 5), (8, 8, 4), (6, 8, 6), (4, 10, 6), (9, 6, 5), (3, 12, 5)])
BASELINE_STEPS = 150


class Vectorised:
    """`nodes` nodes on the plant, their rates and slots drawn anew every period."""

    def __init__(self, nodes: int, threads: int) -> None:
        self._generator = np.random.default_rng(1)
        self._seeds = np.arange(nodes, dtype=np.uint64)
        self._state = PlantState.empty(nodes)
        self._burst = np.tile(BURST_MBIT, (nodes, 1))
        self._wander = np.zeros((nodes, 3))
        self._threads = threads
        self._period = 0
        self.delay_ms = 0.0

    def step(self) -> int:
        """One period of all nodes; how many steps that is."""
        nodes = len(self._seeds)
        self._wander = 0.98 * self._wander + 0.05 * self._generator.standard_normal((nodes, 3))
        slots = SPLITS[self._generator.integers(0, len(SPLITS), nodes)]
        keys = stream_keys(self._seeds, self._period)
        self._state, stats = serve_drawn(
            self._state, MEAN_MBPS * np.exp(self._wander), self._burst, slots, keys, period_s=PERIOD_S,
            threads=self._threads,
        )  # fmt: skip
        self._period += 1
        self.delay_ms = float(stats.delay_ms[:, 0].mean())
        return nodes


class OneByOne:
    """One simulated node."""

    def __init__(self) -> None:
        self._transport, _ = SITUATIONS["normal"].node(1, 1_000.0)
        self._generator = np.random.default_rng(1)
        self._now_s = START_S
        self.delay_ms = 0.0

    def step(self) -> int:
        """One period of the node."""
        self._transport.calendar.allocate(SPLITS[self._generator.integers(0, len(SPLITS))].tolist())
        self._now_s += PERIOD_S
        self.delay_ms = float(self._transport.step(self._now_s, PERIOD_S).stats.delay_ms[0, 0])
        return 1


def rates(step: Callable[[], int], times: int) -> dict[str, float]:
    """Steps per second of wall time (median and best of the calls) and of processor time, after a warm-up."""
    for _ in range(3):
        step()
    walls = []
    began_cpu, done = time.process_time(), 0
    for _ in range(times):
        began = time.perf_counter()
        number = step()
        walls.append(number / (time.perf_counter() - began))
        done += number
    cpu = done / (time.process_time() - began_cpu)
    return {"median_per_s": float(np.median(walls)), "best_per_s": float(max(walls)), "per_cpu_s": cpu}


def main(arguments: argparse.Namespace) -> None:
    """Measure both and write."""
    vectorised, one = Vectorised(arguments.nodes, arguments.threads), OneByOne()
    ours = rates(vectorised.step, arguments.periods)
    theirs = rates(one.step, BASELINE_STEPS)
    figures = {
        "env_steps_per_s": ours["median_per_s"],
        "env_steps_per_s_best": ours["best_per_s"],
        "env_steps_per_cpu_s": ours["per_cpu_s"],
        "ratio_vs_one_by_one": ours["per_cpu_s"] / theirs["per_cpu_s"],
        "share_of_claim": ours["median_per_s"] / CLAIM,
        "nodes": float(arguments.nodes),
        "threads": float(arguments.threads),
    }
    baseline = {f"one_by_one_{name}": value for name, value in theirs.items()}
    write_result(arguments.json, figures, baseline)


if __name__ == "__main__":
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--nodes", type=int, default=NODES, help="nodes side by side")
    made.add_argument("--periods", type=int, default=PERIODS, help="periods measured")
    made.add_argument("--threads", type=int, default=THREADS, help="threads")
    main(made.parse_args())
