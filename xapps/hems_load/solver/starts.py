"""Where homes that enter a block begin: powers that satisfy all equations, and duals that agree with prices.

The loader has left the data of the lanes that enter; for a warm start also the last solution: LAMBDA, S, PI and the
outlets' V. Here they become an iterate near
the central path for `mu`. `enters` is 1 in the lanes that enter, and nothing changes in the others.
"""

from __future__ import annotations

from typing import Any

from xapps.hems_load.solver import layout as rows
from xapps.hems_load.solver.compiled import compiled, inlined
from xapps.hems_load.solver.interior_point import offsets, side, sign
from xapps.hems_load.solver.kalman import datum
from xapps.hems_load.solver.lanes import choose, fill, get, greater, lesser, put

__all__ = ["start"]

L = rows.L
SEGMENTS = rows.SEGMENTS
LEAST_SHARE = 0.01
"""Of a power's range, what a warm start stays away from its ends."""
COLD_SHARE = 0.05
SURE_SHARE = 0.8
"""Of an inlet's power, what a cold start counts on to reach a bound in time."""
IDLE_PRICE = 0.03
"""Dual of a bound that the state is at without a pull [EUR per unit]: the less, the more slack; the more, the farther
are the multipliers of all steps before from the last ones."""
NEVER = -1e9


@inlined
def _box(w: Any, part: int, j: int, t: int) -> Any:
    return datum(w, w.box_data, part, j, t)


@inlined
def _store(w: Any, part: int, i: int, t: int) -> Any:
    return datum(w, w.store_data, part, i, t)


@inlined
def _put(array: Any, at: int, lanes: Any, enters: Any) -> None:
    put(array, at, choose(enters, lanes, get(array, at)))


@inlined
def _put_power(boxes: Any, b: int, power: Any, most: Any, enters: Any) -> None:
    _put(boxes, b + rows.V, power, enters)
    _put(boxes, b + rows.UP, most - power, enters)


@inlined
def _clamp(value: Any, low: Any, high: Any) -> Any:
    return lesser(greater(value, low), high)


@compiled
def _needs(w: Any, at: Any, i: int, steps: int, enters: Any) -> None:
    """Least state after each step from which all later lower bounds can be met, in DS."""
    need = fill(w.acc, NEVER)
    for t in range(steps - 1, -1, -1):
        _, _, s, _ = offsets(at, t)
        _put(w.stores, s + i * rows.STORE * L + rows.DS, need, enters)
        least = greater(need, _store(w, rows.LEAST, i, t))
        most = greater(SURE_SHARE * _box(w, rows.MOST, at[i], t) * _box(w, rows.GAIN, at[i], t), 0.0)
        need = (least - _store(w, rows.DRIFT, i, t) - most) / _store(w, rows.KEEP, i, t)


@inlined
def _wish(w: Any, own: int, i: int, t: int, state: Any) -> Any:
    """Where a cold storage is to be after a step: where it is, and above what it will need."""
    low, high = greater(_store(w, rows.LEAST, i, t), get(w.stores, own + rows.DS)), _store(w, rows.LARGEST, i, t)
    room = greater(high - low, low - high)
    return _clamp(state, low + 0.1 * room, high - 0.02 * room)


@compiled
def _start_powers(w: Any, at: Any, i: int, steps: int, warm: bool, enters: Any) -> None:
    """Powers that bring the storage nearest to where it was (warm) or is to be (cold), and the states that follow."""
    boxes, stores = w.boxes, w.stores
    _, _, s, _ = offsets(at, -1)
    state = get(stores, s + i * rows.STORE * L + rows.S)
    for t in range(steps):
        _, b, s, _ = offsets(at, t)
        inlet, own = b + at[i] * rows.BOX * L, s + i * rows.STORE * L
        passive = _store(w, rows.KEEP, i, t) * state + _store(w, rows.DRIFT, i, t)
        if at[i + 1] - at[i] > 1:
            outlet = inlet + rows.BOX * L
            most = _box(w, rows.MOST, at[i] + 1, t)
            given = COLD_SHARE * most
            if warm:
                given = _clamp(get(boxes, outlet + rows.V), LEAST_SHARE * most, (1.0 - LEAST_SHARE) * most)
            _put_power(boxes, outlet, given, most, enters)
            passive += _box(w, rows.GAIN, at[i] + 1, t) * given
        share = LEAST_SHARE if warm else COLD_SHARE
        wanted = get(stores, own + rows.S) if warm else _wish(w, own, i, t, state)
        gain, most = _box(w, rows.GAIN, at[i], t), _box(w, rows.MOST, at[i], t)
        power = choose(greater(gain, -gain) - 1e-12, (wanted - passive) / gain, 0.5 * most)
        power = _clamp(power, share * most, (1.0 - share) * most)
        _put_power(boxes, inlet, power, most, enters)
        state = passive + gain * power
        _put(stores, own + rows.S, state, enters)


@inlined
def _start_bound(stores: Any, at: int, gap: Any, rho: Any, pull: Any, mu: float, enters: Any) -> Any:
    """Slack, distance and duals of a soft bound `gap` away, of price `rho`, that is to pull with `pull`; the dual."""
    z = greater(pull, 0.0) + mu / (greater(gap, 0.0) + greater(mu / IDLE_PRICE, 2.0 * mu / rho))
    z = lesser(z, rho - lesser(1e-3 * rho, mu / greater(-gap, 1e-3)))
    slack = greater(greater(mu / (rho - z), mu / z - gap), 1e-5 - gap)
    _put(stores, at + rows.SLACK, slack, enters)
    _put(stores, at + rows.ZS, rho - z, enters)
    _put(stores, at + rows.DISTANCE, gap + slack, enters)
    _put(stores, at + rows.Z, z, enters)
    return z


@compiled
def _start_prices(w: Any, at: Any, i: int, steps: int, warm: bool, mu: float, enters: Any) -> None:
    """Duals of the storage's bounds near its last multipliers (warm), and the multipliers that agree with them."""
    stores = w.stores
    _, _, beyond, _ = offsets(at, steps)
    pi = get(stores, beyond + i * rows.STORE * L + rows.PI)
    for t in range(steps - 1, -1, -1):
        _, _, own, _ = offsets(at, t)
        own += i * rows.STORE * L
        later = pi * _store(w, rows.KEEP, i, t + 1)
        pull = later - get(stores, own + rows.PI) if warm else fill(w.acc, 0.0)
        state = get(stores, own + rows.S)
        low, high = state - _store(w, rows.LEAST, i, t), _store(w, rows.LARGEST, i, t) - state
        pi = later - _start_bound(stores, own + rows.LOW, low, _store(w, rows.LEAST_PRICE, i, t), pull, mu, enters)
        pi += _start_bound(stores, own + rows.HIGH, high, _store(w, rows.LARGEST_PRICE, i, t), -pull, mu, enters)
        _put(stores, own + rows.PI, pi, enters)


@inlined
def _start_meter(w: Any, at: Any, t: int, mu: float, enters: Any) -> tuple[Any, Any]:
    """Segments of the meter that balance the powers chosen, the idle ones as small as `mu` has them.

    Returns the price, and the power that finds no way out [kW].
    """
    boxes = w.boxes
    meter, within, _, _ = offsets(at, t)
    over, sale, loss = within + rows.BOX * L, within + 2 * rows.BOX * L, within + 3 * rows.BOX * L
    net = get(w.meter, meter + rows.BASE)
    for i in range(at.size - 1):
        for j in range(at[i], at[i + 1]):
            net += side(at[i], j) * get(boxes, within + j * rows.BOX * L + rows.V)
    limit, buy, sell = _box(w, rows.MOST, 0, t), _box(w, rows.COST, 0, t), -_box(w, rows.COST, 2, t)
    dear, most_over = _box(w, rows.COST, 1, t), _box(w, rows.MOST, 1, t)
    most_sold, most_cut = _box(w, rows.MOST, 2, t), _box(w, rows.MOST, 3, t)
    idle = mu / greater(buy - sell, 1e-4)
    e, c = lesser(idle, 0.05 * most_sold), lesser(mu / greater(buy, 0.02), 0.05 * most_cut)
    o, least = mu / (dear - buy), lesser(idle, 0.02 * limit)
    m = net + e + c - o
    gives, passes = least - m, m - 0.99 * limit
    export = lesser(greater(least + o - net - c, e), 0.99 * most_sold)
    curtailed = lesser(greater(least + o - net - export, c), 0.99 * most_cut)
    e, c, m = choose(gives, export, e), choose(gives, curtailed, c), choose(gives, least, m)
    m, o = choose(passes, 0.99 * limit, m), choose(passes, net + e + c - 0.99 * limit, o)
    off = net + e + c - o - m
    _put_power(boxes, within, m, limit, enters)
    _put_power(boxes, over, o, most_over, enters)
    _put_power(boxes, sale, e, most_sold, enters)
    _put_power(boxes, loss, c, most_cut, enters)
    return choose(passes, dear, choose(gives, sell, buy)), greater(off, -off)


@inlined
def _start_duals(boxes: Any, b: int, cost: Any, mu: float, enters: Any) -> None:
    """Duals of a box whose power costs `cost` [EUR/kW]."""
    _put(boxes, b + rows.ZL, greater(cost, 0.0) + mu / get(boxes, b + rows.V), enters)
    _put(boxes, b + rows.ZU, greater(-cost, 0.0) + mu / get(boxes, b + rows.UP), enters)


@compiled
def start(w: Any, at: Any, steps: int, warm: bool, mu: float) -> None:
    """An iterate for the lanes that enter; INFEASIBLE is the most by which a balance is missed [kW]."""
    n, enters, boxes = at.size - 1, get(w.acc, rows.ENTERS), w.boxes
    for i in range(n):
        if not warm:
            _needs(w, at, i, steps, enters)
        _start_powers(w, at, i, steps, warm, enters)
        _start_prices(w, at, i, steps, warm, mu, enters)
    missed = fill(w.acc, 0.0)
    for t in range(steps):
        m, b, s, _ = offsets(at, t)
        price, off = _start_meter(w, at, t, mu, enters)
        if warm:
            price = get(w.meter, m + rows.LAMBDA)
        _put(w.meter, m + rows.LAMBDA, price, enters)
        missed = greater(missed, off)
        for j in range(SEGMENTS):
            cost = _box(w, rows.COST, j, t) + sign(j) * price
            _start_duals(boxes, b + j * rows.BOX * L, cost, mu, enters)
        for i in range(n):
            pi = get(w.stores, s + i * rows.STORE * L + rows.PI)
            for j in range(at[i], at[i + 1]):
                cost = _box(w, rows.COST, j, t) + _box(w, rows.GAIN, j, t) * pi + side(at[i], j) * price
                _start_duals(boxes, b + j * rows.BOX * L, cost, mu, enters)
    _put(w.acc, rows.INFEASIBLE, missed, enters)
    for row in (rows.ALPHA_P, rows.ALPHA_D):
        _put(w.acc, row, fill(w.acc, 0.0), enters)
