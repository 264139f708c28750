"""Grids as SimBench ships them: counts by hand from its tables, cache, refusals."""

import numpy as np
import pytest

from e2sim.grid.simbench_profiles import PROFILE_STEPS, cache_directory, load_grid
from ric.errors import TwinRicError


@pytest.mark.parametrize(
    ("code", "loads", "units", "stores"),
    [("1-LV-rural3--2-sw", 153, 27, 16), ("1-LV-semiurb4--1-sw", 44, 1, 1), ("1-LV-rural2--0-sw", 99, 8, 0)],
)
def test_grid_has_the_equipment_of_its_tables(code, loads, units, stores):
    grid = load_grid(code)
    assert (len(grid.loads), len(grid.generators), len(grid.storage)) == (loads, units, stores)
    assert grid.profiles.shape[1] == PROFILE_STEPS
    assert np.isfinite(grid.profiles).all()
    assert (grid.loads.profile >= 0).all()
    assert (grid.loads.node > 0).all()


def test_grid_is_connected_to_its_transformer():
    grid = load_grid("1-LV-rural3--2-sw")
    reached, ends = {grid.trafo_node}, grid.line_ends.tolist()
    for _ in range(len(ends)):
        reached |= {b for a, b in ends if a in reached} | {a for a, b in ends if b in reached}
    assert reached == set(range(1, grid.node_count))


def test_grid_from_the_cache_equals_the_extracted_one(tmp_path):
    first = load_grid("1-LV-semiurb4--1-sw", tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    second = load_grid("1-LV-semiurb4--1-sw", tmp_path)
    np.testing.assert_array_equal(first.profiles, second.profiles)
    assert first.loads.names == second.loads.names
    assert first.trafo == second.trafo


@pytest.mark.parametrize("code", ["1-LV-rural4--2-sw", "1-MV-rural--0-sw", "", "1-LV-rural3--3-sw"])
def test_grid_unknown_code_is_refused(code):
    with pytest.raises(TwinRicError, match=r"grid\.code"):
        load_grid(code)


def test_cache_directory_follows_the_environment(tmp_path):
    assert cache_directory({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "twinric" / "simbench"
    assert cache_directory({}).name == "simbench"
