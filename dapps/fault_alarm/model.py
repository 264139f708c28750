"""The learned classifier's input and outputs, and what they mean. Pure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dapps.fault_alarm.state import CYCLE, FTUS
from ric.learned import LearnedModel, load_model

__all__ = ["CHANNELS", "KINDS", "NO_FAULT", "features", "load_classifier"]

NO_FAULT = "NO_FAULT"
KINDS = (NO_FAULT, "PHASE_TO_GROUND", "PHASE_TO_PHASE", "OPEN_CONDUCTOR", "ARCING", "COMPOUND")
CHANNELS = 18
CURRENT_A, CHANGE_A = 100.0, 10.0
NOMINAL_V, CHANGE_V = 8_573.0, 500.0
NOISE_A, NOISE_V = 1.0, 60.0
"""Scales: peak of the nominal phase voltage at 10.5 kV; changes are compressed around these values; what the
transducers' noise may make of a residual."""


def load_classifier(path: Path) -> LearnedModel:
    """The ONNX classifier. Raises TwinRicError MODEL-MISSING, MODEL-SHAPE."""
    return load_model(
        path, {"cycle": (-1, FTUS, CHANNELS, CYCLE)}, {"kind": (-1, len(KINDS)), "section": (-1, FTUS + 1)}
    )


def features(cycle: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float32]:
    """Input (..., F, 18, N) of the newest cycle (..., F, 6, N) and the last sound one, in phase with it.

    Currents, voltages, their changes since the sound cycle (the superimposed components of protection practice), and
    the residual current and voltage. asinh keeps both milliamperes and kiloamperes in range but bends the waves, so the
    residual changes come again relative to the strongest FTU's rms value, and ten times what is left of that without
    mean, trend and fundamental: it tells arcs.
    """
    shape = cycle.shape[:-2]
    change = cycle - reference
    made = np.empty((*shape, CHANNELS, CYCLE), dtype=np.float32)
    # Two kinds, current and voltage, of three phases each: one sum for both residuals.
    kinds = (*shape, 2, 3, CYCLE)
    np.divide(cycle.reshape(kinds), _LEVELS, out=made[..., :6, :].reshape(kinds))
    np.divide(change.reshape(kinds), _CHANGES, out=made[..., 6:12, :].reshape(kinds))
    np.divide(cycle.reshape(kinds).sum(axis=-2), _CHANGES[..., 0], out=made[..., 12:14, :])
    for bent in (made[..., :3, :], made[..., 6:14, :]):
        np.arcsinh(bent, out=bent)
    residual = change.reshape(kinds).sum(axis=-2)
    strength = np.sqrt(np.einsum("...n,...n->...", residual, residual) / CYCLE).max(axis=-2, keepdims=True)
    relative = residual / (strength + _NOISE)[..., None]
    made[..., 14::2, :] = relative
    made[..., 15::2, :] = relative @ _DISTORTION
    return made


def _without_fundamental() -> NDArray[np.float32]:
    """The matrix (N, N) that takes mean, trend and fundamental out of a cycle."""
    angle = 2 * np.pi * np.arange(CYCLE) / CYCLE
    basis = np.stack([np.ones(CYCLE), angle, np.cos(angle), np.sin(angle)], axis=1)
    return np.asarray(np.eye(CYCLE) - basis @ np.linalg.pinv(basis), dtype=np.float32)


_DISTORTION = 10 * _without_fundamental()
_LEVELS = np.array([CURRENT_A, NOMINAL_V], dtype=np.float32)[:, None, None]
_CHANGES = np.array([CHANGE_A, CHANGE_V], dtype=np.float32)[:, None, None]
_NOISE = np.array([NOISE_A, NOISE_V], dtype=np.float32)
