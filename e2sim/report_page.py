"""The demo report as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2

__all__ = ["render_page"]

SECTIONS = ("homes", "forecast", "slices", "congestion", "faults", "attacks", "policies")


def render_page(summary: Mapping[str, Any], plots: Mapping[str, list[str]]) -> str:
    """HTML of `summary` (of :func:`e2sim.report.summarise`) with `plots` (SVG texts by section) inside."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.globals.update(num=_number, pct=_percent)
    text = resources.files("e2sim").joinpath("report.html.j2").read_text(encoding="utf-8")
    # Absent sections are empty, so that the template can ask for them under StrictUndefined.
    sections = dict.fromkeys(SECTIONS) | dict(summary)
    page: str = environment.from_string(text).render(s=sections, plots=plots, tiles=_tiles(summary))
    return page


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    magnitude = abs(value)
    return f"{value:,.0f}" if magnitude >= 1000 else f"{value:,.1f}" if magnitude >= 100 else f"{value:.3g}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _tiles(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    found: list[tuple[str, str]] = []
    if homes := summary.get("homes"):
        cost, peak = homes["net_cost_eur"], homes["peak_import_kw"]
        saved = -cost["change"] / abs(cost["without_apps"]) if cost["without_apps"] else 0.0
        found.append((_percent(saved), "lower energy cost than with the apps off"))
        found.append((f"{_number(peak['change'])} kW", f"change of the peak of {_number(peak['without_apps'])} kW"))
    if slices := summary.get("slices"):
        objective = slices["objective_eq3_mean"]
        change = objective["change"] / objective["without_apps"]
        found.append((_percent(change), "change of equation (3), mean over the windows"))
    if faults := summary.get("faults"):
        found.append((f"{sum(fault['detected'] for fault in faults)} of {len(faults)}", "feeder faults alarmed"))
    attacks = summary.get("attacks") or ()
    found += [(f"{_number(a['detection_s'])} s", f"until the DoS on {a['target']} was alarmed") for a in attacks]
    return [{"value": value, "text": text} for value, text in found]
