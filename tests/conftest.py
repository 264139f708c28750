"""Shared by all tests: the Kafka node that the tests of this run share."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--long` runs what is too long for every day."""
    parser.addoption("--long", action="store_true", help="run tests marked `long` too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what is marked `long`, saying how to run it."""
    if config.getoption("--long"):
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="long; run with --long"))


@pytest.fixture(scope="session")
def kafka_tools() -> ModuleType:
    """`tools/kafka/broker.py` as a module; a machine without any Kafka fails the tests that ask for it."""
    spec = importlib.util.spec_from_file_location("kafka_broker", ROOT / "tools" / "kafka" / "broker.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def kafka_node(kafka_tools: ModuleType) -> Iterator[Any]:
    """One Kafka node for the whole run; `kafka_node.address` is host:port. Not to be killed."""
    with kafka_tools.broker() as node:
        yield node
