"""The reference page of the scenario file, made from its model."""

from __future__ import annotations

from e2sim.ran.catalogue import CATALOGUE
from e2sim.scenario import Scenario
from ric.reference import models_of, section

__all__ = ["scenario_reference"]

HEAD = """# The scenario file

Made by `python -m e2sim reference --out docs/reference/scenario.md`; do not edit. One YAML file describes one run of
the simulator. `python -m e2sim check FILE` names every fault in it. Shipped in `e2sim/scenarios/`: `demo`, `smoke`,
`slices` (everything that happens to slices), `aggregation` (nodes that share a link). Offsets (`at_s`, `start_s`) count
seconds from the scenario's `start`.
"""


def scenario_reference() -> str:
    """The page, in Markdown: one table per model, then the service catalogue."""
    parts = [HEAD, *map(section, models_of(Scenario)), _catalogue()]
    return "\n".join(parts)


def _catalogue() -> str:
    lines = [
        "## Service catalogue", "",
        "Rates are per active terminal; shares of active terminals: normal operation / while a fault is handled.", "",
        "| service | slice | latency [ms] | DL [Mb/s] | UL [Mb/s] | pattern | active share | source | doubt |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| `{s.name}` | {s.role} | {s.latency_ms:g} | {s.dl_mbps:g} | {s.ul_mbps:g} "
        f"| {s.pattern}{f' {s.period_ms:g} ms' if s.period_ms else ''} "
        f"| {s.quiet_share:g} / {s.fault_share:g} | {s.source} | {s.doubt} |"
        for s in CATALOGUE.values()
    ]
    return "\n".join([*lines, ""])
