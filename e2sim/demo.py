"""The demo: one scenario without the apps, then with them, and a report of the difference."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable

from e2sim.network import Network
from e2sim.record import RunRecord
from e2sim.report import summarise
from e2sim.report_overview import overview
from e2sim.report_page import render_page
from e2sim.report_plots import plots
from e2sim.scenario import Scenario, load_scenario
from e2sim.system import System, installed_apps

__all__ = ["DemoResult", "run_demo", "run_scenario"]

DAY_S = 86_400


@dataclass(frozen=True)
class DemoResult:
    """What a scenario gave: figures, the report page, and a picture (PNG) when there is something to draw."""

    summary: dict[str, Any]
    page: str
    picture: bytes | None


def run_demo(scenario_name: str, out_dir: Path, *, quiet: bool = False) -> int:
    """Run a scenario both ways and write `report.html`, `overview.png` and `summary.json` to `out_dir`; exit status.

    Raises TwinRicError when the scenario is refused or an app dies.
    """
    scenario = load_scenario(scenario_name)
    console = Console(quiet=quiet)
    console.print(f"[bold]{scenario.name}[/]: {scenario.duration_s / 3600:g} simulated hours, seed {scenario.seed}")
    out_dir.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[clock]}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        result = asyncio.run(run_scenario(scenario, progress))
    (out_dir / "summary.json").write_text(json.dumps(result.summary, indent=2) + "\n", encoding="utf-8")
    (out_dir / "report.html").write_text(result.page, encoding="utf-8")
    if result.picture is not None:
        (out_dir / "overview.png").write_bytes(result.picture)
    _print_summary(console, result.summary)
    console.print(f"report: {out_dir / 'report.html'}   figures: {out_dir / 'summary.json'}")
    return 0


async def run_scenario(scenario: Scenario, progress: Progress) -> DemoResult:
    """One scenario, run without and with the apps."""
    began_s = time.perf_counter()
    without = RunRecord(Network(scenario))
    bar = progress.add_task("apps off", total=scenario.duration_s, clock="")
    for end_s in scenario.instants():
        without.network.advance(end_s)
        _show(progress, bar, end_s - scenario.start_s)
    with_apps = RunRecord(Network(scenario))
    bar = progress.add_task("apps on ", total=scenario.duration_s, clock="")
    apps = installed_apps()
    with tempfile.TemporaryDirectory() as folder:
        async with System(with_apps.network, Path(folder), apps) as system:
            await system.run(lambda done_s: _show(progress, bar, done_s))
    terms = _slice_terms(apps)
    summary = summarise(with_apps, without, system.journal, terms)
    summary["wall_s"] = time.perf_counter() - began_s
    pictures = plots(with_apps, without, system.journal, terms)
    return DemoResult(summary, render_page(summary, pictures), overview(with_apps, without))


def _show(progress: Progress, bar: TaskID, done_s: float) -> None:
    day, rest_s = divmod(int(done_s), DAY_S)
    clock = f"day {day} {rest_s // 3600:02d}:{rest_s % 3600 // 60:02d}:{rest_s % 60:02d}"
    progress.update(bar, completed=done_s, clock=clock)


def _slice_terms(apps: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Weights and limits of eq (3) as the slice xApp's policy type has them by default."""
    defaults: dict[str, Any] = apps["slice_bandwidth"].policy_type().model_dump()
    return {role: defaults[role] for role in ("control", "protection", "monitoring")}


def _print_summary(console: Console, summary: Mapping[str, Any]) -> None:
    table = RichTable("figure", "apps on", "apps off")
    for section, names in (
        ("homes", ("net_cost_eur", "peak_import_kw", "comfort_degree_h", "ev_shortfall_kwh")),
        ("slices", ("objective_eq3_mean", "limits_broken_per_1000_steps")),
    ):
        for name in names if section in summary else ():
            pair = summary[section][name]
            table.add_row(name, f"{pair['with_apps']:.4g}", f"{pair['without_apps']:.4g}")
    for attack in summary.get("attacks", ()):
        row = [f"{attack[run]['sharing_spread_end']:.3g}" for run in ("with_apps", "without_apps")]
        table.add_row(f"unequal sharing at the end of the DoS on {attack['target']}", *row)
    for fault in summary.get("faults", ()):
        told = f"{fault['alarm_kind']} after {fault['latency_ms']:.1f} ms" if fault["detected"] else "missed"
        table.add_row(f"{fault['kind']} in section {fault['section']}", told, "no alarm")
    console.print(table)
