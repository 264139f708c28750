"""Runs one app: connect, loop, budget, staleness, fallback, policy, shutdown.

The loop is here and not in the apps, so that no app can forget its safe action. A cycle runs when an input that the app
calls complete has arrived, or when none has arrived for `stale_after_s`; time comes from the injected clock, budgets from
the wall clock.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import Field

from ric.bus.bus import RIC_DECISIONS, Bus
from ric.bus.record import cloudevents_headers
from ric.clock import Clock, Deadline, to_ns, to_s
from ric.config import FrozenModel
from ric.decision import Decided, Reason
from ric.errors import TwinRicError
from ric.pb.twinric.bus.v1.record_pb2 import DecisionRecord
from ric.telemetry import Metrics, logger, trace, trace_id

__all__ = ["App", "AppConfig", "AppRuntime", "AppSpec", "Ric"]
