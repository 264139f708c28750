"""The slice bandwidth environment: a vectorised NumPy surrogate and its Gymnasium form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from xapps.slice_bandwidth.baselines import Situation
from xapps.slice_bandwidth.clairvoyant import Course
from xapps.slice_bandwidth.forecast import Forecaster, persistence
from xapps.slice_bandwidth.hindsight import Episode
from xapps.slice_bandwidth.lattice import SPLITS, Bounds, index_of, nearest_split, permitted
from xapps.slice_bandwidth.model import SLOT_MBPS, SLOT_STEP, STATIC_SLOTS, LinkModel, Prediction, predict
from xapps.slice_bandwidth.objective import TERM_LIMIT, Limits, Objective, evaluate, limits_of, moved_slots
from xapps.slice_bandwidth.policy import SlicePolicy
from xapps.slice_bandwidth.rl_agent import BASE_LIMIT, FEATURES, LIMIT, Observation, features
from xapps.slice_bandwidth.safety import bounded
from xapps.slice_bandwidth.state import HISTORY
from xapps.slice_bandwidth.traffic import draw_traffic, draw_unseen_traffic

__all__ = [
    "LOOP_PERIODS_S", "PERIODS_S", "TAIL", "PolicyBatch", "SliceBandwidthEnv", "StepResult", "VectorSliceEnv",
    "default_policies", "draw_policies", "policies_like",
]  # fmt: skip

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

TAIL = 12
"""Periods of traffic drawn beyond an episode's end, so that a teacher sees what follows its last decisions."""
PERIODS_S = np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 1.0, 10.0, 60.0])
"""Periods that an episode draws from unless it is told otherwise; the simulator's fast-forward goes to a minute."""
LOOP_PERIODS_S = np.array([0.01, 0.05, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 1.0])
"""Those of the Near-RT loop, 10 ms to 1 s: what the actor is trained on."""


@dataclass(frozen=True)
class PolicyBatch:
    """One policy per environment (N): its limits, and the bounds without and with an alarm."""

    limits: Limits
    quiet: Bounds
    alarmed: Bounds


def default_policies(number: int) -> PolicyBatch:
    """The default policy for every environment."""
    return policies_like(SlicePolicy(), number)


def policies_like(policy: SlicePolicy, number: int) -> PolicyBatch:
    """`policy` for every environment."""
    one = limits_of(policy)
    stacked = {name: np.repeat(np.asarray(value)[None], number, axis=0) for name, value in vars(one).items()}
    bounds = []
    for alarm in (False, True):
        low = np.array(policy.minimum_slots(alarm=alarm))
        high = np.array([terms.ceiling_slots for terms in policy.terms])
        moved = np.full(number, policy.max_moved_slots)
        bounds.append(Bounds(np.tile(low, (number, 1)), np.tile(high, (number, 1)), moved))
    return PolicyBatch(Limits(**stacked), *bounds)


def draw_policies(
    generator: np.random.Generator, number: int, default_share: float = 0.4, *, unseen: bool = False
) -> PolicyBatch:
    """Policies over the ranges that operators use; a `default_share` of the environments keeps the default.

    `unseen` draws from outside of what training draws: no defaults, weights near the corners of the simplex, limits and
    prices further from the defaults.
    """
    base = default_policies(number)
    keep = generator.random(number) < (0.0 if unseen else default_share)
    weights = generator.dirichlet([0.4, 0.4, 0.4] if unseen else [1.5, 1.0, 1.0], size=(number, 3))
    widest = 4.0 if unseen else 2.5
    spread = np.exp(generator.uniform(-np.log(widest), np.log(widest), size=(4, number, 3)))
    minimum = generator.integers(1, 4, size=(number, 3)) * SLOT_STEP
    limits = base.limits
    drawn = Limits(
        np.where(keep[:, None, None], limits.weights, weights),
        np.where(keep[:, None], limits.d_max_ms, limits.d_max_ms * spread[0]),
        np.where(keep[:, None], limits.j_max_ms, limits.j_max_ms * spread[1]),
        np.where(keep[:, None], limits.b_min_mbps, minimum * SLOT_MBPS),
        np.where(keep[:, None], limits.violation_cost, limits.violation_cost * spread[3]),
        ~keep & (generator.random(number) < 0.3),
        np.where(keep, limits.slot_move_cost, generator.uniform(0.0, 0.2, number)),
    )
    low = np.where(keep[:, None], base.quiet.low, minimum)
    floors = generator.integers(0, 5, size=(number, 3)) * SLOT_STEP * np.array([1, 1, 0])
    alarm_low = np.where(keep[:, None], base.alarmed.low, np.maximum(low, floors))
    moved = np.where(keep, base.quiet.max_moved, generator.integers(3, 21, number))
    return PolicyBatch(drawn, Bounds(low, base.quiet.high, moved), Bounds(alarm_low, base.quiet.high, moved))


@dataclass(frozen=True)
class StepResult:
    """One period of N environments: reward (N), eq (3) with its violations, slots moved (N), period's end."""

    reward: Floats
    objective: Objective
    moved: NDArray[np.int64]
    done: bool


class VectorSliceEnv:
    """N nodes at once, each with its own traffic, policy, period and link; card: :class:`SliceBandwidthEnv`."""

    def __init__(
        self, number: int, steps: int, *, random_policies: bool = True, period_s: float | None = None,
        unseen: bool = False, periods_s: Floats = PERIODS_S,
    ) -> None:  # fmt: skip
        """`unseen` draws policies and traffic from outside of what training draws."""
        self.number, self.steps, self._unseen, self._periods_s = number, steps, unseen, periods_s
        self.nominal = LinkModel()
        self._random_policies = random_policies
        self._fixed_period_s = period_s
        self.reset(np.random.default_rng(0))

    def reset(self, generator: np.random.Generator) -> Observation:
        """Draw all anew from `generator`; the first observation follows `HISTORY` periods of the static split."""
        self._draw(generator)
        self.slots = np.tile(STATIC_SLOTS, (self.number, 1))
        self.queue_mbit = np.zeros((self.number, 3))
        self.at = HISTORY
        for step in range(HISTORY):
            self._measured = self._serve(step, self.slots)
        return self.observation()

    def _draw(self, generator: np.random.Generator) -> None:
        """Period, policies, link and traffic of an episode."""
        number = self.number
        drawn = generator.choice(self._periods_s, number)
        self.period_s = np.full(number, self._fixed_period_s) if self._fixed_period_s else drawn
        unseen = self._unseen
        drawn_policies = self._random_policies or unseen
        self.policies = draw_policies(generator, number, unseen=unseen) if drawn_policies else default_policies(number)
        self.link = LinkModel(
            self.nominal.base_delay_ms * generator.uniform(0.5, 1.5, (number, 3)),
            self.nominal.burst_mbit * np.exp(generator.uniform(-1.0, 1.0, (number, 3))),
            self.nominal.buffer_mbit * np.exp(generator.uniform(-1.2, 0.7, (number, 3))),
        )
        draw = draw_unseen_traffic if unseen else draw_traffic
        self.traffic = draw(generator, self.steps + HISTORY + TAIL, self.period_s)

    def _serve(self, step: int, slots: NDArray[np.int64]) -> Prediction:
        measured = predict(self.traffic.offered_mbps[step], self.queue_mbit, slots, self.period_s[:, None], self.link)
        self.queue_mbit = measured.queue_mbit
        return measured

    def observation(self) -> Observation:
        """What is known before the coming period."""
        history = np.moveaxis(self.traffic.offered_mbps[self.at - HISTORY : self.at], 0, 1)
        return Observation(
            history,
            self.queue_mbit,
            self._measured.delay_ms,
            self._measured.jitter_ms,
            self.slots,
            self.period_s,
            self.alarm,
        )

    @property
    def alarm(self) -> NDArray[np.bool_]:
        """Whether a fault alarm is active (N,); it arrives before the load that it announces."""
        return np.asarray(self.traffic.alarm[self.at])

    def situation(self, *, clairvoyant: bool = False) -> Situation:
        """What a myopic rule is given: the last load, or the coming one when `clairvoyant`."""
        load = self.traffic.offered_mbps[self.at if clairvoyant else self.at - 1]
        return Situation(load, self.queue_mbit, self.slots, self.period_s)

    def mask(self) -> NDArray[np.bool_]:
        """Permitted splits (N, 525): bounds, alarm floors and rate limit, as the app applies them."""
        alarm = self.alarm
        quiet = permitted(self.policies.quiet, self.slots)
        urgent = alarm & (self.slots < self.policies.alarmed.low).any(axis=-1)
        if not alarm.any():
            return quiet
        alarmed = np.where(urgent[:, None], self.policies.alarmed.inside, permitted(self.policies.alarmed, self.slots))
        return np.asarray(np.where(alarm[:, None], alarmed, quiet))

    def safe_mask(self) -> NDArray[np.bool_]:
        """Of :meth:`mask` what the safety layer leaves, as the app applies it to what it sees."""
        last, limits = self.traffic.offered_mbps[self.at - 1], self.policies.limits
        return bounded(last, self.queue_mbit, self.period_s, limits, self.nominal, self.mask())

    @property
    def table_link(self) -> LinkModel:
        """The true link of each environment, shaped for `predict_table`."""
        return LinkModel(*(np.asarray(value)[:, None, :] for value in vars(self.link).values()))

    def course(self, node: int) -> Course:
        """All that is still to come for one environment, for the clairvoyant."""
        limits = Limits(*(np.asarray(value)[node] for value in vars(self.policies.limits).values()))
        quiet, alarmed = (
            Bounds(held.low[node], held.high[node], held.max_moved[node])
            for held in (self.policies.quiet, self.policies.alarmed)
        )
        link = LinkModel(*(np.asarray(value)[node] for value in vars(self.link).values()))
        coming = slice(self.at, self.steps + HISTORY)
        traffic = self.traffic
        return Course(
            traffic.offered_mbps[coming, node], traffic.alarm[coming, node], limits, quiet, alarmed, link,
            float(self.period_s[node]), self.slots[node], self.queue_mbit[node],
        )  # fmt: skip

    def episode(self) -> Episode:
        """The whole episode with `TAIL` periods beyond its end, for the teacher."""
        traffic, policies = self.traffic, self.policies
        return Episode(
            traffic.offered_mbps[HISTORY:], traffic.alarm[HISTORY:], policies.limits, policies.quiet, policies.alarmed,
            self.link, self.period_s,
        )  # fmt: skip

    def step(self, rows: Rows) -> StepResult:
        """Put the splits `rows` (N,) in force for one period."""
        slots = SPLITS[rows]
        moved = moved_slots(self.slots, slots)
        self._measured = self._serve(self.at, slots)
        limits = self.policies.limits
        objective = evaluate(self._measured.delay_ms, self._measured.jitter_ms, slots, limits)
        priced = np.minimum(objective.terms[..., :2], TERM_LIMIT).sum(axis=(-1, -2)) + objective.terms[..., 2].sum(
            axis=-1
        )
        reward = -(priced + objective.penalty(limits) + limits.slot_move_cost * moved)
        self.slots = slots
        self.at += 1
        return StepResult(reward, objective, moved, self.at >= self.steps + HISTORY)


class SliceBandwidthEnv(gymnasium.Env[NDArray[np.float32], np.int64]):
    """Share 20 FlexE slots of a node between its control, protection and monitoring slices, period by period.

    ## Action space
    `Discrete(525)`: the split to put in force, a row of `lattice.SPLITS` (control 1.., protection 2, 4, .., monitoring
    1.. slots; sums of at most 20). An action that the policy does not permit (`info["action_mask"]`) is replaced by the
    nearest one that it does.

    ## Observation space
    `Box(-10, 30, (21, 3, 35), float32)`: for 0..20 slots (axis 0) of each slice (axis 1), the columns of
    `rl_agent.features`: cost expected under the forecast (0-3), in a low and a high scenario (4-5), backlog left behind
    (6-7), last and coming load against capacity (8-11), backlog to drain (12), move (13-14), slot count (15), slice
    (16-18), alarm, third-term form, period, move cost, idle slots, whole load, its change (19-25), weights (26-28),
    price of violations (29), measured delay and jitter against their limits (30-31), price of a slot and of a
    millisecond (32-33), part of a slot that the load fills (34). The forecast is `forecaster`'s; by default the last
    load is expected to persist.

    ## Reward
    -(eq (3) of the period, delay and jitter terms cut at 10) - price of broken limits - slot_move_cost x moved slots.

    ## Start, end
    Static split 5/10/5, empty queues; traffic, policy, period (0.1..60 s) and link are drawn from the seed. Truncated
    after `steps` periods; never terminated.

    ## Versions
    v2: rows around a forecast. v1: rows around the last load.
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
        return self._seen(), {"action_mask": self._vector.mask()[0]}

    def step(self, action: np.int64) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Put a split in force for one period."""
        mask = self._vector.mask()
        row = int(action)
        if not mask[0, row]:
            row = int(nearest_split(SPLITS[row].astype(np.float64), mask[0]))
        result = self._vector.step(np.array([row]))
        info = {
            "action_mask": self._vector.mask()[0],
            "split": index_of(SPLITS[row]),
            "objective": float(result.objective.total[0]),
            "violations": int(result.objective.violation_count[0]),
        }
        return self._seen(), float(result.reward[0]), False, result.done, info

    def _seen(self) -> NDArray[np.float32]:
        policies = self._vector.policies
        seen = features(self._vector.observation(), self._forecaster, policies.limits, self._vector.nominal)
        return np.asarray(seen[0])
