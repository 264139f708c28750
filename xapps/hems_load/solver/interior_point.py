"""A batched primal-dual interior point for storages behind a meter; eight homes side by side in a vector register.

One home: box variables v_j in [0, hi_j] with cost c_j and curvature q_j (controls of the storages and the segments of
the meter's convex tariff), a balance per step, and storages s_i with soft bounds:

    min  sum_j (c_j v_j + q_j v_j^2 / 2)
         + sum_i [ cost_i s_i + rho_low max(low - s_i, 0) + rho_high max(s_i - high, 0) ]
    s.t. base + sum_j sigma_j v_j = 0,    s_i' = a_i s_i + drift_i + sum_j gain_j v_j      in every step

Each Newton step (Mehrotra's predictor and corrector) eliminates boxes and balance; what is left is a chain of small
systems in the storages alone, which a Kalman filter forwards and a smoother backwards solve exactly: `x` is the
filter's covariance, the bounds' barriers are its measurements. Nothing is inverted, so that a storage without power
(a car that is away) is no special case. Source: Mehrotra, SIAM J. Optim. 2 (1992) 575; Rao, Wright, Rawlings, JOTA 99
(1998) 723 for the structure. Against: HiGHS, tests/unit.

Arrays of a block, lanes innermost: meter (T, METER * LANES), boxes (T, J, BOX * LANES), stores (T, n + 1, STORE *
LANES), of which the last row takes the sums of boxes without a storage, x (T, n, n * LANES).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.solver.bounds import affine_store, correct_store, final_store, move_store
from xapps.hems_load.solver.compiled import compiled
from xapps.hems_load.solver.kalman import hear, measure, predict_mean, predict_x, price, smooth
from xapps.hems_load.solver.layout import (
    ACC,
    ALPHA_D,
    ALPHA_P,
    BALANCE,
    BASE,
    COST,
    CURVE,
    DLAMBDA,
    DPI,
    DRIFT,
    DS,
    DV,
    DZL,
    DZU,
    FLOW,
    GAIN,
    GYY,
    GYZ,
    HI,
    INFEASIBLE,
    INV_D,
    INV_S,
    KEEP,
    LAMBDA,
    MU,
    PI,
    RATIO_D,
    RATIO_P,
    RESIDUAL,
    RL,
    RU,
    SETTLED,
    SIGMA,
    SUM_A,
    SUM_B,
    TARGET,
    YHAT,
    ZL,
    ZU,
    S,
    V,
)

__all__ = ["factor", "newton_step"]

Array = NDArray[np.float64]

_TO_BOUNDARY = 0.99
_LEAST_SIGMA = 1e-3


@compiled
def _move_box(b: Array, acc: Array, m: Array, s: Array) -> None:
    """Take the last step; sum the complementarity; invert what the factorisation needs; sum what the box carries."""
    lanes = acc.size // ACC
    for k in range(lanes):
        v = b[V + k] + acc[ALPHA_P + k] * b[DV + k]
        zl = b[ZL + k] + acc[ALPHA_D + k] * b[DZL + k]
        zu = b[ZU + k] + acc[ALPHA_D + k] * b[DZU + k]
        above = b[HI + k] - v
        both, curve = v * above, b[CURVE + k]
        pull = zl * above + zu * v + curve * both
        inverse = 1.0 / (both * pull)  # one division for all
        rl, ru = above * pull * inverse, v * pull * inverse
        acc[MU + k] += v * zl + above * zu
        b[V + k], b[ZL + k], b[ZU + k] = v, zl, zu
        b[RL + k], b[RU + k] = rl, ru
        inv_d, sigma, gain = both * both * inverse, b[SIGMA + k], b[GAIN + k]
        b[INV_D + k] = inv_d
        m[BALANCE + k] += sigma * v
        s[FLOW + k] += gain * v
        m[INV_S + k] += sigma * sigma * inv_d
        s[GYY + k] += gain * gain * inv_d
        s[GYZ + k] += gain * sigma * inv_d
        move = -(b[COST + k] + curve * v + gain * s[PI + k] + sigma * m[LAMBDA + k]) * inv_d
        m[RESIDUAL + k] += sigma * move
        s[YHAT + k] += gain * move


@compiled
def _move_state(s: Array, last: Array, acc: Array) -> None:
    """Take the last step in state and multiplier; FLOW becomes what the dynamics miss."""
    lanes = acc.size // ACC
    for k in range(lanes):
        state = s[S + k] + acc[ALPHA_P + k] * s[DS + k]
        s[S + k] = state
        s[PI + k] += acc[ALPHA_D + k] * s[DPI + k]
        s[FLOW + k] = s[KEEP + k] * last[S + k] + s[DRIFT + k] - state
        s[GYY + k], s[GYZ + k], s[YHAT + k] = 0.0, 0.0, 0.0


@compiled
def factor(
    meter: Array,
    boxes: Array,
    stores: Array,
    x: Array,
    first: Array,
    beyond: Array,
    of: Array,
    acc: Array,
    column: Array,
) -> None:
    """Take the last step everywhere and factorise; the affine right-hand side goes along, the gap is left in MU."""
    lanes = acc.size // ACC
    for k in range(lanes):
        for row in (MU, RATIO_P, RATIO_D, SUM_A, SUM_B):
            acc[row + k] = 0.0
    steps, n = meter.shape[0], x.shape[1]
    for t in range(steps):
        m, s = meter[t], stores[t]
        last, after = stores[t - 1] if t > 0 else first, stores[t + 1] if t < steps - 1 else beyond
        for k in range(lanes):
            m[LAMBDA + k] += acc[ALPHA_D + k] * m[DLAMBDA + k]
            m[BALANCE + k] = m[BASE + k]
            m[RESIDUAL + k], m[INV_S + k] = 0.0, 0.0
        for i in range(n):
            _move_state(s[i], last[i], acc)
        for j in range(of.size):
            _move_box(boxes[t, j], acc, m, s[of[j]])
        for k in range(lanes):
            m[INV_S + k] = 1.0 / m[INV_S + k]
            m[RESIDUAL + k] += m[BALANCE + k]
        for i in range(n):
            move_store(s[i], after[i], acc)
            predict_mean(m, s[i], last[i])
        predict_x(m, s, t, n, x)
        measure(s, x[t], n, column)


@compiled
def _affine_box(b: Array, m: Array, s: Array, acc: Array) -> None:
    """Affine direction, its step ratios and the sums that give the complementarity after it."""
    lanes = acc.size // ACC
    for k in range(lanes):
        pi, price = s[PI + k] + s[DPI + k], m[LAMBDA + k] + m[DLAMBDA + k]
        dv = -(b[COST + k] + b[CURVE + k] * b[V + k] + b[GAIN + k] * pi + b[SIGMA + k] * price) * b[INV_D + k]
        b[DV + k] = dv
        low, high = dv * b[RL + k], dv * b[RU + k]
        up = max(low, -high)
        down = max(-low, high)
        acc[RATIO_P + k] = max(acc[RATIO_P + k], down)
        acc[RATIO_D + k] = max(acc[RATIO_D + k], 1.0 + up)
        dzl, dzu = -b[ZL + k] * (1.0 + low), -b[ZU + k] * (1.0 - high)
        acc[SUM_A + k] += dv * (b[ZL + k] - b[ZU + k])
        acc[SUM_B + k] += dv * (dzl - dzu)


@compiled
def _affine(meter: Array, boxes: Array, stores: Array, x: Array, beyond: Array, of: Array, acc: Array) -> None:
    steps, n = meter.shape[0], x.shape[1]
    for t in range(steps - 1, -1, -1):
        m, s = meter[t], stores[t]
        smooth(s, stores[t + 1] if t < steps - 1 else beyond, x[t], n)
        price(m, s, n)
        for i in range(n):
            affine_store(s[i], acc)
        for j in range(of.size):
            _affine_box(boxes[t, j], m, s[of[j]], acc)


@compiled
def _correct_box(b: Array, m: Array, s: Array, acc: Array) -> None:
    """Right-hand side of the corrector: centring and the affine step's second-order error."""
    lanes = acc.size // ACC
    for k in range(lanes):
        dv, rl, ru = b[DV + k], b[RL + k], b[RU + k]
        dzl, dzu = -b[ZL + k] * (1.0 + dv * rl), -b[ZU + k] * (1.0 - dv * ru)
        tl = (acc[TARGET + k] - dv * dzl) * rl
        tu = (acc[TARGET + k] + dv * dzu) * ru
        b[DZL + k], b[DZU + k] = tl, tu
        sigma, gain = b[SIGMA + k], b[GAIN + k]
        pull = (
            -(b[COST + k] + b[CURVE + k] * b[V + k] - tl + tu + gain * s[PI + k] + sigma * m[LAMBDA + k]) * b[INV_D + k]
        )
        m[RESIDUAL + k] += sigma * pull
        s[YHAT + k] += gain * pull


@compiled
def _correct(
    meter: Array, boxes: Array, stores: Array, x: Array, first: Array, of: Array, acc: Array, column: Array
) -> None:
    lanes = acc.size // ACC
    steps, n = meter.shape[0], x.shape[1]
    for t in range(steps):
        m, s = meter[t], stores[t]
        for k in range(lanes):
            m[RESIDUAL + k] = m[BALANCE + k]
        for i in range(n + 1):
            si = s[i]
            for k in range(lanes):
                si[YHAT + k] = 0.0
        for j in range(of.size):
            _correct_box(boxes[t, j], m, s[of[j]], acc)
        for i in range(n):
            correct_store(s[i], acc)
            predict_mean(m, s[i], stores[t - 1, i] if t > 0 else first[i])
        hear(s, x[t], n, column)


@compiled
def _final_box(b: Array, m: Array, s: Array, acc: Array) -> None:
    """The step's direction in all parts, and how far it may be followed."""
    lanes = acc.size // ACC
    for k in range(lanes):
        tl, tu, rl, ru, zl, zu = b[DZL + k], b[DZU + k], b[RL + k], b[RU + k], b[ZL + k], b[ZU + k]
        pi, price = s[PI + k] + s[DPI + k], m[LAMBDA + k] + m[DLAMBDA + k]
        slope = b[COST + k] + b[CURVE + k] * b[V + k]
        dv = -(slope - tl + tu + b[GAIN + k] * pi + b[SIGMA + k] * price) * b[INV_D + k]
        low, high = dv * rl, dv * ru
        dzl, dzu = tl - zl - zl * low, tu - zu + zu * high
        b[DV + k], b[DZL + k], b[DZU + k] = dv, dzl, dzu
        acc[RATIO_P + k] = max(acc[RATIO_P + k], max(-low, high))
        inverse = -1.0 / (zl * zu)
        acc[RATIO_D + k] = max(acc[RATIO_D + k], max(dzl * zu * inverse, dzu * zl * inverse))


@compiled
def _final(meter: Array, boxes: Array, stores: Array, x: Array, beyond: Array, of: Array, acc: Array) -> None:
    steps, n = meter.shape[0], x.shape[1]
    for t in range(steps - 1, -1, -1):
        m, s = meter[t], stores[t]
        smooth(s, stores[t + 1] if t < steps - 1 else beyond, x[t], n)
        price(m, s, n)
        for i in range(n):
            final_store(s[i], acc)
        for j in range(of.size):
            _final_box(boxes[t, j], m, s[of[j]], acc)


@compiled
def _aim(acc: Array, pairs: float) -> None:
    lanes = acc.size // ACC
    for k in range(lanes):
        ap, ad = min(1.0, 1.0 / max(acc[RATIO_P + k], 1e-9)), min(1.0, 1.0 / max(acc[RATIO_D + k], 1e-9))
        total, a, b = acc[MU + k], acc[SUM_A + k], acc[SUM_B + k]
        after = total + ap * a + ad * (-total - a) + ap * ad * b
        share = max(after / total, 0.0)
        sigma = max(share * share * share, _LEAST_SIGMA)
        acc[TARGET + k] = sigma * total / pairs
        acc[RATIO_P + k] = 0.0
        acc[RATIO_D + k] = 0.0


@compiled
def newton_step(
    meter: Array, boxes: Array, stores: Array, x: Array, first: Array, beyond: Array, of: Any, acc: Array, column: Array
) -> None:
    """Find the next step of every home whose iterate `factor` has just updated.

    `first` (n, STORE * L) holds the states before the first step in its row S, `beyond` (n + 1, STORE * L) zeros; `acc`
    (ACC * L) and `column` ((n + 3) * L) are scratch. A home with SETTLED = 1 in `acc` stands still.
    """
    lanes = acc.size // ACC
    _affine(meter, boxes, stores, x, beyond, of, acc)
    _aim(acc, meter.shape[0] * (2.0 * of.size + 4.0 * x.shape[1]))
    _correct(meter, boxes, stores, x, first, of, acc, column)
    _final(meter, boxes, stores, x, beyond, of, acc)
    for k in range(lanes):
        goes_on = 1.0 - acc[SETTLED + k]
        acc[ALPHA_P + k] = goes_on * min(1.0, _TO_BOUNDARY / max(acc[RATIO_P + k], 1e-9))
        acc[ALPHA_D + k] = goes_on * min(1.0, _TO_BOUNDARY / max(acc[RATIO_D + k], 1e-9))
        acc[INFEASIBLE + k] *= 1.0 - acc[ALPHA_P + k]
