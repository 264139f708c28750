"""Fault kinds look as they must at the feeder terminal units; streams and data sets are seeded and labelled truly."""

import numpy as np
import pytest

from e2sim.grid.waveforms import FAULT_KINDS, SECTIONS, FaultEvent, FeederWaveforms, draw_event, generate_events

CYCLE = 80
FAULT_S = 0.05
SECTION = 3


def play(
    kind, *, resistance_ohm=5.0, duration_s=10.0, windows=20, seed=4, phase=0, neutral="low_resistance", **options
):
    faults = [FaultEvent(kind, SECTION, FAULT_S, duration_s, resistance_ohm, phase)] if kind else []
    feeder = FeederWaveforms(np.random.default_rng(seed), faults, neutral=neutral, **options)
    feeder.jump_to(0.0)
    return np.concatenate([feeder.next_window(40) for _ in range(windows)], axis=2)


def rms(samples):
    return np.sqrt((samples[..., -CYCLE:].astype(float) ** 2).mean(axis=-1))


def before(samples):
    return rms(samples[..., : round(FAULT_S * 4_000)])


def test_sound_feeder_is_balanced_and_has_nominal_voltage():
    samples = play(None)
    voltage = rms(samples)[:, 3:]
    assert np.all(np.abs(voltage / (10_500 / np.sqrt(3)) - 1) < 0.2)
    assert rms(samples[:, 3:].sum(axis=1)).max() < 0.02 * voltage.mean()
    assert np.all(np.diff(rms(samples)[:, :3].mean(axis=1)) < 0)  # load falls along the feeder


def test_phase_to_ground_residual_current_passes_heads_up_to_the_fault_only():
    residual = rms(play("PHASE_TO_GROUND")[:, :3].sum(axis=1))
    assert residual[:SECTION].min() > 20 * residual[SECTION:].max()


def test_phase_to_ground_in_isolated_network_shifts_the_neutral_and_keeps_the_load_current():
    samples = play("PHASE_TO_GROUND", neutral="isolated")
    voltage, sound = rms(samples)[0, 3:], before(samples)[0, 3:]
    assert voltage[0] < 0.3 * sound[0]
    assert np.all(voltage[1:] > 1.5 * sound[1:])
    np.testing.assert_allclose(rms(samples)[:, :3], before(samples)[:, :3], rtol=0.1, atol=8)


def test_phase_to_phase_raises_two_currents_without_residual():
    samples = play("PHASE_TO_PHASE", resistance_ohm=1.0)
    now, sound = rms(samples)[0, :3], before(samples)[0, :3]
    assert np.all(now[:2] > 3 * sound[:2])
    assert now[2] < 1.3 * sound[2]
    assert rms(samples[:, :3].sum(axis=1)).max() < 0.05 * now[0]


def test_open_conductor_takes_the_current_away_from_the_heads_behind():
    samples = play("OPEN_CONDUCTOR")
    assert rms(samples)[SECTION, 0] < 0.5 * before(samples)[SECTION, 0]
    assert rms(samples)[:, :3].max() < 1.2 * before(samples)[:, :3].max()


def test_arc_is_more_distorted_than_a_resistance_of_the_same_current():
    def distortion(kind):
        residual = play(kind, resistance_ohm=20.0)[0, :3].sum(axis=0)[-CYCLE:]
        spectrum = np.abs(np.fft.rfft(residual))
        return np.sqrt((spectrum[2:10] ** 2).sum()) / spectrum[1]

    assert distortion("ARCING") > 3 * distortion("PHASE_TO_GROUND")


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_feeder_recovers_when_the_fault_ends(kind):
    samples = play(kind, duration_s=0.1, windows=60)
    np.testing.assert_allclose(rms(samples), before(samples), rtol=0.05, atol=5)


def test_stream_is_the_same_for_the_same_seed_and_at_any_window_length():
    feeder = [FeederWaveforms(np.random.default_rng(9), [FaultEvent("ARCING", 2, 0.01, 1.0, 10.0)]) for _ in range(2)]
    first = np.concatenate([feeder[0].next_window(20) for _ in range(8)], axis=2)
    assert np.array_equal(first, np.concatenate([feeder[1].next_window(20) for _ in range(8)], axis=2))


def test_stream_at_8_khz_agrees_with_4_khz():
    """The step is half as long: the two agree as far as the integration is exact."""
    coarse = play("PHASE_TO_GROUND", windows=20)
    fine = play("PHASE_TO_GROUND", windows=40, sample_rate_hz=8_000)
    np.testing.assert_allclose(rms(fine[..., ::2]), rms(coarse), rtol=0.03, atol=2)


def test_draw_event_stays_in_its_ranges():
    rng = np.random.default_rng(0)
    for kind in FAULT_KINDS:
        events = [draw_event(rng, kind, 0.0) for _ in range(200)]
        assert {event.section for event in events} == set(range(1, SECTIONS + 1))
        assert all(0.1 <= event.resistance_ohm <= 300 for event in events)


def test_generate_events_labels_the_sample_at_which_the_fault_shows(tmp_path):
    with np.load(generate_events(tmp_path / "w.npz", seed=5, batches=1, batch=64)) as data:
        waveforms, kind, start = data["waveforms"], data["kind"], data["start"]
    assert set(np.unique(kind)) <= set(range(-1, len(FAULT_KINDS)))
    assert waveforms.shape[1:3] == (SECTIONS, 6)
    change = np.abs(waveforms[..., CYCLE:] - waveforms[..., :-CYCLE]) / np.array([100.0] * 3 + [8_573.0] * 3)[:, None]
    score = change.max(axis=(1, 2))
    for row in np.flatnonzero(kind >= 0):
        shows = int(np.argmax(score[row] > 0.02)) + CYCLE
        assert shows >= start[row] - 1
