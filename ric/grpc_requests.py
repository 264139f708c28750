"""Requests of gRPC methods from octets to messages, so that malformed ones are typed errors like all others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

from google.protobuf.message import DecodeError

from ric.errors import TwinRicError

__all__ = ["Parse", "request_parser"]

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
