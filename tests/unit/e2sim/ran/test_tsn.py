import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2sim.ran.tsn import GateControlList, TsnHop, gate_delay, gating_bound_ms

GATES = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=bool)


def gates_of(rows):
    return GateControlList(200.0, np.array(rows, dtype=bool))


@pytest.mark.parametrize(
    ("rows", "runs"),
    [
        ([[1], [1]], []),
        ([[0], [0]], [float("inf")]),
        ([[0], [1], [0], [0], [1]], [400.0, 200.0]),
        ([[0], [1], [1], [0]], [400.0]),
    ],
    ids=["always open", "never open", "two spells", "joined over the wrap"],
)
def test_closed_runs(rows, runs):
    assert sorted(gates_of(rows).closed_runs_us(0)) == sorted(runs)


def test_gate_delay_against_a_sampled_gate():
    """Frames that arrive evenly at a light load wait for the next opening; the mean and spread are sampled directly."""
    hop = TsnHop(gates_of(GATES), hops=1)
    times_us = np.linspace(0, 1_000, 200_001)[:-1]
    waits = np.zeros((times_us.size, 3))
    for index in range(3):
        is_open = GATES[(times_us // 200).astype(int), index]
        for start in np.flatnonzero(~is_open):
            step = int(times_us[start] // 200)
            later = next(n for n in range(1, 6) if GATES[(step + n) % 5, index])
            waits[start, index] = (step + later) * 200 - times_us[start]
    delay = gate_delay(hop, np.zeros(3))
    np.testing.assert_allclose(delay.mean_ms, waits.mean(axis=0) / 1e3, rtol=1e-3)
    np.testing.assert_allclose(delay.variance_ms2, waits.var(axis=0) / 1e6, rtol=1e-3)


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=8), st.floats(0, 90_000))
def test_gate_delay_stays_below_the_bound_of_eq_1(rows, rate_mbps):
    gates = gates_of(rows)
    if any(not gates.open_gates[:, index].any() for index in range(3)):
        return
    hop = TsnHop(gates, hops=3)
    delay = gate_delay(hop, np.full(3, rate_mbps))
    bound = gating_bound_ms(hop, (1, 1, 1))
    assert (delay.mean_ms <= delay.max_ms + 1e-12).all()
    assert (delay.max_ms <= bound + 1e-12).all()


def test_bound_of_eq_1_by_hand():
    """Two hops, longest closed spell 200 us, one 88-octet blocker at 100 Gb/s (7.04 ns), 500 ns of clock error."""
    hop = TsnHop(gates_of(GATES), hops=2, sync_error_ns=500)
    assert gating_bound_ms(hop, (1, 1, 1))[0] == pytest.approx(2 * (0.2 + 7.04e-6) + 5e-4)


def test_preemption_shortens_the_blocking():
    with_it, without = (TsnHop(gates_of(GATES), preemption=on).blocking_us for on in (True, False))
    assert with_it < without / 10
