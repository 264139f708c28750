"""What the demand twin knows at one instant: load and PV windows of every node, made from twin records. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ric.columns import Floats, Table

__all__ = ["FEEDER", "NodeWindow", "Resolution", "State", "FIFTEEN_MINUTES", "ONE_MINUTE"]

NS_PER_S = 1_000_000_000
FEEDER = "feeder"
"""Id of the sum over a node's homes, forecast as a series of its own."""


@dataclass(frozen=True)
class Resolution:
    """A forecast's step [s], window fed to the LSTM, horizon and seasonal lag, all in steps."""

    step_s: int
    past: int
    horizon: int
    lag: int

    @property
    def history(self) -> int:
        """Steps of history that a forecast needs."""
        return self.past + self.lag


FIFTEEN_MINUTES = Resolution(step_s=900, past=96, horizon=96, lag=96)
ONE_MINUTE = Resolution(step_s=60, past=120, horizon=60, lag=60)


@dataclass
class _Series:
    """A sliding window (N, history) of step means, oldest first; NaN where nothing was seen."""

    resolution: Resolution
    load_kw: Floats
    pv_kw: Floats
    end_ns: int = 0
    _sums: Floats = field(default_factory=lambda: np.zeros(0))
    _samples: int = 0

    @classmethod
    def empty(cls, homes: int, resolution: Resolution) -> _Series:
        shape = (homes, resolution.history)
        return cls(resolution, np.full(shape, np.nan), np.full(shape, np.nan), _sums=np.zeros((2, homes)))

    def add(self, source_time_ns: int, load_kw: Floats, pv_kw: Floats) -> bool:
        """Add a mean that ends at `source_time_ns`; True when it closes a step."""
        self._sums += np.stack([load_kw, pv_kw])
        self._samples += 1
        step_ns = self.resolution.step_s * NS_PER_S
        if source_time_ns % step_ns:
            return False
        missed = (source_time_ns - self.end_ns) // step_ns - 1 if self.end_ns else 0
        for _ in range(min(max(int(missed), 0), self.resolution.history)):
            self._push(np.full(self._sums.shape, np.nan))
        self._push(self._sums / self._samples)
        self.end_ns = source_time_ns
        self._sums[:] = 0
        self._samples = 0
        return True

    def _push(self, means: NDArray[np.float64]) -> None:
        for window, column in ((self.load_kw, means[0]), (self.pv_kw, means[1])):
            window[:, :-1] = window[:, 1:]
            window[:, -1] = column


class NodeWindow:
    """Windows of one E2 node's homes at both resolutions."""

    def __init__(self, ids: tuple[str, ...]) -> None:
        self.ids = ids
        self.quarters = _Series.empty(len(ids), FIFTEEN_MINUTES)
        self.minutes = _Series.empty(len(ids), ONE_MINUTE)

    def add(self, report: Table) -> bool:
        """Add a home report; True when a quarter of an hour is complete. Older reports are ignored."""
        if report.source_time_ns <= max(self.quarters.end_ns, self.minutes.end_ns):
            return False
        load_kw, pv_kw = report["inflexible_kw"], report["pv_available_kw"]
        self.minutes.add(report.source_time_ns, load_kw, pv_kw)
        return self.quarters.add(report.source_time_ns, load_kw, pv_kw)

    def restore(self, history: Table) -> None:
        """Take over a demand_history table (step 900 s), aligned at its end."""
        steps = min(history["load_kw"].shape[1], FIFTEEN_MINUTES.history)
        self.quarters.load_kw[:, -steps:] = history["load_kw"][:, -steps:]
        self.quarters.pv_kw[:, -steps:] = history["pv_kw"][:, -steps:]
        self.quarters.end_ns = history.source_time_ns

    def history(self) -> Table:
        """The 15-min window as a demand_history table; gaps are filled."""
        columns = {
            "step_s": np.full(len(self.ids), float(FIFTEEN_MINUTES.step_s)),
            "load_kw": _filled(self.quarters.load_kw, FIFTEEN_MINUTES.lag),
            "pv_kw": _filled(self.quarters.pv_kw, FIFTEEN_MINUTES.lag),
        }
        return Table("demand_history", self.ids, columns, self.quarters.end_ns)


@dataclass(frozen=True)
class State:
    """Windows of one node at a quarter of an hour: (N + 1, history), the last row the feeder; gaps are filled."""

    node: str
    ids: tuple[str, ...]
    source_time_ns: int
    load_kw: Floats
    pv_kw: Floats
    minute_load_kw: Floats
    seen_share: float
    """Share of the 15-min window that was measured, 0..1; the rest is filled with the nearest day or the mean."""

    @classmethod
    def of(cls, node: str, window: NodeWindow) -> State:
        """The state at the end of the window."""
        load_kw = _filled(window.quarters.load_kw, FIFTEEN_MINUTES.lag)
        pv_kw = _filled(window.quarters.pv_kw, FIFTEEN_MINUTES.lag)
        minute_kw = _filled(window.minutes.load_kw, ONE_MINUTE.lag)
        return cls(
            node,
            (*window.ids, FEEDER),
            window.quarters.end_ns,
            np.vstack([load_kw, load_kw.sum(axis=0)]),
            np.vstack([pv_kw, pv_kw.sum(axis=0)]),
            np.vstack([minute_kw, minute_kw.sum(axis=0)]),
            float(np.isfinite(window.quarters.load_kw).mean()),
        )


def _filled(window: Floats, lag: int) -> Floats:
    """`window` without NaN: a gap takes the value one lag away where there is one, else the row's mean, else 0."""
    filled = window.copy()
    for shift in (lag, -lag):
        other = np.roll(filled, shift, axis=1)
        if shift > 0:
            other[:, :lag] = np.nan
        else:
            other[:, -lag:] = np.nan
        filled = np.where(np.isnan(filled), other, filled)
    counts = np.isfinite(filled).sum(axis=1, keepdims=True)
    means = np.nansum(filled, axis=1, keepdims=True) / np.maximum(counts, 1)
    return np.asarray(np.where(np.isnan(filled), means, filled))
