"""The slice bandwidth environment: a vectorised surrogate of many nodes, alone or on links that they share."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xapps.slice_bandwidth.aggregation import SharedWait, observed, pass_link, passed_mbit, waited, without_wait
from xapps.slice_bandwidth.baselines import Situation
from xapps.slice_bandwidth.calibration import Served, calibrated
from xapps.slice_bandwidth.clairvoyant import Course
from xapps.slice_bandwidth.hindsight import Episode
from xapps.slice_bandwidth.joint import LinkView
from xapps.slice_bandwidth.lattice import SPLITS, Bounds, permitted
from xapps.slice_bandwidth.model import (
    CALENDAR_SLOTS,
    SLOT_MBPS,
    STATIC_SLOTS,
    LinkModel,
    Prediction,
    predict,
)
from xapps.slice_bandwidth.objective import TERM_LIMIT, Limits, Objective, evaluate, moved_slots
from xapps.slice_bandwidth.policy_draws import default_policies, draw_policies
from xapps.slice_bandwidth.rl_agent import Observation
from xapps.slice_bandwidth.safety import bounded
from xapps.slice_bandwidth.state import HISTORY
from xapps.slice_bandwidth.traffic import Draws, draw_traffic

__all__ = ["LOOP_PERIODS_S", "PERIODS_S", "TAIL", "StepResult", "VectorSliceEnv"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

TAIL = 12
"""Periods of traffic drawn beyond an episode's end, so that a teacher sees what follows its last decisions."""
PERIODS_S = np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 1.0, 10.0, 60.0])
"""Periods that an episode draws from unless it is told otherwise; the simulator's fast-forward goes to a minute."""
LOOP_PERIODS_S = np.array([0.01, 0.05, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 1.0])
"""Those of the Near-RT loop, 10 ms to 1 s: what the actor is trained on."""
SHARED_CAPACITY = (0.25, 0.6)
"""Rate of a shared link as a share of its nodes' links together, drawn per episode."""
SHARED_BUFFER_MBIT = 5_000.0
IN_STEP_SHARE, LARGEST_LOG, IN_STEP_BITS, BURST_SPREAD = 0.12, 5.5, (0.4, 1.0), 0.5
"""Of training's links: share of slices with larger bursts, logarithm of the largest factor, the share of their
bits that comes in them; spread of all bursts between periods."""


@dataclass(frozen=True)
class StepResult:
    """One period of N environments: reward (N), eq (3) with its violations, slots moved (N), period's end."""

    reward: Floats
    objective: Objective
    moved: NDArray[np.int64]
    done: bool


class VectorSliceEnv:
    """N nodes at once, each with its own traffic, policy, period and link; card: `gymnasium_forms.SliceBandwidthEnv`.

    With `cells` above 1 every so many nodes in a row have one period and share an aggregation link behind their own.
    """

    def __init__(
        self, number: int, steps: int, *, random_policies: bool = True, period_s: float | None = None,
        draws: Draws = Draws.KNOWN, periods_s: Floats = PERIODS_S, cells: int = 1,
    ) -> None:  # fmt: skip
        """`draws`: where traffic and random policies come from. Raises ValueError if `cells` does not divide number."""
        if number % cells:
            raise ValueError(f"number: a multiple of {cells} cells, got {number}")
        self.number, self.steps, self.cells, self._draws, self._periods_s = number, steps, cells, draws, periods_s
        self._random_policies = random_policies
        self._fixed_period_s = period_s
        self.reset(np.random.default_rng(0))

    def reset(self, generator: np.random.Generator) -> Observation:
        """Draw all anew from `generator`; the first observation follows `HISTORY` periods of the static split."""
        self._draw(generator)
        self.slots = np.tile(STATIC_SLOTS, (self.number, 1))
        self.queue_mbit = np.zeros((self.number, 3))
        self.shared_mbit = np.zeros((self.number // self.cells, 3))
        nominal = LinkModel()
        self.believed = LinkModel(*(np.tile(value, (self.number, 1)) for value in vars(nominal).values()))
        self._own_link, self._shared_seen = self.believed, SharedWait(*(np.zeros_like(self.shared_mbit),) * 4)
        self.at = HISTORY
        for step in range(HISTORY):
            self._put_in_force(step, self.slots)
        return self.observation()

    def _draw(self, generator: np.random.Generator) -> None:
        """Period, policies, links and traffic of an episode."""
        number, nominal = self.number, LinkModel()
        drawn = np.repeat(generator.choice(self._periods_s, number // self.cells), self.cells)
        self.period_s = np.full(number, self._fixed_period_s) if self._fixed_period_s else drawn
        drawn_policies = self._random_policies or self._draws is Draws.UNSEEN
        self.policies = draw_policies(generator, number, self._draws) if drawn_policies else default_policies(number)
        self.link = LinkModel(
            nominal.base_delay_ms * generator.uniform(0.5, 1.5, (number, 3)),
            nominal.burst_mbit * np.exp(generator.uniform(-1.0, 1.0, (number, 3))),
            nominal.buffer_mbit * np.exp(generator.uniform(-1.2, 0.7, (number, 3))),
            np.ones((number, 3)),
        )
        periods = self.steps + HISTORY + TAIL
        self.traffic = draw_traffic(generator, periods, self.period_s, self._draws)
        self._burst_factor: Floats | None = None
        if self._draws is Draws.WIDE:
            self._draw_odd_bursts(generator, periods)
        shares = generator.uniform(*SHARED_CAPACITY, number // self.cells)
        self.shared_mbps = shares * self.cells * CALENDAR_SLOTS * SLOT_MBPS

    def _draw_odd_bursts(self, generator: np.random.Generator, periods: int) -> None:
        """For training: terminals that report at the same instants in some nodes, bursts that vary from period to
        period in all, so that what was measured of a link never fits the next period exactly.
        """
        shape = (self.number, 3)
        in_step = generator.random(shape) < IN_STEP_SHARE
        grown = np.where(in_step, np.exp(generator.uniform(0, LARGEST_LOG, shape)), 1.0)
        share = np.where(in_step, generator.uniform(*IN_STEP_BITS, shape), 1.0)
        self.link = replace(self.link, burst_mbit=self.link.burst_mbit * grown, in_step=share)
        spread = generator.uniform(0, BURST_SPREAD, shape)
        self._burst_factor = np.exp(spread * generator.standard_normal((periods, *shape)))

    def _serve(self, step: int, slots: NDArray[np.int64]) -> Prediction:
        """What the nodes' own links measure in a period."""
        link = self.link
        if self._burst_factor is not None:
            link = replace(link, burst_mbit=link.burst_mbit * self._burst_factor[step])
        return predict(self.traffic.offered_mbps[step], self.queue_mbit, slots, self.period_s[:, None], link)

    def _put_in_force(self, step: int, slots: NDArray[np.int64]) -> None:
        """Serve a period and take in what was measured."""
        offered, before = self.traffic.offered_mbps[step], self.queue_mbit
        measured = self._serve(step, slots)
        if self.cells > 1:
            measured = self._pass_shared(measured, offered, before, slots)
        self._measured, self.queue_mbit, self.slots = measured, measured.queue_mbit, slots
        served = Served(offered, before, slots, self.period_s[:, None], measured.delay_ms, measured.jitter_ms)
        self.believed = calibrated(self.believed, served)
        if self.cells > 1:
            self._tell_apart(served)

    def _tell_apart(self, served: Served) -> None:
        """What an app that knows the shared links learns of them, and of each node's own."""
        passed = passed_mbit(served.offered_mbps, served.queue_mbit, self.queue_mbit, self.slots, served.period_s)
        each = (len(self.shared_mbit), self.cells, 3)
        wait = self._over_links(passed, self._shared_seen.queue_mbit)
        self._shared_seen = observed(wait, served.delay_ms.reshape(each), passed.reshape(each))
        self._own_ms = without_wait(served.delay_ms, served.jitter_ms, self._per_node(self._shared_seen))
        self._own_link = calibrated(
            self._own_link, replace(served, delay_ms=self._own_ms[0], jitter_ms=self._own_ms[1])
        )

    def _per_node(self, wait: SharedWait) -> SharedWait:
        return SharedWait(*(np.repeat(value, self.cells, axis=0) for value in vars(wait).values()))

    def _pass_shared(self, own: Prediction, offered: Floats, before: Floats, slots: NDArray[np.int64]) -> Prediction:
        """`own` with the waits of the shared links added."""
        passed = passed_mbit(offered, before, own.queue_mbit, slots, self.period_s[:, None])
        wait = self._over_links(passed, self.shared_mbit)
        self.shared_mbit, each = wait.queue_mbit, self._per_node(wait)
        return waited(own, each, passed)

    def _over_links(self, passed: Floats, queue_mbit: Floats) -> SharedWait:
        """What the shared links make of volumes (N, 3) [Mbit] that nodes let through, backlogs (G, 3) before."""
        together = passed.reshape(-1, self.cells, 3).sum(axis=1)
        return pass_link(together, queue_mbit, self.shared_mbps, self.period_s[:: self.cells], SHARED_BUFFER_MBIT)

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
            self.traffic.alarm_at(self.at),
            self.believed,
        )

    def apart(self) -> tuple[Observation, list[LinkView]]:
        """What an app that knows of the shared links sees: nodes without the links' waits, and the links themselves."""
        seen = replace(self.observation(), delay_ms=self._own_ms[0], jitter_ms=self._own_ms[1], link=self._own_link)
        links = zip(self.shared_mbps, self._shared_seen.queue_mbit, strict=True)
        return seen, [LinkView(float(rate), SHARED_BUFFER_MBIT, queue) for rate, queue in links]

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
        return bounded(last, self.queue_mbit, self.period_s, limits, self.believed, self.mask())

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
        self._put_in_force(self.at, slots)
        limits = self.policies.limits
        objective = evaluate(self._measured, slots, limits)
        priced = np.minimum(objective.terms[..., :2], TERM_LIMIT).sum(axis=(-1, -2)) + objective.terms[..., 2].sum(
            axis=-1
        )
        reward = -(priced + objective.penalty(limits) + limits.slot_move_cost * moved)
        self.at += 1
        return StepResult(reward, objective, moved, self.at >= self.steps + HISTORY)
