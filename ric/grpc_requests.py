"""Requests of gRPC methods: from octets to messages, so that malformed ones are typed errors like all others, and
whether the role in the caller's certificate covers the method.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, TypeAlias

from google.protobuf.message import DecodeError

from ric.errors import TwinRicError
from ric.security import ROLE_URN

__all__ = ["Parse", "check_role", "request_parser"]

METHODS_OF: Mapping[str, tuple[str, ...]] = {
    "node": ("/twinric.e2ap.",),
    "xapp": (
        "/onos.e2t.e2.v1beta1.SubscriptionService/", "/onos.e2t.e2.v1beta1.ControlService/", "/twinric.xapp.",
        "/twinric.a1.", "/onos.e2t.admin.E2TAdminService/List",
    ),
    "admin": ("/onos.",),
}  # fmt: skip
"""Role -> beginnings of the methods that it covers."""

Parse: TypeAlias = Callable[[Any], Any]
"""Octets of one request, or an iterator of them, to messages."""


def request_parser(path: str, method: Any) -> Parse:
    """Parses one request or a stream of them; octets that are none are `<E2 or A1>-MALFORMED`, not a bug of ours.

    gRPC itself would answer UNKNOWN, and kill whoever reads a stream.
    """
    parse: Callable[[bytes], Any] | None = method.request_deserializer
    if parse is None:
        return lambda request: request
    code = "A1-MALFORMED" if path.startswith("/twinric.a1.") else "E2-MALFORMED"

    def parsed(octets: bytes) -> Any:
        try:
            return parse(octets)
        except DecodeError as error:
            raise TwinRicError(code, "request", octets[:16], f"a request of {path}") from error

    async def all_parsed(requests: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for octets in requests:
            yield parsed(octets)

    return all_parsed if method.request_streaming else parsed


def check_role(auth_context: Mapping[str, Iterable[bytes]], path: str) -> None:
    """Return when the caller may use the method at `path`: its certificate names a role that covers it, or none.

    Raises TwinRicError (AUTH-ROLE). A role is a URI `urn:twinric:role:NAME` among the certificate's alternative names.
    """
    names = [each.decode(errors="replace") for each in auth_context.get("x509_subject_alternative_name", ())]
    roles = [name.removeprefix(ROLE_URN) for name in names if name.startswith(ROLE_URN)]
    if roles and not any(path.startswith(METHODS_OF.get(role, ("(none)",))) for role in roles):
        covering = [role for role, methods in METHODS_OF.items() if path.startswith(methods)]
        raise TwinRicError("AUTH-ROLE", "certificate", ", ".join(roles), f"role {' or '.join(covering)} for {path}")
