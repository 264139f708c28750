"""What follows from a PDU of an E2 node: effects for the shell to carry out. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ric.e2.identities import NodeView, RicRequestId
from ric.errors import TwinRicError
from ric.pb.twinric.e2ap.v1 import e2ap_pb2 as pb

__all__ = [
    "Answered", "ConfigurationChanged", "Effect", "FunctionsChanged", "Indicated", "Missed", "NodeReady", "NodeReset",
    "PendingKey", "Refused", "RicIdentity", "Send",
]  # fmt: skip

PendingKey: TypeAlias = tuple[str, RicRequestId]
"""Procedure ("subscription", "delete", "control", "reset", "query") and the request that an answer belongs to."""


@dataclass(frozen=True)
class RicIdentity:
    """Global RIC id: PLMN and 20 bits."""

    plmn_id: str = "00101"
    ric_id: int = 1


@dataclass(frozen=True)
class Send:
    """Send this PDU to the node."""

    pdu: pb.E2apPdu


@dataclass(frozen=True)
class NodeReady:
    """E2 Setup succeeded; the response precedes everything else."""

    view: NodeView


@dataclass(frozen=True)
class FunctionsChanged:
    """A RIC Service Update was applied."""

    view: NodeView


@dataclass(frozen=True)
class ConfigurationChanged:
    """An E2 Node Configuration Update was applied."""

    components: Mapping[str, bytes]


@dataclass(frozen=True)
class Indicated:
    """A RIC Indication of a subscription that is known."""

    request: RicRequestId
    indication: pb.RicIndication


@dataclass(frozen=True)
class Missed:
    """That many indications of a node were numbered and never came."""

    number: int


@dataclass(frozen=True)
class Answered:
    """The node answered a request of the RIC: a response message, or why it refused."""

    key: PendingKey
    result: pb.RicSubscriptionResponse | bytes | TwinRicError | None


@dataclass(frozen=True)
class NodeReset:
    """The node was reset: its subscriptions are gone, the connection stays."""

    cause: TwinRicError


@dataclass(frozen=True)
class Refused:
    """A PDU was refused or reported an error; to be counted and logged."""

    error: TwinRicError


Effect: TypeAlias = (
    Send | NodeReady | FunctionsChanged | ConfigurationChanged | Indicated | Missed | Answered | NodeReset | Refused
)
