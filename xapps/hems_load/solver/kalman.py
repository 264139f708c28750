"""Filter and smoother over the steps: what is left of a Newton step once powers and balance are eliminated.

A state's mean is its change, its covariance `x` what the eliminated powers leave open; bounds are measurements.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.solver.compiled import compiled
from xapps.hems_load.solver.layout import (
    DLAMBDA,
    DPI,
    DS,
    ETA,
    FLOW,
    GYY,
    GYZ,
    INV_S,
    KEEP,
    METER,
    RESIDUAL,
    STORE,
    YHAT,
    D,
    L,
    M,
)

__all__ = ["hear", "measure", "predict_mean", "predict_x", "price", "smooth"]

Array = NDArray[np.float64]


@compiled
def predict_mean(m: Array, s: Array, last: Array) -> None:
    """Mean of the state's change before its bounds are heard; `last` is the storage's row of the step before."""
    lanes = m.size // METER
    for k in range(lanes):
        drive = s[YHAT + k] + s[FLOW + k] - s[GYZ + k] * m[RESIDUAL + k] * m[INV_S + k]
        s[M + k] = s[KEEP + k] * last[M + k] + drive


@compiled
def predict_x(m: Array, s: Array, t: int, n: int, x: Array) -> None:
    """Covariance of the states before their bounds are heard."""
    lanes = m.size // METER
    for i in range(n):
        si = s[i]
        for j in range(n):
            sj, row = s[j], x[t, i]
            if t > 0:
                before = x[t - 1, i]
                for k in range(lanes):
                    row[j * L + k] = si[KEEP + k] * before[j * L + k] * sj[KEEP + k]
            else:
                for k in range(lanes):
                    row[j * L + k] = 0.0
            for k in range(lanes):
                row[j * L + k] -= si[GYZ + k] * sj[GYZ + k] * m[INV_S + k]
        for k in range(lanes):
            x[t, i, i * L + k] += si[GYY + k]


@compiled
def _downdate(x: Array, i: int, column: Array, gain: Array, left: Array) -> None:
    """Covariance after storage `i` is measured; its own row is divided, not differenced."""
    n, lanes, own = x.shape[0], left.size, x[i]
    for j in range(n):
        row, mine = x[j], column[j * L : (j + 1) * L]
        for h in range(n):
            other = column[h * L : (h + 1) * L]
            for k in range(lanes):
                row[h * L + k] -= mine[k] * other[k] * gain[k]
    for j in range(n):
        row, mine = x[j], column[j * L : (j + 1) * L]
        for k in range(lanes):
            row[i * L + k] = mine[k] * left[k]
        for k in range(lanes):
            own[j * L + k] = mine[k] * left[k]


@compiled
def measure(s: Array, x: Array, n: int, column: Array) -> None:
    """Hear the bounds of each storage in turn: a scalar measurement with information D."""
    lanes = s.shape[1] // STORE
    left, gain, pull = column[n * L : (n + 1) * L], column[(n + 1) * L : (n + 2) * L], column[(n + 2) * L :]
    for i in range(n):
        si, own = s[i], x[i]
        for k in range(lanes):
            inverse = 1.0 / (1.0 + si[D + k] * own[i * L + k])
            left[k] = inverse
            gain[k] = si[D + k] * inverse
            pull[k] = (si[ETA + k] - si[D + k] * si[M + k]) * inverse
        for j in range(n):
            row, sj = x[j], s[j]
            for k in range(lanes):
                column[j * L + k] = row[i * L + k]
                sj[M + k] += row[i * L + k] * pull[k]
        _downdate(x, i, column, gain, left)


@compiled
def hear(s: Array, x: Array, n: int, column: Array) -> None:
    """The mean after the bounds are heard, with the covariance that the factorisation left."""
    lanes = s.shape[1] // STORE
    for i in range(n):
        si = s[i]
        for k in range(lanes):
            column[i * L + k] = si[ETA + k] - si[D + k] * si[M + k]
    for i in range(n):
        si = s[i]
        for j in range(n):
            row, news = x[i], column[j * L : (j + 1) * L]
            for k in range(lanes):
                si[M + k] += row[j * L + k] * news[k]


@compiled
def smooth(s: Array, after: Array, x: Array, n: int) -> None:
    """Changes of states and multipliers of one step from those of the step `after`."""
    lanes = s.shape[1] // STORE
    for i in range(n):
        si, row = s[i], x[i]
        for k in range(lanes):
            si[DS + k] = si[M + k]
        for j in range(n):
            sj = after[j]
            for k in range(lanes):
                si[DS + k] -= row[j * L + k] * sj[KEEP + k] * sj[DPI + k]
        sj = after[i]
        for k in range(lanes):
            si[DPI + k] = si[D + k] * si[DS + k] - si[ETA + k] + sj[KEEP + k] * sj[DPI + k]


@compiled
def price(m: Array, s: Array, n: int) -> None:
    """Change of the balance's multiplier from those of the states."""
    lanes = m.size // METER
    for k in range(lanes):
        m[DLAMBDA + k] = m[RESIDUAL + k]
    for i in range(n):
        si = s[i]
        for k in range(lanes):
            m[DLAMBDA + k] -= si[GYZ + k] * si[DPI + k]
    for k in range(lanes):
        m[DLAMBDA + k] *= m[INV_S + k]
