"""What was there at the start is left alone by later collections."""

import gc

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
