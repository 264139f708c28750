"""What every benchmark shares: percentiles, the machine, and the JSON that `docs/benchmarks.md` is made from."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["describe_machine", "parser", "percentiles", "write_result"]

PACKAGES = ("grpcio", "protobuf", "numpy", "onnxruntime", "pyzmq", "torch")
ROOT = Path(__file__).resolve().parent.parent


def parser(description: str) -> argparse.ArgumentParser:
    """An argument parser that has `--json F`; `parse_args().json` is a Path or None."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--json", type=Path, default=None, metavar="F", help="write figures, machine and baseline here")
    return made


def percentiles(samples_ms: ArrayLike, levels: Sequence[float] = (50, 90, 99, 99.9)) -> dict[str, float]:
    """`{"p50_ms": ..., "p999_ms": ..., "max_ms": ..., "mean_ms": ..., "samples": ...}` of samples (N,) [ms], N >= 1.

    Nearest rank upwards: a percentile was measured, never lies between two samples. Raises ValueError when empty.
    """
    values = np.asarray(samples_ms, dtype=np.float64)
    if values.size == 0:
        raise ValueError("no samples")
    figures = {
        f"p{str(level).replace('.', '')}_ms": float(np.percentile(values, level, method="inverted_cdf"))
        for level in levels
    }
    return figures | {"max_ms": float(values.max()), "mean_ms": float(values.mean()), "samples": float(values.size)}


def describe_machine() -> dict[str, Any]:
    """Host, interpreter, package versions and commit; nothing that names a person or a place."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load_average_1min": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "commit": _commit(),
        "command": " ".join(["python", "-m", _module(), *sys.argv[1:]]),
    }


def write_result(
    path: Path | None,
    figures: Mapping[str, float],
    baseline: Mapping[str, Any],
    machine: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Print `{"figures", "machine", "baseline"}` and write it to `path` where one is given; returns it."""
    result = {
        "figures": {name: _rounded(value) for name, value in figures.items()},
        "machine": dict(machine if machine is not None else describe_machine()),
        "baseline": {name: _rounded(value) for name, value in baseline.items()},
    }
    text = json.dumps(result, indent=2)
    print(text)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    return result


def _rounded(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _module() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec is not None else Path(sys.argv[0]).name
