"""The grid service model: every kind round trips; kinds, ranges and octets are checked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ric.columns import Schema, Table
from ric.e2sm import grid
from ric.errors import TwinRicError
from ric.schemas import GRID_SCHEMAS

TIME_NS = 1_700_000_000 * 10**9


def table_of(schema: Schema, number: int, seed: int) -> Table:
    random = np.random.default_rng(seed)
    columns = {}
    for name, quantity in schema.columns.items():
        shape = (number,) if quantity.width == 1 else (number, quantity.width or 3)
        columns[name] = random.uniform(quantity.low, quantity.high, shape)
    quality = {name: random.integers(0, 4, number).astype(np.uint8) for name in list(columns)[:1] if number}
    return Table(schema.kind, tuple(f"id{n}" for n in range(number)), columns, TIME_NS, quality, schema.version)


def assert_same(one: Table, other: Table) -> None:
    assert (one.kind, one.ids, one.source_time_ns) == (other.kind, other.ids, other.source_time_ns)
    assert set(one.columns) == set(other.columns)
    for name, values in one.columns.items():
        np.testing.assert_array_equal(values, other.columns[name])
    assert set(one.quality) == set(other.quality)
    for name, octets in one.quality.items():
        np.testing.assert_array_equal(octets, other.quality[name])


@given(st.integers(0, 5), st.integers(0, 2**31))
def test_grid_indication_round_trips_with_every_kind(number: int, seed: int) -> None:
    tables = {kind: table_of(schema, number, seed) for kind, schema in GRID_SCHEMAS.items()}
    report = grid.GridReport("00101-e2000001", TIME_NS, tables)
    again = grid.decode_indication(*grid.encode_indication(report))
    assert (again.e2_node_id, again.source_time_ns, set(again.tables)) == ("00101-e2000001", TIME_NS, set(tables))
    for kind, table in tables.items():
        assert_same(again.tables[kind], table)


@pytest.mark.parametrize("kind", grid.CONTROL_KINDS)
def test_grid_control_and_outcome_round_trip(kind: str) -> None:
    table = table_of(GRID_SCHEMAS[kind], 3, 1)
    again = grid.decode_control(*grid.encode_control(grid.GridControl(table, TIME_NS + 1, "OPTIMAL")))
    assert_same(again.set_points, table)
    assert (again.valid_until_ns, again.reason) == (TIME_NS + 1, "OPTIMAL")
    assert_same(grid.decode_outcome(grid.encode_outcome(table)), table)


@pytest.mark.parametrize("kind", sorted(set(GRID_SCHEMAS) - set(grid.CONTROL_KINDS)))
def test_grid_control_of_a_report_kind_is_refused(kind: str) -> None:
    header, payload = grid.encode_control(grid.GridControl(table_of(GRID_SCHEMAS[kind], 1, 1), TIME_NS, "X"))
    with pytest.raises(TwinRicError, match=r"E2-RANGE control_header\.kind"):
        grid.decode_control(header, payload)


def test_grid_control_out_of_range_names_column_and_range() -> None:
    table = table_of(GRID_SCHEMAS["home_set_point"], 2, 1)
    wrong = Table(table.kind, table.ids, {**table.columns, "ev_kw": np.array([1.0, 51.0])}, TIME_NS)
    with pytest.raises(TwinRicError, match=r"E2-RANGE set_points\.ev_kw = 51\.0: accepted -50\.\.50 kW"):
        grid.decode_control(*grid.encode_control(grid.GridControl(wrong, TIME_NS, "X")))


@given(st.integers(10, 86_400_000))
def test_grid_trigger_round_trips(period_ms: int) -> None:
    assert grid.decode_trigger(grid.encode_trigger(period_ms)) == period_ms


@pytest.mark.parametrize("period_ms", [0, 9, 86_400_001])
def test_grid_trigger_out_of_range_is_refused(period_ms: int) -> None:
    with pytest.raises(TwinRicError, match=r"E2-RANGE event_trigger\.report_period_ms"):
        grid.decode_trigger(grid.encode_trigger(period_ms))


def test_grid_action_takes_known_kinds_only() -> None:
    assert grid.decode_action(grid.encode_action(("home_report",))) == ("home_report",)
    with pytest.raises(TwinRicError, match=r"E2-RANGE action_definition\.kinds = 'homes'"):
        grid.decode_action(grid.encode_action(("homes",)))


def test_grid_indication_with_a_kind_twice_is_refused() -> None:
    table = table_of(GRID_SCHEMAS["pcc_report"], 1, 1)
    header, payload = grid.encode_indication(grid.GridReport("n", TIME_NS, {"one": table, "two": table}))
    with pytest.raises(TwinRicError, match=r"E2-RANGE indication_message\.tables"):
        grid.decode_indication(header, payload)


@given(st.binary(max_size=120), st.binary(max_size=120))
def test_grid_any_octets_give_a_value_or_a_typed_error(header: bytes, payload: bytes) -> None:
    for decode in (lambda: grid.decode_indication(header, payload), lambda: grid.decode_control(header, payload),
                   lambda: grid.decode_outcome(payload), lambda: grid.decode_trigger(payload),
                   lambda: grid.decode_action(payload)):  # fmt: skip
        try:
            decode()
        except TwinRicError as error:
            assert error.code in {"E2-MALFORMED", "E2-RANGE"}
