"""Writes the pages that are made from code and from results: `python tools/docs.py`.

`docs/reference/{scenario,settings,policies}.md` from the pydantic models that read them, the
OpenAPI file from the A1 server, `docs/benchmarks.md` from `benchmarks/results/*.json`.
"""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import openapi

from e2sim.reference import scenario_reference
from ric.app_spec import AppConfig
from ric.config import FrozenModel
from ric.e2.conflict_policy import POLICY_TYPE_ID, ConflictPolicy
from ric.platform import RicConfig
from ric.reference import models_of, section

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
HEAD = """# Benchmarks

Made from `benchmarks/results/` by `make docs`. Each result is one run of `python -m benchmarks.NAME --json F`; its
baseline was measured in the same run. Machines are shared and noisy: trust ratios more than times. A losing row stays.
"""
SETTINGS_HEAD = """# Settings

Made from the models by `make docs`. What needs a restart: a YAML file (`--config F`), and over it the environment:
`TWINRIC_RIC__A1_PORT=9100` sets the RIC's `a1_port`, `TWINRIC_HEMS_LOAD__BUS_URL` an app's; `__` goes down a key.
A wrong key or value ends the start, with every fault named. Kafka's own settings are in `docs/reference/bus.md`.
"""
POLICIES_HEAD = """# Policies

Made from the models by `make docs`. What an operator tunes while an app runs, by `twinric policy put TYPE ID FILE` or
A1-P v2 (see `docs/reference/a1.md`). A body may leave keys out; the schema of each type is at
`GET /A1-P/v2/policytypes/{type}`.
"""


def settings_page(apps: dict[str, Any]) -> str:
    """The page's text: the RIC's settings, those of every app, and each app's own."""
    shown: list[type[FrozenModel]] = []
    parts = [SETTINGS_HEAD, *_sections(RicConfig, "RIC", shown), *_sections(AppConfig, "Every app", shown)]
    common = frozenset(AppConfig.model_fields)
    for name, app in apps.items():
        if set(app.config_type.model_fields) - common:
            parts += _sections(app.config_type, name, shown, without=common)
    return "\n".join(parts)


def policies_page(apps: dict[str, Any]) -> str:
    """The page's text: one section per policy type, and one per model inside it."""
    shown: list[type[FrozenModel]] = []
    parts = [POLICIES_HEAD]
    for app in apps.values():
        parts += _sections(app.policy_type, app.spec.policy_type_id, shown)
    parts += _sections(ConflictPolicy, POLICY_TYPE_ID, shown)
    return "\n".join(parts)


def _sections(
    model: type[FrozenModel], title: str, shown: list[type[FrozenModel]], *, without: frozenset[str] = frozenset()
) -> list[str]:
    """The model's section, and those of the models inside it that are not `shown` yet (and now are)."""
    inner = [each for each in models_of(model)[1:] if each not in shown]
    shown += inner
    return [section(model, title=title, without=without), *map(section, inner)]


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
    docs, reference = ROOT / "docs", ROOT / "docs" / "reference"
    entries = sorted(entry_points(group="twinric.apps"), key=lambda entry: entry.name)
    apps = {entry.name: entry.load() for entry in entries}
    return {
        reference / "scenario.md": scenario_reference(),
        reference / "settings.md": settings_page(apps),
        reference / "policies.md": policies_page(apps),
        reference / "a1-openapi.yaml": openapi.a1_openapi(),
        docs / "benchmarks.md": benchmarks_page(),
    }


def main() -> None:
    """Write them."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
