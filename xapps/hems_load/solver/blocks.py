"""Homes to lanes and back: fills blocks of eight homes, chooses starting points, runs the iterations."""

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


@inlined
def _load(s: Any, h: int, k: int, work: Any) -> None:
    """The data of home `h` into lane `k`."""
    for t in range(s.hours.size):
        work.meter[t, rows.BASE + k], work.meter[t, rows.DLAMBDA + k] = s.base_kw[h, t], 0.0
        for j in range(s.of.size):
            box = work.boxes[t, j]
            box[rows.HI + k] = s.high_kw[j, h, t]
            box[rows.COST + k] = s.cost[j, h, t]
            box[rows.SIGMA + k] = s.sigma[j, h, t]
            box[rows.GAIN + k] = s.gain[j, h, t]
            box[rows.CURVE + k] = s.curve[h, t] if j == 0 else 0.0
            box[rows.DV + k], box[rows.DZL + k], box[rows.DZU + k] = 0.0, 0.0, 0.0
        for i in range(s.start.shape[0]):
            store = work.stores[t, i]
            store[rows.LOW + k] = s.low[i, h, t]
            store[rows.HIGH + k] = s.high[i, h, t]
            store[rows.RHO_L + k] = s.price_low[i, h, t]
            store[rows.RHO_H + k] = s.price_high[i, h, t]
            store[rows.CST + k] = s.end_cost[i, h] if t == s.hours.size - 1 else 0.0
            store[rows.KEEP + k] = s.keep[i, h, t]
            store[rows.DRIFT + k] = s.drift[i, h, t]
            store[rows.DS + k], store[rows.DPI + k] = 0.0, 0.0
            store[rows.DQL + k], store[rows.DQH + k], store[rows.DKL + k], store[rows.DKH + k] = 0.0, 0.0, 0.0, 0.0
    for i in range(s.start.shape[0]):
        work.first[i, rows.S + k] = s.start[i, h]


@inlined
def _start_slack(gap: float, rho: float, mu: float) -> tuple[float, float]:
    """Slack of a soft bound and its dual on the central path for `mu`: (gap + slack) z = mu, slack (rho - z) = mu."""
    b = gap * rho + 2.0 * mu
    z = 2.0 * mu * rho / (b + np.sqrt(b * b - 4.0 * gap * mu * rho))
    z = min(max(z, 1e-6 * rho), (1.0 - 1e-6) * rho)
    return max(mu / (rho - z), 1e-6 - gap), z


@inlined
def _needs(stores: Array, boxes: Array, inlet: int, i: int, k: int, need: Array) -> None:
    """(T + 1,) least state before each step from which all later lower bounds can be met, at 80 % of the power."""
    steps = stores.shape[0]
    need[steps] = -1e9
    for t in range(steps - 1, -1, -1):
        store, box = stores[t, i], boxes[t, inlet]
        least = max(need[t + 1], store[rows.LOW + k])
        most = max(0.8 * box[rows.HI + k] * box[rows.GAIN + k], 0.0)
        need[t] = (least - store[rows.DRIFT + k] - most) / store[rows.KEEP + k]


@inlined
def _start_storage(
    boxes: Array, stores: Array, inlet: int, outlet: int, i: int, k: int, state: float, need: Array, mu: float
) -> None:
    """Powers that keep the storage where it is and above what it will need; the states that follow from them."""
    for t in range(stores.shape[0]):
        store, box = stores[t, i], boxes[t, inlet]
        low, high = max(store[rows.LOW + k], need[t + 1]), store[rows.HIGH + k]
        wanted = min(max(state, low + 0.1 * abs(high - low)), high - 0.02 * abs(high - low))
        passive = store[rows.KEEP + k] * state + store[rows.DRIFT + k]
        if outlet >= 0:
            out = boxes[t, outlet]
            out[rows.V + k] = 0.05 * out[rows.HI + k]
            passive += out[rows.GAIN + k] * out[rows.V + k]
        gain, most = box[rows.GAIN + k], box[rows.HI + k]
        power = (wanted - passive) / gain if abs(gain) > 1e-12 else 0.5 * most
        power = min(max(power, 0.05 * most), 0.95 * most)
        box[rows.V + k] = power
        state = passive + gain * power
        store[rows.S + k] = state
        store[rows.SKL + k], store[rows.ZQL + k] = _start_slack(state - store[rows.LOW + k], store[rows.RHO_L + k], mu)
        store[rows.SKH + k], store[rows.ZQH + k] = _start_slack(high - state, store[rows.RHO_H + k], mu)


@inlined
def _start_meter(meter: Array, boxes: Array, t: int, k: int, mu: float) -> None:
    """Segments of the meter that balance the powers chosen, the idle ones as small as `mu` has them."""
    net = meter[t, rows.BASE + k]
    for j in range(4, boxes.shape[1]):
        net += boxes[t, j, rows.SIGMA + k] * boxes[t, j, rows.V + k]
    within, over, export, curtail = boxes[t, 0], boxes[t, 1], boxes[t, 2], boxes[t, 3]
    limit, buy, sell = within[rows.HI + k], within[rows.COST + k], -export[rows.COST + k]
    sold, cut = export[rows.SIGMA + k] * export[rows.HI + k], curtail[rows.SIGMA + k] * curtail[rows.HI + k]
    spread = max(buy - sell, 1e-4)
    e, c, least = min(mu / spread, 0.05 * sold), min(mu / max(buy, 0.02), 0.05 * cut), min(mu / spread, 0.02 * limit)
    o = mu / (over[rows.COST + k] - buy)
    price = buy
    m = net + e + c - o
    if m < least:
        m, price = least, sell
        give = m + o - net
        e = min(0.99 * sold, max(give - c, e))
        c = min(max(give - e, c), 0.99 * cut)
    elif m > 0.99 * limit:
        m, price = 0.99 * limit, over[rows.COST + k]
        o = net + e + c - m
    within[rows.V + k], over[rows.V + k] = m, o
    export[rows.V + k] = e if sold > 0.0 else 0.5 * export[rows.HI + k]
    curtail[rows.V + k] = c if cut > 0.0 else 0.5 * curtail[rows.HI + k]
    meter[t, rows.LAMBDA + k] = price


@inlined
def _reduced_cost(b: Array, k: int, pi: float, price: float) -> float:
    return float(b[rows.COST + k] + b[rows.GAIN + k] * pi + b[rows.SIGMA + k] * price)


@inlined
def _start_duals(meter: Array, boxes: Array, stores: Array, of: Any, k: int, mu: float) -> None:
    """Duals of the boxes that agree with the prices of power and of stored energy."""
    for t in range(meter.shape[0]):
        for j in range(of.size):
            b = boxes[t, j]
            v, above = b[rows.V + k], b[rows.HI + k] - b[rows.V + k]
            r = _reduced_cost(b, k, stores[t, of[j], rows.PI + k], meter[t, rows.LAMBDA + k])
            b[rows.ZL + k] = max(r, 0.0) + mu / v
            b[rows.ZU + k] = max(-r, 0.0) + mu / above


@inlined
def _start_prices(stores: Array, k: int) -> None:
    """Multipliers of the states that agree with the duals of their bounds."""
    steps, n = stores.shape[0], stores.shape[1] - 1
    for i in range(n):
        pi = 0.0
        for t in range(steps - 1, -1, -1):
            s = stores[t, i]
            later = stores[t + 1, i, rows.KEEP + k] * pi if t + 1 < steps else 0.0
            pi = later + s[rows.CST + k] - s[rows.ZQL + k] + s[rows.ZQH + k]
            s[rows.PI + k] = pi


@inlined
def _boxes_of(of: Any, i: int) -> tuple[int, int]:
    """Inlet and outlet (-1 for none) of storage `i`."""
    inlet, outlet = -1, -1
    for j in range(of.size - 1, -1, -1):
        if of[j] == i:
            inlet, outlet = j, inlet
    return inlet, outlet


@inlined
def _start_cold(work: Any, of: Any, k: int, mu: float) -> None:
    """A point that satisfies all equations, near the central path for `mu`."""
    meter, boxes, stores = work.meter, work.boxes, work.stores
    need = np.empty(meter.shape[0] + 1)
    for i in range(work.first.shape[0]):
        inlet, outlet = _boxes_of(of, i)
        _needs(stores, boxes, inlet, i, k, need)
        _start_storage(boxes, stores, inlet, outlet, i, k, work.first[i, rows.S + k], need, mu)
    _start_prices(stores, k)
    for t in range(meter.shape[0]):
        _start_meter(meter, boxes, t, k, mu)
    _start_duals(meter, boxes, stores, of, k, mu)


@inlined
def _start_warm(work: Any, kept: Any, k: int) -> None:
    """The iterate `kept` (T, rows), moved inside the bounds as they are now."""
    for t in range(work.meter.shape[0]):
        own, row = kept[t], 1
        work.meter[t, rows.LAMBDA + k] = own[0]
        for j in range(work.boxes.shape[1]):
            b = work.boxes[t, j]
            high = b[rows.HI + k]
            most = 0.99 * high if own[row] > high else (1.0 - 1e-6) * high
            b[rows.V + k] = min(max(own[row], 1e-6 * high), most)
            b[rows.ZL + k], b[rows.ZU + k] = own[row + 1], own[row + 2]
            row += 3
        for i in range(work.first.shape[0]):
            s = work.stores[t, i]
            for part in range(6):
                s[part * L + k] = own[row + part]
            row += 6
            s[rows.SKL + k] = max(s[rows.SKL + k], s[rows.LOW + k] - s[rows.S + k] + 1e-3)
            s[rows.SKH + k] = max(s[rows.SKH + k], s[rows.S + k] - s[rows.HIGH + k] + 1e-3)
            s[rows.ZQL + k] = min(s[rows.ZQL + k], 0.999 * s[rows.RHO_L + k])
            s[rows.ZQH + k] = min(s[rows.ZQH + k], 0.999 * s[rows.RHO_H + k])


@inlined
def _keep(work: Any, kept: Any, k: int) -> None:
    """The iterate of lane `k` into `kept` (T, rows)."""
    for t in range(work.meter.shape[0]):
        own, row = kept[t], 1
        own[0] = work.meter[t, rows.LAMBDA + k]
        for j in range(work.boxes.shape[1]):
            b = work.boxes[t, j]
            own[row], own[row + 1], own[row + 2] = b[rows.V + k], b[rows.ZL + k], b[rows.ZU + k]
            row += 3
        for i in range(work.first.shape[0]):
            s = work.stores[t, i]
            for part in range(6):
                own[row + part] = s[part * L + k]
            row += 6


@inlined
def _leave(work: Any, k: int, h: int, power: Array, price: Array) -> None:
    """The solution in lane `k` into the rows of home `h`."""
    for t in range(price.shape[1]):
        price[h, t] = work.meter[t, rows.LAMBDA + k]
        for j in range(4, work.boxes.shape[1]):
            power[j - 4, h, t] = work.boxes[t, j, rows.V + k]


@inlined
def _enter(s: Any, work: Any, kept: Any, warm: bool, h: int, k: int, mu: float) -> None:
    """Home `h` into lane `k`, with a point to start from."""
    _load(s, h, k, work)
    if warm:
        _start_warm(work, kept[h], k)
    else:
        _start_cold(work, s.of, k, mu)
    for row in (rows.ALPHA_P, rows.ALPHA_D, rows.SETTLED, rows.KEPT):
        work.acc[row + k] = 0.0
    work.acc[rows.INFEASIBLE + k] = 1.0


@compiled
def solve_homes(
    s: Any, work: Any, kept: Any, warm: bool, most: int, gaps: Any, mu: float, power: Array, price: Array, taken: Any
) -> None:
    """Solve all homes of `s` from their iterates `kept` (N, T, rows), or from cold starts near `mu`.

    A lane whose home is solved takes the next one, so that slow homes hold up nobody. `gaps` (2,): duality gap of the
    solution and of the iterate left in `kept` [EUR]. Fills power (J - 4, N, T) [kW], price (N, T) [EUR/kW in
    the step] and taken (N,), each home's Newton steps.
    """
    homes, acc = s.base_kw.shape[0], work.acc
    home = np.full(L, -1)
    waiting, left = 0, homes
    while True:
        for k in range(L):
            if home[k] < 0 and waiting < homes:
                _enter(s, work, kept, warm, waiting, k, mu)
                home[k], taken[waiting] = waiting, 0
                waiting += 1
            elif home[k] < 0 and left == homes:
                _enter(s, work, kept, warm, 0, k, mu)
                acc[rows.SETTLED + k] = 1.0
        ip.factor(work.meter, work.boxes, work.stores, work.x, work.first, work.beyond, s.of, acc, work.column)
        for k in range(L):
            h = home[k]
            if h < 0:
                continue
            settled = (acc[rows.MU + k] <= gaps[0] and acc[rows.INFEASIBLE + k] < 1e-3) or taken[h] >= most
            if acc[rows.KEPT + k] == 0.0 and (settled or acc[rows.MU + k] <= gaps[1]):
                _keep(work, kept[h], k)
                acc[rows.KEPT + k] = 1.0
            taken[h] += 1
            if settled:
                _leave(work, k, h, power, price)
                acc[rows.SETTLED + k] = 1.0
                home[k] = -1
                left -= 1
        if left == 0:
            return
        ip.newton_step(work.meter, work.boxes, work.stores, work.x, work.first, work.beyond, s.of, acc, work.column)


class Workspace(NamedTuple):
    """What a thread works in: LANES homes with `boxes` boxes and `n` storages over `steps` steps."""

    meter: Array
    boxes: Array
    stores: Array
    x: Array
    first: Array
    beyond: Array
    acc: Array
    column: Array

    @classmethod
    def of(cls, steps: int, boxes: int, n: int) -> Workspace:
        """An empty one."""
        shapes = (
            (steps, rows.METER * L), (steps, boxes, rows.BOX * L), (steps, n + 1, rows.STORE * L), (steps, n, n * L),
            (n, rows.STORE * L), (n + 1, rows.STORE * L), (rows.ACC * L,), ((n + 3) * L,),
        )  # fmt: skip
        return cls(*(np.zeros(shape) for shape in shapes))


def kept_rows(boxes: int, n: int) -> int:
    """Numbers per step that an iterate consists of."""
    return 1 + 3 * boxes + 6 * n
