"""Sealing: the hash covers every octet before it, wherever a producer has put it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ric.bus import record
from ric.bus.twin_state import HASH_OCTETS, Fields, encode, is_sealed, sealed, successor
from ric.columns import Table
from ric.errors import TwinRicError
from ric.pb.twinric.bus.v1.record_pb2 import TwinRecord

T0 = 1_700_000_000 * 10**9


def fields(value: float = 1.0) -> Fields:
    columns = {name: np.array([value]) for name in ("flexe_slots", "offered_mbps", "delay_ms", "jitter_ms")}
    return Fields(
        twin_id="slice/n1", kind="slice_twin", table=Table("slice_twin", ("1-000001",), columns, T0), now_ns=T0,
        valid_for_ms=0, producer="app/1", trace_id="",
    )  # fmt: skip


def test_sealed_is_the_successor_and_its_octets() -> None:
    first, _ = sealed(None, **fields())
    state, value = sealed(first, **fields(2.0))
    assert value == encode(state)
    assert state.state_hash == value[-HASH_OCTETS:]
    assert (state.revision, state.previous_hash) == (2, first.state_hash)
    assert successor(first, **fields(2.0)).state_hash == state.state_hash


def test_record_with_its_hash_in_field_order_verifies_too() -> None:
    """As the first version of this house wrote it, and as any other producer's library may."""
    _, value = sealed(successor(None, **fields()), **fields(2.0))
    message = TwinRecord.FromString(value)
    in_order = message.SerializeToString(deterministic=True)
    assert in_order != value
    assert record.decode(in_order).state_hash == record.decode(value).state_hash


@given(position=st.integers(0, 10_000), octet=st.integers(0, 255))
def test_hash_covers_every_octet(position: int, octet: int) -> None:
    _, value = sealed(successor(None, **fields()), **fields(2.0))
    changed = bytearray(value)
    changed[position % len(value)] = octet
    try:
        message = TwinRecord.FromString(bytes(changed))
    except Exception:  # noqa: BLE001 - the parser's own error; nothing to verify
        return
    if message.SerializeToString(deterministic=True) != TwinRecord.FromString(value).SerializeToString(
        deterministic=True
    ):
        assert not is_sealed(bytes(changed), message)


def test_successor_of_another_twin_is_refused() -> None:
    other = successor(None, **{**fields(), "twin_id": "slice/n2"})
    with pytest.raises(TwinRicError, match="BUS-RANGE twin_id"):
        successor(other, **fields())
