"""What a cap leaves behind for the next cycle: what homes gave, and their own prices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.solver.compiled import compiled

__all__ = ["Held"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Held:
    """Of N homes over T steps."""

    given_kw: Floats
    """(N, T) by how much less they import than in their free plans."""
    price: Floats
    """(N, T) of each home alone, beside the fleet's [EUR/kWh]: what makes it give as much as the others."""

    @classmethod
    def later(cls, held: Held | None, shape: tuple[int, int], shift_steps: int) -> Held:
        """`held`, `shift_steps` later; nothing where that is None or of other homes."""
        if held is None or held.price.shape != shape:
            return cls(np.zeros(shape), np.zeros(shape))
        return held.at(np.minimum(np.arange(shape[1]) + shift_steps, shape[1] - 1))

    def at(self, steps: Ints) -> Held:
        """The same, as seen from steps that begin in those of `steps` (T,)."""
        return Held(self.given_kw[:, steps], self.price[:, steps])

    def follow(self, price: Floats, part: float) -> None:
        """Go so much of the way to `price` (N, T)."""
        _approach(self.price, price, part)

    def note(self, free_kw: Floats, net_kw: Floats) -> None:
        """What homes give that import `net_kw` (N, T) for `free_kw`."""
        np.subtract(free_kw, net_kw, out=self.given_kw)

    def imports_kw(self, free_kw: Floats, pushed_kw: Floats, occasion: Ints, part: Floats) -> Floats:
        """(N, T) imports near which the next answer is asked.

        On an occasion (`occasion` (T,) >= 0) all have given `part` (T,) of what they can, which takes them from
        `free_kw` to `pushed_kw` (N, T); elsewhere what they gave the last time.
        """
        result: Floats = np.empty(free_kw.shape)
        _lean(free_kw, pushed_kw, self.given_kw, np.where(occasion >= 0, part, -1.0), result)
        return result

    def prices(self, price: Floats, curvature: Floats, near_kw: Floats) -> Floats:
        """(N, T) what homes pay more at the fleet's `price` (T,), near imports `near_kw` (N, T) [EUR/kWh].

        `curvature` (T,) is the price's rise with the import itself [EUR/kWh per kW], of which `near_kw` is free.
        """
        result: Floats = np.empty(near_kw.shape)
        _price(price, self.price, curvature, near_kw, result)
        return result


@compiled
def _approach(values: Floats, wanted: Floats, part: float) -> None:
    for h in range(values.shape[0]):
        for t in range(values.shape[1]):
            values[h, t] += part * (wanted[h, t] - values[h, t])


@compiled
def _lean(free: Floats, pushed: Floats, given: Floats, part: Floats, into: Floats) -> None:
    for h in range(into.shape[0]):
        for t in range(into.shape[1]):
            if part[t] < 0.0:
                into[h, t] = free[h, t] - given[h, t]
            else:
                most = max(free[h, t], 0.0)
                into[h, t] = most - part[t] * max(most - max(pushed[h, t], 0.0), 0.0)


@compiled
def _price(price: Floats, own: Floats, curvature: Floats, near: Floats, into: Floats) -> None:
    for h in range(into.shape[0]):
        for t in range(into.shape[1]):
            into[h, t] = max(price[t] + own[h, t], 0.0) - curvature[t] * max(near[h, t], 0.0)
