"""The reference page of the scenario file, made from its model."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from e2sim.ran.catalogue import CATALOGUE
from e2sim.scenario import Scenario
from ric.config import FrozenModel

__all__ = ["scenario_reference"]

HEAD = """# The scenario file

Made by `python -m e2sim reference --out docs/reference/scenario.md`; do not edit. One YAML file describes one run of
the simulator. `python -m e2sim check FILE` names every fault in it. Shipped: `demo`, `smoke` (`e2sim/scenarios/`).
Offsets (`at_s`, `start_s`) count seconds from the scenario's `start`.
"""


def scenario_reference() -> str:
    """The page, in Markdown: one table per model, then the service catalogue."""
    models = _models(Scenario, [])
    parts = [HEAD, *(_section(model) for model in models), _catalogue()]
    return "\n".join(parts)


def _models(model: type[FrozenModel], seen: list[type[FrozenModel]]) -> list[type[FrozenModel]]:
    if model not in seen:
        seen.append(model)
        for field in model.model_fields.values():
            for inner in _models_in(field.annotation):
                _models(inner, seen)
    return seen


def _models_in(annotation: Any) -> list[type[FrozenModel]]:
    if isinstance(annotation, type) and issubclass(annotation, FrozenModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _section(model: type[FrozenModel]) -> str:
    summary = (model.__doc__ or "").strip().splitlines()[0]
    lines = [f"## {_title(model)}", "", summary, "", "| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        meaning = " ".join((field.description or "").split())
        bounds = _bounds(field)
        text = f"{meaning} Accepted: {bounds}." if bounds else meaning
        lines.append(f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {_cell(text)} |")
    return "\n".join([*lines, ""])


def _title(model: type[FrozenModel]) -> str:
    return model.__name__.removesuffix("Spec").removesuffix("Settings").removesuffix("Config")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _type(annotation: Any) -> str:
    origin, inner = get_origin(annotation), [part for part in get_args(annotation) if part is not Ellipsis]
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if isinstance(annotation, type) and issubclass(annotation, FrozenModel):
        title = _title(annotation)
        return f"[{title}](#{title.lower()})"
    if origin is tuple:
        return f"list of {_type(inner[0])}"
    if origin is dict:
        return f"mapping of {_type(inner[0])} to {_type(inner[1])}"
    if annotation is type(None):
        return "null"
    if inner:
        shown = inner[:1] if hasattr(annotation, "__metadata__") else inner
        return " or ".join(_type(part) for part in shown)
    return {"str": "text", "float": "number", "int": "integer", "bool": "true or false"}.get(
        getattr(annotation, "__name__", str(annotation)), getattr(annotation, "__name__", str(annotation))
    )


def _bounds(field: FieldInfo) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "multiple_of": "a multiple of"}
    parts = []
    for item in field.metadata:
        parts += [f"{sign} {getattr(item, name):g}" for name, sign in signs.items() if hasattr(item, name)]
        if getattr(item, "pattern", None):
            parts.append(f"pattern `{_cell(item.pattern)}`")
    return ", ".join(parts)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return "see `e2sim/scenario_parts.py`"
    value = field.default
    if value is PydanticUndefined or isinstance(value, FrozenModel):
        return "its defaults"
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return (
            "empty" if not value else _cell(f"{len(value)} entries" if _models_in(field.annotation) else f"`{value}`")
        )
    return f"`{value}`" if value != "" else "empty"


def _catalogue() -> str:
    lines = [
        "## Service catalogue", "",
        "Rates are per active terminal; shares of active terminals: normal operation / while a fault is handled.", "",
        "| service | slice | latency [ms] | DL [Mb/s] | UL [Mb/s] | pattern | active share | source | doubt |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| `{s.name}` | {s.role} | {s.latency_ms:g} | {s.dl_mbps:g} | {s.ul_mbps:g} "
        f"| {s.pattern}{f' {s.period_ms:g} ms' if s.period_ms else ''} "
        f"| {s.quiet_share:g} / {s.fault_share:g} | {s.source} | {s.doubt} |"
        for s in CATALOGUE.values()
    ]
    return "\n".join([*lines, ""])
