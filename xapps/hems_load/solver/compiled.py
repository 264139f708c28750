"""The compiler's settings, in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

__all__ = ["compiled", "inlined"]

Function = TypeVar("Function", bound=Callable[..., Any])


_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp"}}


def compiled(function: Function) -> Function:
    """`function` as machine code, compiled on its first call and kept on disk where that can be written.

    Without the interpreter's lock, so that threads share the homes; division by zero gives infinity, not an exception;
    products and sums may be fused. The code is kept beside the source, or in NUMBA_CACHE_DIR where that is set.
    """
    try:
        return cast(Function, numba.njit(cache=True, **_OPTIONS)(function))
    except RuntimeError:  # neither place can be written (a container with a read-only root): compile at each start
        return cast(Function, numba.njit(**_OPTIONS)(function))


def inlined(function: Function) -> Function:
    """`function` compiled into each of its callers: for small ones that are handed many arrays."""
    return cast(Function, numba.njit(forceinline=True, **_OPTIONS)(function))
