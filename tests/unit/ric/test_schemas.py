"""The data dictionary is consistent with itself and with the signs of the house."""

from __future__ import annotations

import re

import pytest

from ric.columns import Schema
from ric.schemas import GRID_SCHEMAS, TWIN_SCHEMAS

ALL = {**GRID_SCHEMAS, **TWIN_SCHEMAS}
UNIT_OF_SUFFIX = {
    "_kw": "kW", "_kwh": "kWh", "_c": "degC", "_h": "h", "_s": "s", "_pu": "pu", "_pct": "%", "_hz": "Hz", "_v": "V",
    "_ms": "ms", "_mbps": "Mb/s", "_kwp": "kW",
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(ALL))
def test_schema_has_ranges_units_meanings_and_a_version(kind: str) -> None:
    schema = ALL[kind]
    assert (schema.kind, schema.version >= 1, bool(schema.columns)) == (kind, True, True)
    for name, quantity in schema.columns.items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
        assert quantity.low < quantity.high
        assert quantity.unit
        assert quantity.meaning
        assert quantity.width >= 0


@pytest.mark.parametrize("kind", sorted(ALL))
def test_column_name_ends_in_the_unit_that_the_schema_gives(kind: str) -> None:
    for name, quantity in ALL[kind].columns.items():
        suffix = "_" + name.rpartition("_")[2]
        if suffix in UNIT_OF_SUFFIX and not name.endswith(("_per_kwh", "_per_kwp", "_per_kw", "_per_k")):
            assert quantity.unit == UNIT_OF_SUFFIX[suffix], name


@pytest.mark.parametrize("kind", sorted(ALL))
def test_one_way_powers_and_states_of_charge_are_not_negative(kind: str) -> None:
    for name, quantity in ALL[kind].columns.items():
        if name in {"charge_kw", "discharge_kw", "reserve_kw"}:
            assert quantity.low == 0, name
        if name == "soc" or name.endswith("_soc"):
            assert (quantity.low, quantity.high, quantity.unit) == (0, 1, "1"), name


def test_kinds_that_both_interfaces_carry_are_the_same_schema() -> None:
    shared: list[tuple[Schema, Schema]] = [
        (GRID_SCHEMAS[k], TWIN_SCHEMAS[k]) for k in GRID_SCHEMAS.keys() & TWIN_SCHEMAS
    ]
    assert shared
    assert all(one is other for one, other in shared)
