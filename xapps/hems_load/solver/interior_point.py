"""A batched primal-dual interior point for storages behind a meter; sixteen homes side by side in a vector register.

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

Arrays of a block `w`, one axis, rows of LANES numbers: meter (T, METER), boxes (T, J, BOX), stores (T + 2, n, STORE),
whose first step holds the states now and whose last one the prices of the states at the end, x (T + 1, triangle(n)).
`at` (n + 1,): boxes at[i]..at[i + 1] - 1 are those of storage i; the meter's segments come before.
"""

from __future__ import annotations

from typing import Any

from xapps.hems_load.solver.bounds import affine_bound, correct_bound, final_bound, move_bound
from xapps.hems_load.solver.boxes import affine_box, correct_box, final_box, move_box
from xapps.hems_load.solver.compiled import compiled, inlined, spliced
from xapps.hems_load.solver.kalman import datum, hear, measure, predict_mean, predict_x, smooth
from xapps.hems_load.solver.lanes import fill, get, greater, lesser, like, put
from xapps.hems_load.solver.layout import (
    ALPHA_D,
    ALPHA_P,
    BALANCE,
    BASE,
    BOX,
    COST,
    CURVE,
    DET,
    DLAMBDA,
    DPI,
    DQH,
    DQL,
    DRIFT,
    DS,
    DUAL,
    DV,
    ETA,
    FLOW,
    GAIN,
    GYY,
    GYZ,
    HIGH,
    INFEASIBLE,
    INV_H,
    INV_L,
    INV_S,
    KEEP,
    LAMBDA,
    LOW,
    METER,
    MU,
    OWN,
    PI,
    PULL,
    SCRATCH,
    SECOND,
    SEGMENTS,
    SETTLED,
    STORE,
    TARGET,
    WIDE,
    WIDE_METER,
    YHAT,
    D,
    L,
    S,
    V,
    triangle,
)  # fmt: skip

__all__ = ["factor", "newton_step", "offsets", "side", "sign"]

_TO_BOUNDARY = 0.99
_LEAST_SIGMA = 1e-3
_SURE_SECOND = 0.5
"""Weight of the affine step's second-order error where that step cannot be followed at all; 1 where it can in full.
Source: Colombo, Gondzio, Comput. Optim. Appl. 41 (2008) 277, who search it."""
_LEAST = 1e-9
_triangle = inlined(triangle)


@spliced
def sign(segment: int) -> float:
    """What a segment's kW adds to the balance: imports cover it, export and curtailment take."""
    return -1.0 if segment < 2 else 1.0


@spliced
def side(first: int, j: int) -> float:
    """The same of a storage's box: its `first`, the inlet, takes, the outlet gives."""
    return 1.0 if j == first else -1.0


@inlined
def _wide(at: Any, t: int) -> int:
    """Where the wide rows of the storages of step `t` begin; the meter's are before them."""
    n = at.size - 1
    return int(((t + 1) * (n * WIDE + WIDE_METER) + WIDE_METER) * L)


@inlined
def offsets(at: Any, t: int) -> tuple[int, int, int, int]:
    """Where the meter's rows, those of the first box, of the first storage and of the covariance of step `t` begin."""
    n = at.size - 1
    return t * METER * L, t * at[-1] * BOX * L, (t + 1) * n * STORE * L, (t + 1) * _triangle(n) * L


# Forwards: take the last step and factorise ----------------------------------------------------------------------


@inlined
def _move_segments(w: Any, t: int, m: int, b: int, ap: Any, ad: Any, price: Any) -> tuple[Any, Any, Any, Any]:
    """The meter's segments: complementarity, balance, pull of the costs on it, weight."""
    curve = datum(w, w.box_data, CURVE, 0, t)
    mu, balance, pull, weight = fill(w.acc, 0.0), get(w.meter, m + BASE), fill(w.acc, 0.0), fill(w.acc, 0.0)
    for j in range(SEGMENTS):
        at = b + j * BOX * L
        v, pair, inv_d = move_box(w.boxes, at, ap, ad, curve)
        sigma = sign(j)
        moved = -(datum(w, w.box_data, COST, j, t) + curve * v + sigma * price) * inv_d
        put(w.boxes, at + DV, moved)
        mu, balance, pull, weight = mu + pair, balance + sigma * v, pull + sigma * moved, weight + inv_d
        curve = fill(w.acc, 0.0)  # of the first alone
    return mu, balance, pull, weight


@inlined
def _move_device(
    w: Any, t: int, i: int, at: Any, b: int, s: int, o: int, ap: Any, ad: Any, price: Any, pi: Any
) -> tuple[Any, Any, Any]:
    """The boxes of storage `i`: complementarity, balance, pull; FLOW, GYZ and the scratch rows are left."""
    boxes, none, zero = w.boxes, fill(w.acc, 0.0), fill(w.wide, 0.0)
    mu, balance, pull, flow, yhat, gain1 = none, none, none, none, none, none
    own, gyy, gyz, det, inv1, sigma = zero, zero, zero, zero, zero, 1.0
    for j in range(at[i], at[i + 1]):
        own_at = b + j * BOX * L
        v, pair, inv_d = move_box(boxes, own_at, ap, ad, none)
        gain = datum(w, w.box_data, GAIN, j, t)
        moved = -(datum(w, w.box_data, COST, j, t) + gain * pi + sigma * price) * inv_d
        put(boxes, own_at + DV, moved)
        mu, balance, flow = mu + pair, balance + sigma * v, flow + gain * v
        pull, yhat = pull + sigma * moved, yhat + gain * moved
        free = like(w.wide, inv_d)
        own, gyy, gyz = own + free, gyy + gain * gain * free, gyz + sigma * gain * free
        cross = gain1 + gain  # of an inlet and an outlet, which is negative
        det += inv1 * free * cross * cross
        gain1, inv1, sigma = gain, free, -1.0
    mine = i * SCRATCH * L
    put(w.scratch, mine + OWN, own)
    put(w.scratch, mine + GYY, gyy)
    put(w.scratch, mine + DET, det)
    put(w.scratch, mine + YHAT, yhat)
    put(w.wide, o + GYZ, gyz)
    put(w.stores, s + FLOW, get(w.stores, s + FLOW) + flow)
    return mu, balance, pull


@inlined
def _move_store(w: Any, t: int, i: int, s: int, of_store: int, o: int, later: int, ap: Any, ad: Any) -> tuple[Any, Any]:
    """Take the last step in one storage: complementarity and multiplier; FLOW becomes what the dynamics miss."""
    stores = w.stores
    ds, after = get(stores, s + DS), s + of_store
    state, pi = get(stores, s + S) + ap * ds, get(stores, s + PI) + ad * like(stores, get(w.wide, o + DPI))
    put(stores, s + S, state)
    put(stores, s + PI, pi)
    passive = datum(w, w.store_data, KEEP, i, t) * get(stores, s - of_store + S) + datum(w, w.store_data, DRIFT, i, t)
    put(stores, s + FLOW, passive - state)
    kl, hl, mu_l = move_bound(stores, s + LOW, s + INV_L, s + DQL, ap, ad, ds)
    kh, hh, mu_h = move_bound(stores, s + HIGH, s + INV_H, s + DQH, ap, ad, -ds)
    price = get(stores, after + PI) + ad * like(stores, get(w.wide, later + DPI))
    dual = pi - datum(w, w.store_data, KEEP, i, t + 1) * price
    put(stores, s + D, kl + kh)
    put(stores, s + DUAL, dual)
    put(stores, s + ETA, dual + hl - hh)
    return mu_l + mu_h, pi


@compiled
def factor(w: Any, at: Any, steps: int) -> None:
    """Take the last step everywhere and factorise; the affine right-hand side goes along, the gap is left in MU."""
    n, of_store, of_wide = at.size - 1, (at.size - 1) * STORE * L, _wide(at, 1) - _wide(at, 0)
    ap, ad, mu = get(w.acc, ALPHA_P), get(w.acc, ALPHA_D), fill(w.acc, 0.0)
    for t in range(steps):
        m, b, s, p = offsets(at, t)
        o = _wide(at, t)
        price = get(w.meter, m + LAMBDA) + ad * get(w.meter, m + DLAMBDA)
        put(w.meter, m + LAMBDA, price)
        pair, balance, pull, weight = _move_segments(w, t, m, b, ap, ad, price)
        mu += pair
        total = like(w.wide, weight)
        for i in range(n):
            own, mine = s + i * STORE * L, o + i * WIDE * L
            pair, pi = _move_store(w, t, i, own, of_store, mine, mine + of_wide, ap, ad)
            mu += pair
            pair, given, pulled = _move_device(w, t, i, at, b, own, mine, ap, ad, price, pi)
            mu, balance, pull = mu + pair, balance + given, pull + pulled
            total += get(w.scratch, i * SCRATCH * L + OWN)
        inv_s = 1.0 / total
        pull += balance
        put(w.meter, m + BALANCE, balance)
        put(w.wide, o - WIDE_METER * L + PULL, pull)
        put(w.wide, o - WIDE_METER * L + INV_S, inv_s)
        predict_mean(w, t, s, o, o - of_wide, n, pull * inv_s)
        predict_x(w, t, o, p, n, weight, inv_s)
        measure(w, s, o, p, n)
    put(w.acc, MU, mu)


# Backwards: the affine direction ---------------------------------------------------------------------------------


@inlined
def _price(w: Any, m: int, o: int, n: int) -> Any:
    """Change of the balance's multiplier from those of the states."""
    change = get(w.wide, o - WIDE_METER * L + PULL)
    for i in range(n):
        change -= get(w.wide, o + i * WIDE * L + GYZ) * get(w.wide, o + i * WIDE * L + DPI)
    change = change * get(w.wide, o - WIDE_METER * L + INV_S)
    put(w.meter, m + DLAMBDA, change)
    return change


@inlined
def _affine_step(w: Any, at: Any, t: int, sums: tuple[Any, Any, Any, Any]) -> tuple[Any, Any, Any, Any]:
    n, o = at.size - 1, _wide(at, t)
    m, b, s, p = offsets(at, t)
    most_p, most_d, a, c = sums
    smooth(w, t, s, o, _wide(at, t + 1), p, n)
    price = _price(w, m, o, n)
    for j in range(SEGMENTS):
        own = b + j * BOX * L
        q, d, da, dc = affine_box(w.boxes, own, sign(j) * price)
        most_p, most_d, a, c = greater(most_p, q), greater(most_d, d), a + da, c + dc
    for i in range(n):
        store = s + i * STORE * L
        ds, pi = get(w.stores, store + DS), get(w.wide, o + i * WIDE * L + DPI)
        q, d, da, dc = affine_bound(w.stores, store + LOW, store + INV_L, store + DQL, ds)
        most_p, most_d, a, c = greater(most_p, q), greater(most_d, d), a + da, c + dc
        q, d, da, dc = affine_bound(w.stores, store + HIGH, store + INV_H, store + DQH, -ds)
        most_p, most_d, a, c = greater(most_p, q), greater(most_d, d), a + da, c + dc
        for j in range(at[i], at[i + 1]):
            own = b + j * BOX * L
            rise = datum(w, w.box_data, GAIN, j, t) * pi + side(at[i], j) * price
            q, d, da, dc = affine_box(w.boxes, own, rise)
            most_p, most_d, a, c = greater(most_p, q), greater(most_d, d), a + da, c + dc
    return most_p, most_d, a, c


@compiled
def _affine(w: Any, at: Any, steps: int, pairs: float) -> None:
    """The affine direction, and from the complementarity after it the corrector's target and weight."""
    none = fill(w.acc, 0.0)
    sums = (none, none, none, none)
    for t in range(steps - 1, -1, -1):
        sums = _affine_step(w, at, t, sums)
    most_p, most_d, a, c = sums
    ap, ad, total = 1.0 / greater(most_p, 1.0), 1.0 / greater(most_d, 1.0), get(w.acc, MU)
    after = total + ap * a - ad * (total + a) + ap * ad * c
    share = greater(after / total, 0.0)
    put(w.acc, TARGET, greater(share * share * share, _LEAST_SIGMA) * total * (1.0 / pairs))
    put(w.acc, SECOND, _SURE_SECOND + (1.0 - _SURE_SECOND) * ap * ad)


# Forwards: the corrector's right-hand side -----------------------------------------------------------------------


@inlined
def _correct_store(w: Any, s: int, target: Any, second: Any) -> Any:
    """The storage's pull after both bounds are corrected; its multiplier."""
    stores = w.stores
    ds = get(stores, s + DS)
    hl = correct_bound(stores, s + LOW, s + INV_L, s + DQL, ds, target, second)
    hh = correct_bound(stores, s + HIGH, s + INV_H, s + DQH, -ds, target, second)
    put(stores, s + ETA, get(stores, s + DUAL) + hl - hh)
    return get(stores, s + PI)


@compiled
def _correct(w: Any, at: Any, steps: int) -> None:
    n, target, second = at.size - 1, get(w.acc, TARGET), get(w.acc, SECOND)
    for t in range(steps):
        m, b, s, p = offsets(at, t)
        o = _wide(at, t)
        price, pull = get(w.meter, m + LAMBDA), get(w.meter, m + BALANCE)
        curve = datum(w, w.box_data, CURVE, 0, t)
        for j in range(SEGMENTS):
            own = b + j * BOX * L
            sigma = sign(j)
            slope = datum(w, w.box_data, COST, j, t) + curve * get(w.boxes, own + V) + sigma * price
            pull += sigma * correct_box(w.boxes, own, slope, target, second)
            curve = fill(w.acc, 0.0)
        for i in range(n):
            pi, yhat = _correct_store(w, s + i * STORE * L, target, second), fill(w.acc, 0.0)
            for j in range(at[i], at[i + 1]):
                own = b + j * BOX * L
                sigma, gain = side(at[i], j), datum(w, w.box_data, GAIN, j, t)
                slope = datum(w, w.box_data, COST, j, t) + gain * pi + sigma * price
                move = correct_box(w.boxes, own, slope, target, second)
                pull, yhat = pull + sigma * move, yhat + gain * move
            put(w.scratch, i * SCRATCH * L + YHAT, yhat)
        put(w.wide, o - WIDE_METER * L + PULL, pull)
        predict_mean(w, t, s, o, _wide(at, t - 1), n, pull * get(w.wide, o - WIDE_METER * L + INV_S))
        hear(w, s, o, p, n)


# Backwards: the step ---------------------------------------------------------------------------------------------


@inlined
def _final_step(w: Any, at: Any, t: int, most_p: Any, most_d: Any) -> tuple[Any, Any]:
    n, o = at.size - 1, _wide(at, t)
    m, b, s, p = offsets(at, t)
    smooth(w, t, s, o, _wide(at, t + 1), p, n)
    price = _price(w, m, o, n)
    for j in range(SEGMENTS):
        own = b + j * BOX * L
        q, d = final_box(w.boxes, own, sign(j) * price)
        most_p, most_d = greater(most_p, q), greater(most_d, d)
    for i in range(n):
        store = s + i * STORE * L
        ds, pi = get(w.stores, store + DS), get(w.wide, o + i * WIDE * L + DPI)
        q, d = final_bound(w.stores, store + LOW, store + INV_L, store + DQL, ds)
        most_p, most_d = greater(most_p, q), greater(most_d, d)
        q, d = final_bound(w.stores, store + HIGH, store + INV_H, store + DQH, -ds)
        most_p, most_d = greater(most_p, q), greater(most_d, d)
        for j in range(at[i], at[i + 1]):
            own = b + j * BOX * L
            rise = datum(w, w.box_data, GAIN, j, t) * pi + side(at[i], j) * price
            q, d = final_box(w.boxes, own, rise)
            most_p, most_d = greater(most_p, q), greater(most_d, d)
    return most_p, most_d


@compiled
def _final(w: Any, at: Any, steps: int) -> None:
    most_p, most_d = fill(w.acc, _LEAST), fill(w.acc, _LEAST)
    for t in range(steps - 1, -1, -1):
        most_p, most_d = _final_step(w, at, t, most_p, most_d)
    goes_on = 1.0 - get(w.acc, SETTLED)
    ap, ad = goes_on * lesser(_TO_BOUNDARY / most_p, 1.0), goes_on * lesser(_TO_BOUNDARY / most_d, 1.0)
    put(w.acc, ALPHA_P, ap)
    put(w.acc, ALPHA_D, ad)
    put(w.acc, INFEASIBLE, get(w.acc, INFEASIBLE) * (1.0 - ap))


@compiled
def newton_step(w: Any, at: Any, steps: int) -> None:
    """Find the next step of every home whose iterate `factor` has just updated; one with SETTLED = 1 stands still."""
    pairs = steps * (2.0 * at[-1] + 4.0 * (at.size - 1))
    _affine(w, at, steps, pairs)
    _correct(w, at, steps)
    _final(w, at, steps)
