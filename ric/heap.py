"""Memory of a process that must answer in time: garbage collection, and what becomes of freed arrays."""

from __future__ import annotations

import ctypes
import gc

__all__ = ["keep_freed_memory", "settle_heap"]

TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""Numbers of mallopt(3)'s parameters."""
NEVER = 2**31 - 1


def settle_heap() -> None:
    """Keep what a process loaded at its start out of later garbage collections.

    A full collection over all modules takes some 100 ms, which each loop and request of the process would wait.
    """
    gc.collect()
    gc.freeze()


def keep_freed_memory() -> bool:
    """Use freed memory of large arrays again instead of handing it back; whether the C library can (glibc's can).

    Else each cycle's new arrays are new pages, which the kernel clears one by one: a tenth of a cycle of 10,000 homes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(TRIM_THRESHOLD, NEVER) and mallopt(MMAP_MAX, 0))
