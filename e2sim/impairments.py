"""What the link between a node and the RIC does to indications: loss, delay, duplicates, reordering; and node restarts.

Broker loss is not made here: it belongs to whoever runs the broker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np

from e2sim.scenario_parts import ImpairmentSpec, RestartSpec

__all__ = ["ImpairedLink", "is_down"]

T = TypeVar("T")


class ImpairedLink(Generic[T]):
    """A first-in-first-out link that loses, doubles, delays and reorders what is offered to it, by seeded draws.

    Every message takes three draws whatever becomes of it, so that changing one share leaves the others' draws alone.
    """

    def __init__(self, spec: ImpairmentSpec, generator: np.random.Generator) -> None:
        self._spec = spec
        self._generator = generator
        self._waiting: deque[tuple[float, T]] = deque()
        self._overtaken: T | None = None
        self.lost = self.doubled = self.reordered = 0

    def offer(self, now_s: float, message: T) -> None:
        """Put `message` on the link at `now_s` [s]."""
        lost, doubled, reordered = self._generator.random(3)
        if lost < self._spec.loss:
            self.lost += 1
            return
        copies = 2 if doubled < self._spec.duplicate else 1
        self.doubled += copies - 1
        if reordered < self._spec.reorder and self._overtaken is None:
            self.reordered += 1
            self._overtaken = message
            copies -= 1
        due_s = now_s + self._spec.delay_ms / 1e3
        self._waiting.extend([(due_s, message)] * copies)

    def release(self, now_s: float) -> list[T]:
        """Messages that arrive by `now_s` [s], in order of arrival."""
        out: list[T] = []
        while self._waiting and self._waiting[0][0] <= now_s + 1e-9:
            out.append(self._waiting.popleft()[1])
            if self._overtaken is not None and out[-1] is not self._overtaken:
                out.append(self._overtaken)
                self._overtaken = None
        return out


def is_down(restarts: Sequence[RestartSpec], e2_node_id: str, first_node_id: str, offset_s: float) -> bool:
    """True while a restart keeps the node away, `offset_s` [s] after the scenario's start."""
    return any(
        (restart.node or first_node_id) == e2_node_id and restart.at_s <= offset_s < restart.at_s + restart.down_s
        for restart in restarts
    )
