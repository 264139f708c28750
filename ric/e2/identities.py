"""Who is who on E2: node, RAN function and request ids, with their ranges. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ric.errors import Fault, TwinRicError
from ric.pb.twinric.e2ap.v1 import e2ap_pb2 as pb

__all__ = [
    "NodeIdentity",
    "NodeView",
    "RanFunction",
    "RicRequestId",
    "check_keep_alive",
    "read_functions",
    "read_identity",
    "updated_view",
]

PLMN = re.compile(r"\d{5,6}", re.ASCII)
OID = re.compile(r"[0-2](\.(0|[1-9]\d{0,9})){1,31}", re.ASCII)
MAX_RAN_FUNCTION_ID = 4_095
MAX_RAN_FUNCTIONS = 256
MAX_GNB_ID = (1 << 32) - 1
MAX_GNB_DU_ID = (1 << 36) - 1
KEEP_ALIVE_MS = (100, 3_600_000)


class RicRequestId(NamedTuple):
    """Requestor and instance, 16 bits each; unique among the requests under way at one node."""

    requestor_id: int
    instance_id: int

    def __str__(self) -> str:
        return f"{self.requestor_id}:{self.instance_id}"

    def to_wire(self) -> pb.RicRequestId:
        """The wire form."""
        return pb.RicRequestId(requestor_id=self.requestor_id, instance_id=self.instance_id)

    @classmethod
    def of(cls, message: pb.RicRequestId) -> RicRequestId:
        """From the wire form; ids out of range match no request."""
        return cls(message.requestor_id, message.instance_id)


@dataclass(frozen=True)
class NodeIdentity:
    """Global E2 node id: PLMN (5 or 6 digits), gNB id (up to 32 bits), DU id (36 bits, 0 for none)."""

    plmn_id: str
    gnb_id: int
    gnb_du_id: int = 0

    @property
    def e2_node_id(self) -> str:
        """`<plmn>-<gNB id>[-<DU id>]`, ids in lower-case hexadecimal, for example "00101-e2000001"."""
        head = f"{self.plmn_id}-{self.gnb_id:x}"
        return f"{head}-{self.gnb_du_id:x}" if self.gnb_du_id else head

    def to_wire(self) -> pb.GlobalE2NodeId:
        """The wire form."""
        return pb.GlobalE2NodeId(plmn_id=self.plmn_id, gnb_id=self.gnb_id, gnb_du_id=self.gnb_du_id)


@dataclass(frozen=True)
class RanFunction:
    """What an E2 node offers: id 0..4095, object identifier of the service model, revision, definition octets."""

    ran_function_id: int
    oid: str
    revision: int = 1
    definition: bytes = b""

    def to_wire(self) -> pb.RanFunction:
        """The wire form."""
        return pb.RanFunction(
            ran_function_id=self.ran_function_id, revision=self.revision, oid=self.oid, definition=self.definition
        )


@dataclass(frozen=True)
class NodeView:
    """A connected E2 node as the RIC knows it."""

    identity: NodeIdentity
    functions: tuple[RanFunction, ...]
    keep_alive_ms: int

    @property
    def e2_node_id(self) -> str:
        """The node's name towards xApps."""
        return self.identity.e2_node_id

    def function_of(self, oid: str) -> RanFunction:
        """The RAN function with `oid`. Raises TwinRicError (E2-FUNCTION-UNKNOWN)."""
        for function in self.functions:
            if function.oid == oid:
                return function
        offered = ", ".join(function.oid for function in self.functions) or "none"
        raise TwinRicError("E2-FUNCTION-UNKNOWN", "service_model", oid, f"one that {self.e2_node_id} offers: {offered}")


def read_identity(message: pb.GlobalE2NodeId) -> NodeIdentity:
    """The node's identity. Raises TwinRicError (E2-RANGE) with every fault."""
    path = "global_e2_node_id"
    faults = []
    if not PLMN.fullmatch(message.plmn_id):
        faults.append(Fault("E2-RANGE", f"{path}.plmn_id", message.plmn_id, "5 or 6 digits"))
    if not 0 < message.gnb_id <= MAX_GNB_ID:
        faults.append(Fault("E2-RANGE", f"{path}.gnb_id", message.gnb_id, f"1..{MAX_GNB_ID}"))
    if message.gnb_du_id > MAX_GNB_DU_ID:
        faults.append(Fault("E2-RANGE", f"{path}.gnb_du_id", message.gnb_du_id, f"0..{MAX_GNB_DU_ID}"))
    if faults:
        raise TwinRicError.of(faults)
    return NodeIdentity(message.plmn_id, message.gnb_id, message.gnb_du_id)


def check_keep_alive(keep_alive_ms: int) -> int:
    """The promised keep-alive [ms]. Raises TwinRicError (E2-RANGE)."""
    low, high = KEEP_ALIVE_MS
    if not low <= keep_alive_ms <= high:
        raise TwinRicError("E2-RANGE", "keep_alive_ms", keep_alive_ms, f"{low}..{high} ms")
    return keep_alive_ms


def read_functions(
    messages: Iterable[pb.RanFunction], path: str
) -> tuple[tuple[RanFunction, ...], dict[int, TwinRicError]]:
    """The acceptable RAN functions, and by id why the others are not.

    Raises TwinRicError for what makes the whole list ambiguous: an id twice (E2-RANGE), more than 256 (LIMIT-SIZE).
    """
    listed = list(messages)
    if len(listed) > MAX_RAN_FUNCTIONS:
        raise TwinRicError("LIMIT-SIZE", path, len(listed), f"at most {MAX_RAN_FUNCTIONS} RAN functions")
    seen: set[int] = set()
    accepted: list[RanFunction] = []
    rejected: dict[int, TwinRicError] = {}
    for index, message in enumerate(listed):
        where = f"{path}[{index}]"
        if message.ran_function_id in seen:
            raise TwinRicError("E2-RANGE", f"{where}.ran_function_id", message.ran_function_id, "each id once")
        seen.add(message.ran_function_id)
        faults = _function_faults(message, where)
        if faults:
            rejected[message.ran_function_id] = TwinRicError.of(faults)
        else:
            number, revision = message.ran_function_id, message.revision
            accepted.append(RanFunction(number, message.oid, revision, message.definition))
    return tuple(accepted), rejected


def updated_view(
    view: NodeView, update: pb.RicServiceUpdate
) -> tuple[NodeView, tuple[RanFunction, ...], dict[int, TwinRicError]]:
    """The node after a RIC Service Update, the functions that changed, and by id why others were rejected.

    Raises TwinRicError as :func:`read_functions` does, and E2-FUNCTION-UNKNOWN for an id that the node does not have.
    """
    kept = {function.ran_function_id: function for function in view.functions}
    changed, rejected = read_functions([*update.added, *update.modified], "ran_functions")
    unknown = [function.ran_function_id for function in update.modified if function.ran_function_id not in kept]
    unknown += [number for number in update.deleted if number not in kept]
    if unknown:
        raise TwinRicError("E2-FUNCTION-UNKNOWN", "ran_function_id", unknown[0], f"one of {sorted(kept)}")
    for number in update.deleted:
        kept.pop(number, None)
    kept |= {function.ran_function_id: function for function in changed}
    return NodeView(view.identity, tuple(kept.values()), view.keep_alive_ms), changed, rejected


def _function_faults(message: pb.RanFunction, where: str) -> list[Fault]:
    faults = []
    if message.ran_function_id > MAX_RAN_FUNCTION_ID:
        accepted = f"0..{MAX_RAN_FUNCTION_ID}"
        faults.append(Fault("E2-RANGE", f"{where}.ran_function_id", message.ran_function_id, accepted))
    if message.revision > MAX_RAN_FUNCTION_ID:
        faults.append(Fault("E2-RANGE", f"{where}.revision", message.revision, f"0..{MAX_RAN_FUNCTION_ID}"))
    if not OID.fullmatch(message.oid):
        faults.append(Fault("E2-RANGE", f"{where}.oid", message.oid, "a dotted object identifier"))
    return faults
