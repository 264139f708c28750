"""Large arrays that are used again once nobody refers to them.

The kernel takes as long to hand out fresh memory for the plans of 10,000 homes as the solver takes to make them, and
the C library may find no gap so large among what was freed.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Memory"]

IDLE_TAKES = 256
"""An array that was of no use for so many times is let go."""
OWN_REFERENCES = 3
"""To an array that nobody else refers to, its views included: the list's, the local one and that of `getrefcount`."""


class Memory:
    """Arrays handed out, and those that have come back. Not thread-safe."""

    def __init__(self) -> None:
        self._arrays: list[NDArray[Any]] = []
        self._used: list[int] = []
        self._takes = 0

    def take(self, shape: tuple[int, ...], dtype: Any = np.float64) -> NDArray[Any]:
        """An array that nobody else refers to; nothing is known of its numbers."""
        self._takes += 1
        for n in range(len(self._arrays)):
            array = self._arrays[n]
            if array.shape == shape and array.dtype == dtype and sys.getrefcount(array) == OWN_REFERENCES:
                self._used[n] = self._takes
                return array
        kept = [n for n, used in enumerate(self._used) if self._takes - used < IDLE_TAKES]
        self._arrays = [*(self._arrays[n] for n in kept), np.empty(shape, dtype)]
        self._used = [*(self._used[n] for n in kept), self._takes]
        return self._arrays[-1]
