"""E2SM-KPM: columnar measurements with 3GPP TS 28.552 names.

Names without a 28.552 counterpart carry the prefix `TWINRIC.`; README of `e2sim` says how each is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray

from ric.errors import Fault, TwinRicError
from ric.pb.twinric.e2sm.v1 import kpm_pb2

__all__ = [
    "MEASUREMENTS", "NAME", "OID", "RAN_FUNCTION_ID", "VERSION", "KpmItem", "KpmReport", "decode_action",
    "decode_indication", "decode_trigger", "encode_action", "encode_indication", "encode_trigger",
]  # fmt: skip

NAME, VERSION = "oran-e2sm-kpm", "v2"
OID, RAN_FUNCTION_ID = "1.3.6.1.4.1.53148.1.3.2.2", 2

MEASUREMENTS: Mapping[str, tuple[str, str]] = {
    "DRB.UEThpDl": ("kbit/s", "throughput delivered downlink"),
    "DRB.UEThpUl": ("kbit/s", "throughput delivered uplink"),
    "DRB.PdcpSduVolumeDL": ("Mbit", "volume offered downlink in the period"),
    "DRB.PdcpSduVolumeUL": ("Mbit", "volume offered uplink in the period"),
    "DRB.RlcSduDelayDl": ("0.1 ms", "mean queueing and transmission delay in the period"),
    "DRB.RlcPacketDropRateDl": ("1e-6", "share of packets dropped by the slice's queue"),
    "RRU.PrbUsedDl": ("PRB", "mean physical resource blocks used downlink"),
    "RRU.PrbTotDl": ("%", "share of the available blocks used downlink"),
    "TWINRIC.DelayJitterDl": ("0.1 ms", "standard deviation of the delay in the period"),
    "TWINRIC.DelayMaxDl": ("0.1 ms", "largest delay in the period"),
    "TWINRIC.DelayBoundDl": ("0.1 ms", "network-calculus bound of the delay for what arrived; 1,000,000 where none"),
    "TWINRIC.FlexeSlots": ("slot", "FlexE slots of 5 Gb/s in force for the slice"),
    "TWINRIC.QueueDl": ("Mbit", "backlog at the end of the period"),
}
"""Measurement name -> unit, meaning."""

PERIOD_MS = (10, 86_400_000)
MAX_ITEMS = 100_000


@dataclass(frozen=True)
class KpmItem:
    """What a row is about; a slice-level row leaves `ue_id` empty."""

    nr_cgi: str
    s_nssai: str
    ue_id: str = ""


@dataclass(frozen=True)
class KpmReport:
    """One granularity period of one node: values (M, N) for M measurement names and N items."""

    e2_node_id: str
    source_time_ns: int
    granularity_period_ms: int
    measurement_names: tuple[str, ...]
    items: tuple[KpmItem, ...]
    values: NDArray[np.float64]

    def of(self, measurement_name: str) -> NDArray[np.float64]:
        """Values (N,) of one measurement. Raises KeyError when the report lacks it."""
        try:
            return np.asarray(self.values[self.measurement_names.index(measurement_name)])
        except ValueError as error:
            raise KeyError(measurement_name) from error


def encode_trigger(granularity_period_ms: int) -> bytes:
    """Event trigger of a subscription."""
    return kpm_pb2.KpmEventTrigger(granularity_period_ms=granularity_period_ms).SerializeToString()


def decode_trigger(payload: bytes) -> int:
    """Granularity period [ms]. Raises TwinRicError (E2-MALFORMED, E2-RANGE)."""
    message = kpm_pb2.KpmEventTrigger()
    _parse(message, payload, "event_trigger")
    period_ms = message.granularity_period_ms
    if not PERIOD_MS[0] <= period_ms <= PERIOD_MS[1]:
        raise TwinRicError(
            "E2-RANGE", "event_trigger.granularity_period_ms", period_ms, f"{PERIOD_MS[0]}..{PERIOD_MS[1]} ms"
        )
    return period_ms


def encode_action(measurement_names: tuple[str, ...] = ()) -> bytes:
    """Action definition; no names means all that the node offers."""
    return kpm_pb2.KpmActionDefinition(measurement_names=measurement_names).SerializeToString()


def decode_action(payload: bytes) -> tuple[str, ...]:
    """Measurement names asked for. Raises TwinRicError (E2-MALFORMED, E2-RANGE)."""
    message = kpm_pb2.KpmActionDefinition()
    _parse(message, payload, "action_definition")
    unknown = [name for name in message.measurement_names if name not in MEASUREMENTS]
    if unknown:
        known = ", ".join(MEASUREMENTS)
        raise TwinRicError("E2-RANGE", "action_definition.measurement_names", unknown[0], known)
    return tuple(message.measurement_names)


def encode_indication(report: KpmReport) -> tuple[bytes, bytes]:
    """Indication header and message."""
    start_ns = report.source_time_ns - report.granularity_period_ms * 1_000_000
    header = kpm_pb2.KpmIndicationHeader(
        collection_start_ns=start_ns, source_time_ns=report.source_time_ns, e2_node_id=report.e2_node_id
    )
    items = [kpm_pb2.KpmItem(nr_cgi=i.nr_cgi, s_nssai=i.s_nssai, ue_id=i.ue_id) for i in report.items]
    message = kpm_pb2.KpmIndicationMessage(
        granularity_period_ms=report.granularity_period_ms,
        measurement_names=report.measurement_names,
        items=items,
        values=report.values.ravel().tolist(),
    )
    return header.SerializeToString(), message.SerializeToString()


def decode_indication(header: bytes, payload: bytes) -> KpmReport:
    """The report in an indication. Raises TwinRicError (E2-MALFORMED, E2-RANGE) with every fault."""
    head, message = kpm_pb2.KpmIndicationHeader(), kpm_pb2.KpmIndicationMessage()
    _parse(head, header, "indication_header")
    _parse(message, payload, "indication_message")
    rows, names = len(message.items), tuple(message.measurement_names)
    values = np.array(message.values, dtype=np.float64)
    faults = []
    period_ms = message.granularity_period_ms
    if not PERIOD_MS[0] <= period_ms <= PERIOD_MS[1]:
        accepted = f"{PERIOD_MS[0]}..{PERIOD_MS[1]} ms"
        faults.append(Fault("E2-RANGE", "indication_message.granularity_period_ms", period_ms, accepted))
    if rows > MAX_ITEMS:
        faults.append(Fault("E2-RANGE", "indication_message.items", rows, f"at most {MAX_ITEMS}"))
    if len(set(names)) != len(names) or any(name not in MEASUREMENTS for name in names):
        faults.append(Fault("E2-RANGE", "indication_message.measurement_names", names, "different known names"))
    if values.size != rows * len(names):
        faults.append(Fault("E2-RANGE", "indication_message.values", values.size, f"{len(names)} x {rows} values"))
    elif not np.isfinite(values).all() or (values < 0).any():
        faults.append(Fault("E2-RANGE", "indication_message.values", "(some)", "finite values >= 0"))
    if faults:
        raise TwinRicError.of(faults)
    items = tuple(KpmItem(i.nr_cgi, i.s_nssai, i.ue_id) for i in message.items)
    return KpmReport(
        head.e2_node_id, head.source_time_ns, message.granularity_period_ms, names, items,
        values.reshape(len(names), rows),
    )  # fmt: skip


def _parse(message: Message, payload: bytes, field: str) -> None:
    try:
        message.ParseFromString(payload)
    except DecodeError as error:
        raise TwinRicError("E2-MALFORMED", field, payload[:16], type(message).__name__) from error
