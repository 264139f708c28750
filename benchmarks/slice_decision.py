"""How long one slice decision takes, and what it costs in eq (3), beside enumeration and the baselines.

`python -m benchmarks.slice_decision [--json F]`. The baseline of the latency is the same decision by enumeration of the
whole lattice (mode `oracle`) in the same run.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from benchmarks.machine import parser, percentiles, write_result
from ric.learned import load_model
from xapps.slice_bandwidth import evaluation
from xapps.slice_bandwidth.decision import decide
from xapps.slice_bandwidth.model import STATIC_SLOTS, LinkModel
from xapps.slice_bandwidth.policy import Mode, SlicePolicy
from xapps.slice_bandwidth.rl_agent import FEATURES, Actor
from xapps.slice_bandwidth.state import HISTORY, SliceState

MODEL = Path(__file__).resolve().parent.parent / "xapps" / "slice_bandwidth" / "models" / "actor.onnx"
WARM_UP, DECISIONS = 200, 3_000


def main() -> None:
    """Measure and write."""
    made = parser("Slice decision: latency and gap to the optimum")
    made.add_argument("--decisions", type=int, default=DECISIONS, help="timed decisions per controller")
    chosen = made.parse_args()
    model = load_model(MODEL, {"rows": (-1, FEATURES)}, {"scores": (-1,)})

    def actor(rows: np.ndarray) -> np.ndarray:
        return model.run(rows=rows)[0]

    rl, rl_cpu = (percentiles(times) for times in _latencies_ms(Mode.RL, actor, chosen.decisions))
    oracle, _ = (percentiles(times) for times in _latencies_ms(Mode.ORACLE, actor, chosen.decisions))
    suite = "default_policy_100ms"
    held = evaluation.compare(evaluation.rules(actor), evaluation.HELD_OUT_SEEDS[:2], suite, number=16, steps=150)
    figures = rl | {
        "cpu_p50_ms": rl_cpu["p50_ms"],
        "cpu_p99_ms": rl_cpu["p99_ms"],
        "cost_rl": held["rl"].cost,
        "violations_rl": held["rl"].violations,
        "gap_closed_from_static": evaluation.gap_closed(held, "static"),
        "gap_closed_from_gradient_eq2": evaluation.gap_closed(held, "gradient_eq2"),
    }
    baseline = {f"oracle_{name}": value for name, value in oracle.items()} | {
        f"cost_{name}": row.cost for name, row in held.items() if name != "rl"
    }
    write_result(chosen.json, figures, baseline)


def _latencies_ms(mode: Mode, actor: Actor, number: int) -> tuple[list[float], list[float]]:
    """Wall and processor time of each decision, from state to explained decision, on random loads."""
    generator, policy, link = np.random.default_rng(0), SlicePolicy(mode=mode), LinkModel()
    wall: list[float] = []
    cpu: list[float] = []
    slots = STATIC_SLOTS
    for step in range(WARM_UP + number):
        offered = generator.uniform(1e3, 4e4, (HISTORY, 3))
        one = np.ones(3)
        state = SliceState("n1", step, 0.1, offered, generator.uniform(0, 50, 3), one, one, one, slots)
        started_cpu, started = time.thread_time(), time.perf_counter()
        slots = decide(state, policy, actor, link).slots
        if step >= WARM_UP:
            wall.append((time.perf_counter() - started) * 1e3)
            cpu.append((time.thread_time() - started_cpu) * 1e3)
    return wall, cpu


if __name__ == "__main__":
    main()
