"""E2AP causes: the accepted values per group, and the way between a Cause on the wire and the error catalogue. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ric.errors import CATALOGUE, Fault, TwinRicError
from ric.pb.twinric.e2ap.v1 import e2ap_pb2 as pb

__all__ = ["CAUSES", "cause_of", "code_of", "error_of"]

CAUSES: Mapping[str, tuple[str, ...]] = {
    "ric": (
        "ran-function-id-invalid", "action-not-supported", "excessive-actions", "duplicate-action",
        "duplicate-event-trigger", "function-resource-limit", "request-id-unknown",
        "inconsistent-action-subsequent-action-sequence", "control-message-invalid", "ric-call-process-id-invalid",
        "control-timer-expired", "control-failed-to-execute", "system-not-ready", "unspecified",
    ),
    "ric_service": ("ran-function-not-supported", "excessive-functions", "ric-resource-limit"),
    "e2_node": ("e2node-component-unknown",),
    "transport": ("unspecified", "transport-resource-unavailable"),
    "protocol": (
        "transfer-syntax-error", "abstract-syntax-error-reject", "abstract-syntax-error-ignore-and-notify",
        "message-not-compatible-with-receiver-state", "semantic-error",
        "abstract-syntax-error-falsely-constructed-message", "unspecified",
    ),
    "misc": ("control-processing-overload", "hardware-failure", "om-intervention", "unspecified"),
}  # fmt: skip
"""Cause group -> cause values, after O-RAN.WG3.E2AP section 9.2.1, in lower case with hyphens."""

_GROUPS: Mapping[str, pb.CauseGroup.ValueType] = {
    "ric": pb.CAUSE_GROUP_RIC,
    "ric_service": pb.CAUSE_GROUP_RIC_SERVICE,
    "e2_node": pb.CAUSE_GROUP_E2_NODE,
    "transport": pb.CAUSE_GROUP_TRANSPORT,
    "protocol": pb.CAUSE_GROUP_PROTOCOL,
    "misc": pb.CAUSE_GROUP_MISC,
}
_GROUP_NAMES = {number: name for name, number in _GROUPS.items()}

# One code per cause for what a peer sends; several codes share a cause on the way out.
_CODES: Mapping[tuple[str, str], str] = {
    ("ric", "ran-function-id-invalid"): "E2-FUNCTION-UNKNOWN",
    ("ric", "action-not-supported"): "E2-ACTION",
    ("ric", "excessive-actions"): "E2-ACTION",
    ("ric", "duplicate-action"): "E2-ACTION",
    ("ric", "duplicate-event-trigger"): "E2-ACTION",
    ("ric", "request-id-unknown"): "E2-REQUEST-UNKNOWN",
    ("ric", "control-message-invalid"): "E2-RANGE",
    ("ric", "control-timer-expired"): "E2-DEADLINE",
    ("ric", "control-failed-to-execute"): "E2-UNVERIFIED",
    ("ric", "function-resource-limit"): "LIMIT-RATE",
    ("ric_service", "ran-function-not-supported"): "E2-FUNCTION-UNKNOWN",
    ("e2_node", "e2node-component-unknown"): "E2-NODE-UNKNOWN",
    ("transport", "transport-resource-unavailable"): "E2-LOST",
    ("transport", "unspecified"): "E2-LOST",
    ("protocol", "transfer-syntax-error"): "E2-MALFORMED",
    ("protocol", "abstract-syntax-error-reject"): "E2-MALFORMED",
    ("protocol", "abstract-syntax-error-falsely-constructed-message"): "E2-MALFORMED",
    ("misc", "control-processing-overload"): "LIMIT-RATE",
}


def cause_of(error: TwinRicError) -> pb.Cause:
    """The Cause of the first fault, with field, accepted range and one sentence."""
    fault = error.faults[0]
    group, value = CATALOGUE[fault.code].cause
    return pb.Cause(
        group=_GROUPS[group], value=value, field=fault.field, accepted=fault.accepted, text=str(fault)
    )  # fmt: skip


def error_of(cause: pb.Cause, procedure: str) -> TwinRicError:
    """What a peer's Cause means here; `procedure` names what failed, for example "RIC Control".

    A cause outside :data:`CAUSES` counts as a protocol error of the peer and is kept as the fault's value.
    """
    code, group = code_of(cause), _GROUP_NAMES.get(cause.group, "unspecified")
    field = cause.field or procedure.lower().replace(" ", "_")
    accepted = cause.accepted or "what the peer accepts"
    return TwinRicError.of([Fault(code, field, f"{group}/{cause.value}", accepted, f"{procedure}: {cause.text}")])


def code_of(cause: pb.Cause) -> str:
    """The catalogue code of a peer's Cause; E2-STATE for one that has no closer code."""
    return _CODES.get((_GROUP_NAMES.get(cause.group, ""), cause.value), "E2-STATE")
