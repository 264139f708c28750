"""Writes the pages that are made from code and from results: `python tools/docs.py`.

`docs/reference/scenario.md` from the scenario's model, `docs/benchmarks.md` from `benchmarks/results/*.json`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from e2sim.reference import scenario_reference

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
HEAD = """# Benchmarks

Made from `benchmarks/results/` by `make docs`. Each result is one run of `python -m benchmarks.NAME --json F`; its
baseline was measured in the same run. Machines are shared and noisy: trust ratios more than times. A losing row stays.
"""


def benchmarks_page() -> str:
    """The page's text: one section per result, every figure beside its baseline and the machine."""
    parts = [HEAD]
    for path in sorted(RESULTS.glob("*.json")):
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        machine = result["machine"]
        parts.append(f"\n## {path.stem}\n\n`{machine['command']}` at commit {machine['commit']}: {machine['cpu']}, ")
        parts.append(f"{machine['cores']} cores, load {machine['load_average_1min']}, Python {machine['python']}.\n\n")
        parts.append("| figure | value |\n|---|---|\n")
        parts += [f"| {name} | {_cell(value)} |\n" for name, value in result["figures"].items()]
        parts += [f"| baseline: {name} | {_cell(value)} |\n" for name, value in result["baseline"].items()]
    return "".join(parts)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def pages() -> dict[Path, str]:
    """Every generated page."""
    docs = ROOT / "docs"
    return {docs / "reference" / "scenario.md": scenario_reference(), docs / "benchmarks.md": benchmarks_page()}


def main() -> None:
    """Write them."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
