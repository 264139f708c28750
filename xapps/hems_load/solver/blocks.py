"""Homes to lanes and back: fills blocks of homes, chooses starting points, runs the iterations."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.solver import interior_point as ip
from xapps.hems_load.solver import layout as rows
from xapps.hems_load.solver.compiled import compiled, inlined

__all__ = ["Workspace", "kept_rows", "solve_homes"]

Array = NDArray[np.float64]
L = rows.LANES
SEGMENTS = ip.SEGMENTS
WITHIN, OVER, EXPORT, CURTAIL = (n * rows.BOX * L for n in range(SEGMENTS))


LEAST_SHARE = 0.003
"""Of a power's range, what a warm start stays away from its ends."""
LEAST_KW = 1e-3
"""Balances missed by less count as kept; `settle` makes them good."""


@inlined
def _box(at: Any, t: int, j: int, k: int) -> int:
    """Where lane `k` of box `j` begins in step `t`."""
    return int((t * at[-1] + j) * rows.BOX * L + k)


@inlined
def _store(at: Any, t: int, i: int, k: int) -> int:
    """Where lane `k` of storage `i` begins in step `t`, -1 for the states now."""
    return int(((t + 1) * (at.size - 1) + i) * rows.STORE * L + k)


@inlined
def _load(s: Any, h: int, k: int, w: Any, at: Any) -> None:
    """The data of home `h` into lane `k`."""
    boxes, stores, n, steps = w.boxes, w.stores, at.size - 1, s.hours.size
    for t in range(steps):
        m = t * rows.METER * L + k
        w.meter[m + rows.BASE], w.meter[m + rows.CURVE] = s.base_kw[h, t], s.curve[h, t]
        w.meter[m + rows.DLAMBDA] = 0.0
        for j in range(at[-1]):
            b = _box(at, t, j, k)
            boxes[b + rows.UP] = s.high_kw[j, h, t]
            boxes[b + rows.COST] = s.cost[j, h, t]
            boxes[b + rows.SIGMA] = s.sigma[j, h, t]
            boxes[b + rows.GAIN] = s.gain[j, h, t]
            boxes[b + rows.DV], boxes[b + rows.DZL], boxes[b + rows.DZU] = 0.0, 0.0, 0.0
        for i in range(n):
            o = _store(at, t, i, k)
            stores[o + rows.KEEP], stores[o + rows.DRIFT] = s.keep[i, h, t], s.drift[i, h, t]
            for row in (rows.DS, rows.DQL, rows.DKL, rows.DQH, rows.DKH):
                stores[o + row] = 0.0
            w.wide[
                ((t + 1) * (n * rows.WIDE + rows.WIDE_METER) + rows.WIDE_METER + i * rows.WIDE) * L + rows.DPI + k
            ] = 0.0
    for i in range(n):
        stores[_store(at, -1, i, k) + rows.S] = s.start[i, h]
        end = _store(at, steps, i, k)
        stores[end + rows.KEEP], stores[end + rows.PI] = 1.0, s.end_cost[i, h]


@inlined
def _start_bound(stores: Any, at: int, gap: float, rho: float, pull: float, mu: float) -> float:
    """Slack, distance and duals of a soft bound `gap` away that is to pull with `pull`; returns the dual."""
    z = max(pull, 0.0) + mu / (max(gap, 0.0) + 2.0 * mu / rho)
    z = min(z, rho - min(1e-3 * rho, mu / max(-gap, 1e-3)))
    slack = max(mu / (rho - z), 1e-5 - gap)
    stores[at + rows.SLACK], stores[at + rows.ZS] = slack, rho - z
    stores[at + rows.DISTANCE], stores[at + rows.Z] = gap + slack, z
    return z


@inlined
def _needs(s: Any, h: int, inlet: int, i: int, need: Array) -> None:
    """(T + 1,) least state before each step from which all later lower bounds can be met, at 80 % of the power."""
    steps = s.hours.size
    need[steps] = -1e9
    for t in range(steps - 1, -1, -1):
        least = max(need[t + 1], s.low[i, h, t])
        most = max(0.8 * s.high_kw[inlet, h, t] * s.gain[inlet, h, t], 0.0)
        need[t] = (least - s.drift[i, h, t] - most) / s.keep[i, h, t]


@inlined
def _wish(s: Any, h: int, i: int, t: int, state: float, need: float) -> float:
    """Where the storage is to be after step `t`: where it is, and above what it will need."""
    low, high = max(s.low[i, h, t], need), s.high[i, h, t]
    room = abs(high - low)
    return float(min(max(state, low + 0.1 * room), high - 0.02 * room))


@inlined
def _start_storage(s: Any, w: Any, at: Any, i: int, h: int, k: int, wish: Any, given: Any, warm: bool) -> None:
    """Powers that bring the storage nearest to `wish` (T,), outlets at `given` (T,), and the states that follow.

    Cold starts have no wish, and keep the storage where it is and above what it will `need`.
    """
    inlet, state = at[i], s.start[i, h]
    for t in range(s.hours.size):
        b = _box(at, t, inlet, k)
        passive = s.keep[i, h, t] * state + s.drift[i, h, t]
        if at[i + 1] - inlet > 1:
            most = s.high_kw[inlet + 1, h, t]
            out = min(max(given[t], LEAST_SHARE * most), (1 - LEAST_SHARE) * most) if warm else 0.05 * most
            o = _box(at, t, inlet + 1, k)
            w.boxes[o + rows.V], w.boxes[o + rows.UP] = out, most - out
            passive += s.gain[inlet + 1, h, t] * out
        wanted = wish[t] if warm else _wish(s, h, i, t, state, wish[t + 1])
        gain, most = s.gain[inlet, h, t], s.high_kw[inlet, h, t]
        power = (wanted - passive) / gain if abs(gain) > 1e-12 else 0.5 * most
        share = LEAST_SHARE if warm else 0.05
        power = min(max(power, share * most), (1 - share) * most)
        w.boxes[b + rows.V], w.boxes[b + rows.UP] = power, most - power
        state = passive + gain * power
        w.stores[_store(at, t, i, k) + rows.S] = state


@inlined
def _start_prices(s: Any, w: Any, at: Any, i: int, h: int, k: int, known: Any, warm: bool, mu: float) -> None:
    """Duals of the storage's bounds near its multipliers `known` (T,), and the multipliers that agree with them."""
    steps = s.hours.size
    pi = s.end_cost[i, h]
    for t in range(steps - 1, -1, -1):
        o = _store(at, t, i, k)
        later = pi * (s.keep[i, h, t + 1] if t + 1 < steps else 1.0)
        pull = later - known[t] if warm else 0.0
        state = w.stores[o + rows.S]
        zl = _start_bound(w.stores, o + rows.LOW, state - s.low[i, h, t], s.price_low[i, h, t], pull, mu)
        zh = _start_bound(w.stores, o + rows.HIGH, s.high[i, h, t] - state, s.price_high[i, h, t], -pull, mu)
        pi = later - zl + zh
        w.stores[o + rows.PI] = pi


@inlined
def _start_meter(s: Any, w: Any, at: Any, t: int, h: int, k: int, mu: float) -> tuple[float, float]:
    """Segments of the meter that balance the powers chosen, the idle ones as small as `mu` has them.

    Returns the price, and the power that finds no way out [kW].
    """
    boxes, b = w.boxes, _box(at, t, 0, k)
    net = s.base_kw[h, t]
    for j in range(SEGMENTS, at[-1]):
        net += s.sigma[j, h, t] * boxes[_box(at, t, j, k) + rows.V]
    limit, buy, sell = s.high_kw[0, h, t], s.cost[0, h, t], -s.cost[2, h, t]
    sold, cut = s.sigma[2, h, t] * s.high_kw[2, h, t], s.sigma[3, h, t] * s.high_kw[3, h, t]
    spread = max(buy - sell, 1e-4)
    e, c, least = min(mu / spread, 0.05 * sold), min(mu / max(buy, 0.02), 0.05 * cut), min(mu / spread, 0.02 * limit)
    o = mu / (s.cost[1, h, t] - buy)
    price = buy
    m = net + e + c - o
    if m < least:
        m, price = least, sell
        give = m + o - net
        e = min(0.99 * sold, max(give - c, e))
        c = min(max(give - e, c), 0.99 * cut)
    elif m > 0.99 * limit:
        m, price = 0.99 * limit, s.cost[1, h, t]
        o = net + e + c - m
    off = abs(net + e + c - o - m)
    e = e if sold > 0.0 else 0.5 * s.high_kw[2, h, t]
    c = c if cut > 0.0 else 0.5 * s.high_kw[3, h, t]
    for segment, power in ((WITHIN, m), (OVER, o), (EXPORT, e), (CURTAIL, c)):
        boxes[b + segment + rows.V] = power
        boxes[b + segment + rows.UP] -= power
    return price, off


@inlined
def _start_duals(s: Any, w: Any, at: Any, t: int, h: int, k: int, price: float, mu: float) -> None:
    """Duals of the boxes that agree with the prices of power and of stored energy."""
    w.meter[t * rows.METER * L + k + rows.LAMBDA] = price
    i = -1
    for j in range(at[-1]):
        if i + 1 < at.size - 1 and j == at[i + 1]:
            i += 1
        pi = w.stores[_store(at, t, max(i, 0), k) + rows.PI] if i >= 0 else 0.0
        b = _box(at, t, j, k)
        r = s.cost[j, h, t] + s.gain[j, h, t] * pi + s.sigma[j, h, t] * price
        w.boxes[b + rows.ZL] = max(r, 0.0) + mu / w.boxes[b + rows.V]
        w.boxes[b + rows.ZU] = max(-r, 0.0) + mu / w.boxes[b + rows.UP]


@inlined
def _start(s: Any, w: Any, at: Any, kept: Any, warm: bool, h: int, k: int, mu: float, need: Any) -> float:
    """A point that satisfies all equations, near the central path for `mu`; warm: near the iterate `kept`.

    Returns by how much a balance is missed [kW].
    """
    n, most = at.size - 1, 0.0
    for i in range(n):
        if warm:
            _start_storage(s, w, at, i, h, k, kept[h, 1 + 2 * i], kept[h, 1 + 2 * n + i], True)
            _start_prices(s, w, at, i, h, k, kept[h, 2 + 2 * i], True, mu)
        else:
            _needs(s, h, at[i], i, need)
            _start_storage(s, w, at, i, h, k, need, need, False)
            _start_prices(s, w, at, i, h, k, need, False, mu)
    for t in range(s.hours.size):
        price, off = _start_meter(s, w, at, t, h, k, mu)
        _start_duals(s, w, at, t, h, k, kept[h, 0, t] if warm else price, mu)
        most = max(most, off)
    return most


@inlined
def _keep(w: Any, at: Any, kept: Any, h: int, k: int) -> None:
    """The iterate of lane `k` into `kept` (N, rows, T): price, state and multiplier of each storage, its outlet."""
    n = at.size - 1
    for t in range(kept.shape[2]):
        kept[h, 0, t] = w.meter[t * rows.METER * L + k + rows.LAMBDA]
        for i in range(n):
            o = _store(at, t, i, k)
            kept[h, 1 + 2 * i, t], kept[h, 2 + 2 * i, t] = w.stores[o + rows.S], w.stores[o + rows.PI]
            if at[i + 1] - at[i] > 1:
                kept[h, 1 + 2 * n + i, t] = w.boxes[_box(at, t, at[i] + 1, k) + rows.V]


@inlined
def _leave(w: Any, at: Any, k: int, h: int, power: Any, price: Any) -> None:
    """The solution in lane `k` into the rows of home `h`."""
    for t in range(price.shape[1]):
        price[h, t] = w.meter[t * rows.METER * L + k + rows.LAMBDA]
        for j in range(SEGMENTS, at[-1]):
            power[j - SEGMENTS, h, t] = w.boxes[_box(at, t, j, k) + rows.V]


@inlined
def _enter(s: Any, w: Any, at: Any, kept: Any, warm: bool, h: int, k: int, mu: float, need: Any) -> None:
    """Home `h` into lane `k`, with a point to start from."""
    _load(s, h, k, w, at)
    w.acc[rows.INFEASIBLE + k] = _start(s, w, at, kept, warm, h, k, mu, need)
    for row in (rows.ALPHA_P, rows.ALPHA_D, rows.SETTLED, rows.KEPT):
        w.acc[row + k] = 0.0


@compiled
def solve_homes(
    s: Any, w: Any, at: Any, kept: Any, warm: bool, most: int, gaps: Any, mu: float, power: Any, price: Any, taken: Any
) -> None:
    """Solve all homes of `s` from their iterates `kept` (N, rows, T), or from cold starts near `mu`.

    A lane whose home is solved takes the next one, so that slow homes hold up nobody. `gaps` (2,): duality gap of the
    solution and of the iterate left in `kept` [EUR]. Fills power (J - 4, N, T) [kW], price (N, T) [EUR/kW in
    the step] and taken (N,), each home's Newton steps.
    """
    homes, acc, steps = s.base_kw.shape[0], w.acc, s.hours.size
    home, need = np.full(L, -1), np.empty(steps + 1)
    waiting, left = 0, homes
    while True:
        for k in range(L):
            if home[k] < 0 and waiting < homes:
                _enter(s, w, at, kept, warm, waiting, k, mu, need)
                home[k], taken[waiting] = waiting, 0
                waiting += 1
            elif home[k] < 0 and left == homes:
                _enter(s, w, at, kept, warm, 0, k, mu, need)
                acc[rows.SETTLED + k] = 1.0
        ip.factor(w, at, steps)
        for k in range(L):
            h = home[k]
            if h < 0:
                continue
            near = acc[rows.MU + k] <= gaps[0] and acc[rows.INFEASIBLE + k] < LEAST_KW
            settled = near or taken[h] >= most
            if acc[rows.KEPT + k] == 0.0 and (settled or acc[rows.MU + k] <= gaps[1]):
                _keep(w, at, kept, h, k)
                acc[rows.KEPT + k] = 1.0
            taken[h] += 1
            if settled:
                _leave(w, at, k, h, power, price)
                acc[rows.SETTLED + k] = 1.0
                home[k] = -1
                left -= 1
        if left == 0:
            return
        ip.newton_step(w, at, steps)


class Workspace(NamedTuple):
    """What a thread works in: LANES homes over T steps; the layout is told in `interior_point`."""

    meter: Any
    boxes: Any
    stores: Any
    acc: Any
    wide: Any
    x: Any
    scratch: Any
    column: Any

    @classmethod
    def of(cls, steps: int, boxes: int, n: int) -> Workspace:
        """An empty one."""
        single = (steps * rows.METER, steps * boxes * rows.BOX, (steps + 2) * n * rows.STORE, rows.ACC)
        double = (
            (steps + 2) * (n * rows.WIDE + rows.WIDE_METER), (steps + 1) * rows.triangle(n), n * rows.SCRATCH, n,
        )  # fmt: skip
        return cls(
            *(_aligned(size * L, np.float32) for size in single), *(_aligned(size * L, np.float64) for size in double)
        )


def _aligned(size: int, dtype: Any) -> Any:
    """Zeros that begin where a cache line does."""
    width = np.dtype(dtype).itemsize
    room = np.zeros(size + 64 // width, dtype=dtype)
    first = -room.ctypes.data % 64 // width
    return room[first : first + size]


def kept_rows(n: int) -> int:
    """Numbers per step that an iterate consists of."""
    return 1 + 3 * n
