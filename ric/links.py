"""The connections of one app: bus, E2, E3, A1; one process that holds many apps hands them one bus."""

from __future__ import annotations

from pathlib import Path

import structlog

from ric.a1.client import A1pClient, PmsClient, PolicyClient, PolicyFeed
from ric.app_policies import policy_type_object
from ric.app_spec import AppConfig, AppSpec
from ric.bus.bus import Bus, Twins, open_bus
from ric.clock import Clock
from ric.config import FrozenModel
from ric.e2.client import E2Client
from ric.e3.session import E3Endpoints, E3Session
from ric.errors import TwinRicError
from ric.security import load_tls
from ric.telemetry import Metrics, logger

__all__ = ["Links"]


class Links:
    """What an app holds of the outside world; the interfaces that its spec does not name stay None."""

    def __init__(
        self, spec: AppSpec, policy_type: type[FrozenModel], config: AppConfig, clock: Clock, *, bus: Bus | None = None
    ) -> None:
        self.clock = clock
        self.metrics = Metrics(spec.name)
        self.log: structlog.typing.FilteringBoundLogger = logger(spec.name)
        self._owns_bus = bus is None
        self.bus: Bus = bus or open_bus(config.bus_url, self.metrics, client_id=f"{spec.name}-{config.instance_id}")
        self.twins = Twins(self.bus, clock, self.metrics, f"{spec.name}/{config.instance_id}")
        tls = load_tls(config.tls)
        self.e2: E2Client | None = None
        self.e3: E3Session | None = None
        self.policy_client: PolicyClient | None = None
        self.policy_feed: PolicyFeed | None = None
        if "e2" in spec.uses:
            self.e2 = E2Client(config.e2_address, app_id=spec.name, instance_id=config.instance_id, tls=tls)
        if "e3" in spec.uses:
            endpoints = E3Endpoints(config.e3_setup_endpoint, config.e3_inbound_endpoint, config.e3_outbound_endpoint)
            self.e3 = E3Session(
                endpoints, dapp_name=spec.name, dapp_version=spec.version, vendor="TwinRIC", metrics=self.metrics
            )
        if "a1_rest" in spec.uses:
            self.policy_client = _policy_client(spec, config)
        if config.a1_address:
            self.policy_feed = PolicyFeed(
                config.a1_address,
                app_id=spec.name,
                instance_id=config.instance_id,
                policy_type_id=spec.policy_type_id,
                policy_type=policy_type_object(policy_type, spec),
                tls=tls,
            )

    def need_e2(self) -> E2Client:
        """The E2 client. Raises TwinRicError when the app's spec does not use E2."""
        if self.e2 is None:
            raise TwinRicError("CONFIG-MISSING", "spec.uses", "no e2", "'e2' among the interfaces of the app")
        return self.e2

    def need_e3(self) -> E3Session:
        """The E3 session. Raises TwinRicError when the app's spec does not use E3."""
        if self.e3 is None:
            raise TwinRicError("CONFIG-MISSING", "spec.uses", "no e3", "'e3' among the interfaces of the app")
        return self.e3

    async def start(self) -> None:
        """Connect what this app uses."""
        if self._owns_bus:
            await self.bus.start()
        if self.e2 is not None:
            await self.e2.start()
        if self.e3 is not None:
            await self.e3.start()

    async def stop(self) -> None:
        """Close all of it."""
        if self.e3 is not None:
            await self.e3.stop()
        if self.e2 is not None:
            await self.e2.stop()
        if self._owns_bus:
            await self.bus.stop()


def _policy_client(spec: AppSpec, config: AppConfig) -> PolicyClient:
    """The SMO's Policy Management Service where one is configured, else this RIC's A1-P."""
    token = _token(config.a1_token_file)
    if config.pms_url:
        return PmsClient(config.pms_url, config.pms_ric_id, spec.name, token=token)
    return A1pClient(config.a1_url, token=token)


def _token(file: str) -> str | None:
    try:
        return Path(file).read_text(encoding="utf-8").strip() if file else None
    except (OSError, UnicodeDecodeError) as error:
        raise TwinRicError("CONFIG-MISSING", "a1_token_file", file, "a readable text file") from error
