"""Homes to lanes and back: poses homes into lanes, runs the iterations, settles what leaves them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.solver import interior_point as ip
from xapps.hems_load.solver import layout as rows
from xapps.hems_load.solver.compiled import compiled, inlined
from xapps.hems_load.solver.kalman import place
from xapps.hems_load.solver.runs import add_run, cheapest_start, smear_run
from xapps.hems_load.solver.settle import settle_home
from xapps.hems_load.solver.starts import start
from xapps.hems_load.solver.storages import (
    BASE_KW,
    END_COST,
    METER_DATA,
    RUN_KW,
    START,
    Devices,
    box_row,
    fill,
    pose_home,
    store_row,
)

__all__ = ["Frame", "Last", "Room", "Workspace", "kept_rows", "solve_homes"]

L = rows.L
SEGMENTS = rows.SEGMENTS
SPAN = 16
"""Steps that are copied to the lanes at a time, so that the lines written stay near until all homes are in."""
REFILL = 4
"""Lanes that wait until they are filled again together: a pass over the block costs as much for one home as for all."""
NOBODY = -1
LEAST_KW = 1e-3
"""Balances missed by less count as kept; `settle` makes them good."""


class Last(NamedTuple):
    """What is known of the homes to be solved, P of them."""

    home: NDArray[np.int64]
    """(P,) their rows in the fleet."""
    iterates: NDArray[np.float32]
    """(M, numbers, T) of the last solve."""
    of: NDArray[np.int64]
    """(P,) rows of theirs among these."""
    shift: int
    """Steps since the last solve's first; -1: there was none, and the start is cold."""
    price: NDArray[np.float32]
    """(N, T) [EUR/kWh] by which runs are placed."""
    price_shift: int
    """Steps since these prices' first; -1: there are none, and runs are spread over their windows."""
    gap_eur: NDArray[np.float64]
    """(P,) duality gap that is small enough [EUR]."""


@compiled
def _place_runs(c: Any, last: Any, h: int, price: Any, load: Any, starts: Any) -> None:
    """Starts of the runs of home `h`, and their load (T,); `price` (T,) is room."""
    fill(load, 0.0)
    starts[:] = -1
    known, steps = last.price_shift >= 0, load.size
    for run in range(c.run_kw.shape[1]):
        power, duration = c.run_kw[h, run], c.run_h[h, run]
        if power <= 0.0:
            continue
        first, end = c.run_first[h, run], c.run_last[h, run]
        if not known:
            smear_run(c.edges, power, duration, first, end, load)
            continue
        for t in range(steps):
            price[t] = last.price[h, min(t + last.price_shift, steps - 1)]
        starts[run] = cheapest_start(c.edges, price, duration, first, end)
        add_run(c.edges, power, duration, starts[run], load)


@inlined
def _spread(values: Any, row: int, into: Any, place: tuple[int, int], span: tuple[int, int], lane: Any) -> None:
    """A `row` of `values` (LANES, rows, T) into the lanes of `lane`; it begins and recurs as `place` says."""
    for k in lane:
        own, first = values[k, row], place[0] + k
        for t in range(span[0], span[1]):
            into[first + t * place[1]] = own[t]


@compiled
def _load_iterates(w: Any, at: Any, last: Any, first: int, span: tuple[int, int], lane: Any) -> None:
    """Prices, storages, multipliers and outlets of the last solve, whose step t + shift is now step t."""
    n, steps = at.size - 1, last.iterates.shape[2]
    m, b, s, _ = ip.offsets(at, 0)
    next_m, next_b, next_s, _ = ip.offsets(at, 1)
    for e, k in enumerate(lane):
        own = last.iterates[last.of[first + e]]
        for t in range(span[0], span[1]):
            past = min(t + last.shift, steps - 1)
            w.meter[m + t * (next_m - m) + rows.LAMBDA + k] = own[0, past]
            for i in range(n):
                store = s + t * (next_s - s) + i * rows.STORE * L + k
                high = place(w.store_data, rows.LARGEST, i)
                w.stores[store + rows.S] = w.data[high[0] + t * high[1] + k] - own[1 + 2 * i, past]
                w.stores[store + rows.PI] = own[2 + 2 * i, past]
                if at[i + 1] - at[i] > 1:
                    w.boxes[b + t * (next_b - b) + (at[i] + 1) * rows.BOX * L + rows.V + k] = own[1 + 2 * n + i, past]


@compiled
def _load(w: Any, at: Any, posed: Any, last: Any, first: int, lane: Any) -> None:
    """What is posed of the lanes of `lane`, and their last iterates; `first` is the place of the first in `last`."""
    steps, values = posed.rows.shape[2], posed.rows
    for row, begin in w.same:
        for k in lane:
            w.data[begin + k] = values[k, row, 0]
    for t in range(0, steps, SPAN):
        span = (t, min(t + SPAN, steps))
        _spread(values, BASE_KW, w.meter, (rows.BASE, rows.METER * L), span, lane)
        for row, begin, stride in w.moving:
            _spread(values, row, w.data, (begin, stride), span, lane)
        if last.shift >= 0:
            _load_iterates(w, at, last, first, span, lane)
    _, _, before, _ = ip.offsets(at, -1)
    _, _, beyond, _ = ip.offsets(at, steps)
    for i in range(at.size - 1):
        (begin, apart), own = place(w.store_data, rows.KEEP, i), i * rows.STORE * L
        for k in lane:
            cost = posed.ends[k, i, END_COST]
            w.stores[before + own + rows.S + k] = posed.ends[k, i, START]
            if apart > 0:
                w.data[begin + steps * apart + k] = 1.0
            else:  # the price of the state now at the end, of which no more is lost
                cost /= values[k, store_row(at[-1], i, rows.KEEP), 0]
            w.stores[beyond + own + rows.PI + k] = cost


@compiled
def _keep(w: Any, at: Any, k: int, own: Any) -> None:
    """The iterate of lane `k` into `own` (rows, T): price, room and multiplier of each storage, the outlets.

    What is left to the upper bound is known of an appliance as time goes by, what was served since the start is not.
    """
    n = at.size - 1
    for t in range(own.shape[1]):
        m, b, o, _ = ip.offsets(at, t)
        own[0, t] = w.meter[m + rows.LAMBDA + k]
        for i in range(n):
            store = o + i * rows.STORE * L + k
            high = place(w.store_data, rows.LARGEST, i)
            own[1 + 2 * i, t] = w.data[high[0] + t * high[1] + k] - w.stores[store + rows.S]
            own[2 + 2 * i, t] = w.stores[store + rows.PI]
            if at[i + 1] - at[i] > 1:
                own[1 + 2 * n + i, t] = w.boxes[b + (at[i] + 1) * rows.BOX * L + rows.V + k]


@compiled
def _take_out(w: Any, c: Any, at: Any, k: int, x: Any) -> None:
    """Prices and wanted powers in lane `k`."""
    for t in range(x.price.size):
        m, b, _, _ = ip.offsets(at, t)
        x.price[t] = w.meter[m + rows.LAMBDA + k] / c.hours[t]
        for i in range(at.size - 1):
            wanted = 0.0
            for j in range(at[i], at[i + 1]):
                wanted += ip.side(at[i], j) * w.boxes[b + j * rows.BOX * L + rows.V + k]
            x.wanted_kw[i, t] = wanted


@compiled
def _clear(w: Any, k: int) -> None:
    """Nothing left in lane `k`: of a home without a solution, what is not a number would spoil the next."""
    for rows_of in (w.meter, w.boxes, w.stores):
        rows_of[k::L] = 0.0
    for wide in (w.wide, w.x):
        wide[k::L] = 0.0


@compiled
def _judge(w: Any, at: Any, kept: Any, gap_eur: Any, kept_gap_eur: float, most: int) -> bool:
    """Settle the lanes whose homes are solved, or have taken too many steps; leave the iterates to start from.

    Whether any home goes on.
    """
    acc, goes_on = w.acc, False
    for k in range(L):
        if w.place[k] == NOBODY or acc[rows.SETTLED + k] > 0.0:
            continue
        mu = acc[rows.MU + k]
        settled = (mu <= gap_eur[w.place[k]] and acc[rows.INFEASIBLE + k] < LEAST_KW) or w.taken[k] >= most
        if acc[rows.KEPT + k] == 0.0 and (settled or mu <= kept_gap_eur):
            _keep(w, at, k, kept[w.place[k]])
            acc[rows.KEPT + k] = 1.0
        w.taken[k] += 1
        acc[rows.SETTLED + k] = 1.0 if settled else 0.0
        goes_on = goes_on or not settled
    return goes_on


@compiled
def _enter(
    w: Any, c: Any, devices: Any, posed: Any, last: Any, mu: float, first: int, lane: Any, x: Any, plans: Any
) -> None:
    """The homes from `first` on into the lanes of `lane`, with points to start from."""
    w.acc[rows.ENTERS : rows.ENTERS + L] = 0.0
    for e, k in enumerate(lane):
        h = last.home[first + e]
        w.place[k], w.taken[k] = first + e, 0
        w.acc[rows.ENTERS + k], w.acc[rows.KEPT + k], w.acc[rows.SETTLED + k] = 1.0, 0.0, 0.0
        _place_runs(c, last, h, x.price, posed.rows[k, RUN_KW], plans.starts[h])
        pose_home(c, devices, h, posed.rows[k], posed.ends[k])
    _load(w, devices.at, posed, last, first, lane)
    start(w, devices.at, c.hours.size, last.shift >= 0, mu)


@compiled
def _leave(w: Any, c: Any, devices: Any, posed: Any, h: int, k: int, x: Any, plans: Any, rough: bool) -> None:
    """Settle home `h`, whose solution is in lane `k`; of a rough one only the prices are wanted."""
    _take_out(w, c, devices.at, k, x)
    if rough:
        for t in range(x.price.size):
            plans.price[h, t] = x.price[t]
        return
    settle_home(c, devices, h, posed.rows[k], posed.ends[k], x, plans)


@compiled
def _settled_lanes(w: Any) -> int:
    """Lanes that nobody works in, to the beginning of `w.lane`; how many."""
    count = 0
    for k in range(L):
        if w.place[k] == NOBODY or w.acc[rows.SETTLED + k] > 0.0:
            w.lane[count] = k
            count += 1
    return count


@compiled
def solve_homes(
    c: Any, w: Any, devices: Any, posed: Any, x: Any, last: Any, kept: Any, most: int, kept_gap_eur: float, mu: float,
    plans: Any,
) -> None:  # fmt: skip
    """Solve the homes of `last`, their plans to `plans`, their iterates for the next time to `kept` (P, numbers, T).

    Lanes whose homes are solved take the next ones, so that slow homes hold up nobody. `most` Newton steps;
    `kept_gap_eur`: duality gap of the iterate kept [EUR]; `mu`: complementarity at the start. Without prices to place
    runs by, the solution is a rough one, and only `plans.price` is filled.
    """
    homes, acc, at, steps = last.home.size, w.acc, devices.at, c.hours.size
    waiting, rough = homes, last.price_shift < 0
    w.place[:] = NOBODY
    while True:
        free = _settled_lanes(w)
        coming = min(waiting, free)
        if (coming > 0 and (coming >= REFILL or coming == waiting)) or free == L:
            for k in w.lane[:free]:
                if w.place[k] != NOBODY:
                    home = last.home[w.place[k]]
                    _leave(w, c, devices, posed, home, k, x, plans, rough)
                    plans.taken[home] = w.taken[k]
                    if not acc[rows.MU + k] <= last.gap_eur[w.place[k]]:
                        _clear(w, k)
                    w.place[k] = NOBODY
            if waiting == 0:
                return
            _enter(w, c, devices, posed, last, mu, homes - waiting, w.lane[:coming], x, plans)
            waiting -= coming
        ip.factor(w, at, steps)
        if _judge(w, at, kept, last.gap_eur, kept_gap_eur, most):
            ip.newton_step(w, at, steps)


class Frame(NamedTuple):
    """Where everything is in a block of homes with the same kinds of devices, over T steps."""

    box_data: Any
    """(J * DATA * 2,): where in the data a box's datum begins, and how far its steps lie apart: 0 where all agree."""
    store_data: Any
    """(n * DATA * 2,): the same of the storages."""
    same: Any
    """(C, 2) rows of a posed home that are the same in all steps, and where they are in the data."""
    moving: Any
    """(V, 3) the others: row, where it begins in the data, how far its steps lie apart."""
    singles: tuple[int, ...]
    """Sizes of the arrays of single precision: meter, boxes, stores, acc, data."""
    doubles: tuple[int, ...]
    """Of double precision: wide, x, scratch, column."""

    @classmethod
    def of(cls, devices: Devices, steps: int) -> Frame:
        """For homes with such devices."""
        return _frame(devices.kind.size, int(devices.at[-1]), devices.varies.tobytes(), steps)


@lru_cache(maxsize=256)
def _frame(n: int, boxes: int, varies: bytes, steps: int) -> Frame:
    places, size = _places(n, boxes, np.frombuffer(varies, dtype=np.bool_), steps)
    own = places[METER_DATA:]
    box_data = _table(own[: boxes * rows.BOX_DATA], boxes)
    store_data = _table(own[boxes * rows.BOX_DATA :], n)
    row = METER_DATA + np.arange(len(own))
    same, moving = own[:, 1] == 0, own[:, 1] > 0
    single = (steps * rows.METER, steps * boxes * rows.BOX, (steps + 2) * n * rows.STORE, rows.ACC)
    double = (
        (steps + 2) * (n * rows.WIDE + rows.WIDE_METER), (steps + 1) * rows.triangle(n), n * rows.SCRATCH, n,
    )  # fmt: skip
    return Frame(
        box_data, store_data, np.column_stack([row[same], own[same, 0]]), np.column_stack([row[moving], own[moving]]),
        (*(count * L for count in single), size), tuple(count * L for count in double),
    )  # fmt: skip


def _table(places: Any, number: int) -> Any:
    """(number * DATA * 2,) `places` (number * parts, 2) of so many boxes or storages."""
    table = np.zeros((number, rows.DATA, 2), dtype=np.int64)
    if number:
        table[:, : len(places) // number] = places.reshape(number, -1, 2)
    return table.ravel()


class Workspace(NamedTuple):
    """What a thread works in: LANES homes over T steps; the layout is told in `interior_point`."""

    meter: Any
    boxes: Any
    stores: Any
    acc: Any
    data: Any
    wide: Any
    x: Any
    scratch: Any
    column: Any
    box_data: Any
    """As in `Frame`, and so on."""
    store_data: Any
    same: Any
    moving: Any
    place: Any
    """(LANES,) who works in each lane, and ..."""
    taken: Any
    """... how many steps that took."""
    lane: Any


class Room:
    """A thread's memory, used again for one group of homes after the other."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        self._single = _aligned(max((sum(frame.singles) for frame in frames), default=0), np.float32)
        self._double = _aligned(max((sum(frame.doubles) for frame in frames), default=0), np.float64)

    def workspace(self, frame: Frame) -> Workspace:
        """An empty one laid out as in `frame`; ends the life of the last one."""
        parts = []
        for memory, sizes in ((self._single, frame.singles), (self._double, frame.doubles)):
            ends = np.cumsum(sizes).tolist()
            memory[: ends[-1]] = 0.0
            parts += [memory[end - size : end] for end, size in zip(ends, sizes, strict=True)]
        lanes = np.zeros((3, L), dtype=np.int64)
        return Workspace._make([*parts, frame.box_data, frame.store_data, frame.same, frame.moving, *lanes])


def _places(n: int, boxes: int, moves: Any, steps: int) -> tuple[Any, int]:
    """Where the rows of a posed home are in the data: begin and distance of its steps, 0 where all agree; the size.

    The same in all steps first, then what an iteration reads, then what only starts read.
    """
    hot = np.zeros(moves.size, dtype=np.bool_)
    for j in range(boxes):
        hot[[box_row(j, rows.COST), box_row(j, rows.GAIN)]] = True
    for i in range(n):
        hot[[store_row(boxes, i, rows.KEEP), store_row(boxes, i, rows.DRIFT)]] = True
    places, size = np.zeros((moves.size, 2), dtype=np.int64), 0
    data = np.arange(moves.size) >= METER_DATA
    for varies, wanted in ((False, True), (False, False), (True, True), (True, False)):
        mine = np.flatnonzero(data & (moves == varies) & (hot == wanted))
        places[mine, 0] = size + L * np.arange(mine.size)
        places[mine, 1] = mine.size * L if varies else 0
        size += mine.size * L * (steps + 1 if varies else 1)
    return places, size


def _aligned(size: int, dtype: Any) -> Any:
    """Zeros that begin where a cache line does."""
    width = np.dtype(dtype).itemsize
    room = np.zeros(size + 64 // width, dtype=dtype)
    first = -room.ctypes.data % 64 // width
    return room[first : first + size]


def kept_rows(n: int) -> int:
    """Numbers per step that an iterate consists of."""
    return 1 + 3 * n
