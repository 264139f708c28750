"""Soft bounds of the storages in a Newton step: max(low - s, 0) and max(s - high, 0), each at its price.

A bound is two complementary pairs: slack and its dual (price less z), distance kept and its dual z.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.solver.compiled import compiled
from xapps.hems_load.solver.layout import (
    ACC,
    ALPHA_D,
    ALPHA_P,
    CST,
    DKH,
    DKL,
    DPI,
    DQH,
    DQL,
    DS,
    DUAL,
    ETA,
    HH,
    HIGH,
    HL,
    KEEP,
    KH,
    KL,
    LOW,
    MU,
    PI,
    RATIO_D,
    RATIO_P,
    RHO_H,
    RHO_L,
    SKH,
    SKL,
    SUM_A,
    SUM_B,
    TARGET,
    ZQH,
    ZQL,
    D,
    S,
)  # fmt: skip

__all__ = ["affine_store", "correct_store", "final_store", "move_store"]

Array = NDArray[np.float64]


@compiled
def _bound(gap: float, slack: float, z: float, rho: float) -> tuple[float, float, float]:
    """Curvature and affine dual of a soft bound, and its complementarity."""
    y, zs = gap + slack, rho - z
    curve = z * zs / (y * zs + z * slack)
    return curve, z - curve * gap, y * z + slack * zs


@compiled
def move_store(s: Array, after: Array, acc: Array) -> None:
    """Take the last step but for S and PI, which have moved; barrier curvature D and pull ETA of the soft bounds."""
    lanes = acc.size // ACC
    for k in range(lanes):
        ap, ad = acc[ALPHA_P + k], acc[ALPHA_D + k]
        state = s[S + k]
        skl, skh = s[SKL + k] + ap * s[DKL + k], s[SKH + k] + ap * s[DKH + k]
        zql, zqh = s[ZQL + k] + ad * s[DQL + k], s[ZQH + k] + ad * s[DQH + k]
        s[SKL + k], s[SKH + k], s[ZQL + k], s[ZQH + k] = skl, skh, zql, zqh
        kl, hl, mu_l = _bound(state - s[LOW + k], skl, zql, s[RHO_L + k])
        kh, hh, mu_h = _bound(s[HIGH + k] - state, skh, zqh, s[RHO_H + k])
        acc[MU + k] += mu_l + mu_h
        s[KL + k], s[KH + k], s[HL + k], s[HH + k] = kl, kh, hl, hh
        s[D + k] = kl + kh
        dual = s[PI + k] - s[CST + k] - after[KEEP + k] * (after[PI + k] + ad * after[DPI + k])
        s[DUAL + k] = dual
        s[ETA + k] = dual + hl - hh


@compiled
def _affine_bound(gap: float, slack: float, z: float, rho: float, hat: float) -> tuple[float, ...]:
    """Affine changes of dual and slack of a soft bound whose dual goes to `hat`; step ratios and sums."""
    y, zs, dz = gap + slack, rho - z, hat - z
    inverse = 1.0 / (z * zs)
    rz, rs = dz * zs * inverse, dz * z * inverse
    dsk, dy = slack * (rs - 1.0), -y * (1.0 + rz)
    return dz, dsk, max(1.0 - rs, 1.0 + rz), max(-rz, rs), dsk * zs + dy * z, (dy - dsk) * dz


@compiled
def affine_store(s: Array, acc: Array) -> None:
    """Affine changes of slacks and duals, their step ratios and sums."""
    lanes = acc.size // ACC
    for k in range(lanes):
        ds, state = s[DS + k], s[S + k]
        dz, dsk, p, d, a, b = _affine_bound(
            state - s[LOW + k], s[SKL + k], s[ZQL + k], s[RHO_L + k], s[HL + k] - s[KL + k] * ds
        )
        s[DQL + k], s[DKL + k] = dz, dsk
        dz2, dsk2, p2, d2, a2, b2 = _affine_bound(
            s[HIGH + k] - state, s[SKH + k], s[ZQH + k], s[RHO_H + k], s[HH + k] + s[KH + k] * ds
        )
        s[DQH + k], s[DKH + k] = dz2, dsk2
        acc[RATIO_P + k] = max(acc[RATIO_P + k], max(p, p2))
        acc[RATIO_D + k] = max(acc[RATIO_D + k], max(d, d2))
        acc[SUM_A + k] += a + a2
        acc[SUM_B + k] += b + b2


@compiled
def _correct_bound(
    gap: float, z: float, rho: float, curve: float, move: float, dz: float, dsk: float, target: float
) -> tuple[float, float]:
    """Dual that the corrector aims at where the state stays, and target of the slack's complementarity."""
    t1, t2 = target + dsk * dz, target - (dsk + move) * dz
    zs = rho - z
    return z + curve * ((t2 * zs - t1 * z) / (z * zs) - gap), t1


@compiled
def correct_store(s: Array, acc: Array) -> None:
    """Right-hand side of the corrector."""
    lanes = acc.size // ACC
    for k in range(lanes):
        target, ds, state = acc[TARGET + k], s[DS + k], s[S + k]
        hl, tl = _correct_bound(
            state - s[LOW + k], s[ZQL + k], s[RHO_L + k], s[KL + k], ds, s[DQL + k], s[DKL + k], target
        )
        hh, th = _correct_bound(
            s[HIGH + k] - state, s[ZQH + k], s[RHO_H + k], s[KH + k], -ds, s[DQH + k], s[DKH + k], target
        )
        s[HL + k], s[DKL + k], s[HH + k], s[DKH + k] = hl, tl, hh, th
        s[ETA + k] = s[DUAL + k] + hl - hh


@compiled
def _final_bound(
    gap: float, slack: float, z: float, rho: float, hat: float, move: float, target: float
) -> tuple[float, float, float, float]:
    """Changes of dual and slack of a soft bound whose dual goes to `hat`, and their step ratios."""
    y, zs, dz = gap + slack, rho - z, hat - z
    inverse = 1.0 / (z * zs)
    rz, rs = dz * zs * inverse, dz * z * inverse
    dsk = target * z * inverse + slack * rs - slack
    both = -1.0 / (slack * y)
    return dz, dsk, max(dsk * y * both, (move + dsk) * slack * both), max(-rz, rs)


@compiled
def final_store(s: Array, acc: Array) -> None:
    """The step in slacks and duals, and how far it may be followed."""
    lanes = acc.size // ACC
    for k in range(lanes):
        ds, state = s[DS + k], s[S + k]
        dzl, dkl, p, d = _final_bound(
            state - s[LOW + k], s[SKL + k], s[ZQL + k], s[RHO_L + k], s[HL + k] - s[KL + k] * ds, ds, s[DKL + k]
        )
        dzh, dkh, p2, d2 = _final_bound(
            s[HIGH + k] - state, s[SKH + k], s[ZQH + k], s[RHO_H + k], s[HH + k] + s[KH + k] * ds, -ds, s[DKH + k]
        )
        s[DQL + k], s[DKL + k], s[DQH + k], s[DKH + k] = dzl, dkl, dzh, dkh
        acc[RATIO_P + k] = max(acc[RATIO_P + k], max(p, p2))
        acc[RATIO_D + k] = max(acc[RATIO_D + k], max(d, d2))
