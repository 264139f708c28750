"""Community storage: follows, refuses, rests, answers to frequency."""

import numpy as np
import pytest

from e2sim.grid.settings import StorageSettings
from e2sim.grid.storage import CommunityStorage
from ric.columns import Table
from ric.errors import TwinRicError

START_S = 1_460_419_200.0
SETTINGS = StorageSettings(capacity_kwh=100, max_kw=50, efficiency=0.9, soc=0.5)


@pytest.fixture
def unit():
    return CommunityStorage(SETTINGS, start_s=START_S, seed=2)


def set_point(charge=0.0, discharge=0.0, reserve=0.0, name="storage-1"):
    columns = {"charge_kw": charge, "discharge_kw": discharge, "reserve_kw": reserve}
    return Table("storage_set_point", (name,), {key: np.array([value]) for key, value in columns.items()}, 0)


def test_storage_rests_without_set_point_and_after_it_expired(unit):
    assert unit.step(START_S + 60, 60)[0]["charge_kw"][0] == 0
    unit.apply(set_point(charge=30), START_S + 120)
    assert unit.step(START_S + 120, 60)[0]["charge_kw"][0] == pytest.approx(30)
    assert unit.step(START_S + 180, 60)[0]["charge_kw"][0] == 0
    assert unit.soc == pytest.approx(0.5 + 30 / 60 * 0.9 / 100)


def test_storage_discharge_ends_when_it_is_empty(unit):
    unit.apply(set_point(discharge=50), START_S + 7200)
    report = unit.step(START_S + 7200, 7200)[0]
    assert report["soc"][0] == pytest.approx(0, abs=1e-9)
    assert report["discharge_kw"][0] * 2 == pytest.approx(0.5 * 100 * 0.9)


@pytest.mark.parametrize(
    "bad",
    [set_point(charge=51), set_point(discharge=-1), set_point(charge=5, discharge=5), set_point(reserve=float("nan"))],
    ids=["too much", "negative", "both ways", "not a number"],
)
def test_storage_set_point_out_of_bounds_is_refused(unit, bad):
    with pytest.raises(TwinRicError, match="storage-1"):
        unit.apply(bad, START_S + 600)
    assert unit.step(START_S + 60, 60)[0]["charge_kw"][0] == 0


def test_storage_of_another_name_is_refused(unit):
    with pytest.raises(TwinRicError, match="E2-RANGE"):
        unit.apply(set_point(name="other"), START_S + 600)


def test_storage_reserve_answers_against_the_frequency(unit):
    unit.apply(set_point(reserve=20), START_S + 86_400)
    reports = [unit.step(START_S + 60 * (n + 1), 60)[0] for n in range(240)]
    deviation = np.array([report["frequency_hz"][0] for report in reports]) - 50
    power = np.array([report["charge_kw"][0] - report["discharge_kw"][0] for report in reports])
    assert deviation.std() > 0.005
    np.testing.assert_allclose(power, 20 * np.clip(deviation / 0.2, -1, 1), atol=1e-6)


def test_storage_frequency_does_not_depend_on_control():
    one, other = (CommunityStorage(SETTINGS, start_s=START_S, seed=2) for _ in range(2))
    other.apply(set_point(charge=10), START_S + 3600)
    for n in range(20):
        a, b = (unit.step(START_S + 60 * (n + 1), 60)[0]["frequency_hz"][0] for unit in (one, other))
        assert a == b
