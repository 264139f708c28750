"""Reference pages made from pydantic models: a table of keys with type, default, meaning and accepted range."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ric.config import FrozenModel

__all__ = ["models_of", "section"]


def models_of(model: type[FrozenModel], seen: list[type[FrozenModel]] | None = None) -> list[type[FrozenModel]]:
    """`model` and the models inside it, each once, in the order of their appearance."""
    seen = [] if seen is None else seen
    if model not in seen:
        seen.append(model)
        for field in model.model_fields.values():
            for inner in _models_in(field.annotation):
                models_of(inner, seen)
    return seen


def _models_in(annotation: Any) -> list[type[FrozenModel]]:
    if isinstance(annotation, type) and issubclass(annotation, FrozenModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def section(model: type[FrozenModel], *, title: str = "", without: Collection[str] = ()) -> str:
    """A Markdown section: what the model is, then a row per key; `without` leaves keys out."""
    summary = (model.__doc__ or "").strip().splitlines()[0]
    lines = [f"## {title or _title(model)}", "", summary, "", "| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if name in without:
            continue
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
    if origin in (dict, Mapping):
        return f"mapping of {_type(inner[0])} to {_type(inner[1])}"
    if annotation is type(None):
        return "null"
    if inner:
        shown = inner[:1] if hasattr(annotation, "__metadata__") else inner
        return " or ".join(_type(part) for part in shown)
    return {"str": "text", "float": "number", "int": "integer", "bool": "true or false", "Path": "path"}.get(
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
        return "its defaults"
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
