"""Gymnasium forms of the slice bandwidth environment: one node, and several on an aggregation link that they share."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from xapps.slice_bandwidth.environment import VectorSliceEnv
from xapps.slice_bandwidth.forecast import Forecaster, persistence
from xapps.slice_bandwidth.lattice import SPLITS, nearest_split
from xapps.slice_bandwidth.model import CALENDAR_SLOTS
from xapps.slice_bandwidth.rl_agent import BASE_LIMIT, FEATURES, LIMIT, features

__all__ = ["CoupledCellsEnv", "SliceBandwidthEnv"]


class SliceBandwidthEnv(gymnasium.Env[NDArray[np.float32], np.int64]):
    """Share 20 FlexE slots of a node between its control, protection and monitoring slices, period by period.

    ## Action space
    `Discrete(525)`: the split to put in force, a row of `lattice.SPLITS` (control 1.., protection 2, 4, .., monitoring
    1.. slots; sums of at most 20). An action that the policy does not permit (`info["action_mask"]`) is replaced by the
    nearest one that it does.

    ## Observation space
    `Box(-10, 30, (21, 3, 37), float32)`: for 0..20 slots (axis 0) of each slice (axis 1), the columns of
    `rl_agent.features`: cost expected under the forecast (0-3), in a low and a high scenario (4-5), backlog left behind
    (6-7), last and coming load against capacity (8-11), backlog to drain (12), move (13-14), slot count (15), slice
    (16-18), alarm, third-term form, period, move cost, idle slots, whole load, its change (19-25), weights (26-28),
    price of violations (29), measured delay and jitter against their limits (30-31), price of a slot and of a
    millisecond (32-33), base delay against D_max and burst of the link as calibrated (34-35), part of a slot that the
    load fills (36). The forecast is `forecaster`'s; by default the last load is expected to persist.

    ## Reward
    -(eq (3) of the period, delay and jitter terms cut at 10) - price of broken limits - slot_move_cost x moved slots.

    ## Start, end
    Static split 5/10/5, empty queues; traffic, policy, period (0.1..60 s) and link are drawn from the seed. Truncated
    after `steps` periods; never terminated.

    ## Versions
    v4: a new alarm is 2, an old one 1. v3: link figures among the columns. v2: rows around a forecast. v1: rows around
    the last load.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own form

    def __init__(self, steps: int = 128, forecaster: Forecaster = persistence) -> None:
        self._vector = VectorSliceEnv(1, steps)
        self._forecaster = forecaster
        self.action_space = gymnasium.spaces.Discrete(len(SPLITS))
        self.observation_space = gymnasium.spaces.Box(-LIMIT, BASE_LIMIT, (21, 3, FEATURES), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode; the same seed gives the same one."""
        super().reset(seed=seed, options=options)
        self._vector.reset(self.np_random)
        return _seen(self._vector, self._forecaster)[0], {"action_mask": self._vector.mask()[0]}

    def step(self, action: np.int64) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Put a split in force for one period."""
        row = _permitted(self._vector, np.array([action]))
        result = self._vector.step(row)
        info = {
            "action_mask": self._vector.mask()[0],
            "split": int(row[0]),
            "objective": float(result.objective.total[0]),
            "violations": int(result.objective.violation_count[0]),
        }
        return _seen(self._vector, self._forecaster)[0], float(result.reward[0]), False, result.done, info


class CoupledCellsEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.int64]]):
    """Several nodes, each with a link of its own, behind which they share an aggregation link.

    ## Action space
    `MultiDiscrete([525] * cells)`: the split of each node, as in :class:`SliceBandwidthEnv`.

    ## Observation space
    `Box(-10, 30, (cells, 21, 3, 37), float32)`: per node the rows of :class:`SliceBandwidthEnv`. What the shared link
    adds is seen in a node's measured delay and jitter and in its calibrated base delay.

    ## Reward
    The sum of the nodes' rewards; delay and jitter include the shared link's waits.

    ## Start, end
    As there. The shared link has 25 to 60 % of the rate of the nodes' own together; slices pass it in strict priority.

    ## Versions
    v1.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own form

    def __init__(self, cells: int = 4, steps: int = 128, forecaster: Forecaster = persistence) -> None:
        self._vector = VectorSliceEnv(cells, steps, cells=cells)
        self._forecaster = forecaster
        self.action_space = gymnasium.spaces.MultiDiscrete([len(SPLITS)] * cells)
        shape = (cells, CALENDAR_SLOTS + 1, 3, FEATURES)
        self.observation_space = gymnasium.spaces.Box(-LIMIT, BASE_LIMIT, shape, np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode; the same seed gives the same one."""
        super().reset(seed=seed, options=options)
        self._vector.reset(self.np_random)
        return _seen(self._vector, self._forecaster), {"action_mask": self._vector.mask()}

    def step(self, action: NDArray[np.int64]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Put a split per node in force for one period."""
        rows = _permitted(self._vector, action)
        result = self._vector.step(rows)
        info = {
            "action_mask": self._vector.mask(),
            "split": rows,
            "objective": result.objective.total,
            "violations": result.objective.violation_count,
        }
        return _seen(self._vector, self._forecaster), float(result.reward.sum()), False, result.done, info


def _permitted(env: VectorSliceEnv, action: NDArray[np.int64]) -> NDArray[np.intp]:
    """The actions (N,), those that the policy does not permit replaced by the nearest that it does."""
    mask, rows = env.mask(), np.asarray(action, dtype=np.intp)
    allowed = mask[np.arange(len(rows)), rows]
    return np.where(allowed, rows, nearest_split(SPLITS[rows].astype(np.float64), mask))


def _seen(env: VectorSliceEnv, forecaster: Forecaster) -> NDArray[np.float32]:
    """Feature rows (N, 21, 3, FEATURES) of the coming decision."""
    return np.asarray(features(env.observation(), forecaster, env.policies.limits))
