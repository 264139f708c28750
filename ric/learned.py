"""Learned models as the apps run them: an ONNX file with stated inputs and outputs, or a typed refusal.

Only apps that carry a model import this module; onnxruntime comes with their extra.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ric.errors import TwinRicError

__all__ = ["LearnedModel", "load_model"]

Floats = NDArray[np.float32]
ANY = -1


class LearnedModel:
    """An ONNX session on one thread whose inputs and outputs were checked when it was loaded."""

    def __init__(self, session: onnxruntime.InferenceSession, outputs: Sequence[str]) -> None:
        self._session = session
        self._outputs = list(outputs)

    def run(self, **inputs: Floats) -> list[Floats]:
        """Outputs in the order that :func:`load_model` was given, for float32 inputs by name."""
        return [np.asarray(value) for value in self._session.run(self._outputs, inputs)]


def load_model(
    path: Path, inputs: Mapping[str, tuple[int, ...]], outputs: Mapping[str, tuple[int, ...]]
) -> LearnedModel:
    """The model in `path`; -1 in a shape stands for any size.

    Raises TwinRicError MODEL-MISSING, or MODEL-SHAPE naming the input or output and its wanted shape.
    """
    if not path.is_file():
        raise TwinRicError("MODEL-MISSING", "model_path", str(path), "an ONNX file", "Run the app's train.py.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise TwinRicError("MODEL-SHAPE", "model_path", str(path), "a valid ONNX graph") from error
    _check({item.name: item.shape for item in session.get_inputs()}, inputs, "inputs")
    _check({item.name: item.shape for item in session.get_outputs()}, outputs, "outputs")
    return LearnedModel(session, list(outputs))


def _check(found: Mapping[str, Sequence[int | str]], wanted: Mapping[str, tuple[int, ...]], what: str) -> None:
    if set(found) != set(wanted):
        raise TwinRicError("MODEL-SHAPE", what, sorted(found), f"{sorted(wanted)}")
    for name, shape in wanted.items():
        sizes = found[name]
        same = len(sizes) == len(shape) and all(
            size == ANY or not isinstance(real, int) or real == size for real, size in zip(sizes, shape, strict=True)
        )
        if not same:
            raise TwinRicError("MODEL-SHAPE", f"{what}.{name}", list(sizes), f"shape {shape} (-1: any)")
