"""The safety layer: the bound holds, choices are projected into the layers, and overrides are named."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapps.slice_bandwidth.decision import observed
from xapps.slice_bandwidth.forecast import MASSES, OUTPUTS, persistence
from xapps.slice_bandwidth.lattice import SPLITS, bounds_of
from xapps.slice_bandwidth.model import SLICES, LinkModel, predict_table
from xapps.slice_bandwidth.objective import limits_of
from xapps.slice_bandwidth.policy import SlicePolicy
from xapps.slice_bandwidth.rl_agent import Observation
from xapps.slice_bandwidth.safety import (
    BOUND,
    BUDGET_SLACK,
    FLOORS,
    MOST_BEYOND,
    RATE,
    bounded,
    delay_bound_ms,
    in_budget,
    layers_of,
    secured,
)
from xapps.slice_bandwidth.state import HISTORY

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


def budgeted(state, forecaster=persistence, prices=(3.0, 3.0, 3.0), **budgets_ms):
    policy = SlicePolicy.model_validate(
        {
            name: {"packet_delay_budget_ms": budgets_ms.get(name), "violation_cost": price}
            for name, price in zip(SLICES, prices, strict=True)
        }
    )
    seen = observed([state], [policy])
    return SPLITS[in_budget(seen, forecaster, limits_of(policy), EVERY[None])[0]]


def test_in_budget_without_budgets_keeps_all(make_state):
    assert len(budgeted(make_state(load=(60e3, 4e3, 9e3), queue=(900, 0, 0)))) == len(SPLITS)


def test_in_budget_clears_a_backlog_within_the_budget_where_slots_can(make_state):
    # 500 Mbit have 9.49 ms on 11 slots, priced 3 x (9.49 / 9 - 1) beyond the budget: more than the slack; 8.73 on 12.
    kept = budgeted(make_state(load=(9e3, 4e3, 9e3), queue=(500, 0, 0)), control=9.0)
    assert kept[:, 0].min() == 12
    # 900 Mbit miss 3 ms on any, and least on the most that there is.
    assert budgeted(make_state(load=(9e3, 4e3, 9e3), queue=(900, 0, 0)), control=3.0)[:, 0].min() == 17


def test_in_budget_what_is_lost_anyway_takes_nothing_from_the_others(make_state):
    hopeless = make_state(load=(9e3, 4e3, 9e3), queue=(2_400, 0, 0))
    assert len(budgeted(hopeless, control=3.0)) == len(SPLITS)
    kept = budgeted(hopeless, control=3.0, monitoring=30.0)
    assert kept[:, 0].min() == 1
    assert kept[:, 2].min() == 2


def test_in_budget_holds_slots_for_loads_that_may_come(make_state):
    doubles_at_worst = lambda rows: np.tile(np.log([1] * 6 + [2]), (len(rows), OUTPUTS // 7)).astype("f4")  # noqa: E731
    assert MASSES[-1] == 0.02
    state = make_state(load=(15e3, 4e3, 9e3))
    # 30 Gb/s have 20.4 ms on 5 slots: 0.02 x 3 x (20.4 / 3 - 1) is more than the slack.
    assert budgeted(state, control=3.0)[:, 0].min() == 3
    assert budgeted(state, doubles_at_worst, control=3.0)[:, 0].min() == 6
    assert budgeted(state, doubles_at_worst, control=50.0)[:, 0].min() == 3


def test_in_budget_dearer_slices_come_first_where_not_all_can_be_kept(make_state):
    state = make_state(load=(4e3, 2e3, 4e3), queue=(600, 0, 600))  # 12 slots would do for either
    for prices, dear in (((9.0, 1.0, 1.0), 0), ((1.0, 1.0, 9.0), 2)):
        kept = budgeted(state, prices=prices, control=10.4, monitoring=10.4)
        assert kept[:, dear].min() == 12


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.sampled_from([0.01, 0.1, 1.0, 60.0]))
def test_in_budget_leaves_some_of_what_is_permitted_and_no_worse_than_any(seed, period_s):
    generator = np.random.default_rng(seed)
    policy = SlicePolicy.model_validate(
        {name: {"packet_delay_budget_ms": float(generator.uniform(0.1, 200))} for name in ("control", "monitoring")}
    )
    mask = generator.random((4, 525)) < generator.uniform(0.01, 1)
    mask[:, 7] = True
    load, queue, one = generator.uniform(0, 9e4, (4, HISTORY, 3)), generator.uniform(0, 2e3, (4, 3)), np.ones((4, 3))
    limits = limits_of(policy)
    link = LinkModel(*(np.tile(value, (4, 1)) for value in vars(LinkModel()).values()))
    seen = Observation(load, queue, one, one, one.astype(int), np.full(4, period_s), np.zeros(4), link)
    kept = in_budget(seen, persistence, limits, mask)
    if period_s > 1:
        assert np.array_equal(kept, mask)
        return
    capacity = np.maximum(SPLITS * 5e3, 1.0)
    growth = np.maximum(load[:, -1, None] - capacity, 0) * period_s
    longest = link.base_delay_ms[:, None] + (queue[:, None] + growth) / capacity * 1e3
    over = (limits.violation_cost * np.clip(longest / limits.budget_ms - 1, 0, MOST_BEYOND)).sum(axis=-1)
    least = np.where(mask, over, np.inf).min(axis=1, keepdims=True)
    assert np.array_equal(kept, mask & (over <= least + BUDGET_SLACK + 1e-9 * least))


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
