"""The parts of a node together: what one does, the next one sees; same seed, same run."""

import numpy as np

from e2sim.grid.residential import make_residential
from e2sim.grid.settings import ResidentialSettings, StorageSettings

START_S = 1_460_462_400.0


def make(**settings):
    return make_residential(ResidentialSettings(homes=12, **settings), node_id="n", start_s=START_S, days=1, seed=4)


def steps(parts, minutes=20):
    return [
        {table.kind: table for part in parts.parts for table in part.step(START_S + 60 * (n + 1), 60)}
        for n in range(minutes)
    ]


def test_residential_runs_twice_alike():
    for one, other in zip(steps(make()), steps(make()), strict=True):
        assert one.keys() == other.keys()
        for kind, table in one.items():
            for name, values in table.columns.items():
                np.testing.assert_array_equal(values, other[kind][name])


def test_residential_feeder_carries_the_homes():
    parts = make()
    report = steps(parts)[-1]
    homes = float((report["home_report"]["import_kw"] - report["home_report"]["export_kw"]).sum())
    loads, units = parts.traces.background_kw(START_S + 19 * 60)
    total = homes + loads.sum() - units.sum() + report["feeder_report"]["losses_kw"][0]
    np.testing.assert_allclose(report["feeder_report"]["import_kw"][0], total, atol=1e-3)


def test_residential_without_storage_has_no_storage_report():
    parts = make(storage=StorageSettings(capacity_kwh=0))
    assert parts.storage is None
    assert "storage_report" not in steps(parts, 1)[0]
    kinds = {kind for part in parts.parts for kind in part.set_point_kinds}
    assert kinds == {"home_set_point", "appliance_set_point"}
