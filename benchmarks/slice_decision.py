"""How long one slice decision takes; what it is worth is `slice_rl`'s subject.

`python -m benchmarks.slice_decision [--json F]`. The baseline is the same decision by forecast and enumeration of the
whole lattice (mode `oracle`) in the same run. `joint_*`: the nodes of an aggregation link that is full in every
decision, all due at once; beside it the same nodes without the link.
"""

from __future__ import annotations

import time

import numpy as np

from benchmarks.machine import parser, percentiles, write_result
from xapps.slice_bandwidth.decision import decide
from xapps.slice_bandwidth.fleet import decide_fleet
from xapps.slice_bandwidth.model import STATIC_SLOTS
from xapps.slice_bandwidth.policy import Mode, SlicePolicy
from xapps.slice_bandwidth.rl_agent import Learned
from xapps.slice_bandwidth.state import HISTORY, FleetState, LinkState, SliceState
from xapps.slice_bandwidth.train import ACTOR, FORECASTER, MODELS, load_learned

WARM_UP, DECISIONS = 200, 3_000
CROWDS, FULL = (3, 12), 0.8
"""Nodes on a link, and its rate as a share of what they send: some of it has to wait."""


def main() -> None:
    """Measure and write."""
    made = parser("Slice decision: latency")
    made.add_argument("--decisions", type=int, default=DECISIONS, help="timed decisions per controller")
    chosen = made.parse_args()
    learned = load_learned(MODELS / ACTOR, MODELS / FORECASTER)
    rl, rl_cpu = (percentiles(times) for times in latencies_ms(Mode.RL, learned, chosen.decisions))
    oracle, _ = (percentiles(times) for times in latencies_ms(Mode.ORACLE, learned, chosen.decisions))
    figures = rl | {"cpu_p50_ms": rl_cpu["p50_ms"], "cpu_p99_ms": rl_cpu["p99_ms"]}
    baseline = {f"oracle_{name}": value for name, value in oracle.items()}
    for number in CROWDS:
        jointly, alone = (
            percentiles(fleet_latencies_ms(number, share, learned, chosen.decisions // 10)) for share in (FULL, None)
        )
        figures |= {f"joint_{number}_nodes_{name}": jointly[name] for name in ("p50_ms", "p99_ms")}
        baseline |= {f"alone_{number}_nodes_{name}": alone[name] for name in ("p50_ms", "p99_ms")}
    write_result(chosen.json, figures, baseline)


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


def fleet_latencies_ms(number: int, share: float | None, learned: Learned, decisions: int) -> list[float]:
    """Wall time of decisions for `number` nodes that are due, on a link of `share` of their last loads, or on none."""
    generator, policy = np.random.default_rng(1), SlicePolicy()
    names = tuple(f"n{k}" for k in range(number))
    wall: list[float] = []
    slots = dict.fromkeys(names, STATIC_SLOTS)
    for step in range(WARM_UP // 10 + decisions):
        one = np.ones(3)
        loads = generator.uniform(1e3, 4e4, (number, HISTORY, 3))
        queues = generator.uniform(0, 50, (number, 3))
        nodes = tuple(
            SliceState(name, step, 0.1, loads[k], queues[k], one, one, one, slots[name]) for k, name in enumerate(names)
        )
        links: tuple[LinkState, ...] = ()
        if share is not None:
            links = (LinkState("ring", names, share * float(loads[:, -1].sum()), 5_000.0, np.zeros(3)),)
        fleet = FleetState(nodes, frozenset(names), links)
        started = time.perf_counter()
        made = decide_fleet(fleet, policy, learned)
        if step >= WARM_UP // 10:
            wall.append((time.perf_counter() - started) * 1e3)
        slots = {node.e2_node_id: node.slots for node in made.nodes}
    return wall


if __name__ == "__main__":
    main()
