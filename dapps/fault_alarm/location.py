"""Where the fault is, from currents alone: the rule of a directional fault passage indicator. Pure."""

from __future__ import annotations

import numpy as np

from dapps.fault_alarm.state import Samples

__all__ = ["inception_sample", "passage_section"]

NOISE_A = 3.0


def passage_section(cycle: Samples, reference: Samples) -> int:
    """Section 1..F whose head is the last one that the fault current passes; 0 when none sees any.

    cycle, reference (F, 6, N). A head sees the fault when the energy of its current change is at least a quarter of the
    largest. Blind: faults whose current is below the load's own changes, as in isolated networks.
    """
    energy = ((cycle[:, :3] - reference[:, :3]) ** 2).sum(axis=(1, 2))
    if energy.max() < NOISE_A**2 * cycle.shape[2]:
        return 0
    return int(np.flatnonzero(energy >= energy.max() / 4)[-1]) + 1


def inception_sample(cycle: Samples, reference: Samples) -> int:
    """Index of the first sample that departs from the sound cycle by more than noise; N when none does."""
    current = np.abs(cycle[:, :3] - reference[:, :3]).max(axis=(0, 1)) > 4 * NOISE_A
    voltage = np.abs(cycle[:, 3:] - reference[:, 3:]).max(axis=(0, 1)) > 300.0
    departed = current | voltage
    return int(departed.argmax()) if departed.any() else cycle.shape[2]
