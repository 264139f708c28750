"""Plots of the demo report as inline SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from e2sim.record import SLICE_ROLES, RunRecord, slice_objective
from e2sim.report import QUARTER_S, Journal, SliceTerms
from ric.clock import to_s
from ric.columns import Floats

__all__ = ["plots"]

WITH, WITHOUT, TRUTH = "#0b6e4f", "#b23a48", "#222222"
SLICE_COLOURS = ("#1f5fa8", "#c77700", "#6a4c93")
SHOWN_HOMES = 3
STYLE = {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25, "font.size": 9}


def plots(with_apps: RunRecord, without: RunRecord, journal: Journal, terms: SliceTerms) -> dict[str, list[str]]:
    """SVG texts by section; a section without data is empty."""
    sections: dict[str, list[str]] = {"grid": [], "forecast": [], "homes": [], "slices": [], "attacks": []}
    with mpl.rc_context(STYLE):
        for node in with_apps.home_ids:
            sections["grid"].append(_grid(with_apps, without, node))
            sections["forecast"].append(_forecasts(with_apps, journal, node))
            sections["homes"].extend(_homes(with_apps, without, node))
        for window in with_apps.scenario.windows:
            for node in with_apps.fast:
                span = (window.start_s, window.end_s)
                sections["slices"].append(_slices(with_apps, without, node, span, window.name, terms))
        for attack in with_apps.scenario.attacks:
            node = attack.node or with_apps.scenario.nodes[0].e2_node_id
            if attack.kind != "clock_skew" and "contribution" in with_apps.fast.get(node, with_apps.fast[node]).rows:
                span = (attack.at_s - 10, attack.at_s + attack.duration_s + 10)
                sections["attacks"].append(_attack(with_apps, without, node, span, attack.at_s))
    return sections


def _svg(figure: Figure) -> str:
    figure.tight_layout()
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue().split("?>", 1)[1].split('.dtd">', 1)[1]


def _axes(rows: int, height: float = 2.1) -> tuple[Figure, Sequence[Any]]:
    figure = Figure(figsize=(10, height * rows))
    axes = figure.subplots(rows, 1, sharex=True)
    return figure, [axes] if rows == 1 else list(axes)


def _grid(with_apps: RunRecord, without: RunRecord, node: str) -> str:
    figure, (power, storage, price) = _axes(3)
    for run, colour, label in ((without, WITHOUT, "apps off"), (with_apps, WITH, "apps on")):
        slow = run.slow[node]
        hours = slow.time_s / 3600
        power.plot(hours, slow.array("feeder_import_kw"), color=colour, lw=1, label=label)
        if "storage_soc" in slow.rows:
            storage.plot(hours, 100 * slow.array("storage_soc")[:, 0], color=colour, lw=1, label=label)
    power.set_ylabel("feeder import [kW]")
    power.legend(loc="upper right", frameon=False)
    storage.set_ylabel("community storage [%]")
    slow = with_apps.slow[node]
    price.step(slow.time_s / 3600, slow.array("feeder_buy_price"), color=TRUTH, lw=1)
    price.set_ylabel("import price [EUR/kWh]")
    price.set_xlabel("hour of the run")
    return _svg(figure)


def _forecasts(run: RunRecord, journal: Journal, node: str) -> str:
    figure, (axis,) = _axes(1, 3.0)
    slow, start_s = run.slow[node], run.scenario.start_s
    axis.plot(
        slow.time_s / 3600, slow.array("home_inflexible_kw").sum(axis=1), color="#bbbbbb", lw=0.8, label="truth, 1 min"
    )
    tables = journal.forecasts[node]
    for table, colour in zip(tables[:: max(1, len(tables) // 3)][:3], SLICE_COLOURS, strict=False):
        first_h = (to_s(table.source_time_ns) - start_s) / 3600
        row = table.ids.index("feeder")
        hours = first_h + (np.arange(min(96, table["load_p50_kw"].shape[1])) + 0.5) * QUARTER_S / 3600
        low, median, high = (table[f"load_{p}_kw"][row][: len(hours)] for p in ("p10", "p50", "p90"))
        axis.fill_between(hours, low, high, color=colour, alpha=0.15, lw=0)
        axis.plot(hours, median, color=colour, lw=1.2, label=f"forecast made at {first_h:.1f} h")
    axis.set_xlim(0, run.scenario.duration_s / 3600)
    axis.set_ylabel("homes' uncontrollable load [kW]")
    axis.set_xlabel("hour of the run")
    axis.legend(loc="upper left", frameon=False, ncol=2)
    return _svg(figure)


def _homes(with_apps: RunRecord, without: RunRecord, node: str) -> list[str]:
    """The homes with most devices: what drew power, apps on and off."""
    slow = with_apps.slow[node]
    names = ("home_battery_kw", "home_ev_kw", "home_hvac_kw")
    used = sum((np.abs(slow.array(name)).sum(axis=0) > 0).astype(float) for name in names)
    used = used + slow.array("home_pv_available_kw").sum(axis=0) / 1e6
    pictures = []
    for home in np.argsort(-np.asarray(used), kind="stable")[:SHOWN_HOMES]:
        figure, axes = _axes(2)
        for axis, run, title in zip(axes, (with_apps, without), ("apps on", "apps off"), strict=True):
            _home(axis, run, node, int(home), title)
        axes[0].legend(loc="upper left", frameon=False, ncol=5)
        axes[0].set_title(f"home {with_apps.home_ids[node][home]}", loc="left", fontsize=10)
        axes[1].set_xlabel("hour of the run")
        pictures.append(_svg(figure))
    return pictures


def _home(axis: Any, run: RunRecord, node: str, home: int, title: str) -> None:
    slow = run.slow[node]
    hours = slow.time_s / 3600
    lines = (
        ("home_inflexible_kw", "load", "#888888", 1.0), ("home_pv_kw", "PV (as a source)", "#e0a100", -1.0),
        ("home_battery_kw", "battery", WITH, 1.0), ("home_ev_kw", "EV", SLICE_COLOURS[0], 1.0),
        ("home_hvac_kw", "heat pump", WITHOUT, 1.0),
    )  # fmt: skip
    for name, label, colour, sign in lines:
        axis.plot(hours, sign * _smooth(slow.array(name)[:, home]), color=colour, lw=1, label=label)
    axis.set_ylabel(f"{title} [kW]")


def _smooth(values: Floats, steps: int = 15) -> Floats:
    kept = len(values) // steps * steps
    means = values[:kept].reshape(-1, steps).mean(axis=1)
    return np.concatenate([np.repeat(means, steps), values[kept:]])


def _slices(
    with_apps: RunRecord, without: RunRecord, node: str, span: tuple[float, float], name: str, terms: SliceTerms
) -> str:
    figure, (slots, delay, objective) = _axes(3)
    for run, style in ((with_apps, "-"), (without, ":")):
        series = run.fast[node]
        rows = series.between(*span)
        seconds = series.time_s[rows] - span[0]
        for index, role in enumerate(SLICE_ROLES):
            label = f"{role}, apps {'on' if style == '-' else 'off'}"
            slots.step(
                seconds, series.array("slots")[rows, index], style, color=SLICE_COLOURS[index], lw=1.2, label=label
            )
        delay.semilogy(seconds, series.array("delay_ms")[rows, 0], style, color=SLICE_COLOURS[0], lw=1)
        value, _ = slice_objective(series, dict(terms))
        colour = WITH if style == "-" else WITHOUT
        objective.plot(seconds, value[rows], style, color=colour, lw=1, label="apps on" if style == "-" else "apps off")
    for fault in with_apps.scenario.faults:
        if span[0] <= fault.at_s <= span[1]:
            slots.axvline(fault.at_s - span[0], color="#999999", lw=1, ls="--")
    slots.set_ylabel("FlexE slots")
    slots.set_ylim(0, 21)
    slots.legend(loc="upper right", frameon=False, ncol=2, fontsize=7)
    slots.set_title(f"{name or 'window'}: from {span[0] / 3600:.2f} h", loc="left", fontsize=10)
    delay.set_ylabel("control delay [ms]")
    objective.set_ylabel("eq (3)")
    objective.legend(loc="upper right", frameon=False)
    objective.set_xlabel("second of the window")
    return _svg(figure)


def _attack(with_apps: RunRecord, without: RunRecord, node: str, span: tuple[float, float], at_s: float) -> str:
    figure, axes = _axes(4, 1.8)
    shown: tuple[tuple[RunRecord, str, str], ...] = (
        (with_apps, "contribution", "C_f, apps on"), (without, "contribution", "C_f, apps off"),
        (with_apps, "power_share", "power share, apps on"), (without, "power_share", "power share, apps off"),
    )  # fmt: skip
    for axis, (run, name, label) in zip(axes, shown, strict=True):
        series = run.fast[node]
        rows = series.between(*span)
        for index in range(series.array(name).shape[1]):
            colour = SLICE_COLOURS[index % len(SLICE_COLOURS)]
            axis.plot(
                series.time_s[rows] - at_s, series.array(name)[rows, index], color=colour, lw=1, label=f"MG{index + 1}"
            )
        axis.axvline(0, color="#999999", lw=1, ls="--")
        axis.set_ylabel(label, fontsize=7)
    axes[0].legend(loc="upper right", frameon=False, ncol=3)
    axes[-1].set_xlabel("second after the attack began")
    return _svg(figure)
