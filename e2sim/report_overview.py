"""One picture of a run: what the apps changed in the homes, in the slices and in the microgrids."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from e2sim.record import SLICE_ROLES, RunRecord
from e2sim.report_plots import SLICE_COLOURS, STYLE, WITH, WITHOUT
from e2sim.scenario_parts import AttackSpec

__all__ = ["overview"]

WIDTH_IN, PANEL_HEIGHT_IN, DPI = 11.0, 2.9, 100
MARGIN_S = 5.0
Panel = Callable[[Any], None]


def overview(with_apps: RunRecord, without: RunRecord) -> bytes | None:
    """PNG with a panel per kind of thing that the scenario has; None when it has none of them."""
    panels = [*_feeder(with_apps, without), *_congestion(with_apps, without), *_attack(with_apps, without)]
    if not panels:
        return None
    with mpl.rc_context(STYLE):
        rows = (len(panels) + 1) // 2
        figure = Figure(figsize=(WIDTH_IN, PANEL_HEIGHT_IN * rows))
        axes = figure.subplots(rows, 2, squeeze=False).ravel()
        for axis, panel in zip(axes, panels, strict=False):
            panel(axis)
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        figure.tight_layout()
        octets = io.BytesIO()
        figure.savefig(octets, format="png", dpi=DPI, metadata={"Software": None})
    return octets.getvalue()


def _feeder(with_apps: RunRecord, without: RunRecord) -> list[Panel]:
    """The feeder of the first node that has homes."""
    node = next(iter(with_apps.home_ids), None)
    if node is None:
        return []

    def draw(axis: Any) -> None:
        for run, colour, label in ((without, WITHOUT, "apps off"), (with_apps, WITH, "apps on")):
            slow = run.slow[node]
            axis.plot(slow.time_s / 3600, slow.array("feeder_import_kw"), color=colour, lw=0.9, label=label)
        axis.set(title="Feeder import [kW]", xlabel="hour of the run")
        axis.legend(frameon=False)

    return [draw]


def _congestion(with_apps: RunRecord, without: RunRecord) -> list[Panel]:
    """Slots and delay of the first slice that is congested."""
    events = [event for event in with_apps.scenario.traffic_events if event.factor > 1]
    if not events:
        return []
    event = events[0]
    node = event.node or with_apps.scenario.nodes[0].e2_node_id
    index = SLICE_ROLES.index(event.slice)
    span = (event.at_s - MARGIN_S, event.end_s + MARGIN_S)

    def draw(axis: Any, name: str, title: str) -> None:
        for run, colour, label in ((without, WITHOUT, "apps off"), (with_apps, WITH, "apps on")):
            series = run.fast[node]
            rows = series.between(*span)
            values = series.array(name)[rows, index]
            axis.step(series.time_s[rows] - event.at_s, values, color=colour, lw=1, label=label, where="post")
        axis.set(title=title, xlabel=f"second since traffic rose {event.factor:g} times")
        axis.legend(frameon=False)

    def slots(axis: Any) -> None:
        draw(axis, "slots", f"FlexE slots of the {event.slice} slice")

    def delay(axis: Any) -> None:
        draw(axis, "delay_ms", f"Delay of the {event.slice} slice [ms]")
        axis.set_yscale("log")

    return [slots, delay]


def _attack(with_apps: RunRecord, without: RunRecord) -> list[Panel]:
    """Power shares of the microgrids around the first denial of service."""
    attacks: list[AttackSpec] = [attack for attack in with_apps.scenario.attacks if attack.kind == "dos"]
    if not attacks:
        return []
    attack = attacks[0]
    node = attack.node or with_apps.scenario.nodes[0].e2_node_id
    span = (attack.at_s - MARGIN_S, attack.at_s + attack.duration_s + MARGIN_S)

    def draw(axis: Any) -> None:
        for run, style, label in ((without, ":", "apps off"), (with_apps, "-", "apps on")):
            series = run.fast[node]
            rows = series.between(*span)
            shares = series.array("power_share")[rows]
            for index, colour in enumerate(SLICE_COLOURS[: shares.shape[1]]):
                name = f"MG{index + 1}, {label}"
                axis.plot(series.time_s[rows] - attack.at_s, shares[:, index], style, color=colour, lw=1.1, label=name)
        axis.set(title=f"Power shares, DoS on {attack.target}", xlabel="second of the attack")
        axis.legend(frameon=False, ncol=2, fontsize=7)

    return [draw]
