"""Recorded KPM traffic as a slice's mean rate.

Columns as in the data set oran_tractor_kpm: `run`, `sample` (250 ms apart), `traffic_class`, `dl_mbps`, `ul_mbps`. The
UEs of a run are summed and the runs follow each other; a user's own file with these columns works alike.
"""

from __future__ import annotations

import csv
import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ric.errors import Fault, TwinRicError

__all__ = ["COLUMNS", "SAMPLE_S", "Recording", "read_recording"]

Floats = NDArray[np.float64]

SAMPLE_S = 0.25
COLUMNS = ("run", "sample", "traffic_class", "dl_mbps", "ul_mbps")
CODE = "SCENARIO-INVALID"


@dataclass(frozen=True)
class Recording:
    """Mean rates (K, 2) [Mb/s], downlink and uplink, `SAMPLE_S` apart; the series repeats."""

    start_s: float
    rates_mbps: Floats

    def at(self, time_s: float) -> tuple[float, float]:
        """Downlink and uplink rate [Mb/s] at `time_s` [s]."""
        row = self.rates_mbps[int((time_s - self.start_s) / SAMPLE_S + 1e-6) % len(self.rates_mbps)]
        return float(row[0]), float(row[1])


def read_recording(
    path: Path, *, start_s: float, mean_mbps: float, traffic_class: str = "", rows: int = 200_000
) -> Recording:
    """The recording in `path` (CSV, or CSV in .xz), its downlink mean scaled to `mean_mbps` [Mb/s].

    Raises TwinRicError (CONFIG-MISSING; SCENARIO-INVALID naming line and column) when the file has no usable rows.
    """
    sums: dict[tuple[str, int], list[float]] = {}
    for run, sample, down, up in _rows(path, traffic_class, rows):
        entry = sums.setdefault((run, sample), [0.0, 0.0])
        entry[0] += down
        entry[1] += up
    rates = np.array(list(sums.values()), dtype=np.float64).reshape(-1, 2)
    mean = float(rates[:, 0].mean()) if len(rates) else 0.0
    if mean <= 0:
        accepted = f"rows with dl_mbps > 0 of class {traffic_class or '(any)'}"
        raise TwinRicError(CODE, str(path), f"{len(rates)} samples", accepted)
    return Recording(start_s, rates * (mean_mbps / mean))


def _rows(path: Path, traffic_class: str, limit: int) -> Iterator[tuple[str, int, float, float]]:
    try:
        with _open(path) as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise TwinRicError.of([Fault(CODE, f"{path}.{name}", "(absent)", "a column") for name in missing])
            for line, row in enumerate(reader, start=2):
                if line - 1 > limit:
                    return
                if traffic_class and row["traffic_class"] != traffic_class:
                    continue
                yield _row(row, f"{path}:{line}")
    except (OSError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise TwinRicError("CONFIG-MISSING", "recording.file", str(path), "a readable CSV or .csv.xz file") from error


def _row(row: dict[str, str], where: str) -> tuple[str, int, float, float]:
    try:
        run, sample, down, up = row["run"], int(row["sample"]), float(row["dl_mbps"]), float(row["ul_mbps"])
    except (TypeError, ValueError) as error:
        raise TwinRicError(CODE, where, str(row)[:60], "numbers in sample, dl_mbps and ul_mbps") from error
    if not (0 <= down < np.inf and 0 <= up < np.inf):
        raise TwinRicError(CODE, where, (down, up), "finite rates >= 0 Mb/s")
    return run, sample, down, up


def _open(path: Path) -> IO[str]:
    if path.suffix == ".xz":
        return lzma.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")
