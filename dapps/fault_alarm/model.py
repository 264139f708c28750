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
    residual changes come again relative to the strongest FTU's, and without their fundamental: what is left tells arcs.
    """
    change = cycle - reference
    current, voltage = cycle[..., :3, :], cycle[..., 3:, :]
    parts = [
        np.arcsinh(current / CURRENT_A),
        voltage / NOMINAL_V,
        np.arcsinh(change[..., :3, :] / CHANGE_A),
        np.arcsinh(change[..., 3:, :] / CHANGE_V),
        np.arcsinh(current.sum(axis=-2, keepdims=True) / CHANGE_A),
        np.arcsinh(voltage.sum(axis=-2, keepdims=True) / CHANGE_V),
        *_shapes(change[..., :3, :], NOISE_A),
        *_shapes(change[..., 3:, :], NOISE_V),
    ]
    return np.concatenate(parts, axis=-2).astype(np.float32)


def _without_fundamental() -> NDArray[np.float32]:
    """The matrix (N, N) that takes mean, trend and fundamental out of a cycle."""
    angle = 2 * np.pi * np.arange(CYCLE) / CYCLE
    basis = np.stack([np.ones(CYCLE), angle, np.cos(angle), np.sin(angle)], axis=1)
    return np.asarray(np.eye(CYCLE) - basis @ np.linalg.pinv(basis), dtype=np.float32)


_DISTORTION = _without_fundamental()


def _shapes(change: NDArray[np.float32], noise: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Residual (..., F, 1, N) of three phases' change (..., F, 3, N) relative to the strongest FTU's rms value [1], and
    ten times its distortion.
    """
    residual = change.sum(axis=-2, keepdims=True)
    strength = np.sqrt((residual**2).mean(axis=-1, keepdims=True)).max(axis=-3, keepdims=True)
    shape = residual / (strength + noise)
    return shape, 10 * shape @ _DISTORTION
