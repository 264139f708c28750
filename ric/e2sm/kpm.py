"""E2SM-KPM: columnar measurements with 3GPP TS 28.552 names.

Names without a 28.552 counterpart carry the prefix `TWINRIC.`; README of `e2sim` says how each is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

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
    "DRB.RlcDelayUl": ("0.1 ms", "the same uplink"),
    "DRB.RlcPacketDropRateDl": ("1e-6", "share of packets dropped by the slice's queue"),
    "RRU.PrbUsedDl": ("PRB", "mean physical resource blocks used downlink"),
    "RRU.PrbTotDl": ("%", "share of the available blocks used downlink"),
    "TWINRIC.DelayJitterDl": ("0.1 ms", "standard deviation of the delay in the period"),
    "TWINRIC.DelayJitterUl": ("0.1 ms", "the same uplink"),
    "TWINRIC.DelayMaxDl": ("0.1 ms", "largest delay in the period"),
    "TWINRIC.DelayBoundDl": ("0.1 ms", "network-calculus bound of the delay for what arrived; 1,000,000 where none"),
    "TWINRIC.FlexeSlots": ("slot", "FlexE slots of 5 Gb/s in force for the slice"),
    "TWINRIC.QueueDl": ("Mbit", "backlog at the end of the period"),
}
"""Measurement name -> unit, meaning."""

PERIOD_MS = (10, 86_400_000)
MAX_ITEMS = 100_000
KEPT_OCTETS, KEPT_TABLES = 65_536, 512


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
    message = kpm_pb2.KpmIndicationMessage(
        granularity_period_ms=report.granularity_period_ms,
        measurement_names=report.measurement_names,
        values=np.asarray(report.values, dtype="<f8").tobytes(),
        item_table=_item_octets(report.items),
    )
    return header.SerializeToString(), message.SerializeToString()


def _item_octets(items: tuple[KpmItem, ...]) -> bytes:
    """The wire form of a report's rows, made once per tuple: nodes report the same rows again and again."""
    kept = _kept_octets.get(id(items))
    if kept is not None and kept[0] is items:
        return kept[1]
    table = kpm_pb2.KpmItemTable(
        nr_cgi=[item.nr_cgi for item in items],
        s_nssai=[item.s_nssai for item in items],
        ue_id=[item.ue_id for item in items],
    )
    octets = table.SerializeToString()
    if len(octets) <= KEPT_OCTETS:
        if len(_kept_octets) >= KEPT_TABLES:
            _kept_octets.clear()
        _kept_octets[id(items)] = (items, octets)  # holds the tuple, so that its id stays its own
    return octets


_kept_octets: dict[int, tuple[tuple[KpmItem, ...], bytes]] = {}


def decode_indication(header: bytes, payload: bytes) -> KpmReport:
    """The report in an indication; its arrays are read-only views of `payload`'s octets.

    Raises TwinRicError (E2-MALFORMED, E2-RANGE) with every fault.
    """
    head, message = kpm_pb2.KpmIndicationHeader(), kpm_pb2.KpmIndicationMessage()
    _parse(head, header, "indication_header")
    _parse(message, payload, "indication_message")
    octets = message.item_table
    items = _known_items(octets) if len(octets) <= KEPT_OCTETS else _items(octets)
    rows, names = len(items), tuple(message.measurement_names)
    faults = []
    period_ms = message.granularity_period_ms
    if not PERIOD_MS[0] <= period_ms <= PERIOD_MS[1]:
        accepted = f"{PERIOD_MS[0]}..{PERIOD_MS[1]} ms"
        faults.append(Fault("E2-RANGE", "indication_message.granularity_period_ms", period_ms, accepted))
    if len(set(names)) != len(names) or not MEASUREMENTS.keys() >= set(names):
        faults.append(Fault("E2-RANGE", "indication_message.measurement_names", names, "different known names"))
    values = np.zeros(0)
    if len(message.values) != rows * len(names) * values.itemsize:
        size, accepted = len(message.values), f"{len(names)} x {rows} doubles"
        faults.append(Fault("E2-RANGE", "indication_message.values", f"{size} octets", accepted))
    else:
        values = np.frombuffer(message.values, dtype="<f8")
        # NaN fails every comparison, so the two bounds find it too.
        if values.size and not (values.min() >= 0 and values.max() < np.inf):
            faults.append(Fault("E2-RANGE", "indication_message.values", "(some)", "finite values >= 0"))
    if faults:
        raise TwinRicError.of(faults)
    return KpmReport(
        head.e2_node_id, head.source_time_ns, message.granularity_period_ms, names, items,
        values.reshape(len(names), rows),
    )  # fmt: skip


def _items(octets: bytes) -> tuple[KpmItem, ...]:
    table = kpm_pb2.KpmItemTable()
    _parse(table, octets, "indication_message.item_table")
    sizes = {len(table.nr_cgi), len(table.s_nssai), len(table.ue_id)}
    if len(sizes) > 1 or max(sizes) > MAX_ITEMS:
        accepted = f"lists of one length, at most {MAX_ITEMS}"
        raise TwinRicError("E2-RANGE", "indication_message.item_table", sorted(sizes), accepted)
    return tuple(map(KpmItem, table.nr_cgi, table.s_nssai, table.ue_id))


_known_items = lru_cache(maxsize=KEPT_TABLES)(_items)  # the rows of a node change seldom, its values with every report


def _parse(message: Message, payload: bytes, field: str) -> None:
    try:
        message.ParseFromString(payload)
    except DecodeError as error:
        raise TwinRicError("E2-MALFORMED", field, payload[:16], type(message).__name__) from error
