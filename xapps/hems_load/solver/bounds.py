"""Soft bounds of the storages in a Newton step: max(low - s, 0) and max(s - high, 0), each at its price.

A bound is two complementary pairs: slack and its dual (price less z), distance kept and its dual z. All four are rows
of their own, so that none is the small difference of two large numbers: single precision then suffices. `at` is where
a bound's rows begin, `inv` the row of its 1 / (distance zs + z slack), `d` where its changes are; `move` is the change
of the distance without the slack's.
"""

from __future__ import annotations

from typing import Any

from xapps.hems_load.solver.compiled import inlined
from xapps.hems_load.solver.lanes import get, greater, put
from xapps.hems_load.solver.layout import DISTANCE, DK, DQ, SLACK, ZS, Z

__all__ = ["affine_bound", "correct_bound", "final_bound", "move_bound"]


@inlined
def _bound(s: Any, at: int) -> tuple[Any, Any, Any, Any]:
    return get(s, at + SLACK), get(s, at + ZS), get(s, at + DISTANCE), get(s, at + Z)


@inlined
def move_bound(s: Any, at: int, inv: int, d: int, ap: Any, ad: Any, move: Any) -> tuple[Any, Any, Any]:
    """Take the last step; barrier curvature, the affine step's dual where the state stays, complementarity."""
    slack, zs, y, z = _bound(s, at)
    dz, dslack = get(s, d + DQ), get(s, d + DK)
    slack, zs, y, z = slack + ap * dslack, zs - ad * dz, y + ap * (move + dslack), z + ad * dz
    one = y * zs
    inverse = 1.0 / (one + z * slack)
    put(s, at + SLACK, slack)
    put(s, at + ZS, zs)
    put(s, at + DISTANCE, y)
    put(s, at + Z, z)
    put(s, inv, inverse)
    pull = z * inverse
    return pull * zs, pull * slack * (z + zs), y * z + slack * zs


@inlined
def affine_bound(s: Any, at: int, inv: int, d: int, move: Any) -> tuple[Any, Any, Any, Any]:
    """Affine changes of dual and slack; step ratios of primal and dual, sums for the complementarity after it."""
    slack, zs, y, z = _bound(s, at)
    gap = -get(s, inv) * (y - slack + move)
    rz, rs = zs * gap, z * gap
    dz, dslack, dy = z * rz, slack * (rs - 1.0), -y * (1.0 + rz)
    put(s, d + DQ, dz)
    put(s, d + DK, dslack)
    return greater(1.0 - rs, 1.0 + rz), greater(-rz, rs), dslack * zs + dy * z, (dy - dslack) * dz


@inlined
def correct_bound(s: Any, at: int, inv: int, d: int, move: Any, target: Any, second: Any) -> Any:
    """Dual that the corrector aims at where the state stays; leaves the pairs' targets in the rows of the changes."""
    slack, zs, _, z = _bound(s, at)
    dz, dslack = get(s, d + DQ), get(s, d + DK)
    error = second * dz
    t1, t2 = target + dslack * error, target - (dslack + move) * error
    put(s, d + DQ, t2)
    put(s, d + DK, t1)
    return (z * slack * (z + zs) + t2 * zs - t1 * z) * get(s, inv)


@inlined
def final_bound(s: Any, at: int, inv: int, d: int, move: Any) -> tuple[Any, Any]:
    """The step in dual and slack, and the ratios that say how far it may be followed."""
    slack, zs, y, z = _bound(s, at)
    t2, t1 = get(s, d + DQ), get(s, d + DK)
    dz = (zs * (t2 - z * (y - slack + move)) - t1 * z) * get(s, inv)
    duals, slacks = z * zs, slack * y
    inverse = 1.0 / (duals * slacks)
    over_duals = slacks * inverse
    rz, rs = dz * zs * over_duals, dz * z * over_duals
    dslack = t1 * z * over_duals + slack * (rs - 1.0)
    over_slacks = -duals * inverse
    put(s, d + DQ, dz)
    put(s, d + DK, dslack)
    return greater(dslack * y * over_slacks, (move + dslack) * slack * over_slacks), greater(-rz, rs)
