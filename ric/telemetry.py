"""Log fields, metrics and trace ids: the one place that names them."""

from __future__ import annotations

import contextvars
import logging
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["Metrics", "configure_logging", "logger", "new_trace_id", "trace", "trace_id"]

_TRACE: contextvars.ContextVar[str] = contextvars.ContextVar("trace_id", default="")

# Fine below 10 ms for the RT RIC, up to the Non-RT RIC's minutes.
LOOP_BUCKETS_MS = (
    0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 60_000, 300_000,
)  # fmt: skip


def new_trace_id() -> str:
    """A random trace id of 32 hexadecimal digits (W3C Trace Context)."""
    return secrets.token_hex(16)


def trace_id() -> str:
    """The trace id of the work under way, or an empty string."""
    return _TRACE.get()


@contextmanager
def trace(identifier: str = "") -> Iterator[str]:
    """Run a block under `identifier` (or a new one); log lines and records made inside carry it."""
    token = _TRACE.set(identifier or new_trace_id())
    try:
        yield _TRACE.get()
    finally:
        _TRACE.reset(token)


def _add_trace(_: object, __: str, event: dict[str, Any]) -> dict[str, Any]:
    if _TRACE.get():
        event["trace_id"] = _TRACE.get()
    return event


def configure_logging(level: str = "INFO", *, json: bool = True) -> None:
    """Structured lines on standard error: JSON for machines, columns for people."""
    renderer: Any = structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            cast(Any, _add_trace),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level)),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # as it stands when the line is written
        cache_logger_on_first_use=False,
    )


def logger(component: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose lines carry `component`, for example "e2_termination" or "hems_load"."""
    return cast(structlog.typing.FilteringBoundLogger, structlog.get_logger(component=component))


class Metrics:
    """The house's Prometheus metrics on a registry of their own, so that many apps can live in one process."""

    def __init__(self, component: str) -> None:
        self.component = component
        self.registry = CollectorRegistry()
        self.loop_ms = Histogram(
            "twinric_control_loop_ms", "Input complete to decision acted upon [ms]", ["component", "ric"],
            buckets=LOOP_BUCKETS_MS, registry=self.registry,
        )  # fmt: skip
        self.loop_late = self._counter("twinric_control_loop_late", "Cycles that missed the RIC's budget")
        self.safe_actions = self._counter("twinric_safe_actions", "Cycles decided by the fallback", "reason")
        self.refused = self._counter("twinric_inputs_refused", "Inputs refused by validation", "code")
        self.dropped = self._counter("twinric_inputs_dropped", "Inputs dropped by a full queue", "queue")
        self.messages = self._counter(
            "twinric_messages", "Messages by interface and direction", "interface", "direction"
        )
        self._by_way: dict[tuple[str, str], Counter] = {}
        self.twins = self._counter("twinric_twin_records", "Twin records read, by verdict", "verdict")
        self.twin_age_s = self._gauge("twinric_twin_age_s", "Age of the newest input [s]")
        self.budget_ms = self._gauge("twinric_control_loop_budget_ms", "The loop's declared budget [ms]")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, ["component", *labels], registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, ["component", *labels], registry=self.registry)

    def count_refused(self, code: str) -> None:
        """One more input refused with catalogue `code`."""
        self.refused.labels(self.component, code).inc()

    def count_dropped(self, queue: str, number: int = 1) -> None:
        """`number` more inputs dropped by `queue`."""
        self.dropped.labels(self.component, queue).inc(number)

    def count_message(self, interface: str, direction: str, number: int = 1) -> None:
        """`number` more messages on `interface` ("e2", "e3", "a1", "bus"), `direction` "in" or "out"."""
        counter = self._by_way.get((interface, direction))
        if counter is None:  # looking a child up by its labels costs more than counting
            counter = self._by_way[interface, direction] = self.messages.labels(self.component, interface, direction)
        counter.inc(number)

    def count_twin(self, verdict: str) -> None:
        """One more twin record read that was found `verdict` ("apply", "gap", "tampered", ...)."""
        self.twins.labels(self.component, verdict).inc()
