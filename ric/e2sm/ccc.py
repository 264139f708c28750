"""E2SM-CCC: cell configuration and control, in JSON as the standard has it.

`O-RRMPolicyRatio` is the slice-bandwidth control: ratios are integer percent (TS 28.541), and one FlexE slot of 20 is
5 percent of the transport link. The wire's `rRMPolicy...` names live here only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import Field, model_validator

from ric.config import FrozenModel, validate
from ric.errors import TwinRicError

__all__ = [
    "NAME", "OID", "RAN_FUNCTION_ID", "SLOT_PERCENT", "VERSION", "SliceRatio", "decode_control", "decode_outcome",
    "encode_control", "encode_outcome",
]  # fmt: skip

NAME, VERSION = "oran-e2sm-ccc", "v1"
OID, RAN_FUNCTION_ID = "1.3.6.1.4.1.53148.1.1.2.4", 4
SLOT_PERCENT = 5
STRUCTURE = "O-RRMPolicyRatio"
_HEADER = json.dumps({"controlHeaderFormat": {"ricStyleType": 1}}).encode()
KEPT_MESSAGES, KEPT_OCTETS, KEPT_RATIOS = 512, 4_096, 16
"""Slices move between few splits, each of which xApp, RIC and node read or write: small ones are kept."""


class SliceRatio(FrozenModel):
    """Share of one slice in a node's transport and radio resources [%]."""

    s_nssai: str = Field(pattern=r"^\d{1,3}-[0-9a-f]{6}$")
    """Slice, "<sst>-<sd>" with the SD in six lower-case hexadecimal digits."""
    rrm_policy_dedicated_ratio: int = Field(ge=0, le=100)
    """Percent that only this slice may use: 5 per FlexE slot."""
    rrm_policy_min_ratio: int = Field(default=0, ge=0, le=100)
    """Percent guaranteed under contention; at least the dedicated ratio where given."""
    rrm_policy_max_ratio: int = Field(default=100, ge=0, le=100)
    """Percent that the slice may use at most."""

    @model_validator(mode="after")
    def _ordered(self) -> SliceRatio:
        if self.rrm_policy_dedicated_ratio > self.rrm_policy_max_ratio:
            raise ValueError("rrm_policy_dedicated_ratio <= rrm_policy_max_ratio")
        if self.rrm_policy_min_ratio > self.rrm_policy_max_ratio:
            raise ValueError("rrm_policy_min_ratio <= rrm_policy_max_ratio")
        return self


class _Ratios(FrozenModel):
    ratios: tuple[SliceRatio, ...] = Field(min_length=1, max_length=64)

    @model_validator(mode="after")
    def _fits(self) -> _Ratios:
        names = [ratio.s_nssai for ratio in self.ratios]
        if len(set(names)) != len(names):
            raise ValueError("each s_nssai once")
        total = sum(ratio.rrm_policy_dedicated_ratio for ratio in self.ratios)
        if total > 100:
            raise ValueError(f"dedicated ratios that sum to at most 100 (they sum to {total})")
        return self


def encode_control(ratios: tuple[SliceRatio, ...]) -> tuple[bytes, bytes]:
    """Control header and message that set `ratios`. Raises TwinRicError (E2-RANGE) when they cannot hold together."""
    return _HEADER, _encode(ratios)


def decode_control(header: bytes, payload: bytes) -> tuple[SliceRatio, ...]:
    """The ratios that a control asks for. Raises TwinRicError (E2-MALFORMED, E2-RANGE)."""
    if header != _HEADER:
        head = _object(header, "control_header")
        form = head.get("controlHeaderFormat")
        if not isinstance(form, dict) or form.get("ricStyleType") != 1:
            raise TwinRicError("E2-RANGE", "control_header.controlHeaderFormat.ricStyleType", head, "1")
    return decode_outcome(payload, "control_message")


def encode_outcome(ratios: tuple[SliceRatio, ...]) -> bytes:
    """The ratios now in force, as the control outcome."""
    return _encode(ratios)


def decode_outcome(payload: bytes, field: str = "control_outcome") -> tuple[SliceRatio, ...]:
    """Ratios in a control message or outcome. Raises TwinRicError (E2-MALFORMED, E2-RANGE)."""
    return _known_ratios(payload, field) if len(payload) <= KEPT_OCTETS else _decode(payload, field)


def _decode(payload: bytes, field: str) -> tuple[SliceRatio, ...]:
    body = _object(payload, field)
    try:
        structures = body["controlMessageFormat"]["listOfConfigurationStructures"]
        flat = [_from_wire(item) for item in structures]
    except (KeyError, TypeError, AttributeError) as error:
        raise TwinRicError(
            "E2-MALFORMED", field, payload[:40], f"controlMessageFormat with a list of {STRUCTURE}"
        ) from error
    return validate(_Ratios, {"ratios": flat}, "E2", unknown_code="E2-RANGE").ratios


_known_ratios = lru_cache(KEPT_MESSAGES)(_decode)


def _encode(ratios: tuple[SliceRatio, ...]) -> bytes:
    ratios = tuple(ratios)
    return _known_octets(ratios) if len(ratios) <= KEPT_RATIOS else _checked_octets(ratios)


def _checked_octets(ratios: tuple[SliceRatio, ...]) -> bytes:
    checked = validate(_Ratios, {"ratios": ratios}, "E2", unknown_code="E2-RANGE").ratios
    structures = [_to_wire(ratio) for ratio in checked]
    return json.dumps({"controlMessageFormat": {"listOfConfigurationStructures": structures}}).encode()


_known_octets = lru_cache(KEPT_MESSAGES)(_checked_octets)


def _to_wire(ratio: SliceRatio) -> dict[str, Any]:
    sst, sd = ratio.s_nssai.split("-")
    attributes = {
        "resourceType": "PRB",
        "rRMPolicyMemberList": [{"plmnId": {"mcc": "001", "mnc": "01"}, "snssai": {"sst": int(sst), "sd": sd}}],
        "rRMPolicyMaxRatio": ratio.rrm_policy_max_ratio,
        "rRMPolicyMinRatio": ratio.rrm_policy_min_ratio,
        "rRMPolicyDedicatedRatio": ratio.rrm_policy_dedicated_ratio,
    }
    return {"ranConfigurationStructureName": STRUCTURE, "newAttributeValues": attributes}


def _from_wire(item: Mapping[str, Any]) -> dict[str, Any]:
    if item["ranConfigurationStructureName"] != STRUCTURE:
        raise TwinRicError(
            "E2-RANGE", "ranConfigurationStructureName", item["ranConfigurationStructureName"], STRUCTURE
        )
    values = item["newAttributeValues"]
    members = values["rRMPolicyMemberList"]
    if len(members) != 1:
        raise TwinRicError("E2-RANGE", "rRMPolicyMemberList", len(members), "exactly one member")
    slice_id = members[0]["snssai"]
    return {
        "s_nssai": f"{slice_id['sst']}-{str(slice_id['sd']).lower()}",
        "rrm_policy_max_ratio": values["rRMPolicyMaxRatio"],
        "rrm_policy_min_ratio": values["rRMPolicyMinRatio"],
        "rrm_policy_dedicated_ratio": values["rRMPolicyDedicatedRatio"],
    }


def _object(payload: bytes, field: str) -> dict[str, Any]:
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise TwinRicError("E2-MALFORMED", field, payload[:40], "a JSON object") from error
    if not isinstance(value, dict):
        raise TwinRicError("E2-MALFORMED", field, payload[:40], "a JSON object")
    return value
