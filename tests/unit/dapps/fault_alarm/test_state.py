"""The memory of samples: order, rate, gaps, and the phase of the sound cycle."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dapps.fault_alarm.state import CYCLE, FTUS, Memory, extended
from ric.e3.e3ap import Waveform


def windows(numbers, *, length=20, rate_hz=4_000, first=0):
    """Windows whose samples count up from `first`."""
    made = []
    for place, sequence in enumerate(numbers):
        ramp = np.arange(length, dtype=np.float32) + first + place * length
        made.append(Waveform(rate_hz, sequence, place, np.broadcast_to(ramp, (FTUS, 6, length)).copy()))
    return made


def remember(items, memory=None):
    memory = memory or Memory.empty()
    for item in items:
        memory = extended(memory, item)
    return memory


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=30))
def test_memory_keeps_the_newest_two_cycles_whatever_the_window_lengths(lengths):
    memory, place = Memory.empty(), 0
    for sequence, length in enumerate(lengths):
        memory = extended(memory, windows([sequence], length=length, first=place)[0])
        place += length
    kept = min(place, 2 * CYCLE)
    assert np.array_equal(memory.samples[0, 0], np.arange(place - kept, place))
    assert memory.warm == (place >= 2 * CYCLE)


def test_memory_8_khz_is_averaged_to_4_khz():
    memory = remember(windows([0], length=40, rate_hz=8_000))
    assert np.array_equal(memory.samples[3, 5], np.arange(20) * 2 + 0.5)


def test_memory_gap_in_sequence_starts_afresh():
    memory = remember(windows(range(8)))
    assert memory.warm
    assert not extended(memory, windows([9])[0]).warm


def test_memory_sequence_wraps_without_a_gap():
    memory = remember(windows([2**32 - 1, 0]))
    assert memory.samples.shape[2] == 40


def test_memory_reference_turns_with_the_samples():
    """After any number of windows the sound cycle has the phase of the newest one."""
    wave = np.sin(2 * np.pi * np.arange(400) / CYCLE).astype(np.float32)
    chunks = [np.broadcast_to(wave[k : k + 20], (FTUS, 6, 20)) for k in range(0, 400, 20)]
    items = [Waveform(4_000, sequence, 0, chunk) for sequence, chunk in enumerate(chunks)]
    memory = remember(items[:8])
    memory = replace(memory, reference=memory.samples[:, :, :CYCLE])
    for item in items[8:]:
        memory = extended(memory, item)
        np.testing.assert_allclose(memory.reference, memory.samples[:, :, CYCLE:], atol=1e-5)
