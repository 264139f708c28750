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
        return Held(_seen(self.given_kw, steps), _seen(self.price, steps))

    def follow(self, price: Floats, occasion: Ints, part: float) -> None:
        """Go so much of the way to `price` (N, B) on the occasions (T,), to none in steps of none."""
        _approach(self.price, price, occasion, part)

    def note(self, free_kw: Floats, net_kw: Floats) -> None:
        """What homes give that import `net_kw` (N, T) for `free_kw`."""
        np.subtract(free_kw, net_kw, out=self.given_kw)

    def even_prices(self, price: Floats, curvature: Floats, free_kw: Floats, pushed_kw: Floats, part: Floats) -> Floats:
        """As `prices`, near imports of which all have given `part` (T,) of what they can.

        That takes them from `free_kw` to `pushed_kw` (N, T). In steps where `part` is below 0 near what they gave the
        last time.
        """
        result: Floats = np.empty(free_kw.shape)
        _even_price((price, self.price, curvature), free_kw, pushed_kw, self.given_kw, part, result)
        return result

    def prices(self, price: Floats, curvature: Floats, near_kw: Floats) -> Floats:
        """(N, T) what homes pay more at the fleet's `price` (T,), near imports `near_kw` (N, T) [EUR/kWh].

        `curvature` (T,) is the price's rise with the import itself [EUR/kWh per kW], of which `near_kw` is free.
        """
        result: Floats = np.empty(near_kw.shape)
        _price(price, self.price, curvature, near_kw, result)
        return result


@compiled
def _approach(values: Floats, wanted: Floats, occasion: Ints, part: float) -> None:
    for h in range(values.shape[0]):
        for t in range(values.shape[1]):
            goal = wanted[h, occasion[t]] if occasion[t] >= 0 else 0.0
            values[h, t] += part * (goal - values[h, t])


@compiled
def _seen(values: Floats, steps: Ints) -> Floats:
    """`values` (N, T) in these steps."""
    result = np.empty((values.shape[0], steps.size))
    for h in range(values.shape[0]):
        for t in range(steps.size):
            result[h, t] = values[h, steps[t]]
    return result


@compiled
def _even_price(
    prices: tuple[Floats, Floats, Floats], free: Floats, pushed: Floats, given: Floats, part: Floats, into: Floats
) -> None:
    price, own, curvature = prices
    for h in range(into.shape[0]):
        for t in range(into.shape[1]):
            near = free[h, t] - given[h, t]
            if part[t] >= 0.0:
                most = max(free[h, t], 0.0)
                near = most - part[t] * max(most - max(pushed[h, t], 0.0), 0.0)
            into[h, t] = max(price[t] + own[h, t], 0.0) - curvature[t] * max(near, 0.0)


@compiled
def _price(price: Floats, own: Floats, curvature: Floats, near: Floats, into: Floats) -> None:
    for h in range(into.shape[0]):
        for t in range(into.shape[1]):
            into[h, t] = max(price[t] + own[h, t], 0.0) - curvature[t] * max(near[h, t], 0.0)
