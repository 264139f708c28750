"""Service models by name, what their controls set, and when a control counts as verified."""

import numpy as np
import pytest

from ric.columns import Table
from ric.e2.observations import UNKNOWN_SPAN, Seen
from ric.e2.service_models import SERVICE_MODELS, model_of, oid_of
from ric.e2sm import ccc, grid, kpm
from ric.errors import TwinRicError
from ric.schemas import GRID_SCHEMAS


def ratio(share: int, name: str = "1-000001") -> ccc.SliceRatio:
    return ccc.SliceRatio(s_nssai=name, rrm_policy_dedicated_ratio=share)


def test_oid_of_known_names_is_that_of_the_service_model() -> None:
    assert oid_of(("oran-e2sm-kpm", "v2")) == kpm.OID
    assert len({model.oid for model in SERVICE_MODELS.values()}) == len(SERVICE_MODELS)


def test_oid_of_an_object_identifier_is_itself() -> None:
    assert oid_of(("1.3.6.1.4.1.99", "v1")) == "1.3.6.1.4.1.99"


@pytest.mark.parametrize("asked", [("oran-e2sm-kpm", "v9"), ("kpm", ""), ("", "")])
def test_oid_of_an_unknown_service_model_is_refused(asked: tuple[str, str]) -> None:
    with pytest.raises(TwinRicError, match="E2-FUNCTION-UNKNOWN service_model"):
        oid_of(asked)


def test_settings_of_a_slice_control_are_its_slices() -> None:
    ratios = (ratio(25), ratio(50, "1-000002"))
    settings = model_of((ccc.NAME, ccc.VERSION)).settings(*ccc.encode_control(ratios))
    assert settings == {"slice 1-000001": ratios[0], "slice 1-000002": ratios[1]}


def test_settings_of_a_grid_control_are_home_and_column() -> None:
    columns = {name: np.array([1.0, 2.0]) for name in GRID_SCHEMAS["home_set_point"].columns}
    control = grid.GridControl(Table("home_set_point", ("h1", "h2"), columns, 0), 10, "PRICE")
    settings = model_of((grid.NAME, grid.VERSION)).settings(*grid.encode_control(control))
    assert len(settings) == 2 * len(columns)
    assert settings["home_set_point h2 ev_kw"] == 2.0


def test_settings_of_a_model_without_structure_are_one() -> None:
    assert len(model_of(("1.3.6.1.4.1.99", "v1")).settings(b"h", b"p")) == 1


def test_verify_slices_in_force_in_any_order_passes() -> None:
    verify = model_of((ccc.NAME, ccc.VERSION)).verify
    wanted = (ratio(25), ratio(50, "1-000002"))
    outcome = ccc.encode_outcome((*reversed(wanted), ratio(5, "1-000003")))
    assert verify(b"", {}, ccc.encode_outcome(wanted), outcome) == UNKNOWN_SPAN


@pytest.mark.parametrize("in_force", [(ratio(20),), (ratio(25, "1-000002"),)], ids=["other share", "slice absent"])
def test_verify_slices_not_in_force_is_refused(in_force: tuple[ccc.SliceRatio, ...]) -> None:
    with pytest.raises(TwinRicError, match="E2-UNVERIFIED slice 1-000001"):
        CCC.verify(b"", {}, ccc.encode_outcome((ratio(25),)), ccc.encode_outcome(in_force))


CCC = model_of((ccc.NAME, ccc.VERSION))


def test_quantities_of_a_slice_control_are_its_dedicated_ratios() -> None:
    settings = CCC.settings(*ccc.encode_control((ratio(25), ratio(50, "1-000002"))))
    assert CCC.quantities(settings) == {"slice 1-000001": 25.0, "slice 1-000002": 50.0}
    whole = model_of(("1.3.6.1.4.1.99", "v1"))
    assert whole.quantities(whole.settings(b"h", b"p")) == {}


def test_slices_in_force_are_read_from_the_slice_rows_of_a_report() -> None:
    items = (kpm.KpmItem("c", "1-000001"), kpm.KpmItem("c", "1-000002"), kpm.KpmItem("c", "1-000001", "ue-1"))
    report = kpm.KpmReport("n", 10**18, 100, ("TWINRIC.FlexeSlots",), items, np.array([[5.0, 10.0, 1.0]]))
    assert CCC.observed_in == kpm.OID
    observation = CCC.observe(*kpm.encode_indication(report))
    assert (observation.source_time_ns, observation.amounts) == (
        10**18, {"slice 1-000001": Seen(25.0, 10**18), "slice 1-000002": Seen(50.0, 10**18)},
    )  # fmt: skip
    without = kpm.KpmReport("n", 10**18, 100, ("DRB.UEThpDl",), items, np.ones((1, 3)))
    assert CCC.observe(*kpm.encode_indication(without)).amounts == {}
    with pytest.raises(TwinRicError, match="E2-MALFORMED"):
        CCC.observe(b"\xff", b"\xff")
