"""Homes to lanes and back: fills blocks of homes, runs the iterations, takes the solutions out."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from xapps.hems_load.solver import interior_point as ip
from xapps.hems_load.solver import layout as rows
from xapps.hems_load.solver.compiled import compiled, inlined
from xapps.hems_load.solver.starts import start
from xapps.hems_load.solver.storages import Storages

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


@inlined
def _load_row(values: Any, w: Any, place: Any, span: tuple[int, int], home: Any, lane: Any) -> None:
    """A datum's `values` (N, T) in the steps of `span`; where it is the same in all steps, with the first."""
    if place[1] > 0:
        _spread(values, w.data, place[0], place[1], span, home, lane)
    elif span[0] == 0:
        _spread(values, w.data, place[0], 0, (0, 1), home, lane)


@compiled
def _load_data(s: Any, w: Any, span: tuple[int, int], home: Any, lane: Any) -> None:
    for j in range(s.of.size):
        _load_row(s.cost[j], w, w.box_data[rows.COST, j], span, home, lane)
        _load_row(s.sigma[j], w, w.box_data[rows.SIGMA, j], span, home, lane)
        _load_row(s.gain[j], w, w.box_data[rows.GAIN, j], span, home, lane)
        _load_row(s.high_kw[j], w, w.box_data[rows.MOST, j], span, home, lane)
    for i in range(s.keep.shape[0]):
        _load_row(s.keep[i], w, w.store_data[rows.KEEP, i], span, home, lane)
        _load_row(s.drift[i], w, w.store_data[rows.DRIFT, i], span, home, lane)
        _load_row(s.low[i], w, w.store_data[rows.LEAST, i], span, home, lane)
        _load_row(s.price_low[i], w, w.store_data[rows.LEAST_PRICE, i], span, home, lane)
        _load_row(s.high[i], w, w.store_data[rows.LARGEST, i], span, home, lane)
        _load_row(s.price_high[i], w, w.store_data[rows.LARGEST_PRICE, i], span, home, lane)


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
        _load_data(s, w, span, home, lane)
        if shift >= 0:
            _load_kept(w, at, kept, span, shift, home, lane)
    _, _, first, _ = ip.offsets(at, -1)
    _, _, beyond, _ = ip.offsets(at, steps)
    for i in range(n):
        for e in range(lane.size):
            k = i * rows.STORE * L + lane[e]
            w.stores[first + k + rows.S] = s.start[i, home[e]]
            w.stores[beyond + k + rows.PI] = s.end_cost[i, home[e]]
            place = w.store_data[rows.KEEP, i]
            if place[1] > 0:
                w.data[place[0] + steps * place[1] + lane[e]] = 1.0
            else:  # the price of the state now at the end, of which no more is lost
                w.stores[beyond + k + rows.PI] /= s.keep[i, home[e], 0]


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

    data: Any
    box_data: Any
    """(BOX_DATA, J, 2): where in `data` a box's datum begins, and how far its steps lie apart: 0 where all agree."""
    store_data: Any
    """(STORE_DATA, n, 2): the same of the storages."""

    @classmethod
    def of(cls, s: Storages) -> Workspace:
        """An empty one for the homes of `s`."""
        n, _, steps = s.low.shape
        boxes = s.of.size
        box_data, store_data, size = _places(s)
        single = (steps * rows.METER, steps * boxes * rows.BOX, (steps + 2) * n * rows.STORE, rows.ACC)
        double = (
            (steps + 2) * (n * rows.WIDE + rows.WIDE_METER), (steps + 1) * rows.triangle(n), n * rows.SCRATCH, n,
        )  # fmt: skip
        meter, own_boxes, stores, acc = (_aligned(count * L, np.float32) for count in single)
        wide, x, scratch, column = (_aligned(count * L, np.float64) for count in double)
        data = _aligned(size, np.float32)
        return cls(meter, own_boxes, stores, acc, wide, x, scratch, column, data, box_data, store_data)


def _places(s: Storages) -> tuple[Any, Any, int]:
    """Where the data are: of the same in all steps first, then what an iteration reads, then what only starts read."""
    steps = s.hours.size
    varies = (s.box_varies, s.store_varies)
    hot = (np.arange(rows.BOX_DATA) < rows.MOST, np.arange(rows.STORE_DATA) < rows.LEAST)
    places = tuple(np.zeros((*kind.shape, 2), dtype=np.int64) for kind in varies)
    size = 0
    for moves, wanted in ((False, True), (False, False), (True, True), (True, False)):
        mine = [(kind == moves) & (own == wanted)[:, None] for kind, own in zip(varies, hot, strict=True)]
        stride = sum(int(kind.sum()) for kind in mine) * L
        first = size
        for place, kind in zip(places, mine, strict=True):
            count = int(kind.sum())
            place[kind, 0] = first + L * np.arange(count)
            place[kind, 1] = stride if moves else 0
            first += count * L
        size += stride * (steps + 1) if moves else stride
    return places[0], places[1], size


def _aligned(size: int, dtype: Any) -> Any:
    """Zeros that begin where a cache line does."""
    width = np.dtype(dtype).itemsize
    room = np.zeros(size + 64 // width, dtype=dtype)
    first = -room.ctypes.data % 64 // width
    return room[first : first + size]


def kept_rows(n: int) -> int:
    """Numbers per step that an iterate consists of."""
    return 1 + 3 * n
