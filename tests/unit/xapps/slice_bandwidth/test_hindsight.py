"""The teacher: its table against a step-by-step calculation, and what it teaches."""

import numpy as np
import pytest

from xapps.slice_bandwidth.environment import TAIL, VectorSliceEnv
from xapps.slice_bandwidth.hindsight import GRID_MBIT, continuations
from xapps.slice_bandwidth.model import ALL_SLOTS, predict
from xapps.slice_bandwidth.objective import priced_table


@pytest.fixture(scope="module")
def played():
    env = VectorSliceEnv(4, 3, random_policies=False, period_s=0.1)
    env.reset(np.random.default_rng(3))
    episode = env.episode()
    return env, episode, continuations(episode, 0.9)


def test_continuations_end_with_nothing(played):
    _, episode, made = played
    assert len(episode.offered_mbps) == 3 + TAIL
    assert not made.table[-1].any()
    assert made.table.shape == (4 + TAIL, 4, 21, len(GRID_MBIT), 3)


def test_continuations_last_period_against_a_calculation_of_its_own(played):
    """One slice, one backlog: the count that looked cheapest under the load before, at the price of the true load."""
    env, episode, made = played
    last, node, slice_index = len(episode.offered_mbps) - 1, 1, 0
    queue = 150.0
    link = type(env.link)(*(value[node] for value in vars(env.link).values()))
    limits = type(env.policies.limits)(*(np.asarray(value)[node] for value in vars(env.policies.limits).values()))

    def costs(load):
        got = predict(load, np.full(3, queue), ALL_SLOTS, 0.1, link)
        return priced_table(got, limits)[:, slice_index]

    low = episode.alarmed.low if episode.alarm[last, node] else episode.quiet.low
    counts = np.arange(max(1, low[node, slice_index]), 21)
    seen, true = (costs(episode.offered_mbps[step, node]) for step in (last - 1, last))
    for held in (1, 5, 12):
        choice = counts[np.argmin([seen[count] + 0.025 * abs(count - held) for count in counts])]
        expected = true[choice] + 0.025 * abs(choice - held)
        got = made.after(last, np.full((4, 21, 3), queue))[node, held, slice_index]
        assert got == pytest.approx(expected, rel=1e-4)


def test_continuations_more_backlog_never_costs_less_but_for_rounding(played):
    _, _, made = played
    table = made.table[0][:, 1:]
    # The count is chosen by the load before, so that in rare cases a fuller queue happens to be served better.
    assert (np.diff(table, axis=2) >= -0.5).all()
    assert (np.diff(table, axis=2) >= -1e-3).mean() > 0.95
