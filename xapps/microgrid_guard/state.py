"""What the guard knows: the samples that wait for a decision, and per node what earlier samples left behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ric.columns import Table
from ric.e2sm.grid import GridReport
from ric.errors import TwinRicError
from xapps.microgrid_guard.detector import Watch
from xapps.microgrid_guard.model import TwinMemory

__all__ = ["NodeMemory", "Sample", "State", "restored", "sample_of"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """One node's M microgrids at one instant; arrays (M,), `reference_r` is R of (15) [1]."""

    node: str
    time_ns: int
    ids: tuple[str, ...]
    contribution_factor: Floats
    alive: NDArray[np.bool_]
    reference_r: float


@dataclass(frozen=True)
class NodeMemory:
    """What is carried from sample to sample of one node. `twin` is None until it is primed after a gap.

    `twin_ns` and `twin_r` are the instant and the R of the twin's last step; `last_good` (M,) the last values in force
    that were trusted; before `warm_until_ns` no alarm is raised.
    """

    ids: tuple[str, ...]
    time_ns: int
    twin: TwinMemory | None
    twin_ns: int
    twin_r: float
    warm_until_ns: int
    watch: Watch
    last_good: Floats


@dataclass(frozen=True)
class State:
    """Samples not yet decided upon, oldest first, and the memories of their nodes and of all others."""

    samples: tuple[Sample, ...]
    memories: Mapping[str, NodeMemory]

    @property
    def source_time_ns(self) -> int:
        """Source time of the newest input."""
        times = [sample.time_ns for sample in self.samples] or [m.time_ns for m in self.memories.values()]
        return max(times, default=0)


def sample_of(report: GridReport) -> Sample:
    """The sample in a grid indication. Raises TwinRicError E2-RANGE when one of the two tables is absent or empty."""
    for kind in ("microgrid_report", "pcc_report"):
        if kind not in report.tables or not len(report.tables[kind]):
            raise TwinRicError("E2-RANGE", f"tables.{kind}", "(absent)", "a table with at least one row")
    table = report.tables["microgrid_report"]
    return Sample(
        report.e2_node_id,
        report.source_time_ns,
        table.ids,
        np.asarray(table["contribution_factor"], dtype=np.float64),
        np.asarray(table["agent_alive"] >= 0.5),
        float(report.tables["pcc_report"]["reference_r"][0]),
    )


def restored(twin: Table) -> NodeMemory:
    """The memory that a restarted guard takes from its own record: takeovers go on, the twin starts anew."""
    taken = twin["taken_over"] >= 0.5
    times = np.where(taken, twin.source_time_ns, 0).astype(np.int64)
    second = twin["taken_over"] >= 1.5
    blank = np.zeros(len(twin), dtype=np.int64)
    watch = Watch(blank, blank, times, second, tuple("DOS" if t else "" for t in taken.tolist()))
    good = np.asarray(twin["contribution_factor"], dtype=np.float64)
    return NodeMemory(twin.ids, twin.source_time_ns, None, 0, 0.0, 0, watch, good)
