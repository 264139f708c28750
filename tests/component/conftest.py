"""Shared by component tests: a Ray of this machine."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

TRIES = 3


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """Two cores of Ray, which gives itself 30 s to start: on a busy machine it may take a second try."""
    ray = pytest.importorskip("ray")
    for attempt in range(TRIES):
        try:
            ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
            break
        except Exception:
            ray.shutdown()
            if attempt == TRIES - 1:
                raise
    yield
    ray.shutdown()
    gc.collect()  # what Ray leaves open is told while the filters of the module's last test hold
