"""The twin of the microgrids' agents: an LSTM that expects their contribution factors from R alone.

Source: the DoS paper (DESIGN.md section 6). Inputs are R of (15) and dC_f/dt, which the twin takes from its own last
two outputs and never from an agent, so that an attacked agent cannot mislead it. The network's output corrects R, where
every healthy agent ends. One step is 100 ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "AGENTS", "HIDDEN", "INPUTS", "MODEL_PATH", "OUTPUTS", "PERIOD_S", "TwinMemory", "TwinNetwork", "primed", "stepped",
]  # fmt: skip

Floats = NDArray[np.float32]

AGENTS = 3
HIDDEN = 24
PERIOD_S = 0.1
SEQUENCE = 200
"""Steps of the training sequences, 20 s; priming runs as many."""

INPUTS = {"features": (1, 1 + AGENTS), "hidden": (1, HIDDEN), "cell": (1, HIDDEN)}
OUTPUTS = {"contribution_factor": (1, AGENTS), "next_hidden": (1, HIDDEN), "next_cell": (1, HIDDEN)}
MODEL_PATH = Path(__file__).parent / "models" / "agent_twin.onnx"


class TwinNetwork(Protocol):
    """A loaded network with `INPUTS` and `OUTPUTS`."""

    def run(self, **inputs: Floats) -> list[Floats]:
        """Outputs in the order of `OUTPUTS`."""
        ...


@dataclass(frozen=True)
class TwinMemory:
    """What the twin carries from step to step: network state (1, HIDDEN), last output (3,) and its rate (3,) [1/s]."""

    hidden: Floats
    cell: Floats
    contribution_factor: Floats
    rate: Floats


def stepped(network: TwinNetwork, memory: TwinMemory, reference_r: float) -> TwinMemory:
    """The twin one period later, given R [1] of that instant."""
    features = np.concatenate(([reference_r], memory.rate)).astype(np.float32)[None, :]
    outputs = network.run(features=features, hidden=memory.hidden, cell=memory.cell)
    factor = outputs[0][0]
    rate = (factor - memory.contribution_factor) / np.float32(PERIOD_S)
    return TwinMemory(outputs[1], outputs[2], factor, rate)


def primed(network: TwinNetwork, reference_r: float) -> TwinMemory:
    """The twin at rest under R: 20 s of constant R, no agent asked."""
    zero = np.zeros((1, HIDDEN), dtype=np.float32)
    rest = np.full(AGENTS, reference_r, dtype=np.float32)
    memory = TwinMemory(zero, zero, rest, np.zeros(AGENTS, dtype=np.float32))
    for _ in range(SEQUENCE):
        memory = stepped(network, memory, reference_r)
    return memory
