"""The transient solver against phasors, against itself in other forms, and at the instants where it must not invent."""

from dataclasses import replace

import numpy as np
import pytest

from e2sim.grid.emt import FREQUENCY_HZ, OPEN_OHM, FeederSolver
from e2sim.grid.waveforms import NEUTRALS, SECTIONS, draw_parameters

RATE_HZ = 4_000
OMEGA = 2 * np.pi * FREQUENCY_HZ
CYCLE = round(RATE_HZ / FREQUENCY_HZ)


def feeder(batch=2, neutral="low_resistance", seed=3):
    return draw_parameters(np.random.default_rng(seed), batch, neutral)


def run(solver, steps, **options):
    rows = [solver.step(**options) for _ in range(steps)]
    return np.array([row[0] for row in rows]), np.array([row[1] for row in rows])


def phasor(samples):
    """Complex amplitude of the fundamental of one whole cycle (N, ...), as in Re(X exp(jwt)) of a sine source."""
    turn = np.exp(-1j * 2 * np.pi * np.arange(1, CYCLE + 1) / CYCLE)
    return 2 / CYCLE * np.tensordot(turn, samples[-CYCLE:], axes=(0, 0))


def phasor_solution(p, row):
    """Voltages (1 + 2 S, 3) of feeder `row` in steady state by complex nodal analysis, independent of the solver."""
    places = 1 + 2 * SECTIONS
    matrix = np.zeros((3 * places + 1, 3 * places + 1), dtype=complex)
    current = np.zeros(3 * places + 1, dtype=complex)

    def join(first, second, admittance):
        matrix[first, first] += admittance
        if second is not None:
            matrix[second, second] += admittance
            matrix[first, second] -= admittance
            matrix[second, first] -= admittance

    neutral = 3 * places
    join(neutral, None, 1 / (p.neutral_r[row] + 1j * OMEGA * p.neutral_l[row]))
    for phase in range(3):
        source = 1 / (p.source_r[row] + 1j * OMEGA * p.source_l[row])
        # A sine is the imaginary part: as a cosine phasor it lags by a quarter turn.
        emf = p.emf_v[row] * np.exp(-1j * (2 * np.pi / 3 * phase + np.pi / 2))
        join(neutral, phase, source)
        current[phase] += source * emf
        current[neutral] -= source * emf
    for section in range(SECTIONS):
        for half in range(2):
            for phase in range(3):
                z = p.line_r[row, section, half, phase] + 1j * OMEGA * p.line_l[row, section, half, phase]
                join(3 * (2 * section + half) + phase, 3 * (2 * section + half + 1) + phase, 1 / z)
        for phase in range(3):
            end = 3 * (2 * section + 2)
            join(end + phase, None, 1j * OMEGA * p.line_c[row, section, phase])
            z = p.load_r[row, section, phase] + 1j * OMEGA * p.load_l[row, section, phase]
            join(end + phase, end + (phase + 1) % 3, 1 / z)
            join(3 * (2 * section + 1) + phase, None, p.ground_g[row, section, phase])
    return np.linalg.solve(matrix, current)[:-1].reshape(places, 3)


@pytest.mark.parametrize("neutral", NEUTRALS)
@pytest.mark.parametrize("earth_fault", [False, True], ids=["sound", "earth fault of 20 ohm"])
def test_solver_steady_state_against_phasors(neutral, earth_fault):
    p = feeder(neutral=neutral)
    if earth_fault:
        ground = p.ground_g.copy()
        ground[:, 1, 0] = 1 / 20
        p = replace(p, ground_g=ground)
    current, voltage = run(FeederSolver(p, 1 / RATE_HZ), 50 * CYCLE)
    for row in range(2):
        expected = phasor_solution(p, row)
        scale = np.abs(p.emf_v[row])
        assert np.abs(phasor(voltage)[row] - expected[0:-1:2]).max() < 0.01 * scale
        z = p.line_r[row, :, 0] + 1j * OMEGA * p.line_l[row, :, 0]
        amps = (expected[0:-1:2] - expected[1::2]) / z
        assert np.abs(phasor(current)[row] - amps).max() < 0.02 * np.abs(amps).max()


def test_solver_batch_equals_single():
    p = feeder(batch=3)
    together = run(FeederSolver(p, 1 / RATE_HZ), 200)[0]
    for row in range(3):
        alone = replace(p, **{name: getattr(p, name)[row : row + 1] for name in p.__dataclass_fields__})
        np.testing.assert_allclose(run(FeederSolver(alone, 1 / RATE_HZ), 200)[0][:, 0], together[:, row], atol=1e-6)


def test_solver_arc_conductance_equals_the_same_fault_in_the_matrix():
    p = feeder()
    solver = FeederSolver(p, 1 / RATE_HZ)
    node = np.array([solver.middle_node(2, 1)] * 2)
    by_correction = run(solver, 300, arc=(node, np.array([0.1, 0.02])))
    ground = p.ground_g.copy()
    ground[:, 2, 1] = [0.1, 0.02]
    by_matrix = run(FeederSolver(replace(p, ground_g=ground), 1 / RATE_HZ), 300)
    for one, other in zip(by_correction, by_matrix, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-4)


def test_solver_open_conductor_conducts_until_current_zero_then_stays_quiet():
    """A chopped current would ring from step to step: an artefact that a classifier could learn."""
    p = feeder(batch=1)
    solver = FeederSolver(p, 1 / RATE_HZ)
    run(solver, 20 * CYCLE + 13)
    before = solver.step()[0][0, 3, 0]
    line = p.line_r.copy()
    line[:, 3, 1, 0] = OPEN_OHM
    solver.change(replace(p, line_r=line))
    current = run(solver, 2 * CYCLE)[0][:, 0, 3, 0]
    opened = int(np.flatnonzero(np.abs(current) < 0.02 * np.abs(current).max())[0])
    assert abs(current[0] - before) < 0.15 * np.abs(current).max()
    assert opened < CYCLE
    assert np.abs(current[opened + 2 :]).max() < 0.05 * np.abs(current[:opened]).max()
    assert not solver.opening.any()


def test_solver_current_dies_out_without_a_source():
    """The lines, loads and capacitances are passive: what is stored in them only falls."""
    p = feeder(batch=1, neutral="isolated")
    solver = FeederSolver(p, 1 / RATE_HZ)
    loud = np.abs(run(solver, 5 * CYCLE)[0]).max()
    solver.change(replace(p, emf_v=np.zeros(1)))
    assert np.abs(run(solver, 30 * CYCLE)[0][-CYCLE:]).max() < 1e-3 * loud
