"""Arrays are handed out again when nobody refers to them, and not before."""

import numpy as np

from xapps.hems_load.solver.memory import IDLE_TAKES, Memory


def test_array_is_handed_out_again_only_when_its_last_view_is_gone():
    memory = Memory()
    array = memory.take((3, 4))
    place, view = array.ctypes.data, array[1]
    del array
    assert memory.take((3, 4)).ctypes.data != place
    del view
    places = {taken.ctypes.data for taken in (memory.take((3, 4)), memory.take((3, 4)))}
    assert place in places


def test_arrays_of_another_shape_or_type_are_new():
    memory = Memory()
    memory.take((3, 4))
    assert memory.take((4, 3)).shape == (4, 3)
    assert memory.take((3, 4), np.float32).dtype == np.float32


def test_array_of_no_use_for_long_is_let_go():
    memory = Memory()
    memory.take((3, 4))
    for size in range(1, IDLE_TAKES + 2):
        memory.take((size,))
    assert all(array.shape != (3, 4) for array in memory._arrays)
