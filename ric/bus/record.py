"""Twin records: octets <-> state, the succession of revisions and its hash chain, CloudEvents headers.

The hash chain shows loss, reordering, divergence and careless or partial tampering. It is not a signature: whoever may
write to the broker can write a whole new chain, so who may write is settled by the broker's TLS, SASL and ACLs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from google.protobuf.message import DecodeError

from ric.bus.twin_state import HASH_OCTETS, MAX_TIME_NS, TwinState, encode, is_sealed, sealed, successor
from ric.columns import decode_table
from ric.errors import Fault, TwinRicError
from ric.pb.twinric.bus.v1 import record_pb2
from ric.pb.twinric.bus.v1.record_pb2 import TwinRecord
from ric.schemas import TWIN_SCHEMAS

__all__ = [
    "ACK_EVENT_TYPE", "ALARM_EVENT_TYPE", "CONTENT_TYPE", "TWIN_EVENT_TYPE", "Ack", "AckStatus", "CloudEvent",
    "Succession", "TwinState", "Verdict", "check",
    "cloudevents_headers", "decode", "decode_ack", "decode_headers", "encode", "encode_ack",
    "is_expired", "sealed", "successor",
]  # fmt: skip

NS = 1_000_000_000
CONTENT_TYPE = "application/protobuf"
TWIN_EVENT_TYPE, ACK_EVENT_TYPE, ALARM_EVENT_TYPE = "twinric.twin.v1", "twinric.ack.v1", "twinric.alarm.v1"

_TWIN_ID = re.compile(r"[a-z][a-z0-9_]*/[^\s/]\S{0,190}")
_TRACE_ID = re.compile(r"[0-9a-f]{32}|")
_TRACE_PARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


class Verdict(Enum):
    """What a reader makes of a record, given the newest one that it has of the same twin."""

    APPLY = "apply"
    DUPLICATE = "duplicate"
    OLD = "old"
    GAP = "gap"
    TAMPERED = "tampered"
    EXPIRED = "expired"


def decode(value: bytes) -> TwinState:
    """The state that `value` carries, checked field by field and against its own hash.

    Raises TwinRicError BUS-MALFORMED (not a TwinRecord), BUS-RANGE (every field out of range, a column that the kind
    does not know, which is what a wrong unit is, since units are part of the name) or BUS-TAMPERED (hash and content
    disagree).
    """
    try:
        message = TwinRecord.FromString(value)
    except DecodeError as error:
        raise TwinRicError("BUS-MALFORMED", "record", value[:16], "a serialised twinric.bus.v1.TwinRecord") from error
    faults = _faults(message)
    table = None
    try:
        table = decode_table(message.features, TWIN_SCHEMAS, "BUS", "features")
    except TwinRicError as error:
        faults.extend(error.faults)
    if faults or table is None:
        raise TwinRicError.of(faults)
    if not is_sealed(value, message):
        raise TwinRicError("BUS-TAMPERED", "state_hash", message.state_hash.hex(), "the BLAKE2b-128 of the record")
    return TwinState(
        message.twin_id,
        message.kind,
        message.revision,
        message.source_time_ns,
        message.ingest_time_ns,
        message.valid_for_ms,
        table,
        message.producer,
        message.trace_id,
        message.state_hash,
        message.previous_hash,
        message.expected_revision,
    )


def _faults(message: TwinRecord) -> list[Fault]:
    """Everything wrong with the fields beside the table."""
    first = message.revision == 1
    if (  # what follows words the same rules, at a price that every good record would pay
        _TWIN_ID.fullmatch(message.twin_id)
        and message.kind == message.features.kind
        and message.revision >= 1
        and 0 < message.source_time_ns <= MAX_TIME_NS
        and 0 < message.ingest_time_ns <= MAX_TIME_NS
        and message.features.source_time_ns == message.source_time_ns
        and 0 < len(message.producer) <= 200
        and _TRACE_ID.fullmatch(message.trace_id)
        and len(message.state_hash) == HASH_OCTETS
        and len(message.previous_hash) == (0 if first else HASH_OCTETS)
    ):
        return []
    times = f"1..{MAX_TIME_NS} ns"
    rules = (
        ("twin_id", message.twin_id, bool(_TWIN_ID.fullmatch(message.twin_id)), "<name>/<name>, no blanks"),
        ("kind", message.kind, message.kind == message.features.kind, f"features.kind {message.features.kind!r}"),
        ("revision", message.revision, message.revision >= 1, "1, 2, 3, ..."),
        ("source_time_ns", message.source_time_ns, 0 < message.source_time_ns <= MAX_TIME_NS, times),
        ("ingest_time_ns", message.ingest_time_ns, 0 < message.ingest_time_ns <= MAX_TIME_NS, times),
        ("features.source_time_ns", message.features.source_time_ns,
         message.features.source_time_ns == message.source_time_ns, f"source_time_ns {message.source_time_ns}"),
        ("producer", message.producer, 0 < len(message.producer) <= 200, "1 to 200 characters"),
        ("trace_id", message.trace_id, bool(_TRACE_ID.fullmatch(message.trace_id)), "32 hexadecimal digits or nothing"),
        ("state_hash", message.state_hash, len(message.state_hash) == HASH_OCTETS, f"{HASH_OCTETS} octets"),
        ("previous_hash", message.previous_hash, len(message.previous_hash) == (0 if first else HASH_OCTETS),
         f"{HASH_OCTETS} octets, none at revision 1"),
    )  # fmt: skip
    return [Fault("BUS-RANGE", field, value, accepted) for field, value, good, accepted in rules if not good]


def is_expired(state: TwinState, now_ns: int) -> bool:
    """True once `valid_for_ms` after the source time has passed; never for a state that is always valid."""
    return bool(state.valid_for_ms) and now_ns > state.source_time_ns + state.valid_for_ms * 1_000_000


def check(previous: TwinState | None, state: TwinState, now_ns: int) -> Verdict:
    """How `state` (its own hash verified by `decode`) follows `previous`, the newest record of that twin so far.

    GAP is a full and newer state whose history is broken: readers apply it and count it. A first revision that is newer
    in source time than what we have is one too, since its producer has lost the topic and began again; an older one is
    a replay, OLD. TAMPERED: a second, different record of one revision, or a wrong predecessor. EXPIRED is given only
    to records that would otherwise be applied.
    """
    verdict = Verdict.APPLY
    if previous is not None:
        if state.revision == previous.revision:
            return Verdict.DUPLICATE if state.state_hash == previous.state_hash else Verdict.TAMPERED
        if state.revision < previous.revision:
            if state.revision > 1 or state.source_time_ns <= previous.source_time_ns:
                return Verdict.OLD
            verdict = Verdict.GAP
        elif state.revision > previous.revision + 1:
            verdict = Verdict.GAP
        elif state.previous_hash != previous.state_hash:
            return Verdict.TAMPERED
    return Verdict.EXPIRED if is_expired(state, now_ns) else verdict


class Succession:
    """The newest record per twin that a reader has, and what it makes of the next one.

    A producer that goes on from a refused record (two instances ran at once, say) is followed again two revisions
    later, as a GAP: a fork costs records and is counted, but never silences a twin for good.
    """

    def __init__(self) -> None:
        self._newest: dict[str, TwinState] = {}

    def newest(self, twin_id: str) -> TwinState | None:
        """The newest record of the chain, whether or not it has expired since."""
        return self._newest.get(twin_id)

    def anchor(self, state: TwinState) -> None:
        """Take `state` for the newest record of its twin, as after a rebuild."""
        self._newest[state.twin_id] = state

    def admit(self, state: TwinState, now_ns: int) -> Verdict:
        """The verdict on `state`; APPLY, GAP and EXPIRED move the chain on."""
        verdict = check(self._newest.get(state.twin_id), state, now_ns)
        if verdict in (Verdict.APPLY, Verdict.GAP, Verdict.EXPIRED):
            self.anchor(state)
        return verdict


class AckStatus(Enum):
    """What became of a desired record."""

    ACCEPTED = record_pb2.ACK_STATUS_ACCEPTED
    REJECTED = record_pb2.ACK_STATUS_REJECTED
    EXPIRED = record_pb2.ACK_STATUS_EXPIRED


@dataclass(frozen=True)
class Ack:
    """Answer to revision `revision` of a desired twin."""

    twin_id: str
    revision: int
    status: AckStatus
    reason: str
    time_ns: int


def encode_ack(ack: Ack) -> bytes:
    """The answer's octets on `twin.ack`."""
    status = record_pb2.AckStatus.ValueType(ack.status.value)
    return record_pb2.TwinAck(
        twin_id=ack.twin_id, revision=ack.revision, status=status, reason=ack.reason, time_ns=ack.time_ns
    ).SerializeToString(deterministic=True)


def decode_ack(value: bytes) -> Ack:
    """The answer that `value` carries. Raises TwinRicError BUS-MALFORMED, BUS-RANGE."""
    try:
        message = record_pb2.TwinAck.FromString(value)
    except DecodeError as error:
        raise TwinRicError("BUS-MALFORMED", "ack", value[:16], "a serialised twinric.bus.v1.TwinAck") from error
    statuses = {status.value: status for status in AckStatus}
    rules = (
        ("twin_id", message.twin_id, bool(_TWIN_ID.fullmatch(message.twin_id)), "<name>/<name>, no blanks"),
        ("revision", message.revision, message.revision >= 1, "1, 2, 3, ..."),
        ("status", message.status, message.status in statuses, "ACCEPTED, REJECTED or EXPIRED"),
        ("time_ns", message.time_ns, 0 < message.time_ns <= MAX_TIME_NS, f"1..{MAX_TIME_NS} ns"),
    )
    faults = [Fault("BUS-RANGE", field, given, accepted) for field, given, good, accepted in rules if not good]
    if faults:
        raise TwinRicError.of(faults)
    return Ack(message.twin_id, message.revision, statuses[message.status], message.reason, message.time_ns)


@dataclass(frozen=True)
class CloudEvent:
    """The context of one record: CloudEvents 1.0 attributes, with the trace id of the work that made it."""

    identifier: str
    source: str
    event_type: str
    time_ns: int
    trace_id: str = ""


def cloudevents_headers(
    source: str, event_type: str, time_ns: int, trace_id: str, *, identifier: str = ""
) -> dict[str, str]:
    """CloudEvents 1.0 headers in binary mode (Kafka protocol binding) for one record.

    `source` is a URI reference such as "/xapps/hems_load"; `identifier` is unique per source, and is made from the
    other arguments where it is not given. A trace id travels as `ce_traceparent` (W3C Trace Context).
    """
    digest = ""
    if trace_id or not identifier:
        seed = "\n".join((source, event_type, str(time_ns), trace_id, identifier))
        digest = hashlib.blake2b(seed.encode(), digest_size=HASH_OCTETS).hexdigest()
    seconds, nanoseconds = divmod(time_ns, NS)
    headers = {
        "ce_specversion": "1.0",
        "ce_id": identifier or digest,
        "ce_source": source,
        "ce_type": event_type,
        "ce_time": f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z",
        "content-type": CONTENT_TYPE,
    }
    if trace_id:
        headers["ce_traceparent"] = f"00-{trace_id}-{digest[:16]}-01"
    return headers


def decode_headers(headers: Mapping[str, str]) -> CloudEvent:
    """The event's context. Raises TwinRicError BUS-MALFORMED with every header that is absent or unusable."""
    faults = [
        Fault("BUS-MALFORMED", f"headers.{name}", headers.get(name, "(absent)"), accepted)
        for name, good, accepted in (
            ("ce_specversion", headers.get("ce_specversion") == "1.0", "1.0"),
            ("ce_id", bool(headers.get("ce_id")), "text"),
            ("ce_source", bool(headers.get("ce_source")), "a URI reference"),
            ("ce_type", bool(headers.get("ce_type")), "a type, for example " + TWIN_EVENT_TYPE),
            ("content-type", headers.get("content-type") == CONTENT_TYPE, CONTENT_TYPE),
        )
        if not good
    ]
    time_ns = _time_ns(headers.get("ce_time", ""))
    if time_ns is None:
        faults.append(
            Fault(
                "BUS-MALFORMED", "headers.ce_time", headers.get("ce_time", "(absent)"), "an RFC 3339 time with offset"
            )
        )
    parent = headers.get("ce_traceparent", "")
    match = _TRACE_PARENT.fullmatch(parent)
    if parent and not match:
        faults.append(Fault("BUS-MALFORMED", "headers.ce_traceparent", parent, "W3C Trace Context, version 00"))
    if faults or time_ns is None:
        raise TwinRicError.of(faults)
    return CloudEvent(
        headers["ce_id"], headers["ce_source"], headers["ce_type"], time_ns, match.group(1) if match else ""
    )


def _time_ns(text: str) -> int | None:
    """Nanoseconds of an RFC 3339 time, which may have nine decimals (datetime keeps six); None if it is not one."""
    match = _RFC3339.fullmatch(text)
    if not match:
        return None
    try:
        whole = datetime.fromisoformat(match.group(1) + match.group(3).replace("Z", "+00:00"))
    except ValueError:
        return None
    return int(whole.timestamp()) * NS + int((match.group(2) or "0").ljust(9, "0"))
