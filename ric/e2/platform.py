"""The Near-RT RIC's E2 side in one object: an :class:`~ric.e2.exchange.E2Exchange` and the two servers around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import grpc

from ric.clock import Clock
from ric.e2.controls import ControlCall, ControlSink, DecisionSink
from ric.e2.exchange import E2Exchange, IndicationSink
from ric.e2.xapp_services import add_e2_services
from ric.errors import TwinRicError
from ric.security import RateLimit, TlsMaterial, check_binding
from ric.servers import bind_grpc, grpc_server
from ric.telemetry import Metrics

__all__ = ["BoundPorts", "ControlCall", "E2Platform", "IndicationSink"]

STOP_GRACE_S = 0.5


@dataclass(frozen=True)
class BoundPorts:
    """TCP ports that the E2 services listen on."""

    nodes: int
    xapps: int


class E2Platform(E2Exchange):
    """An exchange that listens: for E2 nodes on one address, for xApps on another."""

    def __init__(
        self,
        metrics: Metrics,
        clock: Clock,
        *,
        priorities: Mapping[str, int] | None = None,
        hold_s: float = 1.0,
        on_decision: DecisionSink | None = None,
        on_control: ControlSink | None = None,
    ) -> None:
        super().__init__(
            metrics, clock, priorities=priorities, hold_s=hold_s, on_decision=on_decision, on_control=on_control
        )
        self._servers: list[grpc.aio.Server] = []

    async def start(
        self, node_address: str, xapp_address: str, *, tls: TlsMaterial | None = None, allow_plain_text: bool = False,
        limit: RateLimit | None = None,
    ) -> BoundPorts:  # fmt: skip
        """Listen for E2 nodes and for xApps; port 0 takes a free one. `limit` counts the xApps' calls.

        Raises TwinRicError (CONFIG-RANGE) when an address cannot be bound, or lies beyond the loopback without TLS.
        """
        try:
            ports = self._bind(node_address, xapp_address, tls, allow_plain_text, limit)
            for server in self._servers:
                await server.start()
        except TwinRicError:
            await self.stop()
            raise
        self.begin()
        return ports

    def _bind(
        self, node_address: str, xapp_address: str, tls: TlsMaterial | None, allow_plain_text: bool,
        limit: RateLimit | None,
    ) -> BoundPorts:  # fmt: skip
        ports = []
        for field, address in (("node_address", node_address), ("xapp_address", xapp_address)):
            check_binding(field, address.rpartition(":")[0], tls=tls is not None, allow_plain_text=allow_plain_text)
            server = grpc_server(self.metrics, limit=limit if field == "xapp_address" else None)
            if field == "node_address":
                self.termination.add_to(server)
            else:
                add_e2_services(server, self)
            self._servers.append(server)
            ports.append(bind_grpc(server, field, address, tls))
        return BoundPorts(*ports)

    async def stop(self) -> None:
        """End every stream, then the servers."""
        await self.end()
        for server in reversed(self._servers):
            await server.stop(STOP_GRACE_S)
        self._servers.clear()
