"""Columnar tables: round trip, every fault named, any message gives a table or a typed error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ric.columns import GOOD, MAX_WIDTH, STALE, Quantity, Schema, Table, decode_table, encode_table
from ric.errors import TwinRicError
from ric.pb.twinric.columns.v1.columns_pb2 import Column
from ric.pb.twinric.columns.v1.columns_pb2 import Table as PbTable

SCHEMA = Schema("homes", 2, {
    "load_kw": Quantity("kW", 0, 10, "load"),
    "plan_kw": Quantity("kW", -5, 5, "plan", required=False, width=0),
    "pair": Quantity("1", 0, 1, "two values", required=False, width=2),
})  # fmt: skip
SCHEMAS = {"homes": SCHEMA}


def _message(**changes: Any) -> PbTable:
    base = {"kind": "homes", "schema_version": 2, "ids": ["a", "b"], "source_time_ns": 7}
    message = PbTable(**{**base, **{k: v for k, v in changes.items() if k != "columns"}})
    for column in changes.get("columns", [Column(name="load_kw", values=[1, 2])]):
        message.columns.append(column)
    return message


@given(st.integers(0, 6), st.integers(1, 4), st.integers(0, 2**32))
def test_table_round_trips(number: int, width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    columns = {
        "load_kw": random.uniform(0, 10, number),
        "plan_kw": random.uniform(-5, 5, (number, width)),
        "pair": random.uniform(0, 1, (number, 2)),
    }
    quality = {"load_kw": random.integers(0, 4, number).astype(np.uint8)} if number else {}
    table = Table("homes", tuple(f"h{n}" for n in range(number)), columns, 9, quality, 2)
    again = decode_table(PbTable.FromString(encode_table(table).SerializeToString()), SCHEMAS, "BUS")
    assert (again.ids, again.source_time_ns, again.version, len(again)) == (table.ids, 9, 2, number)
    for name, values in columns.items():
        np.testing.assert_array_equal(again[name], values)
        assert again[name].shape == values.shape
    assert set(again.quality) == set(quality)
    for name, octets in quality.items():
        np.testing.assert_array_equal(again.quality[name], octets)


def test_table_rows_finds_ids_in_the_asked_order() -> None:
    table = Table("homes", ("a", "b", "c"), {}, 0)
    assert table.rows(["c", "a"]).tolist() == [2, 0]
    with pytest.raises(KeyError, match="d"):
        table.rows(["d"])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        pytest.param({"kind": "hoems"}, "table.kind", id="unknown kind"),
        pytest.param({"schema_version": 1}, "table.schema_version", id="unknown version"),
        pytest.param({"ids": ["a", "a"]}, "table.ids", id="duplicate ids"),
        pytest.param({"columns": []}, "table.load_kw", id="column absent"),
        pytest.param({"columns": [Column(name="load_kw", values=[1])]}, "table.load_kw", id="too few values"),
        pytest.param({"columns": [Column(name="load_kw", values=[1, 11])]}, "table.load_kw", id="out of range"),
        pytest.param({"columns": [Column(name="load_kw", values=[1, float("nan")])]}, "table.load_kw", id="NaN"),
        pytest.param({"columns": [Column(name="load_kw", values=[1] * 4, width=2)]}, "table.load_kw.width", id="width"),
        pytest.param(
            {"columns": [Column(name="load_kw", values=[1, 2], quality=b"\x00")]}, "table.load_kw.quality", id="quality"
        ),
        pytest.param(
            {"columns": [Column(name="load_kw", values=[1, 2], quality=b"\x00\x04")]}, "table.load_kw.quality",
            id="unknown quality",
        ),
    ],
)  # fmt: skip
def test_decode_table_names_the_fault(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(TwinRicError) as refused:
        decode_table(_message(**changes), SCHEMAS, "BUS")
    assert [(fault.code, fault.field) for fault in refused.value.faults] == [("BUS-RANGE", field)]


def test_decode_table_tells_all_faults_at_once_with_unit_and_suggestion() -> None:
    columns = [Column(name="load_kw", values=[1, -1]), Column(name="pln_kw", values=[1, 1])]
    with pytest.raises(TwinRicError) as refused:
        decode_table(_message(columns=columns), SCHEMAS, "E2", "tables.homes")
    first, second = refused.value.faults
    assert str(first) == "E2-RANGE tables.homes.load_kw = -1.0: accepted 0..10 kW."
    assert "Did you mean 'plan_kw'" in str(second)


def test_decode_table_width_is_bounded() -> None:
    wide = [Column(name="load_kw", values=[1, 2]), Column(name="plan_kw", values=[0], width=MAX_WIDTH + 1)]
    with pytest.raises(TwinRicError, match=r"table\.plan_kw\.width"):
        decode_table(_message(columns=wide), SCHEMAS, "BUS")


def test_decode_table_column_that_comes_twice_is_refused() -> None:
    twice = [Column(name="load_kw", values=[1, 2]), Column(name="load_kw", values=[3, 4])]
    with pytest.raises(TwinRicError, match=r"BUS-RANGE table\.load_kw"):
        decode_table(_message(columns=twice), SCHEMAS, "BUS")


def test_quality_octets_survive() -> None:
    message = _message(columns=[Column(name="load_kw", values=[1, 2], quality=bytes([GOOD, STALE]))])
    assert decode_table(message, SCHEMAS, "BUS").quality["load_kw"].tolist() == [GOOD, STALE]


_columns = st.builds(
    Column, name=st.sampled_from(["load_kw", "plan_kw", "pair", "x", ""]),
    values=st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=6), width=st.integers(0, 2**32 - 1),
    quality=st.binary(max_size=4),
)  # fmt: skip


@given(
    st.lists(_columns, max_size=4),
    st.lists(st.text(max_size=2), max_size=4),
    st.sampled_from(["homes", "", "x"]),
    st.integers(0, 3),
)
def test_decode_table_any_message_gives_a_table_or_a_typed_error(
    columns: list[Column], ids: list[str], kind: str, version: int
) -> None:
    try:
        table = decode_table(_message(columns=columns, ids=ids, kind=kind, schema_version=version), SCHEMAS, "BUS")
    except TwinRicError as error:
        assert error.code == "BUS-RANGE"
    else:
        assert all(np.isfinite(values).all() and len(values) == len(ids) for values in table.columns.values())
