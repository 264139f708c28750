"""TwinRIC's grid service model: homes, community storage, microgrids and the feeder of one E2 node, as columnar tables.

Not an O-RAN Alliance service model. `ric/schemas.py` gives unit, range and meaning of every column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from ric.columns import Schema, Table, decode_table, encode_table
from ric.errors import TwinRicError
from ric.pb.twinric.columns.v1.columns_pb2 import Table as PbTable
from ric.pb.twinric.e2sm.v1 import grid_pb2
from ric.schemas import GRID_SCHEMAS, IN_FORCE_SCHEMAS

__all__ = [
    "NAME", "OID", "RAN_FUNCTION_ID", "VERSION", "GridControl", "GridReport", "decode_action",
    "decode_control", "decode_indication", "decode_outcome", "decode_trigger", "encode_action", "encode_control",
    "encode_indication", "encode_outcome", "encode_trigger", "valid_until_ns",
]  # fmt: skip

M = TypeVar("M", bound=Message)

NAME, VERSION = "twinric-e2sm-grid", "v1"
OID, RAN_FUNCTION_ID = "1.3.6.1.4.1.53148.1.99.2.1", 100
PERIOD_MS = (10, 86_400_000)
CONTROL_KINDS = ("home_set_point", "appliance_set_point", "storage_set_point", "microgrid_substitution")


@dataclass(frozen=True)
class GridReport:
    """One indication: the node's tables by kind, all of one source time.

    `in_force`: what decided over devices with a set-point, by kind; `starts_ns`: when the period of a kind's means
    began.
    """

    e2_node_id: str
    source_time_ns: int
    tables: Mapping[str, Table]
    in_force: Mapping[str, Table] = field(default_factory=dict)
    starts_ns: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class GridControl:
    """One control: set-points, until when they hold, and the reason code of the decision."""

    set_points: Table
    valid_until_ns: int
    reason: str


def encode_trigger(report_period_ms: int) -> bytes:
    """Event trigger of a subscription."""
    return grid_pb2.GridEventTrigger(report_period_ms=report_period_ms).SerializeToString()


def decode_trigger(payload: bytes) -> int:
    """Report period [ms]. Raises TwinRicError (E2-MALFORMED, E2-RANGE)."""
    message = _parse(grid_pb2.GridEventTrigger(), payload, "event_trigger")
    period_ms = message.report_period_ms
    if not PERIOD_MS[0] <= period_ms <= PERIOD_MS[1]:
        raise TwinRicError(
            "E2-RANGE", "event_trigger.report_period_ms", period_ms, f"{PERIOD_MS[0]}..{PERIOD_MS[1]} ms"
        )
    return period_ms


def encode_action(kinds: tuple[str, ...] = ()) -> bytes:
    """Action definition; no kinds means all that the node offers."""
    return grid_pb2.GridActionDefinition(kinds=kinds).SerializeToString()


def decode_action(payload: bytes) -> tuple[str, ...]:
    """Kinds asked for. Raises TwinRicError (E2-MALFORMED, E2-RANGE)."""
    message = _parse(grid_pb2.GridActionDefinition(), payload, "action_definition")
    for kind in message.kinds:
        if kind not in GRID_SCHEMAS:
            raise TwinRicError("E2-RANGE", "action_definition.kinds", kind, ", ".join(GRID_SCHEMAS))
    return tuple(message.kinds)


def encode_indication(report: GridReport) -> tuple[bytes, bytes]:
    """Indication header and message."""
    header = grid_pb2.GridIndicationHeader(
        source_time_ns=report.source_time_ns, e2_node_id=report.e2_node_id, collection_start_ns=report.starts_ns
    )
    message = grid_pb2.GridIndicationMessage(
        tables=[encode_table(table) for table in report.tables.values()],
        in_force=[encode_table(table) for table in report.in_force.values()],
    )
    return header.SerializeToString(), message.SerializeToString()


def decode_indication(header: bytes, payload: bytes, *, in_force: bool = False) -> GridReport:
    """The report in an indication, with its tables `in_force` if asked for. Raises TwinRicError (E2-MALFORMED,
    E2-RANGE).
    """
    head = _parse(grid_pb2.GridIndicationHeader(), header, "indication_header")
    message = _parse(grid_pb2.GridIndicationMessage(), payload, "indication_message")
    tables = _tables(message.tables, GRID_SCHEMAS, "tables")
    decided = _tables(message.in_force, IN_FORCE_SCHEMAS, "in_force") if in_force else {}
    return GridReport(head.e2_node_id, head.source_time_ns, tables, decided, dict(head.collection_start_ns))


def _tables(messages: Sequence[PbTable], schemas: Mapping[str, Schema], field: str) -> dict[str, Table]:
    kinds = [message.kind for message in messages]
    if len(set(kinds)) != len(kinds):
        raise TwinRicError("E2-RANGE", f"indication_message.{field}", kinds, "each kind once")
    return {each.kind: decode_table(each, schemas, "E2", f"{field}.{each.kind}") for each in messages}


def encode_control(control: GridControl) -> tuple[bytes, bytes]:
    """Control header and message."""
    header = grid_pb2.GridControlHeader(
        kind=control.set_points.kind, valid_until_ns=control.valid_until_ns, reason=control.reason
    )
    message = grid_pb2.GridControlMessage(set_points=encode_table(control.set_points))
    return header.SerializeToString(), message.SerializeToString()


def decode_control(header: bytes, payload: bytes) -> GridControl:
    """The control in a request. Raises TwinRicError (E2-MALFORMED, E2-RANGE)."""
    head = _parse(grid_pb2.GridControlHeader(), header, "control_header")
    message = _parse(grid_pb2.GridControlMessage(), payload, "control_message")
    if head.kind not in CONTROL_KINDS or message.set_points.kind != head.kind:
        raise TwinRicError("E2-RANGE", "control_header.kind", head.kind, f"the table's kind, one of {CONTROL_KINDS}")
    table = decode_table(message.set_points, GRID_SCHEMAS, "E2", "set_points")
    return GridControl(table, head.valid_until_ns, head.reason)


def encode_outcome(in_force: Table) -> bytes:
    """The values now in force."""
    return grid_pb2.GridControlOutcome(in_force=encode_table(in_force)).SerializeToString()


def valid_until_ns(header: bytes) -> int:
    """Until when a control's set-points hold. Raises TwinRicError (E2-MALFORMED)."""
    return _parse(grid_pb2.GridControlHeader(), header, "control_header").valid_until_ns


def decode_outcome(payload: bytes) -> Table:
    """The values now in force. Raises TwinRicError (E2-MALFORMED, E2-RANGE)."""
    message = _parse(grid_pb2.GridControlOutcome(), payload, "control_outcome")
    return decode_table(message.in_force, GRID_SCHEMAS, "E2", "in_force")


def _parse(message: M, payload: bytes, field: str) -> M:
    try:
        message.ParseFromString(payload)
    except DecodeError as error:
        raise TwinRicError("E2-MALFORMED", field, payload[:16], type(message).__name__) from error
    return message
