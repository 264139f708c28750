"""Filter and smoother over the steps: what is left of a Newton step once powers and balance are eliminated.

A state's mean is its change, its covariance `x` what the eliminated powers leave open; bounds are measurements. `x` is
symmetric: row `i` of its lower triangle begins at triangle(i). Offsets: `s` of the step's storages, `o` of their wide
rows, `p` of the covariance.

In double precision, as the powers that answer the changes of the prices are: late in a solve a variance is 1e6 times
what a state may change, and what single precision loses of it no later step brings back.
"""

from __future__ import annotations

from typing import Any

from xapps.hems_load.solver.compiled import inlined
from xapps.hems_load.solver.lanes import get, greater, put, word
from xapps.hems_load.solver.layout import (
    CARRY,
    DATA,
    DET,
    DPI,
    DS,
    ETA,
    FLOW,
    GYY,
    GYZ,
    KEEP,
    OWN,
    SCRATCH,
    STORE,
    WIDE,
    YHAT,
    D,
    L,
    M,
)  # fmt: skip

__all__ = ["datum", "hear", "measure", "place", "predict_mean", "predict_x", "smooth"]

LEAST_SHARE = 1e-12
"""Of a variance, what a measurement of another storage leaves at least: rounding may leave less."""


@inlined
def place(table: Any, part: int, which: int) -> tuple[int, int]:
    """Where a datum of a box or storage begins, and how far its steps lie apart; `table` as in `Frame`."""
    at = 2 * (which * DATA + part)
    return word(table, at), word(table, at + 1)


@inlined
def datum(w: Any, table: Any, part: int, which: int, t: int) -> Any:
    """One of the data of a box or storage in step `t`; `table` is w.box_data or w.store_data."""
    begin, apart = place(table, part, which)
    return get(w.data, begin + t * apart)


@inlined
def _entry(i: int, j: int) -> int:
    """Offset of x[i, j], i >= j."""
    return (i * (i + 1) // 2 + j) * L


@inlined
def _either(i: int, j: int) -> int:
    return _entry(i, j) if i >= j else _entry(j, i)


@inlined
def predict_mean(w: Any, t: int, s: int, o: int, before: int, n: int, pull: Any) -> None:
    """Mean of the states' changes before their bounds are heard; `pull` is the balance's residual over its weight.

    `before` is the offset of the wide rows of the step before.
    """
    stores, wide, scratch = w.stores, w.wide, w.scratch
    for i in range(n):
        own, mine = s + i * STORE * L, o + i * WIDE * L
        drive = get(scratch, i * SCRATCH * L + YHAT) + get(stores, own + FLOW) - get(wide, mine + GYZ) * pull
        put(wide, mine + M, datum(w, w.store_data, KEEP, i, t) * get(wide, before + i * WIDE * L + M) + drive)


@inlined
def predict_x(w: Any, t: int, o: int, p: int, n: int, weight: Any, inv_s: Any) -> None:
    """Covariance of the states before their bounds are heard; the one of the step before is at `p` less a matrix.

    `weight` is the meter's share of 1 / inv_s. A storage's own variance is summed from positive parts alone.
    """
    wide, x, scratch = w.wide, w.x, w.scratch
    before = p - _entry(n, 0)
    for i in range(n):
        keep, pulled = datum(w, w.store_data, KEEP, i, t), get(wide, o + i * WIDE * L + GYZ) * inv_s
        for j in range(i):
            at = _entry(i, j)
            kept = keep * datum(w, w.store_data, KEEP, j, t) * get(x, before + at)
            put(x, p + at, kept - pulled * get(wide, o + j * WIDE * L + GYZ))
        rest = weight
        for j in range(n):
            if j != i:
                rest += get(scratch, j * SCRATCH * L + OWN)
        at, mine = _entry(i, i), i * SCRATCH * L
        new = (get(scratch, mine + GYY) * rest + get(scratch, mine + DET)) * inv_s
        put(x, p + at, keep * keep * get(x, before + at) + new)


@inlined
def measure(w: Any, s: int, o: int, p: int, n: int) -> None:
    """Hear the bounds of each storage in turn: a scalar measurement with information D."""
    stores, wide, x, column = w.stores, w.wide, w.x, w.column
    for i in range(n):
        own, mine = s + i * STORE * L, o + i * WIDE * L + M
        d, eta, mean, variance = get(stores, own + D), get(stores, own + ETA), get(wide, mine), get(x, p + _entry(i, i))
        left = 1.0 / (1.0 + d * variance)
        gain, pull = d * left, (eta - d * mean) * left
        put(wide, mine, (mean + variance * eta) * left)
        put(x, p + _entry(i, i), variance * left)
        for j in range(n):
            if j != i:
                at, other = p + _either(i, j), o + j * WIDE * L + M
                share = get(x, at)
                put(column, j * L, share)
                put(x, at, share * left)
                put(wide, other, get(wide, other) + share * pull)
        for j in range(n):
            if j != i:
                shared = get(column, j * L) * gain
                for h in range(j):
                    if h != i:
                        at = p + _entry(j, h)
                        put(x, at, get(x, at) - shared * get(column, h * L))
                at = p + _entry(j, j)
                known = get(x, at)
                put(x, at, greater(known - shared * get(column, j * L), LEAST_SHARE * known))


@inlined
def hear(w: Any, s: int, o: int, p: int, n: int) -> None:
    """The mean after the bounds are heard, with the covariance that the factorisation left."""
    stores, wide, x, column = w.stores, w.wide, w.x, w.column
    for i in range(n):
        own = s + i * STORE * L
        put(column, i * L, get(stores, own + ETA) - get(stores, own + D) * get(wide, o + i * WIDE * L + M))
    for i in range(n):
        mine = o + i * WIDE * L + M
        mean = get(wide, mine)
        for j in range(n):
            mean += get(x, p + _either(i, j)) * get(column, j * L)
        put(wide, mine, mean)


@inlined
def smooth(w: Any, t: int, s: int, o: int, later: int, p: int, n: int) -> None:
    """Changes of states and multipliers of one step from those of the next, whose wide rows begin at `later`."""
    stores, wide, x, scratch = w.stores, w.wide, w.x, w.scratch
    for i in range(n):
        carried = datum(w, w.store_data, KEEP, i, t + 1) * get(wide, later + i * WIDE * L + DPI)
        put(scratch, i * SCRATCH * L + CARRY, carried)
    for i in range(n):
        own, mine = s + i * STORE * L, o + i * WIDE * L
        change = get(wide, mine + M)
        for j in range(n):
            change -= get(x, p + _either(i, j)) * get(scratch, j * SCRATCH * L + CARRY)
        put(stores, own + DS, change)
        carried = get(scratch, i * SCRATCH * L + CARRY)
        put(wide, mine + DPI, get(stores, own + D) * change - get(stores, own + ETA) + carried)
