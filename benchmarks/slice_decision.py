"""How long one slice decision takes; what it is worth is `slice_rl`'s subject.

`python -m benchmarks.slice_decision [--json F]`. The baseline is the same decision by forecast and enumeration of the
whole lattice (mode `oracle`) in the same run.
"""

from __future__ import annotations

import time

import numpy as np

from benchmarks.machine import parser, percentiles, write_result
from xapps.slice_bandwidth.decision import decide
from xapps.slice_bandwidth.model import STATIC_SLOTS
from xapps.slice_bandwidth.policy import Mode, SlicePolicy
from xapps.slice_bandwidth.rl_agent import Learned
from xapps.slice_bandwidth.state import HISTORY, SliceState
from xapps.slice_bandwidth.train import ACTOR, FORECASTER, MODELS, load_learned

WARM_UP, DECISIONS = 200, 3_000


def main() -> None:
    """Measure and write."""
    made = parser("Slice decision: latency")
    made.add_argument("--decisions", type=int, default=DECISIONS, help="timed decisions per controller")
    chosen = made.parse_args()
    learned = load_learned(MODELS / ACTOR, MODELS / FORECASTER)
    rl, rl_cpu = (percentiles(times) for times in latencies_ms(Mode.RL, learned, chosen.decisions))
    oracle, _ = (percentiles(times) for times in latencies_ms(Mode.ORACLE, learned, chosen.decisions))
    figures = rl | {"cpu_p50_ms": rl_cpu["p50_ms"], "cpu_p99_ms": rl_cpu["p99_ms"]}
    write_result(chosen.json, figures, {f"oracle_{name}": value for name, value in oracle.items()})


def latencies_ms(mode: Mode, learned: Learned, number: int) -> tuple[list[float], list[float]]:
    """Wall and processor time of each decision, from state to explained decision, on random loads."""
    generator, policy = np.random.default_rng(0), SlicePolicy(mode=mode)
    wall: list[float] = []
    cpu: list[float] = []
    slots = STATIC_SLOTS
    for step in range(WARM_UP + number):
        offered = generator.uniform(1e3, 4e4, (HISTORY, 3))
        one = np.ones(3)
        state = SliceState("n1", step, 0.1, offered, generator.uniform(0, 50, 3), one, one, one, slots)
        started_cpu, started = time.thread_time(), time.perf_counter()
        slots = decide(state, policy, learned).slots
        if step >= WARM_UP:
            wall.append((time.perf_counter() - started) * 1e3)
            cpu.append((time.thread_time() - started_cpu) * 1e3)
    return wall, cpu


if __name__ == "__main__":
    main()
