"""The OpenAPI file of A1-P and A1-EI, made from the server's routes; `tools/docs.py` writes it."""

from __future__ import annotations

import json

import yaml

from ric.a1.enrichment_service import EnrichmentService
from ric.a1.rest import a1_app
from ric.a1.termination import A1Termination
from ric.bus.bus import MemoryBus
from ric.clock import WallClock
from ric.delivery import Delivery
from ric.sdl import Sdl
from ric.security import TokenVerifier
from ric.telemetry import Metrics

HEAD = "# Made from ric/a1 by `make docs`: what the A1 server answers, as it says itself at /openapi.json.\n"


def a1_openapi() -> str:
    """The file's text, of a server that asks for tokens."""
    clock, metrics = WallClock(), Metrics("docs")
    sdl, delivery = Sdl(None, clock), Delivery("docs", clock, metrics)
    enrichment = EnrichmentService(MemoryBus(), sdl, clock, metrics, delivery)
    verifier = TokenVerifier("0" * 32)
    app = a1_app(A1Termination(sdl, metrics, delivery), metrics, enrichment=enrichment, verifier=verifier)
    sdl.close()
    plain = json.loads(json.dumps(app.openapi()))  # what occurs twice is written twice, without YAML's aliases
    return HEAD + str(yaml.safe_dump(plain, sort_keys=False, width=120, allow_unicode=True))
