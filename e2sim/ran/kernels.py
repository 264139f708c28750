"""Compiled inner loops of the queues: one fluid step for many queues at once, and the draws of their bursts.

Q queues lie side by side, so that a step is a few vector instructions; `e2sim/ran/queues.py` runs one node through it
and `e2sim/ran/plant.py` thousands. Volumes in Mbit, one row per inner step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["ACCEPTED", "DELAY", "DROPPED", "LONGEST", "OFFERED", "SQUARE", "SUMS", "compiled", "serve", "serve_drawn"]

Floats = NDArray[np.float64]
Function = TypeVar("Function", bound=Callable[..., Any])

OFFERED, DROPPED, ACCEPTED, DELAY, SQUARE, LONGEST = range(6)
SUMS = 6
"""Rows of the sums: volumes [Mbit], accepted volume times delay [Mbit ms], times its square, and the longest [ms]."""

LANES = 128
"""Queues that one block takes through a whole period: its rows stay in the nearest cache."""
TABLE = 128
"""Room of a queue's table of burst counts; a mean of at most `MEAN_LIMIT` needs 103."""
MEAN_LIMIT = 40.0
LEAST_MBIT = 1e-12
U64 = np.uint64
GOLDEN = U64(0x9E3779B97F4A7C15)
LOW_32 = U64(0xFFFFFFFF)


def compiled(function: Function) -> Function:
    """`function` as machine code that releases the interpreter lock, kept on disk where the installation allows it."""
    options = {"nogil": True, "fastmath": {"nnan", "ninf", "nsz", "contract"}, "error_model": "numpy"}
    try:
        made: Function = numba.njit(function, cache=True, **options)
    except RuntimeError:  # nowhere to keep it, as in a read-only image
        made = numba.njit(function, **options)
    return made


@compiled
def _advance(volume: Floats, service: Floats, fixed: Floats, level: Floats, found: Floats) -> None:
    """One step: backlogs `level` (Q,) move on; `found` (4, Q): what a burst finds first and last, accepted, left.

    A burst finds the backlog that the others make, on a ramp from start to end of the step. `fixed` (2, Q): burst and
    buffer.
    """
    burst, buffer = fixed[0], fixed[1]
    first, last, accepted, left = found[0], found[1], found[2], found[3]
    for q in range(len(level)):
        raw = max(level[q] + volume[q] - service[q], 0.0)
        after = min(raw, buffer[q])
        first[q] = level[q]
        last[q] = min(max(level[q] + max(volume[q] - burst[q], 0.0) - service[q], 0.0), after)
        accepted[q] = volume[q] - (raw - after)
        left[q] = level[q] + accepted[q] - after
        level[q] = after


@compiled
def _wait_ms(ahead_mbit: float, now: float, later: float, low_mbit: float, low_ms: float) -> float:
    """Time to send `ahead_mbit` at `now` [ms/Mbit], for `low_ms` or `low_mbit` at most, then at `later` [ms/Mbit]."""
    return min(ahead_mbit * now, low_ms + max(ahead_mbit - low_mbit, 0.0) * later)


@compiled
def _wait(start: float, end: float, own: float) -> tuple[float, float]:
    """Mean wait [ms] and mean square [ms^2] of a step's bits: their bursts find waits from `start` to `end`.

    A bit waits for what its burst found and, on average, half of its own burst.
    """
    mean = (start + end + own) * 0.5
    return mean, mean * mean + ((end - start) * (end - start) + own * own) * (1 / 12)


@compiled
def _count(volume: Floats, accepted: Floats, sums: Floats) -> None:
    """Add a step's volumes to `sums` (6, Q)."""
    offered, dropped, weight = sums[0], sums[1], sums[2]
    for q in range(len(volume)):
        offered[q] += volume[q]
        dropped[q] += volume[q] - accepted[q]
        weight[q] += accepted[q]


@compiled
def _collect(burst: Floats, pace: Floats, found: Floats, sums: Floats) -> None:
    """Add a step's waits to `sums` (6, Q); `pace` (4, Q) holds the arguments of `_wait_ms` after the first."""
    now, later, low_mbit, low_ms = pace[0], pace[1], pace[2], pace[3]
    first, last, accepted = found[0], found[1], found[2]
    delay, square, longest = sums[3], sums[4], sums[5]
    for q in range(len(burst)):
        start = _wait_ms(first[q], now[q], later[q], low_mbit[q], low_ms[q])
        end = _wait_ms(last[q], now[q], later[q], low_mbit[q], low_ms[q])
        top = _wait_ms(max(first[q], last[q]) + burst[q], now[q], later[q], low_mbit[q], low_ms[q])
        wait = _wait(start, end, top - max(start, end))
        delay[q] += accepted[q] * wait[0]
        square[q] += accepted[q] * wait[1]
        longest[q] = max(longest[q], top)


@compiled
def _collect_steady(burst: Floats, later: Floats, found: Floats, sums: Floats) -> None:
    """The same once the pace stays `later` (Q,) [ms/Mbit], which is nearly always."""
    first, last, accepted = found[0], found[1], found[2]
    delay, square, longest = sums[3], sums[4], sums[5]
    for q in range(len(burst)):
        start, end, own = first[q] * later[q], last[q] * later[q], burst[q] * later[q]
        wait = _wait(start, end, own)
        delay[q] += accepted[q] * wait[0]
        square[q] += accepted[q] * wait[1]
        longest[q] = max(longest[q], max(start, end) + own)


@compiled
def serve(arrivals: Floats, service: Floats, fixed: Floats, level: Floats, departed: Floats, step_ms: float) -> Floats:
    """Serve `arrivals` (T, Q) with `service` (T, Q); the sums (6, Q).

    `fixed` (2, Q) is burst and buffer. `level` (Q,) moves on in place; `departed` (T, Q) is filled with what left.
    Waits are exact for service that is low for a while and then lasts, as after a switch of slots.
    """
    queues = len(level)
    sums, found, pace = np.zeros((SUMS, queues)), np.empty((4, queues)), np.zeros((4, queues))
    steps = len(arrivals)
    for q in range(queues):
        pace[1, q] = step_ms / max(service[steps - 1, q], LEAST_MBIT)
        lasting = steps - 1
        while lasting > 0 and service[lasting - 1, q] == service[steps - 1, q]:
            lasting -= 1
        for t in range(lasting):
            pace[2, q] += service[t, q]
        pace[3, q] = lasting * step_ms
    for t in range(steps):
        for q in range(queues):
            pace[0, q] = step_ms / max(service[t, q], LEAST_MBIT)
        _advance(arrivals[t], service[t], fixed, level, found)
        _count(arrivals[t], found[2], sums)
        _collect(fixed[0], pace, found, sums)
        for q in range(queues):
            departed[t, q] = found[3, q]
            pace[3, q] -= step_ms
            pace[2, q] -= service[t, q]
            if pace[3, q] < 0.5 * step_ms:
                pace[2, q], pace[3, q] = 0.0, 0.0
    return sums


@compiled
def _randoms(keys: Any, number: int, randoms: Any) -> None:
    """Draw `number` of each queue's stream: a function of key and number alone, so that nothing shifts it."""
    offset = U64(number + 1) * GOLDEN
    for q in range(len(keys)):
        value = keys[q] + offset
        value = (value ^ (value >> U64(30))) * U64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> U64(27))) * U64(0x94D049BB133111EB)
        randoms[q] = value ^ (value >> U64(31))


@compiled
def _alias_table(mean: float, entries: Any) -> int:
    """Fill `entries` with the alias table (Vose 1991) of a Poisson count of `mean` <= 40; how many entries it has.

    An entry packs the chance to stay, times 2**32, above the 8 bits of the other count.
    """
    size = min(int(mean + 8 * np.sqrt(mean) + 12), TABLE)
    chance, other, order = np.empty(size), np.empty(size, np.int64), np.empty(size, np.int64)
    term, total = np.exp(-mean), 0.0
    for count in range(size):
        chance[count] = term
        total += term
        term *= mean / (count + 1)
    small, large = 0, size
    for count in range(size):
        chance[count] *= size / total
        other[count] = count
        if chance[count] < 1.0:
            order[small] = count
            small += 1
        else:
            large -= 1
            order[large] = count
    while small > 0 and large < size:
        small -= 1
        poor, rich = order[small], order[large]
        other[poor] = rich
        chance[rich] -= 1.0 - chance[poor]
        if chance[rich] < 1.0:
            large += 1
            order[small] = rich
            small += 1
    for index in range(small):
        chance[order[index]] = 1.0
    for index in range(large, size):
        chance[order[index]] = 1.0
    for count in range(size):
        stay = min(chance[count] * 4294967296.0, 4294967295.0)
        entries[count] = (U64(stay) << U64(8)) | U64(other[count])
    return size


@compiled
def _add_bursts(randoms: Any, sizes: Any, tables: Any, burst: Floats, volume: Floats) -> None:
    """Add a step's bursts to `volume` (Q,): counts by alias, one look-up each."""
    for q in range(len(volume)):
        row = ((randoms[q] >> U64(32)) * sizes[q]) >> U64(32)
        entry = tables[U64(q) * U64(TABLE) + row]
        count = row if (randoms[q] & LOW_32) < (entry >> U64(8)) else (entry & U64(255))
        volume[q] += burst[q] * np.float64(np.int64(count))


@compiled
def _service_row(step: int, step_ms: float, given: Floats, row: Floats, pace: Floats) -> None:
    """What the queues may send in `step` [Mbit]: slots that they gained carry nothing while the outage lasts."""
    service, gained, outage_ms = given[0], given[1], given[3]
    for q in range(len(row)):
        out_ms = max(outage_ms[q] - step * step_ms, 0.0) if gained[q] > 0 else 0.0
        row[q] = service[q] - min(out_ms / step_ms, 1.0) * gained[q]
        pace[0, q] = step_ms / max(row[q], LEAST_MBIT)
        pace[1, q] = step_ms / max(service[q], LEAST_MBIT)
        pace[2, q] = out_ms / step_ms * (service[q] - gained[q])
        pace[3, q] = out_ms


@compiled
def _serve_block(load: Floats, given: Floats, keys: Any, level: Floats, steps: int, step_ms: float) -> Floats:
    """Draw and serve one block; see :func:`serve_drawn`."""
    queues = len(level)
    tables, sizes = np.empty(queues * TABLE, np.uint64), np.empty(queues, np.uint64)
    randoms = np.empty(queues, np.uint64)
    volume, row, pace = np.empty(queues), np.empty(queues), np.empty((4, queues))
    sums, found, fixed = np.zeros((SUMS, queues)), np.empty((4, queues)), np.empty((2, queues))
    parts, longest_ms = 1, 0.0
    for q in range(queues):
        fixed[0, q], fixed[1, q] = load[1, q], given[2, q]
        parts = max(parts, int(load[0, q] / load[1, q] / MEAN_LIMIT) + 1)
        longest_ms = max(longest_ms, given[3, q])
    for q in range(queues):
        mean = load[0, q] / load[1, q] / parts
        sizes[q] = U64(_alias_table(mean, tables[q * TABLE : (q + 1) * TABLE]))
    _service_row(0, step_ms, given, row, pace)
    for step in range(steps):
        if step * step_ms <= longest_ms + step_ms:
            _service_row(step, step_ms, given, row, pace)
        for q in range(queues):
            volume[q] = 0.0
        for part in range(parts):
            _randoms(keys, step * parts + part, randoms)
            _add_bursts(randoms, sizes, tables, fixed[0], volume)
        _advance(volume, row, fixed, level, found)
        _count(volume, found[2], sums)
        if step * step_ms <= longest_ms + step_ms:
            _collect(fixed[0], pace, found, sums)
        else:
            _collect_steady(fixed[0], pace[1], found, sums)
    return sums


@compiled
def serve_drawn(
    load: Floats, given: Floats, keys: Any, level: Floats, sums: Floats, steps: int, step_ms: float
) -> None:
    """Serve Poisson bursts drawn on the way; `sums` (6, Q) is filled and `level` (Q,) moves on in place.

    `load` (2, Q): mean volume per step and burst, above 0; `given` (4, Q): volume that the queue may send per step,
    the part of it that slots gained would carry, buffer, and how long those carry nothing [ms]. `keys` (Q,) name the
    queues' random streams.
    """
    for first in range(0, len(level), LANES):
        last = min(first + LANES, len(level))
        block = _serve_block(
            np.ascontiguousarray(load[:, first:last]), np.ascontiguousarray(given[:, first:last]), keys[first:last],
            level[first:last], steps, step_ms,
        )  # fmt: skip
        for row in range(SUMS):
            for q in range(first, last):
                sums[row, q] = block[row, q - first]
