"""Typed configuration: a YAML file, then environment variables, into one frozen pydantic model.

`TWINRIC_HEMS_LOAD__VALID_FOR_S=120` overrides key `valid_for_s` of an app loaded with prefix `TWINRIC_HEMS_LOAD`;
nested keys are joined with `__`; values are YAML.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ric.errors import Fault, TwinRicError, nearest

__all__ = ["FrozenModel", "faults_of", "load_config", "read_yaml", "validate"]

Model = TypeVar("Model", bound=BaseModel)
UNREADABLE = (yaml.YAMLError, ValueError, RecursionError)
"""What the YAML parser raises; ValueError for a date such as 2016-99-99, or octets that are no UTF-8."""


class FrozenModel(BaseModel):
    """Base of all settings and policies: immutable, unknown keys refused, attribute docstrings become descriptions."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False, protected_namespaces=()
    )


def faults_of(
    error: ValidationError, prefix: str, model: type[BaseModel], *, unknown_code: str | None = None
) -> list[Fault]:
    """The faults of a failed validation with codes `<prefix>-RANGE` and, for unknown keys, `<prefix>-UNKNOWN`."""
    faults = []
    for item in error.errors():
        path = ".".join(str(part) for part in item["loc"]) or "(whole)"
        if item["type"] == "extra_forbidden":
            remedy = nearest(str(item["loc"][-1]), model.model_fields)
            faults.append(Fault(unknown_code or f"{prefix}-UNKNOWN", path, item["input"], "a known key", remedy))
        else:
            message = item["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
            value = "(absent)" if item["type"] == "missing" else item["input"]
            faults.append(Fault(f"{prefix}-RANGE", path, value, message))
    return faults


def validate(model: type[Model], value: object, prefix: str, *, unknown_code: str | None = None) -> Model:
    """`value` as `model`. Raises TwinRicError with every fault, named by key, code prefix `prefix`."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise TwinRicError.of(faults_of(error, prefix, model, unknown_code=unknown_code)) from error


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises TwinRicError (CONFIG-MISSING, CONFIG-RANGE) naming the file and line."""
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise TwinRicError("CONFIG-MISSING", "file", str(path), "a readable YAML file") from error
    except UNREADABLE as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise TwinRicError("CONFIG-RANGE", "file", where, "well-formed YAML") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TwinRicError("CONFIG-RANGE", "file", str(path), "a mapping of keys to values")
    return value


def load_config(model: type[Model], path: Path | None, env_prefix: str, environ: Mapping[str, str]) -> Model:
    """Settings from `path` (optional) and `environ`. Raises TwinRicError with every fault, named by key."""
    values = read_yaml(path) if path is not None else {}
    if "xapp_name" in values and isinstance(values.get("controls"), dict):
        # An OSC onboarder mounts the whole descriptor; the settings are its controls.
        values = dict(values["controls"])
    for name, text in sorted(environ.items()):
        if not name.startswith(f"{env_prefix}__"):
            continue
        keys = name.removeprefix(f"{env_prefix}__").lower().split("__")
        target = values
        for key in keys[:-1]:
            target = target.setdefault(key, {})
            if not isinstance(target, dict):
                raise TwinRicError("CONFIG-RANGE", name, text, f"{key} to be a section")
        try:
            target[keys[-1]] = yaml.safe_load(text)
        except UNREADABLE as error:
            raise TwinRicError("CONFIG-RANGE", name, text, "a YAML value") from error
    return validate(model, values, "CONFIG")
