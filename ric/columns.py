"""Columnar tables: named quantities for many entities, checked against a schema once, at the edge.

The grid service model (E2) and twin records (bus) both carry tables; inside the house they are NumPy arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ric.errors import Fault, TwinRicError, nearest
from ric.pb.twinric.columns.v1.columns_pb2 import Column as PbColumn
from ric.pb.twinric.columns.v1.columns_pb2 import Table as PbTable

__all__ = [
    "ESTIMATED", "GOOD", "STALE", "SUBSTITUTED", "Quantity", "Schema", "Table", "check_table",
    "decode_table", "encode_table",
]  # fmt: skip

Floats = NDArray[np.float64]

GOOD, STALE, ESTIMATED, SUBSTITUTED = 0, 1, 2, 3
MAX_ENTITIES = 100_000
MAX_WIDTH = 4_096
FEW = 8
"""Up to so many values a loop is faster than an array operation."""


@dataclass(frozen=True)
class Quantity:
    """One column of a schema: unit, accepted range, meaning, values per entity (0: any)."""

    unit: str
    low: float
    high: float
    meaning: str
    required: bool = True
    width: int = 1


@dataclass(frozen=True)
class Schema:
    """A kind of table: its columns by name. `version` changes when a column's meaning does."""

    kind: str
    version: int
    columns: Mapping[str, Quantity]


@dataclass(frozen=True)
class Table:
    """Entities `ids` (N) with columns (N,) or (N, width), at `source_time_ns`; `quality` (N,) octets per column."""

    kind: str
    ids: tuple[str, ...]
    columns: Mapping[str, Floats]
    source_time_ns: int
    quality: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    version: int = 1

    def __getitem__(self, name: str) -> Floats:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids: Sequence[str]) -> NDArray[np.intp]:
        """Row numbers of `ids` in this table. Raises KeyError for an id that is absent."""
        where = {name: index for index, name in enumerate(self.ids)}
        return np.array([where[name] for name in ids], dtype=np.intp)


def encode_table(table: Table, into: PbTable | None = None) -> PbTable:
    """The table's wire form, a new message or the empty one `into`; the caller vouches for its content."""
    message = PbTable() if into is None else into
    message.kind, message.schema_version, message.source_time_ns = table.kind, table.version, table.source_time_ns
    message.ids.extend(table.ids)
    for name, values in table.columns.items():
        array = np.asarray(values, dtype=np.float64)
        column = message.columns.add(
            name=name, values=array.ravel().tolist(), width=array.shape[1] if array.ndim == 2 else 1
        )
        quality = table.quality.get(name)
        if quality is not None:
            column.quality = np.asarray(quality, dtype=np.uint8).tobytes()
    return message


def decode_table(message: PbTable, schemas: Mapping[str, Schema], code_prefix: str, field_path: str = "table") -> Table:
    """The table that `message` carries, checked against its schema.

    Raises TwinRicError `<code_prefix>-RANGE` with every fault: unknown kind, version or column, missing column, wrong
    length, value out of the quantity's range or not finite, duplicate ids.
    """
    code = f"{code_prefix}-RANGE"
    schema = schemas.get(message.kind)
    if schema is None:
        raise TwinRicError(code, f"{field_path}.kind", message.kind, "a known kind", nearest(message.kind, schemas))
    if message.schema_version != schema.version:
        raise TwinRicError(code, f"{field_path}.schema_version", message.schema_version, f"{schema.version}")
    faults: list[Fault] = []
    if len(message.ids) > MAX_ENTITIES or len(set(message.ids)) != len(message.ids):
        faults.append(Fault(code, f"{field_path}.ids", len(message.ids), f"at most {MAX_ENTITIES} different ids"))
    columns: dict[str, Floats] = {}
    qualities: dict[str, NDArray[np.uint8]] = {}
    for column in message.columns:
        path = f"{field_path}.{column.name}"
        quantity = schema.columns.get(column.name)
        if quantity is None or column.name in columns:
            remedy = nearest(column.name, schema.columns)
            faults.append(Fault(code, path, "(column)", "a known column, each once", remedy))
            continue
        columns[column.name], found = _checked_values(column, quantity, len(message.ids), code, path)
        faults.extend(found)
        if column.quality:
            qualities[column.name], found = _checked_quality(column.quality, len(message.ids), code, path)
            faults.extend(found)
    for name, quantity in schema.columns.items():
        if quantity.required and name not in columns:
            faults.append(Fault(code, f"{field_path}.{name}", "(absent)", f"a column in {quantity.unit}"))
    if faults:
        raise TwinRicError.of(faults)
    return Table(message.kind, tuple(message.ids), columns, message.source_time_ns, qualities, message.schema_version)


def check_table(table: Table, schemas: Mapping[str, Schema], code_prefix: str, field_path: str = "table") -> None:
    """Return when a reader would take `table`. Raises TwinRicError as `decode_table` does."""
    if not _fits(table, schemas.get(table.kind)):
        decode_table(encode_table(table), schemas, code_prefix, field_path)


def _fits(table: Table, schema: Schema | None) -> bool:
    """Whether `table` is good beyond doubt; a False may still be a table that is fine, but not a plain one."""
    number = len(table.ids)
    if schema is None or table.version != schema.version or number > FEW or len(set(table.ids)) != number:
        return False
    if table.quality or table.columns.keys() != schema.columns.keys():
        return False
    return all(
        schema.columns[name].width == 1 and values.shape == (number,)
        and _all_within(values.tolist(), schema.columns[name])
        for name, values in table.columns.items()
    )  # fmt: skip


def _checked_quality(octets: bytes, number: int, code: str, path: str) -> tuple[NDArray[np.uint8], list[Fault]]:
    quality = np.frombuffer(octets, dtype=np.uint8)
    if quality.size != number or (number and quality.max() > SUBSTITUTED):
        return quality, [Fault(code, f"{path}.quality", quality.size, f"{number} octets of 0..{SUBSTITUTED}")]
    return quality, []


def _checked_values(
    column: PbColumn, quantity: Quantity, number: int, code: str, path: str
) -> tuple[Floats, list[Fault]]:
    width = column.width or 1
    listed = list(column.values)
    values = np.array(listed, dtype=np.float64)
    if (quantity.width and width != quantity.width) or width > MAX_WIDTH:
        return values, [Fault(code, f"{path}.width", width, f"{quantity.width or f'1..{MAX_WIDTH}'}")]
    if values.size != number * width:
        return values, [Fault(code, path, f"{values.size} values", f"{number} entities x {width} values")]
    if len(listed) <= FEW and _all_within(listed, quantity):
        return (values.reshape(number, width) if quantity.width != 1 else values), []
    bad = ~((values >= quantity.low) & (values <= quantity.high))
    if bad.any():
        worst: Any = values[bad][0]
        return values, [Fault(code, path, float(worst), f"{quantity.low:g}..{quantity.high:g} {quantity.unit}")]
    return (values.reshape(number, width) if quantity.width != 1 else values), []


def _all_within(values: list[float], quantity: Quantity) -> bool:
    low, high = quantity.low, quantity.high
    for value in values:  # noqa: SIM110 - a generator costs more than the comparisons
        if not low <= value <= high:
            return False
    return True
