"""The safety layer: the bound holds, choices are projected into the layers, and overrides are named."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapps.slice_bandwidth.lattice import SPLITS, bounds_of
from xapps.slice_bandwidth.model import LinkModel, predict_table
from xapps.slice_bandwidth.objective import limits_of
from xapps.slice_bandwidth.policy import SlicePolicy
from xapps.slice_bandwidth.safety import BOUND, FLOORS, RATE, bounded, delay_bound_ms, layers_of, secured

LINK, LIMITS = LinkModel(), limits_of(SlicePolicy())
EVERY = np.ones(525, dtype=bool)


def test_delay_bound_by_hand():
    link = LinkModel(np.full(3, 0.5), np.full(3, 2.0), np.full(3, 2_500.0))
    got = delay_bound_ms(np.full(3, 30_000.0), np.full(3, 100.0), 0.1, link)
    # 5 slots: 100 + 2 + 5,000 x 0.1 / 2 Mbit at 25 Gb/s, and 0.5 ms.
    assert got[5] == pytest.approx(np.full(3, 0.5 + 352 / 25))
    # 8 slots carry the load and are three quarters full: 100 + 2 / (1 + 1 / 2) Mbit at 40 Gb/s.
    assert got[8] == pytest.approx(np.full(3, 0.5 + (100 + 2 / 1.5) / 40))


def mean_wait(arrived, capacity):
    """Mean backlog before each unit of `arrived` (T,) per instant; `capacity` leaves per instant."""
    backlog = waited = 0.0
    for units in arrived:
        waited += units * (backlog + units / 2)
        backlog = max(backlog + units - capacity, 0.0)
    return waited / arrived.sum()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.floats(0.05, 0.95))
def test_delay_bound_holds_for_the_mean_of_any_arrivals_that_a_token_bucket_lets_pass(seed, rho):
    generator, capacity, burst, instants = np.random.default_rng(seed), 25.0, 400.0, 600
    wish = generator.exponential(3.0, instants) * (generator.random(instants) < generator.uniform(0.02, 1)) * 100
    tokens, arrived = burst, np.zeros(instants)
    for k in range(instants):
        arrived[k] = min(wish[k], tokens)
        tokens = min(tokens - arrived[k] + rho * capacity, burst)
    # 1 ms of 25 Gb/s is 25 Mbit: with an instant of 1 ms units are Mbit.
    link = LinkModel(np.zeros(3), np.full(3, burst), np.full(3, 1e9))
    bound = delay_bound_ms(np.full(3, rho * 25e3), np.zeros(3), 0.6, link)[5, 0]
    assert mean_wait(arrived, capacity) / 25.0 <= bound * 1.001


def test_delay_bound_is_met_by_the_worst_arrivals():
    """A full burst, then the rate until the bucket refuses nothing more than the link has carried: see the ADR."""
    rho, burst, capacity = 0.75, 4_000.0, 25.0
    length = burst / capacity / np.sqrt(1 - rho)
    arrived = np.full(int(length), rho * capacity)
    arrived[0] = burst
    arrived[np.cumsum(arrived) > capacity * length] = 0.0
    assert mean_wait(arrived, capacity) == pytest.approx(burst / (1 + np.sqrt(1 - rho)), rel=0.02)


@settings(deadline=None)
@given(st.floats(0, 120_000), st.floats(0, 2_000), st.sampled_from([0.01, 0.1, 1.0]))
def test_delay_bound_is_never_below_the_fluid_delay_and_falls_with_slots(load, queue, period_s):
    fluid = LinkModel(np.zeros(3), np.full(3, 1e-9), np.full(3, 1e9))
    bound = delay_bound_ms(np.full(3, load), np.full(3, queue), period_s, fluid)
    mean = predict_table(np.full(3, load), np.full(3, queue), period_s, fluid).delay_ms
    assert (bound[1:] >= mean[1:] - 1e-6 - 1e-9 * mean[1:]).all()
    assert (np.diff(bound, axis=0) <= 1e-6).all()


def test_bounded_keeps_what_holds_d_max_and_all_where_nothing_does():
    kept = bounded(np.array([60e3, 4e3, 9e3]), np.zeros(3), np.array(0.1), LIMITS, LINK, EVERY)
    # On n slots (60 - 5 n) Gb/s too much for half of 0.1 s wait: 60 ms on 6, 42 ms on 7.
    assert SPLITS[kept][:, 0].min() == 7
    hopeless = bounded(np.full(3, 9e4), np.full(3, 2_000.0), np.array(0.1), LIMITS, LINK, EVERY)
    assert hopeless.all()


def test_bounded_does_not_take_a_minute_old_load_for_granted():
    assert bounded(np.array([48e3, 4e3, 9e3]), np.zeros(3), np.array(60.0), LIMITS, LINK, EVERY).all()


def test_bounded_a_full_buffer_is_no_excuse():
    """Eq (3) knows no loss: a queue that drops keeps its delay, and the bound must not."""
    small = LinkModel(buffer_mbit=np.full(3, 300.0))
    kept = bounded(np.array([70e3, 4e3, 4e3]), np.array([300.0, 0, 0]), np.array(0.1), LIMITS, small, EVERY)
    # On 7 slots 300 Mbit wait, and 35 Gb/s too much for 0.1 s: 2,051 Mbit on average at 35 Gb/s, 59 ms.
    assert SPLITS[kept][:, 0].min() == 8


def test_layers_of_lift_the_rate_limit_for_an_urgent_alarm():
    policy = SlicePolicy(max_moved_slots=1)
    slots = np.array([2, 2, 16])
    calm, urgent = (dict(layers_of(bounds_of(policy, True), slots, urgent=value)) for value in (False, True))
    assert calm[RATE].sum() >= 1
    assert np.array_equal(urgent[RATE], urgent[FLOORS])


def test_secured_projects_and_names_the_layers_that_mattered():
    preference = np.arange(525, dtype=float)
    low, lower = EVERY.copy(), EVERY.copy()
    low[500:], lower[400:] = False, False
    assert secured(preference, [(FLOORS, EVERY)]).overrides == ()
    got = secured(preference, [(FLOORS, EVERY), (RATE, low), (BOUND, low & lower)])
    assert (got.row, got.overrides) == (399, (RATE, BOUND))
