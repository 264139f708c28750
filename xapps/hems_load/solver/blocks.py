"""Homes to lanes and back: fills blocks of homes, runs the iterations, takes the solutions out."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from xapps.hems_load.solver import interior_point as ip
from xapps.hems_load.solver import layout as rows
from xapps.hems_load.solver.compiled import compiled, inlined
from xapps.hems_load.solver.starts import start

__all__ = ["Workspace", "kept_rows", "solve_homes"]

L = rows.L
SEGMENTS = rows.SEGMENTS
SPAN = 8
"""Steps that are copied to or from the lanes at a time: a cache line of the fleet's arrays."""
REFILL = 4
"""Lanes that wait until they are filled again together: a pass over the block costs as much for one home as for all."""
LEAST_KW = 1e-3
"""Balances missed by less count as kept; `settle` makes them good."""


@inlined
def _spread(values: Any, into: Any, first: int, stride: int, span: tuple[int, int], home: Any, lane: Any) -> None:
    """`values` (N, T) of each home of `home` into its lane of a row that begins at `first` and recurs each `stride`."""
    for e in range(lane.size):
        own, k = values[home[e]], first + lane[e]
        for t in range(span[0], span[1]):
            into[k + t * stride] = own[t]


@inlined
def _gather(from_: Any, values: Any, first: int, stride: int, span: tuple[int, int], home: Any, lane: Any) -> None:
    """The inverse of `_spread`."""
    for e in range(lane.size):
        own, k = values[home[e]], first + lane[e]
        for t in range(span[0], span[1]):
            own[t] = from_[k + t * stride]


@compiled
def _load_boxes(s: Any, w: Any, at: Any, span: tuple[int, int], home: Any, lane: Any) -> None:
    _, stride, _, _ = ip.offsets(at, 1)
    for j in range(at[-1]):
        own = j * rows.BOX * L
        _spread(s.high_kw[j], w.boxes, own + rows.UP, stride, span, home, lane)
        _spread(s.cost[j], w.boxes, own + rows.COST, stride, span, home, lane)
        _spread(s.sigma[j], w.boxes, own + rows.SIGMA, stride, span, home, lane)
        _spread(s.gain[j], w.boxes, own + rows.GAIN, stride, span, home, lane)


@compiled
def _load_stores(s: Any, w: Any, at: Any, span: tuple[int, int], home: Any, lane: Any) -> None:
    _, _, stride, _ = ip.offsets(at, 0)
    for i in range(at.size - 1):
        own = stride + i * rows.STORE * L
        _spread(s.keep[i], w.stores, own + rows.KEEP, stride, span, home, lane)
        _spread(s.drift[i], w.stores, own + rows.DRIFT, stride, span, home, lane)
        _spread(s.low[i], w.stores, own + rows.LOW + rows.DISTANCE, stride, span, home, lane)
        _spread(s.price_low[i], w.stores, own + rows.LOW + rows.Z, stride, span, home, lane)
        _spread(s.high[i], w.stores, own + rows.HIGH + rows.DISTANCE, stride, span, home, lane)
        _spread(s.price_high[i], w.stores, own + rows.HIGH + rows.Z, stride, span, home, lane)


@compiled
def _load_kept(w: Any, at: Any, kept: Any, span: tuple[int, int], shift: int, home: Any, lane: Any) -> None:
    """The last solution's price, states, multipliers and outlets, whose step t + `shift` is now step t."""
    n, steps = at.size - 1, kept.shape[2]
    m, b, o, _ = ip.offsets(at, 1)
    o //= 2
    for t in range(span[0], span[1]):
        past = min(t + shift, steps - 1)
        for e in range(lane.size):
            k, own = lane[e], kept[home[e]]
            w.meter[t * m + rows.LAMBDA + k] = own[0, past]
            for i in range(n):
                store = (t + 1) * o + i * rows.STORE * L + k
                w.stores[store + rows.S], w.stores[store + rows.PI] = own[1 + 2 * i, past], own[2 + 2 * i, past]
                if at[i + 1] - at[i] > 1:
                    w.boxes[t * b + (at[i] + 1) * rows.BOX * L + rows.V + k] = own[1 + 2 * n + i, past]


@compiled
def _load(s: Any, w: Any, at: Any, kept: Any, shift: int, home: Any, lane: Any) -> None:
    """The data of each home of `home` into its lane of `lane`, and its last solution (`shift` >= 0), as seen now.

    A few steps at a time, so that the lines written stay near until all lanes are filled.
    """
    steps, n = s.hours.size, at.size - 1
    for t in range(0, steps, SPAN):
        span = (t, min(t + SPAN, steps))
        _spread(s.base_kw, w.meter, rows.BASE, rows.METER * L, span, home, lane)
        _spread(s.curve, w.meter, rows.CURVE, rows.METER * L, span, home, lane)
        _load_boxes(s, w, at, span, home, lane)
        _load_stores(s, w, at, span, home, lane)
        if shift >= 0:
            _load_kept(w, at, kept, span, shift, home, lane)
    _, _, first, _ = ip.offsets(at, -1)
    _, _, beyond, _ = ip.offsets(at, steps)
    for i in range(n):
        for e in range(lane.size):
            k = i * rows.STORE * L + lane[e]
            w.stores[first + k + rows.S] = s.start[i, home[e]]
            w.stores[beyond + k + rows.KEEP], w.stores[beyond + k + rows.PI] = 1.0, s.end_cost[i, home[e]]


@compiled
def _keep(w: Any, at: Any, k: int, own: Any) -> None:
    """The iterate of lane `k` into `own` (rows, T): price, state and multiplier of each storage, the outlets."""
    n = at.size - 1
    for t in range(own.shape[1]):
        m, b, o, _ = ip.offsets(at, t)
        own[0, t] = w.meter[m + rows.LAMBDA + k]
        for i in range(n):
            store = o + i * rows.STORE * L + k
            own[1 + 2 * i, t], own[2 + 2 * i, t] = w.stores[store + rows.S], w.stores[store + rows.PI]
            if at[i + 1] - at[i] > 1:
                own[1 + 2 * n + i, t] = w.boxes[b + (at[i] + 1) * rows.BOX * L + rows.V + k]


@compiled
def _leave(w: Any, at: Any, home: Any, lane: Any, power: Any, price: Any) -> None:
    """The solutions in the lanes of `lane` into the rows of their homes."""
    steps = price.shape[1]
    _, stride, _, _ = ip.offsets(at, 1)
    for t in range(0, steps, SPAN):
        span = (t, min(t + SPAN, steps))
        _gather(w.meter, price, rows.LAMBDA, rows.METER * L, span, home, lane)
        for j in range(SEGMENTS, at[-1]):
            _gather(w.boxes, power[j - SEGMENTS], j * rows.BOX * L + rows.V, stride, span, home, lane)


@compiled
def _clear(w: Any, k: int) -> None:
    """Nothing left in lane `k`: of a home without a solution, what is not a number would spoil the next."""
    for rows_of in (w.meter, w.boxes, w.stores):
        rows_of[k::L] = 0.0
    for wide in (w.wide, w.x):
        wide[k::L] = 0.0


@compiled
def _judge(w: Any, at: Any, home: Any, kept: Any, gaps: Any, most: int, taken: Any) -> None:
    """Settle the lanes whose homes are solved, or have taken too many steps; leave the iterates to start from."""
    acc = w.acc
    for k in range(L):
        h = home[k]
        if h < 0 or acc[rows.SETTLED + k] > 0.0:
            continue
        mu = acc[rows.MU + k]
        settled = (mu <= gaps[0] and acc[rows.INFEASIBLE + k] < LEAST_KW) or taken[h] >= most
        if acc[rows.KEPT + k] == 0.0 and (settled or mu <= gaps[1]):
            _keep(w, at, k, kept[h])
            acc[rows.KEPT + k] = 1.0
        taken[h] += 1
        if settled:
            acc[rows.SETTLED + k] = 1.0


@compiled
def _enter(s: Any, w: Any, at: Any, kept: Any, shift: int, mu: float, home: Any, lane: Any) -> None:
    """The homes of `home` into the lanes of `lane`, with points to start from."""
    w.acc[rows.ENTERS : rows.ENTERS + L] = 0.0
    for k in lane:
        w.acc[rows.ENTERS + k], w.acc[rows.KEPT + k] = 1.0, 0.0
    _load(s, w, at, kept, shift, home, lane)
    start(w, at, s.hours.size, shift >= 0, mu)


@compiled
def solve_homes(
    s: Any, w: Any, at: Any, kept: Any, shift: int, most: int, gaps: Any, mu: float, power: Any, price: Any, taken: Any
) -> None:
    """Solve all homes of `s` from their last iterates `kept` (N, rows, T), `shift` steps ago, or cold where it is -1.

    Lanes whose homes are solved take the next ones, so that slow homes hold up nobody. `gaps` (2,): duality gap of the
    solution and of the iterate left in `kept` [EUR]; `mu`: complementarity at the start. Fills power (J - 4, N, T)
    [kW], price (N, T) [EUR/kW in the step] and taken (N,), each home's Newton steps.
    """
    homes, acc, steps = s.base_kw.shape[0], w.acc, s.hours.size
    home, next_home = np.full(L, -1), 0
    taken[:] = 0
    acc[rows.SETTLED : rows.SETTLED + L] = 1.0
    while True:
        settled = np.flatnonzero(acc[rows.SETTLED : rows.SETTLED + L] > 0.0)
        coming = min(homes - next_home, settled.size)
        if (coming > 0 and (coming >= REFILL or coming == homes - next_home)) or settled.size == L:
            full = settled[home[settled] >= 0]
            _leave(w, at, home[full], full, power, price)
            for k in full:
                if not acc[rows.MU + k] <= gaps[0]:
                    _clear(w, k)
            if next_home == homes:
                return
            first, home[settled] = next_home, -1
            new = np.minimum(first + np.arange(settled.size), homes - 1)
            next_home += coming
            _enter(s, w, at, kept, shift, mu, new, settled)
            home[settled[:coming]] = new[:coming]
            acc[rows.SETTLED + settled[:coming]] = 0.0
        ip.factor(w, at, steps)
        _judge(w, at, home, kept, gaps, most, taken)
        if acc[rows.SETTLED : rows.SETTLED + L].min() == 0.0:
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
