"""The garbage collector of a process that must answer within milliseconds."""

from __future__ import annotations

import gc

__all__ = ["settle_heap"]


def settle_heap() -> None:
    """Keep what a process loaded at its start out of later garbage collections.

    A full collection over all modules takes some 100 ms, which each loop and request of the process would wait.
    """
    gc.collect()
    gc.freeze()
