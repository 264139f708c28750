"""One revision of a twin: how it follows the one before, its octets and the hash that covers them. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NotRequired, TypedDict, Unpack

from ric.columns import Table, encode_table
from ric.errors import TwinRicError, nearest
from ric.pb.twinric.bus.v1.record_pb2 import TwinRecord
from ric.schemas import TWIN_SCHEMAS

__all__ = [
    "HASH_OCTETS", "MAX_TIME_NS", "Fields", "TwinState", "encode", "is_sealed", "sealed", "successor",
]  # fmt: skip

HASH_OCTETS = 16
MAX_TIME_NS = 2**63 - 1
MAX_VALID_FOR_MS = 2**32 - 1
_HASH_TAG = bytes([TwinRecord.STATE_HASH_FIELD_NUMBER << 3 | 2, HASH_OCTETS])
_HASH_FIELD = len(_HASH_TAG) + HASH_OCTETS


@dataclass(frozen=True)
class TwinState:
    """One revision of one twin. Times are nanoseconds since the Unix epoch; `valid_for_ms` 0 means always valid."""

    twin_id: str
    kind: str
    revision: int
    source_time_ns: int
    ingest_time_ns: int
    valid_for_ms: int
    table: Table
    producer: str
    trace_id: str
    state_hash: bytes
    previous_hash: bytes
    expected_revision: int = 0


class Fields(TypedDict):
    """What a producer says of a new revision; the rest follows from the one before."""

    twin_id: str
    kind: str
    table: Table
    now_ns: int
    valid_for_ms: int
    producer: str
    trace_id: str
    expected_revision: NotRequired[int]


def successor(previous: TwinState | None, **fields: Unpack[Fields]) -> TwinState:
    """The revision after `previous` (the first where there is none), its hash linked to the one before.

    The source time is the table's. Raises TwinRicError BUS-RANGE when a number does not fit the wire or `previous` is
    another twin's; `decode(encode(...))` finds the rest.
    """
    return sealed(previous, **fields)[0]


def sealed(previous: TwinState | None, **fields: Unpack[Fields]) -> tuple[TwinState, bytes]:
    """The successor and its octets, made in one go. Raises as `successor` does."""
    _check_fields(previous, fields)
    table = fields["table"]
    state = TwinState(
        fields["twin_id"],
        fields["kind"],
        previous.revision + 1 if previous else 1,
        table.source_time_ns,
        fields["now_ns"],
        fields["valid_for_ms"],
        table,
        fields["producer"],
        fields["trace_id"],
        b"",
        previous.state_hash if previous else b"",
        fields.get("expected_revision", 0),
    )
    octets = _unsealed(state)
    digest = _digest(octets)
    object.__setattr__(state, "state_hash", digest)  # ours alone until we return it; a copy costs as much as the hash
    return state, octets + _HASH_TAG + digest


def _check_fields(previous: TwinState | None, fields: Fields) -> None:
    valid_for_ms, expected_revision, kind = fields["valid_for_ms"], fields.get("expected_revision", 0), fields["kind"]
    if not 0 <= valid_for_ms <= MAX_VALID_FOR_MS:
        raise TwinRicError("BUS-RANGE", "valid_for_ms", valid_for_ms, f"0..{MAX_VALID_FOR_MS} ms")
    if not 0 <= expected_revision < 2**64:
        raise TwinRicError("BUS-RANGE", "expected_revision", expected_revision, "0..2^64-1")
    for field, time_ns in (("source_time_ns", fields["table"].source_time_ns), ("now_ns", fields["now_ns"])):
        if not 0 < time_ns <= MAX_TIME_NS:
            raise TwinRicError("BUS-RANGE", field, time_ns, f"1..{MAX_TIME_NS} ns")
    if kind not in TWIN_SCHEMAS:
        raise TwinRicError("BUS-RANGE", "kind", kind, "a known kind", nearest(kind, TWIN_SCHEMAS))
    if previous is not None and previous.twin_id != fields["twin_id"]:
        accepted = f"that of the previous revision, {previous.twin_id!r}"
        raise TwinRicError("BUS-RANGE", "twin_id", fields["twin_id"], accepted)


def encode(state: TwinState) -> bytes:
    """The state's octets on the bus; `successor` made the state, or `decode` checked it.

    `state_hash` comes last, so that what it covers is one piece.
    """
    return _unsealed(state) + _HASH_TAG + state.state_hash


def is_sealed(value: bytes, message: TwinRecord) -> bool:
    """Whether `state_hash` covers the record: what stands before it where it is last, else the fields in order."""
    is_last = value[-_HASH_FIELD:-HASH_OCTETS] == _HASH_TAG and value[-HASH_OCTETS:] == message.state_hash
    if is_last and _digest(value[:-_HASH_FIELD]) == message.state_hash:
        return True
    return _hash_of(message) == message.state_hash


def _digest(octets: bytes) -> bytes:
    return hashlib.blake2b(octets, digest_size=HASH_OCTETS).digest()


def _hash_of(message: TwinRecord) -> bytes:
    """BLAKE2b-128 of the record's octets in field order without `state_hash`; `message` is left as it was.

    Unknown fields are hashed too, so that a record of a later version of this proto still verifies.
    """
    kept = message.state_hash
    message.ClearField("state_hash")
    digest = _digest(message.SerializeToString(deterministic=True))
    message.state_hash = kept
    return digest


def _unsealed(state: TwinState) -> bytes:
    """The record's octets in field order, all but `state_hash`."""
    message = TwinRecord(
        twin_id=state.twin_id,
        kind=state.kind,
        revision=state.revision,
        source_time_ns=state.source_time_ns,
        ingest_time_ns=state.ingest_time_ns,
        valid_for_ms=state.valid_for_ms,
        producer=state.producer,
        trace_id=state.trace_id,
        previous_hash=state.previous_hash,
        expected_revision=state.expected_revision,
    )
    encode_table(state.table, message.features)
    return message.SerializeToString(deterministic=True)
