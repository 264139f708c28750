"""The demo as a newcomer runs it: wall time and peak memory of `twinric demo`, and what the machine did meanwhile.

python -m benchmarks.demo [--scenario demo] [--json F]
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import parser, write_result


def main() -> None:
    """Command line."""
    options_parser = parser(__doc__.splitlines()[0])
    options_parser.add_argument("--scenario", default="demo")
    options = options_parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "ric", "demo", "--quiet", "--scenario", options.scenario, "--out", folder]
        began_s = time.perf_counter()
        subprocess.run(command, check=True)
        wall_s = time.perf_counter() - began_s
        summary = json.loads((Path(folder) / "summary.json").read_text())
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures = {
        "wall_s": wall_s,
        "peak_rss_mb": usage.ru_maxrss / 1024,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "simulated_s_per_s": summary["scenario"]["duration_h"] * 3600 / wall_s,
    }
    homes, slices = summary["homes"], summary["slices"]
    baseline = {
        "net_cost_eur_apps_on": homes["net_cost_eur"]["with_apps"],
        "net_cost_eur_apps_off": homes["net_cost_eur"]["without_apps"],
        "objective_eq3_apps_on": slices["objective_eq3_mean"]["with_apps"],
        "objective_eq3_apps_off": slices["objective_eq3_mean"]["without_apps"],
    }
    write_result(options.json, figures, baseline)


if __name__ == "__main__":
    main()
