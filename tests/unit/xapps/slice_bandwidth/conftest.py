"""A node's state and stand-ins for the trained networks, for the tests of this app."""

import numpy as np
import pytest

from xapps.slice_bandwidth.forecast import persistence
from xapps.slice_bandwidth.rl_agent import BASE, Learned
from xapps.slice_bandwidth.state import HISTORY, SliceState


@pytest.fixture
def make_state():
    def make(
        load=(8e3, 4e3, 9e3), queue=(0, 0, 0), slots=(5, 10, 5), *, alarm=False, cleared_s=float("inf"), node="n1"
    ):
        offered = np.tile(np.array(load, dtype=np.float64), (HISTORY, 1))
        return SliceState(
            node, 1_000_000_000, 0.1, offered, np.array(queue, dtype=np.float64), np.ones(3), np.full(3, 0.1),
            np.ones(3), np.array(slots), alarm, alarm_cleared_s=cleared_s,
        )  # fmt: skip

    return make


@pytest.fixture
def untrained():
    """The actor before any training, and a forecaster that expects the last load again."""
    return Learned(persistence, lambda rows: -rows[:, BASE])
