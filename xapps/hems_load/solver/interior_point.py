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

from xapps.hems_load.solver.compiled import compiled

__all__ = ["ACC", "BOX", "LANES", "METER", "STORE", "factor", "newton_step"]

Array = NDArray[np.float64]

LANES = 8
L = LANES
# Rows of a step of the meter: data, then what an iteration keeps.
METER = 6
BASE, LAMBDA, BALANCE, RESIDUAL, INV_S, DLAMBDA = (n * L for n in range(METER))
# Rows of a box: iterate, data, then what an iteration keeps.
BOX = 14
V, ZL, ZU, HI, COST, SIGMA, GAIN, CURVE, RL, RU, INV_D, DV, DZL, DZU = (n * L for n in range(BOX))
# Rows of a storage: iterate, data, then what an iteration keeps.
STORE = 31
(
    S, PI, SKL, ZQL, SKH, ZQH,
    LOW, HIGH, RHO_L, RHO_H, CST, KEEP, DRIFT,
    DUAL, FLOW, D, ETA, M, GYY, GYZ, YHAT, KL, KH, HL, HH, DS, DPI, DQL, DQH, DKL, DKH,
) = (n * L for n in range(STORE))  # fmt: skip
# Rows of the block's accumulators.
ACC = 11
MU, ALPHA_P, ALPHA_D, RATIO_P, RATIO_D, SUM_A, SUM_B, TARGET, INFEASIBLE, SETTLED, KEPT = (n * L for n in range(ACC))
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
def _bound(gap: float, slack: float, z: float, rho: float) -> tuple[float, float, float]:
    """Curvature and affine dual of a soft bound, and its complementarity."""
    y, zs = gap + slack, rho - z
    curve = z * zs / (y * zs + z * slack)
    return curve, z - curve * gap, y * z + slack * zs


@compiled
def _move_store(s: Array, after: Array, acc: Array) -> None:
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
def _predict_mean(m: Array, s: Array, last: Array) -> None:
    """Mean of the state's change before its bounds are heard; `last` is the storage's row of the step before."""
    lanes = m.size // METER
    for k in range(lanes):
        drive = s[YHAT + k] + s[FLOW + k] - s[GYZ + k] * m[RESIDUAL + k] * m[INV_S + k]
        s[M + k] = s[KEEP + k] * last[M + k] + drive


@compiled
def _predict_x(m: Array, s: Array, t: int, n: int, x: Array) -> None:
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
def _measure(s: Array, x: Array, n: int, column: Array) -> None:
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
            _move_store(s[i], after[i], acc)
            _predict_mean(m, s[i], last[i])
        _predict_x(m, s, t, n, x)
        _measure(s, x[t], n, column)


@compiled
def _smooth(s: Array, after: Array, x: Array, n: int) -> None:
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
def _price(m: Array, s: Array, n: int) -> None:
    lanes = m.size // METER
    for k in range(lanes):
        m[DLAMBDA + k] = m[RESIDUAL + k]
    for i in range(n):
        si = s[i]
        for k in range(lanes):
            m[DLAMBDA + k] -= si[GYZ + k] * si[DPI + k]
    for k in range(lanes):
        m[DLAMBDA + k] *= m[INV_S + k]


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
def _affine_bound(gap: float, slack: float, z: float, rho: float, hat: float) -> tuple[float, ...]:
    """Affine changes of dual and slack of a soft bound whose dual goes to `hat`; step ratios and sums."""
    y, zs, dz = gap + slack, rho - z, hat - z
    inverse = 1.0 / (z * zs)
    rz, rs = dz * zs * inverse, dz * z * inverse
    dsk, dy = slack * (rs - 1.0), -y * (1.0 + rz)
    return dz, dsk, max(1.0 - rs, 1.0 + rz), max(-rz, rs), dsk * zs + dy * z, (dy - dsk) * dz


@compiled
def _affine_store(s: Array, acc: Array) -> None:
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
def _affine(meter: Array, boxes: Array, stores: Array, x: Array, beyond: Array, of: Array, acc: Array) -> None:
    steps, n = meter.shape[0], x.shape[1]
    for t in range(steps - 1, -1, -1):
        m, s = meter[t], stores[t]
        _smooth(s, stores[t + 1] if t < steps - 1 else beyond, x[t], n)
        _price(m, s, n)
        for i in range(n):
            _affine_store(s[i], acc)
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
def _correct_bound(
    gap: float, z: float, rho: float, curve: float, move: float, dz: float, dsk: float, target: float
) -> tuple[float, float]:
    """Dual that the corrector aims at where the state stays, and target of the slack's complementarity."""
    t1, t2 = target + dsk * dz, target - (dsk + move) * dz
    zs = rho - z
    return z + curve * ((t2 * zs - t1 * z) / (z * zs) - gap), t1


@compiled
def _correct_store(s: Array, acc: Array) -> None:
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
def _hear(s: Array, x: Array, n: int, column: Array) -> None:
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
            _correct_store(s[i], acc)
            _predict_mean(m, s[i], stores[t - 1, i] if t > 0 else first[i])
        _hear(s, x[t], n, column)


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
def _final_store(s: Array, acc: Array) -> None:
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


@compiled
def _final(meter: Array, boxes: Array, stores: Array, x: Array, beyond: Array, of: Array, acc: Array) -> None:
    steps, n = meter.shape[0], x.shape[1]
    for t in range(steps - 1, -1, -1):
        m, s = meter[t], stores[t]
        _smooth(s, stores[t + 1] if t < steps - 1 else beyond, x[t], n)
        _price(m, s, n)
        for i in range(n):
            _final_store(s[i], acc)
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
