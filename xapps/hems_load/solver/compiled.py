"""The compiler's settings, in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

__all__ = ["compiled", "inlined", "spliced", "summing"]

Function = TypeVar("Function", bound=Callable[..., Any])


_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp"}}


def compiled(function: Function) -> Function:
    """`function` as machine code, compiled on its first call and kept on disk where that can be written.

    Without the interpreter's lock, so that threads share the homes; division by zero gives infinity, not an exception;
    products and sums may be fused. The code is kept beside the source, or in NUMBA_CACHE_DIR where that is set.
    """
    return _kept(function, _OPTIONS)


def summing(function: Function) -> Function:
    """`compiled`, with sums in whatever order is fastest."""
    return _kept(function, _OPTIONS | {"fastmath": _OPTIONS["fastmath"] | {"reassoc"}})


def _kept(function: Function, options: dict[str, Any]) -> Function:
    try:
        return cast(Function, numba.njit(cache=True, **options)(function))
    except RuntimeError:  # neither place can be written (a container with a read-only root): compile at each start
        return cast(Function, numba.njit(**options)(function))


def inlined(function: Function) -> Function:
    """`function` compiled into each of its callers: for small ones that are handed many arrays."""
    return cast(Function, numba.njit(forceinline=True, **_OPTIONS)(function))


def spliced(function: Function) -> Function:
    """`function` written into its callers before these are compiled: for a line of arithmetic."""
    return cast(Function, numba.njit(inline="always", **_OPTIONS)(function))
