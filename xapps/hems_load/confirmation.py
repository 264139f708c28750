"""Whether homes that are told by desired state do as they are told: what they report decides.

A period's mean power of a device that was asked for several values in turn lies between the least and the greatest of
them, but for what its limits made of them; the node reports the tightest limits of the period beside the means (ADR
0040). So no report needs to know when a value came into force.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ric.columns import Table
from xapps.hems_load.horizon import NS

__all__ = ["Confirmation", "Overdue"]

Floats = NDArray[np.float64]

GRACE_S = 5.0
"""How long a desired state may take to come into force [s]."""
METER_KW, METER_SHARE = 0.01, 0.01
"""What a meter may be off [kW], [1]."""
_KEPT = 16
_DEVICES = ("battery", "ev", "hvac")
_SOURCES = ("pv", "wind")


@dataclass(frozen=True)
class Overdue:
    """Homes whose reports have shown something else for too long, and for how long [s]; none where all follow."""

    ids: tuple[str, ...] = ()
    for_s: float = 0.0
    text: str = ""


class Confirmation:
    """What one node's homes were asked for, and since when each is known to follow. `within_s`: the deadline [s]."""

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s
        self._asked: deque[Table] = deque(maxlen=_KEPT)
        self._kept_ns = np.zeros(0, dtype=np.int64)
        self._answer = ""

    def ask(self, table: Table) -> None:
        """A new desired state, kind `home_set_point`."""
        if not self._asked or self._asked[-1].ids != table.ids:
            self._asked.clear()
            self._kept_ns = np.full(len(table), table.source_time_ns, dtype=np.int64)
        self._asked.append(table)

    def answer(self, text: str) -> None:
        """What the homes' side last said to a desired state: "" where it was accepted, else why not."""
        self._answer = text or "accepted"

    def see(self, report: Table, in_force: Table, starts_ns: int) -> Overdue | None:
        """Take a `home_report` over a period that began at `starts_ns`, with its `home_in_force`; who is overdue.

        None where that is not settled: homes depart but their time is not up, the report is of other homes, or nobody
        knows what was asked of them then.
        """
        tables = self._in_period(starts_ns)
        if not tables or not tables[-1].ids == report.ids == in_force.ids:
            return None
        wrong, shown = _departures(tables, report, in_force)
        self._kept_ns[~wrong] = report.source_time_ns
        late_s = (report.source_time_ns - self._kept_ns) / NS
        rows = np.flatnonzero(late_s > self._within_s)
        if not rows.size:
            return None if wrong.any() else Overdue()
        said = self._answer or "no answer"
        text = f"{said}; {report.ids[int(rows[0])]} {shown(int(rows[0]))}"
        return Overdue(tuple(report.ids[row] for row in rows), float(late_s.max()), text)

    def _in_period(self, starts_ns: int) -> list[Table]:
        """The desired states that may have been in force; none where an unknown one may have been too."""
        before = [n for n, table in enumerate(self._asked) if table.source_time_ns <= starts_ns - GRACE_S * NS]
        return list(self._asked)[before[-1] :] if before else []


def _departures(tables: list[Table], report: Table, in_force: Table) -> tuple[NDArray[np.bool_], Callable[[int], str]]:
    """(N,) homes of which a power is beyond what any of `tables` leads to, and how to say which."""
    wrong: dict[str, NDArray[np.bool_]] = {}
    for device in _DEVICES:
        name = f"{device}_kw"
        asked, power = np.stack([table[name] for table in tables]), report[name]
        low, high = in_force[f"{device}_low_kw"], in_force[f"{device}_high_kw"]
        least, most = np.minimum(asked, high).min(axis=0), np.maximum(asked, low).max(axis=0)
        wrong[name] = (power < least - _slack(power)) | (power > most + _slack(power))
    for source in _SOURCES:
        asked, power = np.stack([table[f"{source}_limit_kw"] for table in tables]), report[f"{source}_kw"]
        wrong[f"{source}_kw"] = power > asked.max(axis=0) + _slack(power)

    def shown(row: int) -> str:
        name = next(name for name, rows in wrong.items() if rows[row])
        wanted = tables[-1][name if name in tables[-1].columns else name.replace("_kw", "_limit_kw")]
        return f"{name} asked {wanted[row]:.2f}, shown {report[name][row]:.2f}"

    return np.logical_or.reduce(list(wrong.values())), shown


def _slack(power_kw: Floats) -> Floats:
    return METER_KW + METER_SHARE * np.abs(power_kw)
