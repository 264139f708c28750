"""JSON bodies: parsing with limits, JSON schemas, and what is wrong with a body, field by field. Pure.

One object, UTF-8, no duplicate keys, no NaN, at most 32 levels, numbers within 64-bit floats.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jsonschema
import referencing
import referencing.exceptions
import referencing.jsonschema
from jsonschema.protocols import Validator

from ric.errors import Fault, TwinRicError, nearest

__all__ = ["check_schema", "parse_object", "schema_faults"]

MAX_DEPTH = 32
MAX_FAULTS = 200


def parse_object(payload: bytes, field_path: str) -> dict[str, Any]:
    """The JSON object in `payload`. Raises TwinRicError (A1-MALFORMED, A1-RANGE for huge numbers)."""
    try:
        value = json.loads(payload.decode(), parse_constant=_refuse_constant, object_pairs_hook=_unique)
        if b"\\u" in payload:  # half of a surrogate pair is no character: no answer could carry it
            json.dumps(value, ensure_ascii=False).encode()
        faults = list(itertools.islice(_oversized(value), MAX_FAULTS))
    except (ValueError, RecursionError) as error:
        why = str(error)[:200]
        raise TwinRicError("A1-MALFORMED", field_path, payload[:40], "a JSON object in UTF-8", why) from error
    if not isinstance(value, dict):
        raise TwinRicError("A1-MALFORMED", field_path, payload[:40], "a JSON object")
    if faults:
        raise TwinRicError.of(faults)
    return value


def check_schema(name: str, schema: dict[str, Any]) -> None:
    """Raises TwinRicError (A1-MALFORMED) unless `schema` is a JSON schema that refers only to itself."""
    accepted = "a JSON schema (2020-12) that refers only to itself"
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
        resource = referencing.jsonschema.DRAFT202012.create_resource(schema)
        resolver = referencing.Registry[Any]().with_resource("", resource).resolver()
        for reference in _references(schema):
            resolver.lookup(reference)
    except jsonschema.SchemaError as error:
        path = f"{name}.{_path(error.absolute_path)}"
        raise TwinRicError("A1-MALFORMED", path, error.instance, accepted, error.message[:200]) from error
    except (referencing.exceptions.Unresolvable, ValueError) as error:
        raise TwinRicError("A1-MALFORMED", name, str(error), accepted) from error


def _references(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield value
            else:
                yield from _references(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from _references(item)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key occurs twice")
    return value


def _oversized(value: object, path: tuple[str | int, ...] = ()) -> Iterator[Fault]:
    if len(path) > MAX_DEPTH:
        raise ValueError(f"more than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _oversized(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _oversized(item, (*path, index))
    elif isinstance(value, int | float) and not abs(value) <= sys.float_info.max:
        yield Fault("A1-RANGE", _path(path), "(huge number)", "a number within the range of 64-bit floats")


def _path(parts: Iterable[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.removeprefix(".") or "(whole)"


def schema_faults(validator: Validator, body: Mapping[str, Any]) -> list[Fault]:
    """What is wrong with `body`, field by field; empty when it satisfies the schema."""
    errors = itertools.islice(validator.iter_errors(body), MAX_FAULTS)
    faults = itertools.chain.from_iterable(_faults_of(error) for error in errors)
    # One field may break several rules of its schema that read the same.
    different = {(f.code, f.field, f.accepted): f for f in itertools.islice(faults, MAX_FAULTS)}
    return sorted(different.values(), key=lambda fault: fault.field)


def _faults_of(error: jsonschema.ValidationError) -> Iterator[Fault]:
    path = list(error.absolute_path)
    schema: Mapping[str, Any] = error.schema if isinstance(error.schema, dict) else {}
    known = schema.get("properties", {})
    instance: Any = error.instance
    if error.validator == "additionalProperties" and isinstance(instance, dict) and known:
        for name in sorted(set(instance) - set(known)):
            remedy = nearest(name[:80], known)
            yield Fault("A1-UNKNOWN-FIELD", _path([*path, name]), instance[name], "a known field", remedy)
    elif error.validator == "required":
        for name in [name for name in schema["required"] if name not in instance]:
            yield Fault("A1-RANGE", _path([*path, name]), "(absent)", _accepted(known.get(name, {}), "a value"))
    elif error.context:  # anyOf, oneOf: the branch that got furthest says most
        yield from _faults_of(max(error.context, key=lambda branch: len(branch.absolute_path)))
    else:
        yield Fault("A1-RANGE", _path(path), instance, _accepted(schema, f"{error.validator}"))


def _accepted(schema: Mapping[str, Any], otherwise: str) -> str:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if "const" in schema or "enum" in schema:
        return f"one of {json.dumps(schema.get('enum', [schema.get('const')]))}"[:300]
    if low is not None or high is not None:
        return f"{'' if low is None else low}..{'' if high is None else high}"
    if "pattern" in schema:
        return f"text that matches {schema['pattern']}"[:300]
    rules = {key: schema[key] for key in schema if key in _SHORT_RULES}
    return json.dumps(rules)[:300] if rules else otherwise


_SHORT_RULES = {
    "type", "format", "minLength", "maxLength", "minItems", "maxItems", "uniqueItems", "multipleOf", "minProperties",
    "maxProperties",
}  # fmt: skip
