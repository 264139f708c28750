import numpy as np
import pytest

from ric.columns import Table
from ric.e2sm.grid import GridReport
from ric.errors import TwinRicError
from xapps.microgrid_guard.state import State, sample_of

MICROGRIDS = Table("microgrid_report", ("MG1", "MG2"), {
    "contribution_factor": np.array([0.4, 0.0]), "agent_alive": np.array([1.0, 0.0]),
}, 5)  # fmt: skip
PCC = Table("pcc_report", ("pcc",), {"reference_r": np.array([0.4])}, 5)


def report(*tables: Table) -> GridReport:
    return GridReport("00101-e2000001", 5, {table.kind: table for table in tables})


def test_sample_of_takes_what_the_guard_needs():
    sample = sample_of(report(MICROGRIDS, PCC))
    assert (sample.node, sample.time_ns, sample.ids, sample.reference_r) == ("00101-e2000001", 5, ("MG1", "MG2"), 0.4)
    assert sample.alive.tolist() == [True, False]


@pytest.mark.parametrize("tables", [(MICROGRIDS,), (PCC,), (MICROGRIDS, Table("pcc_report", (), {}, 5))])
def test_sample_of_incomplete_report_is_refused(tables: tuple[Table, ...]):
    with pytest.raises(TwinRicError, match="E2-RANGE tables"):
        sample_of(report(*tables))


def test_state_source_time_is_the_newest_sample_s():
    sample = sample_of(report(MICROGRIDS, PCC))
    assert State((sample,), {}).source_time_ns == 5
    assert State((), {}).source_time_ns == 0
