import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from e2sim.ran.gating import GatedHops, gating_bound_applies
from e2sim.ran.tsn import GateControlList, TsnHop, default_gates, gate_delay, gating_bound_ms

STEP_MS, SLICES = 0.2, 3


def hop_of(rows, **more):
    return TsnHop(GateControlList(200.0, np.array(rows, dtype=bool)), **{"hops": 1, "sync_error_ns": 0.0, **more})


def by_chunks(hop, inflow_mbit, parts=100):
    """The same hops in small steps of time: mean, variance and maximum of the wait [ms] of each slice's chunks.

    A chunk that arrives in a small step may leave in the same; within one, slices are served in order.
    """
    dt_ms = STEP_MS / parts
    steps = len(inflow_mbit)
    total = (steps + 40) * parts
    arrived = np.zeros((total, SLICES))
    arrived[: steps * parts] = np.repeat(inflow_mbit / parts, parts, axis=0)
    arrived[steps * parts :] = inflow_mbit.mean(axis=0) / parts
    flow = arrived
    for k in range(hop.hops):
        level, left = np.zeros(SLICES), np.zeros_like(flow)
        for step in range(total):
            at_us = (step * dt_ms * 1e3 - k * hop.offset_us) % hop.gates.cycle_us
            is_open = hop.gates.open_gates[int(at_us // hop.gates.window_us + 1e-9) % len(hop.gates.open_gates)]
            free = hop.line_gbps * dt_ms
            level += flow[step]
            for s in range(SLICES):
                left[step, s] = min(level[s], free) if is_open[s] else 0.0
                free -= left[step, s]
            level -= left[step]
        flow = left
    means, variances, longest = np.zeros(SLICES), np.zeros(SLICES), np.zeros(SLICES)
    for s in range(SLICES):
        gone, come = np.cumsum(flow[:, s]), np.cumsum(arrived[:, s])
        rows = np.flatnonzero(arrived[: steps * parts, s] > 0)
        ends = np.searchsorted(gone, come[rows] - 1e-9)
        waits, weights = (ends - rows) * dt_ms, arrived[rows, s]
        if rows.size:
            means[s] = np.average(waits, weights=weights)
            variances[s] = np.average((waits - means[s]) ** 2, weights=weights)
            longest[s] = waits.max()
    return means, variances, longest


def inflow(seed, steps, peak_gbps, busy=0.7):
    generator = np.random.default_rng(seed)
    shares = generator.random((steps, SLICES)) * (generator.random((steps, SLICES)) < busy)
    return shares * np.array(peak_gbps) * STEP_MS


@pytest.mark.parametrize("offset_us", [0.0, 400.0], ids=["aligned", "hops apart"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_gated_hops_against_small_steps(seed, offset_us):
    hop = TsnHop(default_gates(), hops=2, offset_us=offset_us, sync_error_ns=0.0)
    volumes = inflow(seed, 30, (25, 50, 25))
    waits = GatedHops(hop, SLICES).run(volumes, STEP_MS)
    mean, variance, longest = by_chunks(hop, volumes)
    np.testing.assert_allclose(waits.mean_ms, mean, atol=0.006)
    np.testing.assert_allclose(np.sqrt(waits.variance_ms2), np.sqrt(variance), atol=0.006)
    np.testing.assert_allclose(waits.max_ms, longest, atol=0.012)


def test_one_closed_window_by_hand():
    """10 Gb/s steadily, gate closed for 0.2 of 1 ms at 100 Gb/s: waits fall from 0.2 ms to 0 within 0.2 / 0.9 ms."""
    hop = hop_of([[1], [1], [0], [1], [1]])
    waits = GatedHops(hop, 1).run(np.full((500, 1), 10 * STEP_MS), STEP_MS)
    assert waits.max_ms[0] == pytest.approx(0.2, abs=1e-5)
    assert waits.mean_ms[0] == pytest.approx(0.2 / 0.9 * 0.1, rel=1e-6)


@given(st.floats(0.5, 20), st.integers(0, 2))
@settings(max_examples=30, deadline=None)
def test_gated_hops_against_the_closed_form_alone(gbps, active):
    """A single slice that sends evenly: the closed form of the plant."""
    hop, rates = hop_of(default_gates().open_gates), np.zeros(SLICES)
    rates[active] = gbps
    waits = GatedHops(hop, SLICES).run(np.tile(rates * STEP_MS, (500, 1)), STEP_MS)
    expected = gate_delay(hop, rates * 1e3)
    np.testing.assert_allclose(waits.mean_ms[active], expected.mean_ms[active], rtol=0.01)
    np.testing.assert_allclose(waits.variance_ms2[active], expected.variance_ms2[active], rtol=0.02)
    np.testing.assert_allclose(waits.max_ms[active], expected.max_ms[active], rtol=1e-6)


@given(st.integers(0, 10**6), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_hops_lose_nothing_and_halves_are_the_whole(seed, cut):
    hop = TsnHop(default_gates(), hops=2, offset_us=200.0)
    volumes = inflow(seed, 60, (25, 50, 25))
    whole, parts = GatedHops(hop, SLICES), GatedHops(hop, SLICES)
    whole.run(volumes, STEP_MS)
    parts.run(volumes[:cut], STEP_MS)
    parts.run(volumes[cut:], STEP_MS)
    np.testing.assert_allclose(parts.backlog_mbit, whole.backlog_mbit, atol=1e-6)
    assert (whole.backlog_mbit.sum(axis=0) <= volumes.sum(axis=0) + 1e-9).all()


gate_rows = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=6)
splits = st.sampled_from([(25, 50, 25), (40, 40, 20), (15, 30, 10), (5, 10, 5), (80, 10, 10), (30, 30, 10)])


@given(gate_rows, splits, st.integers(1, 3), st.sampled_from([0.0, 200.0, 600.0]), st.booleans(), st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_measured_wait_never_exceeds_eq_1_where_it_applies(rows, peak_gbps, hops, offset_us, preemption, seed):
    hop = hop_of(rows, hops=hops, offset_us=offset_us, preemption=preemption, sync_error_ns=500.0)
    assume(hop.gates.open_gates.any(axis=0).all())
    applies = gating_bound_applies(hop, np.array(peak_gbps) * 1e3)
    bound = gating_bound_ms(hop, [1] * SLICES)
    subject = GatedHops(hop, SLICES)
    for part in range(3):
        waits = subject.run(inflow(seed + part, 100, peak_gbps), STEP_MS)
        assert (waits.max_ms[applies] <= bound[applies] + 1e-6).all()


def test_eq_1_applies_to_the_default_gates_at_full_load():
    """All slots of the static split busy: control and protection stay within eq (1)."""
    hop = TsnHop(default_gates())
    assert gating_bound_applies(hop, np.array([25e3, 50e3, 25e3])).tolist()[:2] == [True, True]


def test_eq_1_does_not_apply_to_a_slice_that_others_starve():
    """Monitoring's only window is taken whole by control, which gathered 80 Gb/s for four windows."""
    hop = hop_of([[0, 1, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0], [1, 0, 1]])
    assert not gating_bound_applies(hop, np.array([80e3, 10e3, 10e3]))[2]


def test_eq_1_does_not_apply_behind_a_gate_that_never_opens():
    assert gating_bound_applies(hop_of([[1, 1, 0]]), np.full(SLICES, 1e3)).tolist() == [True, True, False]
