"""What an app declares about itself, and the settings that every app has."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from pydantic import Field

from ric.config import FrozenModel
from ric.security import TlsFiles

__all__ = ["AppConfig", "AppSpec", "Ric"]


class Ric(Enum):
    """The three RICs by control-loop time: over 1 s, 10 ms to 1 s, under 10 ms."""

    NON_RT = "non_rt"
    NEAR_RT = "near_rt"
    RT = "rt"


@dataclass(frozen=True)
class AppSpec:
    """Name, RIC, the loop's budget [ms] (input complete to decision), A1 policy type and the interfaces it uses."""

    name: str
    ric: Ric
    budget_ms: float
    policy_type_id: str
    uses: frozenset[Literal["e2", "e3", "a1_rest"]]
    version: str = "0.1.0"
    quiet_reasons: frozenset[str] = frozenset()
    """Reason codes of decisions that are counted but not published: "nothing happened", hundreds of times a second."""


class AppConfig(FrozenModel):
    """Settings of every app; a change needs a restart."""

    instance_id: str = Field(default="1", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """Name of this instance; instances of one app share its policies."""
    bus_url: str = Field(default="memory://", pattern=r"^(memory://|kafka://[^/\s]+)$")
    """Twin bus: `memory://` or `kafka://host:port[,host:port]`."""
    e2_address: str = "127.0.0.1:5151"
    """The RIC's E2 service towards xApps, host:port."""
    a1_address: str = "127.0.0.1:9001"
    """The RIC's A1 service towards apps (gRPC), host:port; empty to run without policies."""
    a1_url: str = "http://127.0.0.1:9000"
    """A1-P v2 base address for rApps that make policies (REST)."""
    a1_token_file: str = ""
    """File that holds the bearer token for `a1_url`; empty for none."""
    pms_url: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """Policy Management Service of an SMO; where given, rApps make their policies there and not at `a1_url`."""
    pms_ric_id: str = "ric1"
    """Name of this Near-RT RIC at the Policy Management Service."""
    tls: TlsFiles | None = None
    """TLS towards the RIC's gRPC services; with certificate and key for mTLS."""
    e3_setup_endpoint: str = "tcp://127.0.0.1:9990"
    """E3 agent's setup socket (dApps)."""
    e3_inbound_endpoint: str = "tcp://127.0.0.1:9999"
    """E3 agent's inbound socket (dApp to RAN)."""
    e3_outbound_endpoint: str = "tcp://127.0.0.1:9991"
    """E3 agent's outbound socket (RAN to dApp)."""
    health_host: str = "127.0.0.1"
    """Address of the health and metrics endpoint."""
    health_port: int = Field(default=0, ge=0, le=65_535)
    """Port of /healthz, /readyz and /metrics; 0 switches the endpoint off."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe log lines to write."""
    stale_after_s: float = Field(default=5.0, gt=0, le=86_400)
    """No input for this long [s] leads to the safe action."""
    clock: Literal["wall", "source"] = "wall"
    """Time base: the machine's clock, or the newest source time of the inputs (simulated or replayed input)."""
    enforce_budget: bool = True
    """Cut a decision off at the budget; off where simulated time stands still while an app decides."""
