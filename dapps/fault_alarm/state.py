"""What the fault alarm knows: two cycles of every feeder terminal unit, and what has been found so far. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ric.e3.e3ap import Waveform

__all__ = ["CYCLE", "FTUS", "Memory", "State", "extended"]

Samples = NDArray[np.float32]

FTUS = 4
RATE_HZ = 4_000
CYCLE = 80
"""Samples of one cycle at 50 Hz and 4 kHz."""


@dataclass(frozen=True)
class Memory:
    """What lives from window to window.

    `samples` (F, 6, at most 2 CYCLE) newest last at 4 kHz; `reference` (F, 6, CYCLE) the last sound cycle, in phase
    with the newest one; `scores` (6,) log-probabilities, summed by their news, of the kinds since the first suspicion.
    """

    samples: Samples
    reference: Samples | None = None
    scores: NDArray[np.float64] | None = None
    section_scores: NDArray[np.float64] | None = None
    suspicious: int = 0
    sound: int = 0
    began_ns: int = 0
    raised: tuple[str, int] | None = None
    """Kind and section of the alarm that is up."""
    sequence: int = -1

    @classmethod
    def empty(cls) -> Memory:
        """Nothing seen."""
        return cls(np.zeros((FTUS, 6, 0), dtype=np.float32))

    @property
    def warm(self) -> bool:
        """True once two whole cycles have been seen without a gap."""
        return bool(self.samples.shape[2] >= 2 * CYCLE)


@dataclass(frozen=True)
class State:
    """Windows not yet judged, oldest first, and the memory before them."""

    windows: tuple[Waveform, ...]
    memory: Memory


def extended(memory: Memory, window: Waveform) -> Memory:
    """The memory with `window` appended at 4 kHz; after a gap in its sequence the samples start afresh."""
    samples = window.samples
    if window.sample_rate_hz == 2 * RATE_HZ:
        samples = ((samples[:, :, 0::2] + samples[:, :, 1::2]) / 2).astype(np.float32)
    gap = memory.sequence >= 0 and window.sequence != (memory.sequence + 1) % 2**32
    before = memory.samples[:, :, :0] if gap else memory.samples
    joined = np.concatenate([before, samples], axis=2)[:, :, -2 * CYCLE :]
    reference = None if gap or memory.reference is None else np.roll(memory.reference, -samples.shape[2], axis=2)
    return replace(memory, samples=joined, reference=reference, sequence=window.sequence)
