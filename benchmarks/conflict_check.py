"""Conflict check: what settling conflicts adds to a control, with thousands of live holds, against no check at all.

Twenty apps control slices and home fleets at a hundred nodes; every hold is alive for the whole run, a policy declares
traffic on two slices and influences on the feeder. Two kinds of controls are timed: three slices (CCC) and a fleet of a
hundred homes with the required columns (grid), each from octets. A sample covers what `RicControls` does before the
control leaves: decode what it sets, find and settle conflicts. Some are refused; the share is reported.

The baseline reads the same octets and admits everything, in the same run.
"""

from __future__ import annotations

import argparse
import gc
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.machine import parser, percentiles, write_result
from ric.columns import Table
from ric.decision import Reason
from ric.e2.conflict_mitigation import ConflictDecision, ConflictMitigation, ControlIntent
from ric.e2.conflict_policy import ConflictPolicy, TrafficDemand
from ric.e2.service_models import ServiceModelId, model_of
from ric.e2sm import ccc, grid
from ric.schemas import GRID_SCHEMAS

NODES = 100
HOMES = 100
CONTROLS = 2_000
SLICES = ("1-000001", "1-000002", "1-000003")
HOLD_S = 3_600.0
CCC, GRID = (ccc.NAME, ccc.VERSION), (grid.NAME, grid.VERSION)

Control = tuple[str, str, ServiceModelId, bytes, bytes]
"""App, node, service model, header, message."""


def policy() -> ConflictPolicy:
    """Traffic of the home fleets on the third slice of every node, and of meters on the second; default influences."""
    demands = (
        TrafficDemand(app_id="fleet-0", s_nssai=SLICES[2], rate_mbps=12_000),
        TrafficDemand(app_id="meters", s_nssai=SLICES[1], rate_mbps=2_000),
    )
    return ConflictPolicy(demands=demands, priorities={"protection": 10, "fleet-0": 5}, hold_s=HOLD_S)


def slice_control(generator: random.Random) -> Control:
    """Three slices at one node, by the app that usually sets them there or, one time in ten, by another."""
    node = generator.randrange(NODES)
    shares = generator.choice(((25, 50, 25), (30, 50, 20), (25, 60, 15), (20, 65, 15)))
    app = f"slices-{node % 10 if generator.random() < 0.9 else generator.randrange(10)}"
    ratios = tuple(
        ccc.SliceRatio(s_nssai=name, rrm_policy_dedicated_ratio=share)
        for name, share in zip(SLICES, shares, strict=True)
    )
    return app, f"00101-{node:x}", CCC, *ccc.encode_control(ratios)


def fleet_control(generator: random.Random) -> Control:
    """A hundred homes of one node, by the app that usually controls them or, one time in ten, by another."""
    node = generator.randrange(NODES)
    app = f"fleet-{node % 10 if generator.random() < 0.9 else generator.randrange(10)}"
    columns = {
        name: np.array([round(generator.uniform(max(q.low, -3), min(q.high, 3)), 2) for _ in range(HOMES)])
        for name, q in GRID_SCHEMAS["home_set_point"].columns.items()
        if q.required
    }
    table = Table("home_set_point", tuple(f"home-{node}-{n}" for n in range(HOMES)), columns, 1)
    return app, f"00101-{node:x}", GRID, *grid.encode_control(grid.GridControl(table, 1, "BENCH"))


def intent_of(control: Control) -> ControlIntent:
    """What the control would set."""
    app, node, service_model, header, message = control
    model = model_of(service_model)
    settings = model.settings(header, message)
    return ControlIntent(app, node, model.oid, settings, model.quantities(settings))


def admit(intent: ControlIntent, now_s: float) -> ConflictDecision:
    """No check."""
    del now_s
    return ConflictDecision(intent, True, intent.app_id, (), (), Reason("NO_CONFLICT"))


def timed(controls: list[Control], decide: Callable[[ControlIntent, float], ConflictDecision]) -> tuple[Any, int]:
    """Percentiles of reading and deciding [ms], and how many were refused."""
    samples, refused = [], 0
    for number, control in enumerate(controls):
        began_ns = time.perf_counter_ns()
        decision = decide(intent_of(control), number * 1e-3)
        samples.append((time.perf_counter_ns() - began_ns) / 1e6)
        refused += not decision.is_admitted
    return percentiles(samples), refused


def main(arguments: argparse.Namespace) -> None:
    """Fill the holds, then time both kinds, with the check and without."""
    generator = random.Random(arguments.seed)
    mitigation = ConflictMitigation({}, hold_s=HOLD_S)
    mitigation.configure(policy())
    makers = {"slices": slice_control, "fleet": fleet_control}
    figures: dict[str, float] = {}
    baseline: dict[str, float] = {}
    for make in makers.values():
        for _ in range(4 * NODES):
            decision = mitigation.decide(intent_of(make(generator)), 0.0)
            if decision.is_admitted:
                mitigation.applied(decision)
    for kind, make in makers.items():
        controls = [make(generator) for _ in range(arguments.controls)]
        gc.collect()
        gc.freeze()
        ours, refused = timed(controls, mitigation.decide)
        none, _ = timed(controls, admit)
        prefix = "" if kind == "slices" else "fleet_"
        figures |= {f"{prefix}{name}": ours[name] for name in ("p50_ms", "p99_ms", "max_ms")}
        figures[f"{prefix}added_p50_ms"] = ours["p50_ms"] - none["p50_ms"]
        figures[f"{prefix}refused_share"] = refused / len(controls)
        baseline |= {f"{kind}_no_check_{name}": none[name] for name in ("p50_ms", "p99_ms")}
    figures |= {"live_holds": float(mitigation.holds), "samples": float(arguments.controls)}
    write_result(arguments.json, figures, {**baseline, "nodes": NODES, "homes_per_fleet": HOMES})


if __name__ == "__main__":
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--controls", type=int, default=CONTROLS, help="controls of each kind that are timed")
    made.add_argument("--seed", type=int, default=7, help="of the controls")
    main(made.parse_args())
