"""What was there at the start is left alone by later collections; freed memory is used again."""

import gc
import subprocess
import sys

import pytest

from ric.heap import settle_heap


def test_settle_heap_leaves_what_is_there_out_of_later_collections() -> None:
    kept: list[list[int]] = [[] for _ in range(1_000)]
    before = gc.get_freeze_count()
    try:
        settle_heap()
        assert gc.get_freeze_count() >= before + len(kept)
        assert not any(each is kept for each in gc.get_objects())
    finally:
        gc.unfreeze()


FAULTS = """
import resource, sys
import numpy as np
from ric.heap import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    raise SystemExit(77)
for cycle in range(6):
    if cycle == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(1_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    """Of five more arrays of 8 MB, each freed before the next, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("this C library has no mallopt")
    return int(done.stdout)


def test_freed_memory_is_used_again_by_the_next_cycles_arrays() -> None:
    assert page_faults("kept") * 4 < page_faults("given back")
