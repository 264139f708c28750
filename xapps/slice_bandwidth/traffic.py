"""Load of the three slices per period, domain-randomised: what training draws, and what only evaluation does.

`KNOWN`: steps, ramps, drifts, bursts with and without an alarm. `WIDE`, for training: two fifths of that, else loads
that jump between levels at irregular times, events that hit all slices at once, spikes of one period. `UNSEEN`, for
evaluation alone: swings, strictly periodic polling, surges that decay, heavy tails. Nothing is taken from the
simulator, its seeds included.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from xapps.slice_bandwidth.model import NEW_ALARM, NO_ALARM, OLD_ALARM

__all__ = ["Draws", "TrafficBatch", "draw_traffic"]

Floats = NDArray[np.float64]


class Draws(StrEnum):
    """Where an episode's traffic and policies are drawn from."""

    KNOWN = "known"
    WIDE = "wide"
    UNSEEN = "unseen"


# Per slice (control, protection, monitoring): range of each quantity that an environment draws once.
BASE_GBPS = np.array([[3.0, 14.0], [0.5, 9.0], [4.0, 21.0]])
PEAK_GBPS = np.array([[28.0, 80.0], [15.0, 60.0], [22.0, 65.0]])
EVENTS_PER_S = np.array([[0.002, 0.06], [0.002, 0.06], [0.002, 0.05]])
RISE_S = np.array([[0.05, 4.0], [0.02, 0.3], [0.05, 5.0]])
HOLD_S = np.array([[1.0, 40.0], [0.3, 6.0], [1.0, 60.0]])
SPREAD = np.array([[0.01, 0.15], [0.02, 0.25], [0.01, 0.15]])
RATE_CORRELATION_S = (0.3, 30.0)
NOISE = (0.005, 0.08)
ALARM_SHARE = 0.7
FALSE_ALARMS_PER_S = 0.002


@dataclass(frozen=True)
class TrafficBatch:
    """offered_mbps (steps, N, 3) [Mb/s] and alarm (steps, N): True while a fault alarm is active."""

    offered_mbps: Floats
    alarm: NDArray[np.bool_]

    def alarm_at(self, step: int) -> Floats:
        """What a controller knows of alarms before the period `step` (N,), `step` above 0: new ones began in it."""
        return np.select([self.alarm[step] & ~self.alarm[step - 1], self.alarm[step]], [NEW_ALARM, OLD_ALARM], NO_ALARM)


def _between(generator: np.random.Generator, ranges: Floats, number: int) -> Floats:
    """One draw (number, rows) per row of `ranges` (rows, 2), uniform in the logarithm."""
    low, high = np.log(ranges[:, 0]), np.log(ranges[:, 1])
    return np.exp(generator.uniform(low, high, size=(number, len(ranges))))


class _Events:
    """Trapezoid events, at most one at a time per environment and slice."""

    def __init__(self, generator: np.random.Generator, number: int) -> None:
        self.generator = generator
        self.rate = _between(generator, EVENTS_PER_S, number)
        self.age_s = np.full((number, 3), np.inf)
        self.rise_s, self.hold_s, self.peak = (np.ones((number, 3)) for _ in range(3))

    def step(self, period_s: Floats) -> Floats:
        """Share of the way from base load to peak (N, 3), 0 without an event."""
        self.age_s += period_s
        over = self.age_s >= 2 * self.rise_s + self.hold_s
        start = over & (self.generator.random(over.shape) < 1 - np.exp(-self.rate * period_s))
        number = len(over)
        self.rise_s = np.where(start, _between(self.generator, RISE_S, number), self.rise_s)
        self.hold_s = np.where(start, _between(self.generator, HOLD_S, number), self.hold_s)
        self.peak = np.where(start, _between(self.generator, PEAK_GBPS, number), self.peak)
        # An event starts somewhere inside the period, so that its first row shows a part of the rise.
        self.age_s = np.where(start, self.generator.random(over.shape) * period_s, self.age_s)
        left = 2 * self.rise_s + self.hold_s - self.age_s
        return np.asarray(np.clip(np.minimum(self.age_s, left) / self.rise_s, 0.0, 1.0))


def draw_traffic(
    generator: np.random.Generator, steps: int, period_s: Floats, draws: Draws = Draws.KNOWN
) -> TrafficBatch:
    """`steps` periods of `period_s` (N,) [s] for N environments, each with parameters of its own."""
    if draws is Draws.UNSEEN:
        return _unseen_traffic(generator, steps, period_s)
    known = _known_traffic(generator, steps, period_s)
    if draws is Draws.KNOWN:
        return known
    wide = _wide_traffic(generator, steps, period_s)
    other = generator.random(len(period_s)) < WIDE_SHARE
    return TrafficBatch(
        np.where(other[:, None], wide.offered_mbps, known.offered_mbps), np.where(other, wide.alarm, known.alarm)
    )


def _known_traffic(generator: np.random.Generator, steps: int, period_s: Floats) -> TrafficBatch:
    number = len(period_s)
    period = period_s[:, None]
    base = _between(generator, BASE_GBPS, number)
    spread = _between(generator, SPREAD, number)
    noise = _between(generator, np.array([NOISE] * 3), number)
    correlation = np.exp(-period / _between(generator, np.array([RATE_CORRELATION_S] * 3), number))
    events = _Events(generator, number)
    wander = generator.standard_normal((number, 3))
    alarm_left_s = np.zeros(number)
    offered = np.empty((steps, number, 3))
    alarm = np.empty((steps, number), dtype=np.bool_)
    for step in range(steps):
        was_idle = ~np.isfinite(events.age_s[:, 1]) | (
            events.age_s[:, 1] >= 2 * events.rise_s[:, 1] + events.hold_s[:, 1]
        )
        share = events.step(period)
        wander = correlation * wander + np.sqrt(1 - correlation**2) * generator.standard_normal((number, 3))
        level = base + share * np.maximum(events.peak - base, 0.0)
        rate = level * np.exp(spread * wander - spread**2 / 2) * (1 + noise * generator.standard_normal((number, 3)))
        offered[step] = np.clip(rate, 0.05, 100.0) * 1e3
        duration_s = 2 * events.rise_s[:, 1] + events.hold_s[:, 1]
        raised = was_idle & (events.age_s[:, 1] < duration_s) & (generator.random(number) < ALARM_SHARE)
        false_one = generator.random(number) < FALSE_ALARMS_PER_S * period_s
        alarm_left_s = np.where(raised, duration_s, np.where(false_one, 3.0, alarm_left_s - period_s))
        alarm[step] = alarm_left_s > 0
    return TrafficBatch(offered, alarm)


# What training draws beside the families above.
WIDE_SHARE = 0.6
WIDE_MEAN_GBPS = np.array([[1.5, 20.0], [0.3, 14.0], [1.5, 28.0]])
LEVELS, LEVEL_SPREAD = 3, (0.05, 0.9)
DWELL_S, REGULARITY = (0.2, 30.0), (0.1, 1.0)
SMALL_NOISE, WANDER = (0.003, 0.1), (0.005, 0.3)
CYCLIC_SHARE, CYCLE_DWELL_S, CYCLE_REGULARITY = 0.5, (0.15, 5.0), (0.002, 0.2)
SPIKES, SPIKE_HEIGHT = (0.001, 0.15), (0.05, 0.5)
COMMON_PER_S, COMMON_RISE_S, COMMON_HOLD_S, COMMON_FACTOR = (0.005, 0.06), (0.02, 4.0), (0.2, 20.0), (1.2, 3.2)


def _wide_traffic(generator: np.random.Generator, steps: int, period_s: Floats) -> TrafficBatch:
    """Levels that are held for irregular times or come round in turn, events of all slices together, spikes of one
    period, slow wander.
    """
    number, period = len(period_s), period_s[:, None]

    def one(low: float, high: float) -> Floats:
        return _between(generator, np.array([[low, high]] * 3), number)

    mean, spread = _between(generator, WIDE_MEAN_GBPS, number), one(*LEVEL_SPREAD)
    levels = np.exp(spread[..., None] * generator.standard_normal((number, 3, LEVELS)))
    dwell = _between(generator, np.array([DWELL_S] * 3 * LEVELS), number).reshape(number, 3, LEVELS)
    irregular, noise, wandering = one(*REGULARITY), one(*SMALL_NOISE), one(*WANDER)
    cyclic = generator.random((number, 3)) < CYCLIC_SHARE
    cycle = _between(generator, np.array([CYCLE_DWELL_S] * 3 * LEVELS), number).reshape(number, 3, LEVELS)
    dwell = np.where(cyclic[..., None], cycle, dwell)
    irregular = np.where(cyclic, one(*CYCLE_REGULARITY), irregular)
    spikes, spike_height = one(*SPIKES), one(*SPIKE_HEIGHT)
    correlation = np.exp(-period / one(*RATE_CORRELATION_S))
    told = generator.random(number) < 0.5
    common = _common(generator, steps, period_s, told)
    height = one(*COMMON_FACTOR) - 1
    level = generator.integers(0, LEVELS, (number, 3))
    left_s = np.zeros((number, 3))
    wander = generator.standard_normal((number, 3))
    offered = np.empty((steps, number, 3))
    for step in range(steps):
        over = left_s <= 0
        onward = np.where(cyclic, 1, generator.integers(1, LEVELS, level.shape))
        level = np.where(over, (level + onward) % LEVELS, level)
        held = np.take_along_axis(dwell, level[..., None], axis=-1)[..., 0]
        drawn = held * np.exp(irregular * generator.standard_normal(held.shape))
        left_s = np.where(over, np.maximum(left_s + drawn, 0.0), left_s) - period
        wander = correlation * wander + np.sqrt(1 - correlation**2) * generator.standard_normal((number, 3))
        spike = (generator.random((number, 3)) < spikes) * np.abs(generator.standard_normal((number, 3)))
        rate = mean * np.take_along_axis(levels, level[..., None], axis=-1)[..., 0]
        rate = rate * np.exp(wandering * wander + noise * generator.standard_normal((number, 3)) + spike_height * spike)
        offered[step] = np.clip(rate * (1 + height * common[step][:, None]), 0.05, 100.0) * 1e3
    return TrafficBatch(offered, (common > 0) & told)


def _common(generator: np.random.Generator, steps: int, period_s: Floats, is_fault: NDArray[np.bool_]) -> Floats:
    """Height (steps, N) of trapezoid events that all slices share, at most 1; those of a fault rise at once."""
    number = len(period_s)
    ranges = np.array([COMMON_PER_S, COMMON_RISE_S, COMMON_HOLD_S, RISE_S[1]])
    rate, rise_s, hold_s, fault_rise_s = _between(generator, ranges, number).T
    rise_s = np.where(is_fault, fault_rise_s, rise_s)
    begins = generator.random((steps, number)) < 1 - np.exp(-rate * period_s)
    age_s, out = np.full(number, np.inf), np.empty((steps, number))
    for step in range(steps):
        age_s = np.where(begins[step] & (age_s > 2 * rise_s + hold_s), 0.5 * period_s, age_s + period_s)
        out[step] = np.clip(np.minimum(age_s, 2 * rise_s + hold_s - age_s) / rise_s, 0.0, 1.0)
    return out


# What training never draws: per slice mean load, polling and a surge that hits all slices at once.
UNSEEN_MEAN_GBPS = np.array([[2.0, 18.0], [0.3, 12.0], [2.0, 26.0]])
POLL_S, POLL_DUTY, POLL_FACTOR = (1.0, 15.0), (0.05, 0.4), (1.3, 3.5)
SWING_S, SWING = (5.0, 120.0), (0.05, 0.5)
SURGES_PER_S, SURGE_S, SURGE_FACTOR = (0.005, 0.04), (1.0, 20.0), (1.3, 3.0)
HEAVY_TAIL_SHAPE = 2.2


def _unseen_traffic(generator: np.random.Generator, steps: int, period_s: Floats) -> TrafficBatch:
    """Traffic of families that training does not know, to judge generalisation by.

    Slow swings, polling in square waves, surges of all slices together with exponential decay, heavy-tailed bursts of
    one period; an alarm stands while a surge is above half its height in half of the environments.
    """
    number = len(period_s)
    time_s = np.arange(steps)[:, None, None] * period_s[None, :, None]

    def one(low: float, high: float) -> Floats:
        return _between(generator, np.array([[low, high]] * 3), number)

    mean = _between(generator, UNSEEN_MEAN_GBPS, number)
    swing = 1 + one(*SWING) * np.sin(2 * np.pi * (time_s / one(*SWING_S) + generator.random((number, 3))))
    phase = (time_s / one(*POLL_S) + generator.random((number, 3))) % 1.0
    polling = 1 + (one(*POLL_FACTOR) - 1) * (phase < one(*POLL_DUTY))
    surge = _surges(generator, steps, period_s)
    height = one(*SURGE_FACTOR) - 1
    heavy = 1 + 0.05 * np.minimum(generator.pareto(HEAVY_TAIL_SHAPE, (steps, number, 3)), 20.0)
    offered = np.clip(mean * swing * polling * (1 + height * surge[..., None]) * heavy, 0.05, 100.0) * 1e3
    told = generator.random(number) < 0.5
    return TrafficBatch(offered, (surge > 0.5) & told)


def _surges(generator: np.random.Generator, steps: int, period_s: Floats) -> Floats:
    """Height (steps, N) of the surge in force, 1 when it begins."""
    number = len(period_s)
    rate, decay_s = _between(generator, np.array([SURGES_PER_S, SURGE_S]), number).T
    begins = generator.random((steps, number)) < 1 - np.exp(-rate * period_s)
    height, out = np.zeros(number), np.empty((steps, number))
    for step in range(steps):
        height = np.where(begins[step], 1.0, height * np.exp(-period_s / decay_s))
        out[step] = height
    return out
