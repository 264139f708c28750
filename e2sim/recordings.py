"""Recorded traffic as a slice's mean rate: KPM reports or packets, as in the data set oran_tractor_kpm.

KPM files have the columns `run`, `sample` (250 ms apart), `traffic_class`, `dl_mbps`, `ul_mbps`; the UEs of a run are
summed and the runs follow each other. Packet files have `t_s`, `uplink` (1 is from the UE), `bytes`; they become rates
of 10 ms, summed over copies of the trace that start at evenly spread offsets, because a slice carries many terminals. A
user's own file with these columns works alike; the header says which it is.
"""

from __future__ import annotations

import csv
import itertools
import lzma
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ric.errors import Fault, TwinRicError

__all__ = ["COLUMNS", "PACKET_COLUMNS", "PACKET_SAMPLE_S", "SAMPLE_S", "Recording", "read_recording"]

Floats = NDArray[np.float64]

SAMPLE_S = 0.25
COLUMNS = ("run", "sample", "traffic_class", "dl_mbps", "ul_mbps")
PACKET_COLUMNS = ("t_s", "uplink", "bytes")
PACKET_SAMPLE_S = 0.01
COPIES = 16
"""Copies of a packet trace that run side by side."""
LONGEST_TRACE_S = 86_400.0
CODE = "SCENARIO-INVALID"


@dataclass(frozen=True)
class Recording:
    """Mean rates (K, 2) [Mb/s], downlink and uplink, `sample_s` apart; the series repeats."""

    start_s: float
    rates_mbps: Floats
    sample_s: float = SAMPLE_S

    def at(self, times_s: Floats) -> Floats:
        """Downlink and uplink rates (T, 2) [Mb/s] at `times_s` (T,) [s]."""
        rows = np.floor((times_s - self.start_s) / self.sample_s + 1e-4).astype(np.int64) % len(self.rates_mbps)
        return np.asarray(self.rates_mbps[rows])


def read_recording(
    path: Path, *, start_s: float, mean_mbps: float, traffic_class: str = "", rows: int = 200_000
) -> Recording:
    """The recording in `path` (CSV, or CSV in .xz), its downlink mean scaled to `mean_mbps` [Mb/s].

    Raises TwinRicError (CONFIG-MISSING; SCENARIO-INVALID naming line and column) when the file has no usable rows.
    """
    try:
        with _open(path) as file:
            reader = csv.DictReader(file)
            names = tuple(reader.fieldnames or ())
            numbered = enumerate(itertools.islice(reader, rows), start=2)
            if "t_s" in names:
                _require(PACKET_COLUMNS, names, path)
                rates, sample_s = _packet_rates(numbered, path), PACKET_SAMPLE_S
            else:
                _require(COLUMNS, names, path)
                rates, sample_s = _kpm_rates(numbered, path, traffic_class), SAMPLE_S
    except (OSError, lzma.LZMAError, UnicodeDecodeError, csv.Error) as error:
        raise TwinRicError("CONFIG-MISSING", "recording.file", str(path), "a readable CSV or .csv.xz file") from error
    mean = float(rates[:, 0].mean()) if len(rates) else 0.0
    if mean <= 0:
        accepted = f"rows with downlink volume of class {traffic_class or '(any)'}"
        raise TwinRicError(CODE, str(path), f"{len(rates)} samples", accepted)
    return Recording(start_s, rates * (mean_mbps / mean), sample_s)


def _require(columns: tuple[str, ...], names: tuple[str, ...], path: Path) -> None:
    missing = [name for name in columns if name not in names]
    if missing:
        raise TwinRicError.of([Fault(CODE, f"{path}.{name}", "(absent)", "a column") for name in missing])


def _kpm_rates(numbered: Iterable[tuple[int, dict[str, str]]], path: Path, traffic_class: str) -> Floats:
    """Rates (K, 2) [Mb/s] of all samples of all runs, UEs summed."""
    sums: dict[tuple[str, int], list[float]] = {}
    for line, row in numbered:
        if not traffic_class or row["traffic_class"] == traffic_class:
            run, sample, down, up = _row(row, f"{path}:{line}")
            entry = sums.setdefault((run, sample), [0.0, 0.0])
            entry[0] += down
            entry[1] += up
    return np.array(list(sums.values()), dtype=np.float64).reshape(-1, 2)


def _packet_rates(numbered: Iterable[tuple[int, dict[str, str]]], path: Path) -> Floats:
    """Rates (K, 2) [Mb/s] every `PACKET_SAMPLE_S`, of `COPIES` copies of the trace."""
    packets = np.array([_packet(row, f"{path}:{line}") for line, row in numbered]).reshape(-1, 3)
    if not len(packets):
        return np.zeros((0, 2))
    bins = int(packets[:, 0].max() / PACKET_SAMPLE_S) + 1
    volume = np.zeros((bins, 2))
    np.add.at(
        volume, ((packets[:, 0] / PACKET_SAMPLE_S).astype(np.int64), packets[:, 1].astype(np.int64)), packets[:, 2]
    )
    copies = [np.roll(volume, copy * bins // COPIES, axis=0) for copy in range(COPIES)]
    return np.asarray(np.sum(copies, axis=0) * 8e-6 / PACKET_SAMPLE_S)


def _packet(row: dict[str, str], where: str) -> tuple[float, float, float]:
    try:
        time_s, uplink, size = float(row["t_s"]), float(row["uplink"]), float(row["bytes"])
    except (TypeError, ValueError) as error:
        raise TwinRicError(CODE, where, str(row)[:60], "numbers in t_s, uplink and bytes") from error
    if not (0 <= time_s <= LONGEST_TRACE_S and uplink in (0.0, 1.0) and 0 <= size < np.inf):
        accepted = f"t_s 0..{LONGEST_TRACE_S:g} s, uplink 0 or 1, bytes >= 0"
        raise TwinRicError(CODE, where, (time_s, uplink, size), accepted)
    return time_s, uplink, size


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
