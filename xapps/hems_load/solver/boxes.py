"""Box variables in a Newton step: a power v in [0, hi], the room above it, and the duals of both bounds.

Room and power are rows of their own, so that neither is the small difference of two large numbers. `b` is where a
box's rows begin. What a box would move at unchanged prices is kept (row DV) until the prices' changes are known: both
sweeps then use the same number, and no rounding of it enters balance or dynamics.
"""

from __future__ import annotations

from typing import Any

from xapps.hems_load.solver.compiled import inlined
from xapps.hems_load.solver.lanes import get, greater, like, put
from xapps.hems_load.solver.layout import DV, DZL, DZU, INV_D, RL, RU, UP, ZL, ZU, V

__all__ = ["affine_box", "correct_box", "final_box", "move_box"]


@inlined
def move_box(boxes: Any, b: int, ap: Any, ad: Any, curve: Any) -> tuple[Any, Any, Any]:
    """Take the last step in one box; its power, its complementarity, how far its power answers a price [kW2/EUR]."""
    dv = get(boxes, b + DV)
    v, up = get(boxes, b + V) + ap * dv, get(boxes, b + UP) - ap * dv
    zl, zu = get(boxes, b + ZL) + ad * get(boxes, b + DZL), get(boxes, b + ZU) + ad * get(boxes, b + DZU)
    both = v * up
    pull = zl * up + zu * v + curve * both
    inverse = 1.0 / (both * pull)  # one division for all
    inv_d = both * both * inverse
    put(boxes, b + V, v)
    put(boxes, b + UP, up)
    put(boxes, b + ZL, zl)
    put(boxes, b + ZU, zu)
    put(boxes, b + RL, up * pull * inverse)
    put(boxes, b + RU, v * pull * inverse)
    put(boxes, b + INV_D, inv_d)
    return v, v * zl + up * zu, inv_d


@inlined
def _answer(boxes: Any, b: int, rise: Any) -> Any:
    """What a box moves once its power costs `rise` more than when its move was found."""
    return like(boxes, get(boxes, b + DV) - rise * get(boxes, b + INV_D))


@inlined
def affine_box(boxes: Any, b: int, rise: Any) -> tuple[Any, Any, Any, Any]:
    """Affine direction of a box whose power costs `rise` more; step ratios, sums for the complementarity after it."""
    dv = _answer(boxes, b, rise)
    low, high = dv * get(boxes, b + RL), dv * get(boxes, b + RU)
    zl, zu = get(boxes, b + ZL), get(boxes, b + ZU)
    put(boxes, b + DV, dv)
    change = zu * (1.0 - high) - zl * (1.0 + low)
    return greater(-low, high), 1.0 + greater(low, -high), dv * (zl - zu), dv * change


@inlined
def correct_box(boxes: Any, b: int, slope: Any, target: Any, second: Any) -> Any:
    """What the box would move without new prices: centring and `second` times the affine step's second-order error."""
    dv, rl, ru = get(boxes, b + DV), get(boxes, b + RL), get(boxes, b + RU)
    dzl, dzu = get(boxes, b + ZL) * (1.0 + dv * rl), get(boxes, b + ZU) * (1.0 - dv * ru)
    error = second * dv
    tl, tu = (target + error * dzl) * rl, (target - error * dzu) * ru
    put(boxes, b + DZL, tl)
    put(boxes, b + DZU, tu)
    move = (tl - tu - slope) * get(boxes, b + INV_D)
    put(boxes, b + DV, move)
    return move


@inlined
def final_box(boxes: Any, b: int, rise: Any) -> tuple[Any, Any]:
    """The step's direction in all parts, and how far it may be followed."""
    tl, tu, zl, zu = get(boxes, b + DZL), get(boxes, b + DZU), get(boxes, b + ZL), get(boxes, b + ZU)
    dv = _answer(boxes, b, rise)
    low, high = dv * get(boxes, b + RL), dv * get(boxes, b + RU)
    dzl, dzu = tl - zl - zl * low, tu - zu + zu * high
    put(boxes, b + DV, dv)
    put(boxes, b + DZL, dzl)
    put(boxes, b + DZU, dzu)
    inverse = -1.0 / (zl * zu)
    return greater(-low, high), greater(dzl * zu * inverse, dzu * zl * inverse)
