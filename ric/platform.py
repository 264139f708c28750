"""The Near-RT RIC as one object: E2, A1, alarms, the audit log and health, on one bus and one clock."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import structlog
from pydantic import AfterValidator, Field

from ric.a1.destinations import LOOPBACK, AllowedHosts, check_hosts
from ric.a1.enrichment_service import EnrichmentService
from ric.a1.rest import a1_app
from ric.a1.termination import A1Termination
from ric.audit import ControlAudit
from ric.bus.bus import Bus, open_bus
from ric.clock import Clock, WallClock
from ric.config import FrozenModel, load_config
from ric.conflict_policies import ConflictPolicies
from ric.delivery import Delivery
from ric.desired_controls import DesiredControls
from ric.e2.platform import E2Platform
from ric.e2sm import dapp
from ric.errors import TwinRicError
from ric.explanations import Explanations, explanations_router
from ric.health import health_app
from ric.heap import settle_heap
from ric.o1.alarms import AlarmDelays
from ric.o1.fault_service import FaultService, alarm_router
from ric.overview import ConflictLog, overview_router
from ric.pb.twinric.a1.v1.policy_pb2_grpc import add_PolicyServiceServicer_to_server
from ric.sdl import STORE_FILE, Sdl
from ric.security import RateLimit, TlsFiles, TokenVerifier, check_binding, load_tls, read_secret
from ric.servers import bind_grpc, grpc_server, serve
from ric.telemetry import Metrics, configure_logging, logger

__all__ = ["BoundAddresses", "RicConfig", "RicPlatform", "serve_platform"]

GRACE_S = 0.5
TOKEN_VARIABLE, VES_VARIABLE = "TWINRIC_TOKEN_KEY", "TWINRIC_VES_CREDENTIALS"  # names of variables, not secrets


class RicConfig(FrozenModel):
    """Settings of the Near-RT RIC; a change needs a restart."""

    bus_url: str = Field(default="memory://", pattern=r"^(memory://|kafka://[^/\s]+)$")
    """Twin bus: `memory://` or `kafka://host:port[,host:port]`."""
    data_dir: str = ""
    """Folder of the shared data layer (policies, active alarms, audit log); empty keeps them in memory only."""
    node_address: str = "127.0.0.1:36421"
    """Where E2 nodes connect, host:port; port 0 takes a free one."""
    xapp_address: str = "127.0.0.1:5151"
    """The E2 service towards xApps, host:port."""
    a1_address: str = "127.0.0.1:9001"
    """The A1 service towards apps (gRPC), host:port."""
    a1_host: str = "127.0.0.1"
    """Address of the REST server: A1-P v2, alarms, overview."""
    a1_port: int = Field(default=9_000, ge=0, le=65_535)
    """Port of the REST server; 0 takes a free one."""
    health_host: str = "127.0.0.1"
    """Address of the health and metrics endpoint."""
    health_port: int = Field(default=0, ge=0, le=65_535)
    """Port of /healthz, /readyz and /metrics; 0 switches the endpoint off."""
    tls: TlsFiles | None = None
    """TLS of the gRPC services; with `ca_file`, peers must show certificates (mTLS)."""
    rest_tls: TlsFiles | None = None
    """TLS of the REST server."""
    allow_plain_text: bool = False
    """Listen without TLS beyond the loopback: only where the network itself is protected."""
    allow_plain_text_health: bool = False
    """The same for the health endpoint alone: a cluster's probes come from outside the pod and speak no TLS."""
    token_key_file: Path | None = None
    """Key that bearer tokens are checked with: a shared secret (HS256) or a public key in PEM; none, no tokens."""
    token_audience: str | None = None
    """Audience that tokens must name."""
    token_issuer: str | None = None
    """Issuer that tokens must name."""
    rest_requests_per_s: float = Field(default=200.0, gt=0, le=1e6)
    """Requests per second and client address that the REST server answers on average; four times as many at once."""
    notification_hosts: Annotated[tuple[str, ...], AfterValidator(check_hosts)] = LOOPBACK
    """Hosts that A1 may post statuses and enrichment information to: names, `*.domain`, addresses, networks."""
    grpc_calls_per_s: float = Field(default=2_000.0, gt=0, le=1e6)
    """Calls per second and client address that the E2 service towards xApps and the A1 service towards apps answer on
    average, each; four times as many at once. A stream is one call."""
    ves_url: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """VES 7.2.1 collector that fault events are posted to; empty for none."""
    ves_credentials_file: Path | None = None
    """File with `user:password` for the collector."""
    alarm_delays: AlarmDelays = AlarmDelays()
    """Raise and clear delays of the alarm list."""
    priorities: Mapping[str, int] = Field(default_factory=dict)
    """App -> priority of its controls, where no A1 policy names it; the larger wins, equal ones wait for each other."""
    conflict_hold_s: float = Field(default=1.0, ge=0, le=3_600)
    """How long a parameter stays with the app that set it last, where no A1 policy says so [s]."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe log lines to write."""


@dataclass(frozen=True)
class BoundAddresses:
    """Where the RIC listens, host:port each; `a1_url` is the base address for REST, `health` empty without one."""

    nodes: str
    xapps: str
    a1_grpc: str
    a1_url: str
    health: str = ""


class RicPlatform:
    """`start` returns when everything listens; `stop` ends it in reverse. The bus belongs to the caller.

    Raises TwinRicError (CONFIG-*, SDL-FAILED) when settings, secrets or the stored state cannot be used.
    """

    def __init__(
        self, config: RicConfig, bus: Bus, clock: Clock, metrics: Metrics, *, environ: Mapping[str, str] | None = None
    ) -> None:
        self.config = config
        self.metrics = metrics
        self._clock = clock
        self._environ = os.environ if environ is None else environ
        self._log: structlog.typing.FilteringBoundLogger = logger("ric")
        self._tls, self._rest_tls = load_tls(config.tls), load_tls(config.rest_tls)
        self._verifier = self._token_verifier()
        real_time = WallClock()  # deliveries wait for peers outside the simulation
        self.notifications = Delivery("a1_notifications", real_time, metrics)
        self.collector = Delivery("ves", real_time, metrics, headers=self._ves_headers())
        self.sdl = Sdl(_store(config.data_dir), clock)
        self.audit = ControlAudit(self.sdl, metrics)
        self.conflicts = ConflictLog(bus, clock)
        self.explanations = Explanations(bus, metrics)
        allowed = AllowedHosts(config.notification_hosts)
        self.a1 = A1Termination(self.sdl, metrics, self.notifications, allowed_hosts=allowed)
        self.enrichment = EnrichmentService(bus, self.sdl, clock, metrics, self.notifications, allowed_hosts=allowed)
        self.faults = FaultService(
            bus, self.sdl, clock, metrics, collector=self.collector, collector_url=config.ves_url,
            delays=config.alarm_delays,
        )  # fmt: skip
        self.e2 = E2Platform(
            metrics, clock, priorities=config.priorities, hold_s=config.conflict_hold_s,
            on_decision=self.conflicts.record, on_control=self.audit.record,
        )  # fmt: skip
        self.conflict_policies = ConflictPolicies(self.a1, self.e2.conflicts, metrics)
        self.desired = DesiredControls(bus, metrics, self.e2.controls)
        self._stack = AsyncExitStack()
        self._ready = False

    async def start(self) -> BoundAddresses:
        """Listen everywhere. Raises TwinRicError (CONFIG-RANGE) naming the address that is refused or taken."""
        async with AsyncExitStack() as stack:
            stack.callback(self.sdl.close)
            stack.push_async_callback(self.notifications.stop)
            stack.push_async_callback(self.collector.stop)
            await self.audit.start()
            stack.push_async_callback(self.audit.stop)
            stack.push_async_callback(self.conflicts.stop)
            await self.explanations.start()
            stack.push_async_callback(self.explanations.stop)
            await self.faults.start()
            stack.push_async_callback(self.faults.stop)
            await self.enrichment.start()
            stack.push_async_callback(self.enrichment.stop)
            await self.conflict_policies.start()
            stack.push_async_callback(self.conflict_policies.stop)
            await self.desired.start()
            stack.push_async_callback(self.desired.stop)
            config = self.config
            stack.push_async_callback(self.e2.stop)
            ports = await self.e2.start(
                config.node_address, config.xapp_address, tls=self._tls, allow_plain_text=config.allow_plain_text,
                limit=_limit(config.grpc_calls_per_s),
            )  # fmt: skip
            self.e2.on_dapp_report(self._dapp_report)
            a1_port = await self._start_a1_grpc(stack)
            rest_url = await self._start_rest(stack)
            health = await self._start_health(stack)
            self._stack = stack.pop_all()
        self._ready = True
        bound = BoundAddresses(
            _with_port(config.node_address, ports.nodes), _with_port(config.xapp_address, ports.xapps),
            _with_port(config.a1_address, a1_port), rest_url, health,
        )  # fmt: skip
        self._log.info("ready", nodes=bound.nodes, xapps=bound.xapps, a1_grpc=bound.a1_grpc, a1=bound.a1_url)
        return bound

    async def stop(self) -> None:
        """Stop listening, write what is not yet written, close the store."""
        self._ready = False
        await self._stack.aclose()
        self._log.info("stopped")

    def is_ready(self) -> bool:
        """True between :meth:`start` and :meth:`stop`."""
        return self._ready

    async def _start_a1_grpc(self, stack: AsyncExitStack) -> int:
        address = self.config.a1_address
        self._check("a1_address", address.rpartition(":")[0], self._tls is not None)
        server = grpc_server(self.metrics, limit=_limit(self.config.grpc_calls_per_s))
        add_PolicyServiceServicer_to_server(self.a1, server)
        port = bind_grpc(server, "a1_address", address, self._tls)
        await server.start()
        stack.push_async_callback(server.stop, GRACE_S)
        return port

    async def _start_rest(self, stack: AsyncExitStack) -> str:
        config = self.config
        self._check("a1_host", config.a1_host, self._rest_tls is not None)
        app = a1_app(
            self.a1, self.metrics, enrichment=self.enrichment, verifier=self._verifier,
            limit=_limit(config.rest_requests_per_s),
        )  # fmt: skip
        app.include_router(alarm_router(self.faults, self._verifier))
        app.include_router(overview_router(self.e2, self.a1, self.sdl, self.conflicts, self._verifier))
        app.include_router(explanations_router(self.explanations, self._verifier))
        port = await stack.enter_async_context(serve(app, config.a1_host, config.a1_port, self._rest_tls))
        return f"{'https' if self._rest_tls else 'http'}://{_host(config.a1_host)}:{port}"

    async def _start_health(self, stack: AsyncExitStack) -> str:
        config = self.config
        if not config.health_port:
            return ""
        allowed = config.allow_plain_text or config.allow_plain_text_health
        check_binding("health_host", config.health_host, tls=False, allow_plain_text=allowed)
        app = health_app(self.is_ready, self.metrics)
        port = await stack.enter_async_context(serve(app, config.health_host, config.health_port))
        return f"{config.health_host}:{port}"

    async def _dapp_report(self, e2_node_id: str, header: bytes, message: bytes) -> None:
        report = dapp.decode_indication(header, message)
        self._log.info("dApp report", e2_node_id=e2_node_id, dapp=report.dapp_identifier)
        await self.faults.report(report.alarm.SerializeToString())

    def _check(self, field: str, host: str, tls: bool) -> None:
        check_binding(field, host, tls=tls, allow_plain_text=self.config.allow_plain_text)

    def _token_verifier(self) -> TokenVerifier | None:
        config = self.config
        key = read_secret("token_key_file", file=config.token_key_file, variable=TOKEN_VARIABLE, environ=self._environ)
        return TokenVerifier(key, audience=config.token_audience, issuer=config.token_issuer) if key else None

    def _ves_headers(self) -> dict[str, str]:
        file = self.config.ves_credentials_file
        secret = read_secret("ves_credentials_file", file=file, variable=VES_VARIABLE, environ=self._environ)
        return {"Authorization": f"Basic {base64.b64encode(secret.encode()).decode()}"} if secret else {}


def _limit(per_s: float) -> RateLimit:
    return RateLimit(per_s, burst=max(1, round(4 * per_s)))


def _store(data_dir: str) -> Path | None:
    if not data_dir:
        return None
    folder = Path(data_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TwinRicError("CONFIG-RANGE", "data_dir", data_dir, "a folder that can be written") from error
    return folder / STORE_FILE


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _with_port(address: str, port: int) -> str:
    return f"{address.rpartition(':')[0]}:{port}"


def serve_platform(path: Path | None) -> None:
    """Run the RIC with the settings in `path` and `TWINRIC_RIC__*` until SIGTERM or SIGINT. Raises TwinRicError."""
    config = load_config(RicConfig, path, "TWINRIC_RIC", os.environ)
    configure_logging(config.log_level)
    asyncio.run(_serve(config))


async def _serve(config: RicConfig) -> None:
    metrics = Metrics("ric")
    stopping = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
    bus = open_bus(config.bus_url, metrics, client_id="twinric-ric")
    await bus.start()
    try:
        platform = RicPlatform(config, bus, WallClock(), metrics)
        await platform.start()
        settle_heap()
        await stopping.wait()
        await platform.stop()
    finally:
        await bus.stop()
