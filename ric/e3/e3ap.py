"""E3AP PDUs with their ranges, and the waveform layout of our E3 service model. Pure.

Waveform indication (`protocol_data` of RAN function 102), little-endian, 32 octets of header, then float32 samples:

| octets | field | range |
|---|---|---|
| 0-3 | magic | `TWF1` |
| 4-5 | version | 1 |
| 6-7 | feeder terminal units F | 1..64 |
| 8-11 | sample rate [Hz] | 1,000..32,000 |
| 12-13 | channels | 6: i_a, i_b, i_c [A], v_a, v_b, v_c [V] |
| 14-15 | samples N per channel | 1..1,024 |
| 16-19 | sequence number | grows by one per window, wraps at 2^32 |
| 20-23 | reserved | 0 |
| 24-31 | time of the first sample [ns since the Unix epoch] | |
| 32-   | samples (F, 6, N), row-major | finite |
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from ric.errors import TwinRicError
from ric.pb.libe3.e3ap.v1 import e3ap_pb2 as pb

__all__ = [
    "CHANNELS", "FEEDER_FUNCTION_ID", "ISOLATE_CONTROL_ID", "MAX_PROTOCOL_DATA", "PROTOCOL_VERSION",
    "WAVEFORM_TELEMETRY_ID", "Waveform", "decode_pdu", "decode_waveform", "encode_pdu", "encode_waveform",
]  # fmt: skip

PROTOCOL_VERSION = "1.0.0"
MAX_PROTOCOL_DATA = 32_768
MAX_PDU = 65_536
MAX_ID = 1_000
"""Largest message id that we send: every edition of libe3 takes it."""
MAX_PEER_ID = 2**32 - 1
"""Largest message id that we take: later editions of libe3 count on to here."""
MAX_NAME = 128
FEEDER_FUNCTION_ID = 102
WAVEFORM_TELEMETRY_ID = 1
ISOLATE_CONTROL_ID = 1

CHANNELS = 6
_HEADER = struct.Struct("<4sHHIHHIIQ")
_MAGIC, _VERSION = b"TWF1", 1
_DATA_FIELDS = {
    "indication_message": "protocol_data",
    "dapp_control_action": "action_data",
    "dapp_report": "report_data",
    "xapp_control_action": "xapp_control_data",
}


def encode_pdu(pdu: pb.E3Pdu) -> bytes:
    """The PDU's octets. Raises TwinRicError (E3-RANGE) when a field is out of range."""
    _check(pdu, MAX_ID)
    return pdu.SerializeToString()


def decode_pdu(octets: bytes) -> pb.E3Pdu:
    """The PDU in `octets`. Raises TwinRicError (E3-MALFORMED, E3-RANGE)."""
    if len(octets) > MAX_PDU:
        raise TwinRicError("E3-RANGE", "pdu", f"{len(octets)} octets", f"at most {MAX_PDU} octets")
    pdu = pb.E3Pdu()
    try:
        pdu.ParseFromString(octets)
    except DecodeError as error:
        raise TwinRicError("E3-MALFORMED", "pdu", octets[:16], "an E3AP PDU") from error
    _check(pdu, MAX_PEER_ID)
    return pdu


def _check(pdu: pb.E3Pdu, largest_id: int) -> None:
    kind = pdu.WhichOneof("msg")
    if kind is None:
        raise TwinRicError("E3-MALFORMED", "msg", "(none)", "one of the eleven E3AP messages")
    if not 1 <= pdu.id <= largest_id:
        raise TwinRicError("E3-RANGE", "id", pdu.id, f"1..{largest_id}")
    message = getattr(pdu, kind)
    field = _DATA_FIELDS.get(kind)
    if field is not None and len(getattr(message, field)) > MAX_PROTOCOL_DATA:
        size = len(getattr(message, field))
        raise TwinRicError("E3-RANGE", f"{kind}.{field}", f"{size} octets", f"at most {MAX_PROTOCOL_DATA} octets")
    if kind == "setup_request":
        for name in ("dapp_name", "dapp_version", "vendor", "e3ap_protocol_version"):
            if not 1 <= len(getattr(message, name)) <= MAX_NAME:
                raise TwinRicError("E3-RANGE", f"{kind}.{name}", getattr(message, name), f"1..{MAX_NAME} characters")


@dataclass(frozen=True)
class Waveform:
    """One window of a feeder: samples (F, 6, N) float32, currents [A] before voltages [V]."""

    sample_rate_hz: int
    sequence: int
    first_sample_ns: int
    samples: NDArray[np.float32]

    @property
    def end_ns(self) -> int:
        """End of the last sample's interval [ns since the Unix epoch]."""
        return self.first_sample_ns + int(self.samples.shape[2]) * 1_000_000_000 // self.sample_rate_hz


def encode_waveform(waveform: Waveform) -> bytes:
    """The window's octets. Raises TwinRicError (E3-RANGE) when it does not fit the layout."""
    units, channels, number = waveform.samples.shape
    _check_shape(units, channels, number, waveform.sample_rate_hz)
    header = _HEADER.pack(
        _MAGIC, _VERSION, units, waveform.sample_rate_hz, channels, number, waveform.sequence & 0xFFFFFFFF, 0,
        waveform.first_sample_ns,
    )  # fmt: skip
    return header + np.ascontiguousarray(waveform.samples, dtype="<f4").tobytes()


def decode_waveform(data: memoryview | bytes) -> Waveform:
    """The window in `data`; its samples are a view, not a copy. Raises TwinRicError (E3-MALFORMED, E3-RANGE)."""
    if len(data) < _HEADER.size:
        raise TwinRicError("E3-MALFORMED", "waveform", f"{len(data)} octets", f"at least {_HEADER.size} octets")
    magic, version, units, rate_hz, channels, number, sequence, _, first_ns = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise TwinRicError("E3-MALFORMED", "waveform.magic", magic, repr(_MAGIC))
    if version != _VERSION:
        raise TwinRicError("E3-RANGE", "waveform.version", version, str(_VERSION))
    _check_shape(units, channels, number, rate_hz)
    wanted = _HEADER.size + 4 * units * channels * number
    if len(data) != wanted:
        raise TwinRicError("E3-MALFORMED", "waveform", f"{len(data)} octets", f"{wanted} octets, as its header says")
    samples = np.frombuffer(data, dtype="<f4", offset=_HEADER.size).reshape(units, channels, number)
    if not np.isfinite(samples).all():
        raise TwinRicError("E3-RANGE", "waveform.samples", "not finite", "finite currents [A] and voltages [V]")
    return Waveform(rate_hz, sequence, first_ns, samples)


def _check_shape(units: int, channels: int, number: int, rate_hz: int) -> None:
    for name, value, low, high in (
        ("units", units, 1, 64), ("channels", channels, CHANNELS, CHANNELS), ("samples", number, 1, 1_024),
        ("sample_rate_hz", rate_hz, 1_000, 32_000),
    ):  # fmt: skip
        if not low <= value <= high:
            raise TwinRicError("E3-RANGE", f"waveform.{name}", value, f"{low}..{high}")
    if _HEADER.size + 4 * units * channels * number > MAX_PROTOCOL_DATA:
        raise TwinRicError("E3-RANGE", "waveform", units * number, f"at most {MAX_PROTOCOL_DATA} octets in all")
