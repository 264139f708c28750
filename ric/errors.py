"""One error type and one catalogue: code -> gRPC status, HTTP status, E2AP Cause.

Nobody parses text: a transport renders the same :class:`Fault` objects as gRPC details, `application/problem+json`,
an E2AP Cause, a log line or CLI text.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["CATALOGUE", "CatalogueRow", "Fault", "TwinRicError", "nearest"]

SHOWN_FAULTS = 20
SHOWN_CHARACTERS = 80


class CatalogueRow(NamedTuple):
    """How one code is rendered: gRPC status name, HTTP status, E2AP cause group and value, title for people."""

    grpc_status: str
    http_status: int
    cause: tuple[str, str]
    title: str


_PROTOCOL = ("protocol", "semantic-error")
_SYNTAX = ("protocol", "transfer-syntax-error")
_UNSPECIFIED = ("misc", "unspecified")

CATALOGUE: dict[str, CatalogueRow] = {
    "CONFIG-MISSING": CatalogueRow("FAILED_PRECONDITION", 500, _UNSPECIFIED, "a required setting or file is missing"),
    "CONFIG-RANGE": CatalogueRow(
        "FAILED_PRECONDITION", 500, _UNSPECIFIED, "a setting is out of range or of the wrong type"
    ),
    "CONFIG-UNKNOWN": CatalogueRow("FAILED_PRECONDITION", 500, _UNSPECIFIED, "a setting has an unknown name"),
    "SCENARIO-INVALID": CatalogueRow("INVALID_ARGUMENT", 400, _UNSPECIFIED, "the scenario cannot be run"),
    "A1-RANGE": CatalogueRow("INVALID_ARGUMENT", 400, _PROTOCOL, "a policy field is out of range or of the wrong type"),
    "A1-UNKNOWN": CatalogueRow("NOT_FOUND", 404, _PROTOCOL, "the policy type or policy does not exist"),
    "A1-UNKNOWN-FIELD": CatalogueRow(
        "INVALID_ARGUMENT", 400, _PROTOCOL, "a policy has a field that its type does not know"
    ),
    "A1-MALFORMED": CatalogueRow("INVALID_ARGUMENT", 400, _SYNTAX, "the body is not the JSON object that is asked for"),
    "A1-CONFLICT": CatalogueRow("ALREADY_EXISTS", 409, _PROTOCOL, "the policy id exists under another type"),
    "A1-DESTINATION": CatalogueRow("PERMISSION_DENIED", 403, _PROTOCOL, "the RIC may not post to that host"),
    "A1-UNREACHABLE": CatalogueRow(
        "UNAVAILABLE", 503, ("transport", "transport-resource-unavailable"), "the A1 service cannot be reached"
    ),
    "AUTH-MISSING": CatalogueRow("UNAUTHENTICATED", 401, _UNSPECIFIED, "a bearer token is required"),
    "AUTH-SCOPE": CatalogueRow("PERMISSION_DENIED", 403, _UNSPECIFIED, "the token lacks the scope"),
    "AUTH-ROLE": CatalogueRow(
        "PERMISSION_DENIED", 403, _UNSPECIFIED, "the certificate's role does not cover the method"
    ),
    "REST-PATH": CatalogueRow("NOT_FOUND", 404, _PROTOCOL, "no resource has this path"),
    "REST-METHOD": CatalogueRow("UNIMPLEMENTED", 405, _PROTOCOL, "the resource does not take this method"),
    "REST-RANGE": CatalogueRow("INVALID_ARGUMENT", 400, _PROTOCOL, "a path, query or header parameter is out of range"),
    "SDL-FAILED": CatalogueRow("UNAVAILABLE", 503, _UNSPECIFIED, "the shared data layer cannot be read or written"),
    "AUDIT-TAMPERED": CatalogueRow("DATA_LOSS", 500, _UNSPECIFIED, "the audit log does not match its hash chain"),
    "LIMIT-SIZE": CatalogueRow(
        "RESOURCE_EXHAUSTED", 413, ("misc", "control-processing-overload"), "the message is too large"
    ),
    "LIMIT-RATE": CatalogueRow("RESOURCE_EXHAUSTED", 429, ("misc", "control-processing-overload"), "too many requests"),
    "BUS-MALFORMED": CatalogueRow("INVALID_ARGUMENT", 400, _SYNTAX, "the bus record cannot be decoded"),
    "BUS-RANGE": CatalogueRow("INVALID_ARGUMENT", 400, _PROTOCOL, "a field of the bus record is out of range"),
    "BUS-TAMPERED": CatalogueRow(
        "DATA_LOSS", 409, _PROTOCOL, "the twin record's hash does not match its content or its predecessor"
    ),
    "BUS-UNREACHABLE": CatalogueRow(
        "UNAVAILABLE", 503, ("transport", "transport-resource-unavailable"), "the twin bus cannot be reached"
    ),
    "E2-MALFORMED": CatalogueRow("INVALID_ARGUMENT", 400, _SYNTAX, "the E2 payload cannot be decoded"),
    "E2-RANGE": CatalogueRow(
        "INVALID_ARGUMENT", 400, ("ric", "control-message-invalid"), "a field of the E2 payload is out of range"
    ),
    "E2-STATE": CatalogueRow(
        "FAILED_PRECONDITION",
        409,
        ("protocol", "message-not-compatible-with-receiver-state"),
        "the E2 message does not fit the state of the connection",
    ),
    "E2-NODE-UNKNOWN": CatalogueRow(
        "NOT_FOUND", 404, ("e2_node", "e2node-component-unknown"), "no such E2 node is connected"
    ),
    "E2-FUNCTION-UNKNOWN": CatalogueRow(
        "NOT_FOUND", 404, ("ric", "ran-function-id-invalid"), "the E2 node does not offer that RAN function"
    ),
    "E2-REQUEST-UNKNOWN": CatalogueRow("NOT_FOUND", 404, ("ric", "request-id-unknown"), "no such RIC request"),
    "E2-ACTION": CatalogueRow(
        "INVALID_ARGUMENT", 400, ("ric", "action-not-supported"), "the RIC action is not supported"
    ),
    "E2-DEADLINE": CatalogueRow(
        "DEADLINE_EXCEEDED", 504, ("ric", "control-timer-expired"), "the E2 node did not answer in time"
    ),
    "E2-LOST": CatalogueRow(
        "UNAVAILABLE", 503, ("transport", "transport-resource-unavailable"), "the E2 node's connection was lost"
    ),
    "E2-CONFLICT": CatalogueRow(
        "ABORTED", 409, ("ric", "control-failed-to-execute"), "the control conflicts with one of higher priority"
    ),
    "E2-UNVERIFIED": CatalogueRow(
        "ABORTED", 409, ("ric", "control-failed-to-execute"), "the value in force is not the value that was asked for"
    ),
    "E3-MALFORMED": CatalogueRow("INVALID_ARGUMENT", 400, _SYNTAX, "the E3AP PDU cannot be decoded"),
    "E3-RANGE": CatalogueRow("INVALID_ARGUMENT", 400, _PROTOCOL, "a field of the E3AP PDU is out of range"),
    "E3-STATE": CatalogueRow(
        "FAILED_PRECONDITION", 409, _PROTOCOL, "the E3AP PDU does not fit the state of the session"
    ),
    "MODEL-MISSING": CatalogueRow("FAILED_PRECONDITION", 500, _UNSPECIFIED, "the model file is missing"),
    "MODEL-SHAPE": CatalogueRow(
        "FAILED_PRECONDITION", 500, _UNSPECIFIED, "the model file has the wrong inputs or outputs"
    ),
    "SOLVE-FAILED": CatalogueRow("INTERNAL", 500, _UNSPECIFIED, "the optimiser found no plan"),
    "INTERNAL": CatalogueRow("INTERNAL", 500, _UNSPECIFIED, "an unexpected failure; the log has the details"),
}
"""Every code that leaves the house. A test walks this table, `docs/reference/errors/` and the raisers."""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


@dataclass(frozen=True)
class Fault:
    """One thing wrong with one field: `CODE field = value: accepted range. What to do.`"""

    code: str
    field: str
    value: object
    accepted: str
    remedy: str = ""

    def __post_init__(self) -> None:
        if self.code not in CATALOGUE:
            raise KeyError(f"{self.code} is not in the error catalogue")

    def __str__(self) -> str:
        head = f"{self.code} {self.field} = {_shown(self.value)}: accepted {self.accepted}."
        return f"{head} {self.remedy}" if self.remedy else head


class TwinRicError(Exception):
    """All faults of one input, at least one; the first decides how transports answer.

    Raised by everything that validates. `faults` is for programs, `str()` is for people.
    """

    def __init__(self, code: str, field: str, value: object, accepted: str, remedy: str = "") -> None:
        self.faults: tuple[Fault, ...] = (Fault(code, field, value, accepted, remedy),)
        super().__init__(str(self))

    @classmethod
    def of(cls, faults: Sequence[Fault]) -> TwinRicError:
        """One error that carries all `faults`. Raises ValueError when there are none."""
        if not faults:
            raise ValueError("an error needs at least one fault")
        error = cls(faults[0].code, faults[0].field, faults[0].value, faults[0].accepted, faults[0].remedy)
        error.faults = tuple(faults)
        error.args = (str(error),)
        return error

    def __reduce__(self) -> tuple[Callable[[Sequence[Fault]], TwinRicError], tuple[tuple[Fault, ...]]]:
        """The same faults in another process."""
        return TwinRicError.of, (self.faults,)

    @property
    def code(self) -> str:
        """Catalogue code of the first fault."""
        return self.faults[0].code

    @property
    def row(self) -> CatalogueRow:
        """Catalogue row of the first fault."""
        return CATALOGUE[self.code]

    def __str__(self) -> str:
        lines = [str(fault) for fault in self.faults[:SHOWN_FAULTS]]
        hidden = len(self.faults) - SHOWN_FAULTS
        return "\n".join([*lines, f"... and {hidden} more"] if hidden > 0 else lines)


def nearest(name: str, known: Iterable[str]) -> str:
    """A remedy that suggests the known name closest to `name`, or lists the known ones."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(names[:20])}."
