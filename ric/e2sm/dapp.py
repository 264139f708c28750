"""TwinRIC's dApp service model: dApp reports that reach xApps and xApp controls that reach dApps, over E2.

Not an O-RAN Alliance service model. The report is a serialised `twinric.bus.v1.Alarm`.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from ric.errors import TwinRicError
from ric.pb.twinric.bus.v1.record_pb2 import Alarm
from ric.pb.twinric.e2sm.v1 import dapp_pb2

__all__ = [
    "NAME", "OID", "RAN_FUNCTION_ID", "VERSION", "DAppControl", "DAppReport", "decode_control", "decode_indication",
    "encode_control", "encode_indication",
]  # fmt: skip

NAME, VERSION = "twinric-e2sm-dapp", "v1"
OID, RAN_FUNCTION_ID = "1.3.6.1.4.1.53148.1.99.2.2", 101
MAX_CONTROL_DATA = 32_768
"""Octets that E3AP carries in one xApp control action."""


@dataclass(frozen=True)
class DAppReport:
    """An alarm that a dApp reported through the DU."""

    e2_node_id: str
    source_time_ns: int
    dapp_identifier: int
    sequence_id: int
    alarm: Alarm


def encode_indication(report: DAppReport) -> tuple[bytes, bytes]:
    """Indication header and message."""
    header = dapp_pb2.DAppIndicationHeader(
        source_time_ns=report.source_time_ns, e2_node_id=report.e2_node_id,
        dapp_identifier=report.dapp_identifier, sequence_id=report.sequence_id,
    )  # fmt: skip
    message = dapp_pb2.DAppIndicationMessage(report_data=report.alarm.SerializeToString())
    return header.SerializeToString(), message.SerializeToString()


def decode_indication(header: bytes, payload: bytes) -> DAppReport:
    """The report in an indication. Raises TwinRicError (E2-MALFORMED)."""
    head, message, alarm = dapp_pb2.DAppIndicationHeader(), dapp_pb2.DAppIndicationMessage(), Alarm()
    try:
        head.ParseFromString(header)
        message.ParseFromString(payload)
        alarm.ParseFromString(message.report_data)
    except DecodeError as error:
        raise TwinRicError("E2-MALFORMED", "dapp_report", payload[:16], "a dApp report") from error
    return DAppReport(head.e2_node_id, head.source_time_ns, head.dapp_identifier, head.sequence_id, alarm)


@dataclass(frozen=True)
class DAppControl:
    """What an xApp asks of a dApp; `data` is between the two. The outcome is the data that the dApp has accepted."""

    dapp_identifier: int
    sequence_id: int
    data: bytes


def encode_control(control: DAppControl) -> tuple[bytes, bytes]:
    """Control header and message."""
    header = dapp_pb2.DAppControlHeader(dapp_identifier=control.dapp_identifier, sequence_id=control.sequence_id)
    message = dapp_pb2.DAppControlMessage(xapp_control_data=control.data)
    return header.SerializeToString(), message.SerializeToString()


def decode_control(header: bytes, payload: bytes) -> DAppControl:
    """The control in a request. Raises TwinRicError (E2-MALFORMED, E2-RANGE)."""
    head, message = dapp_pb2.DAppControlHeader(), dapp_pb2.DAppControlMessage()
    try:
        head.ParseFromString(header)
        message.ParseFromString(payload)
    except DecodeError as error:
        raise TwinRicError("E2-MALFORMED", "dapp_control", payload[:16], "a control for a dApp") from error
    size = len(message.xapp_control_data)
    if size > MAX_CONTROL_DATA:
        raise TwinRicError("E2-RANGE", "xapp_control_data", f"{size} octets", f"at most {MAX_CONTROL_DATA} octets")
    return DAppControl(head.dapp_identifier, head.sequence_id, message.xapp_control_data)
