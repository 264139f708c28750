"""One small residential grid, made once."""

import pytest

from e2sim.grid.devices import make_fleet
from e2sim.grid.settings import ResidentialSettings
from e2sim.grid.simbench_profiles import load_grid
from e2sim.grid.traces import Traces


@pytest.fixture(scope="session")
def grid():
    return load_grid("1-LV-rural3--2-sw")


@pytest.fixture(scope="session")
def fleet(grid):
    return make_fleet(grid, ResidentialSettings(homes=20), 3)


@pytest.fixture
def traces(grid, fleet):
    return Traces(grid, fleet, texture=0.35, seed=3)
