"""Metrics have registries of their own; log lines carry the trace."""

from __future__ import annotations

import json

import pytest
import structlog
from prometheus_client import generate_latest

from ric.telemetry import Metrics, configure_logging, logger, new_trace_id, trace, trace_id


def test_metrics_of_two_components_live_side_by_side() -> None:
    one, two = Metrics("hems_load"), Metrics("hems_load")
    one.count_refused("A1-RANGE")
    one.count_refused("A1-RANGE")
    one.count_dropped("bus", 3)
    one.count_message("e2", "in")
    text = generate_latest(one.registry).decode()
    assert 'twinric_inputs_refused_total{code="A1-RANGE",component="hems_load"} 2.0' in text
    assert 'twinric_inputs_dropped_total{component="hems_load",queue="bus"} 3.0' in text
    assert 'twinric_messages_total{component="hems_load",direction="in",interface="e2"} 1.0' in text
    assert 'code="A1-RANGE"' not in generate_latest(two.registry).decode()


def test_loop_histogram_separates_the_rics_budgets() -> None:
    """10 ms, 100 ms and 1 s are bucket bounds, so that the share within budget can be read off."""
    metrics = Metrics("x")
    metrics.loop_ms.labels("x", "rt").observe(9.9)
    text = generate_latest(metrics.registry).decode()
    assert 'twinric_control_loop_ms_bucket{component="x",le="10.0",ric="rt"} 1.0' in text
    for bound in ("100.0", "1000.0"):
        assert f'le="{bound}"' in text


def test_trace_nests_and_ends() -> None:
    assert trace_id() == ""
    with trace() as outer:
        assert trace_id() == outer
        assert len(outer) == 32
        with trace("inner"):
            assert trace_id() == "inner"
        assert trace_id() == outer
    assert trace_id() == ""
    assert new_trace_id() != new_trace_id()


def test_log_lines_are_json_with_component_level_and_trace(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        configure_logging("INFO")
        with trace("t1"):
            logger("a1").info("stored", policy_id="p1")
            logger("a1").debug("not shown")
        logger("a1").warning("later")
    finally:
        structlog.reset_defaults()
    first, second = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {key: first[key] for key in ("component", "event", "level", "policy_id", "trace_id")} == {
        "component": "a1", "event": "stored", "level": "info", "policy_id": "p1", "trace_id": "t1",
    }  # fmt: skip
    assert "timestamp" in first
    assert "trace_id" not in second
