"""Set-points of the grid service model as parameters, and how acknowledgements and reports show them. Pure.

A parameter is named by table, entity and column: "home_set_point h17 battery_kw". Physics may keep a device from its
set-point; the limits that the node reports beside its measurements decide, never a guess: over a period in which a
device may take at least `low` and at most `high`, what was asked shows as itself, or as something between itself and
the limit that it broke.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ric.columns import Table
from ric.e2.observations import Observation, Seen, Span
from ric.e2sm import grid
from ric.errors import TwinRicError

__all__ = ["amounts_of", "observe_set_points", "set_points_of", "verify_set_points"]

KEPT_ENTITIES = 1_000
"""Names of larger tables are made anew each time: xApps choose them, and they must not fill the memory."""
ROUNDED = 1e-5
METER_KW, METER_SHARE = 0.01, 0.01
"""What a meter may be off: 10 W and 1 % of what it shows."""
INSTANT_NS = 2_000_000
"""A state at an instant speaks for what was in force just before it."""

Floats = NDArray[np.float64]
Shown: TypeAlias = tuple[str, Floats, Floats | float, Floats | float, Floats | float]
"""Column of the set-point, amounts reported, lowest and highest limits, slack."""


def set_points_of(header: bytes, payload: bytes) -> Mapping[str, float]:
    """What a control sets: parameter -> amount. Raises TwinRicError (E2-MALFORMED, E2-RANGE)."""
    return amounts_of(grid.decode_control(header, payload).set_points)


def verify_set_points(header: bytes, settings: Mapping[str, float], outcome: bytes) -> Span:
    """When the values asked for are in force: since the time that the outcome states, until the control's own.

    Raises TwinRicError (E2-UNVERIFIED) naming the parameter whose value in force is another.
    """
    table = grid.decode_outcome(outcome)
    in_force = amounts_of(table)
    for parameter, asked in settings.items():
        answered = in_force.get(parameter, math.nan)
        if not abs(answered - asked) <= ROUNDED:
            shown = "(absent)" if math.isnan(answered) else answered
            raise TwinRicError("E2-UNVERIFIED", parameter, shown, f"{asked:g}")
    return Span(table.source_time_ns, grid.valid_until_ns(header))


def observe_set_points(header: bytes, message: bytes) -> Observation:
    """What a report shows of set-points, where it says what decided. Raises TwinRicError (E2-MALFORMED, E2-RANGE)."""
    report = grid.decode_indication(header, message, in_force=True)
    amounts: dict[str, Seen] = {}
    for kind, in_force in report.in_force.items():
        subject = kind.removesuffix("_in_force")
        shown = report.tables.get(f"{subject}_report")
        if shown is None or shown.ids != in_force.ids:
            continue
        read, control_kind, is_mean = _READERS[subject]
        from_ns = shown.source_time_ns - INSTANT_NS
        if is_mean:
            if shown.kind not in report.starts_ns:
                continue  # means over nobody knows how long
            from_ns = report.starts_ns[shown.kind]
        for column, *columns in read(shown, in_force):
            (parameters,) = _parameters(control_kind, shown.ids, (column,))
            values = np.broadcast_arrays(*columns)
            rows = zip(parameters, *(each.tolist() for each in values), strict=True)
            for parameter, amount, low, high, slack in rows:
                if not math.isnan(amount):
                    amounts[parameter] = Seen(amount, from_ns, low, high, slack)
    return Observation(report.source_time_ns, amounts)


def _homes(report: Table, in_force: Table) -> Iterator[Shown]:
    for device in ("battery", "ev", "hvac"):
        power = report[f"{device}_kw"]
        limits = in_force[f"{device}_low_kw"], in_force[f"{device}_high_kw"]
        yield f"{device}_kw", power, *limits, _meter(power)
    for source in ("pv", "wind"):  # a limit is kept by whatever is less
        power = report[f"{source}_kw"]
        yield f"{source}_limit_kw", power, -math.inf, -math.inf, _meter(power)


def _appliances(report: Table, in_force: Table) -> Iterator[Shown]:
    follows = in_force["follows"] >= 0.5
    yield "run", np.where(follows, report["running"], math.nan), -math.inf, math.inf, 0.0


def _storage(report: Table, in_force: Table) -> Iterator[Shown]:
    reserve = in_force["reserve_kw"]
    for name in ("charge", "discharge"):
        power = report[f"{name}_kw"]
        yield f"{name}_kw", power, -math.inf, in_force[f"{name}_limit_kw"], reserve + _meter(power)
    yield "reserve_kw", reserve, -math.inf, math.inf, ROUNDED


def _microgrids(report: Table, in_force: Table) -> Iterator[Shown]:
    del report
    for name in ("contribution_factor", "in_local_control", "in_consensus"):
        yield name, in_force[name], -math.inf, math.inf, ROUNDED


_READERS: Mapping[str, tuple[Callable[[Table, Table], Iterator[Shown]], str, bool]] = {
    "home": (_homes, "home_set_point", True),
    "appliance": (_appliances, "appliance_set_point", False),
    "storage": (_storage, "storage_set_point", True),
    "microgrid": (_microgrids, "microgrid_substitution", False),
}
"""By subject of the tables: how to read them, the kind of its controls, whether its amounts are means of a period."""


def _meter(power_kw: Floats) -> Floats:
    return METER_KW + METER_SHARE * np.abs(power_kw)


def amounts_of(table: Table) -> dict[str, float]:
    """What a table of set-points sets: parameter -> amount."""
    amounts: dict[str, float] = {}
    names = _parameters(table.kind, table.ids, tuple(table.columns))
    for parameters, values in zip(names, table.columns.values(), strict=True):
        amounts.update(zip(parameters, values.tolist(), strict=True))
    return amounts


def _parameters(kind: str, ids: tuple[str, ...], columns: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Parameter names (columns, entities). Fleets send the same table again and again, so small ones are kept."""
    make = _kept_parameters if len(ids) <= KEPT_ENTITIES else _kept_parameters.__wrapped__
    return make(kind, ids, columns)


@lru_cache(maxsize=64)
def _kept_parameters(kind: str, ids: tuple[str, ...], columns: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(f"{kind} {name} {column}" for name in ids) for column in columns)
