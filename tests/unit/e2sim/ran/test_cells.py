import numpy as np

from e2sim.ran.cells import Cell, prb_used, radio_mbps

CELLS = (Cell("00101-1", 100, 10.0), Cell("00101-2", 300, 20.0))


def test_radio_carries_the_sum_of_its_cells():
    assert radio_mbps(CELLS) == 7_000


def test_blocks_in_use_are_proportional_and_bounded():
    np.testing.assert_allclose(prb_used(CELLS, np.array([0.0, 3_500.0, 9_000.0])), [0, 200, 400])
