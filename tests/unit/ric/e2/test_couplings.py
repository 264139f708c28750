"""What else a control touches, by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ric.e2.conflict_policy import ConflictPolicy, Influence, TrafficDemand
from ric.e2.couplings import Couplings, Push, class_of

DEMANDS = (
    TrafficDemand(app_id="hems", s_nssai="1-000003", rate_mbps=8_000, max_utilisation=0.8),
    TrafficDemand(app_id="meters", s_nssai="1-000003", rate_mbps=2_000, max_utilisation=1.0, e2_node_id="n1"),
)


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        ("slice 1-000003", "slice"),
        ("home_set_point h 17 battery_kw", "home_set_point battery_kw"),
        ("alone", "alone"),
        ("", ""),
    ],
    ids=["slice", "column of a home with a space in its id", "no owner", "empty"],
)
def test_class_of_a_parameter_is_its_name_without_its_owner(parameter: str, expected: str) -> None:
    assert class_of(parameter) == expected


def test_couplings_slice_load_adds_all_declared_traffic_of_the_node() -> None:
    couplings = Couplings(ConflictPolicy(demands=DEMANDS))
    here = couplings.slice_load("slices", "n1", "slice 1-000003", 12.0)
    assert here is not None
    assert (here.granted_mbps, here.needed_mbps, here.needed_percent) == (12_000, 12_500, 12.5)
    assert here.starved == ("hems",)  # 10 of 12 Gb/s fit, but fill more than 80 %
    there = couplings.slice_load("slices", "n2", "slice 1-000003", 12.0)
    assert there is not None
    assert there.starved == ()
    assert couplings.slice_load("slices", "n1", "slice 1-000002", 0.0) is None


def test_couplings_own_traffic_is_ones_own_affair() -> None:
    load = Couplings(ConflictPolicy(demands=DEMANDS[:1])).slice_load("hems", "n1", "slice 1-000003", 0.0)
    assert load is not None
    assert load.starved == ()


@given(st.floats(0, 100), st.floats(0, 100))
def test_couplings_more_of_a_slice_never_starves_more(low: float, high: float) -> None:
    couplings = Couplings(ConflictPolicy(demands=DEMANDS))
    low, high = sorted((low, high))
    less, more = (couplings.slice_load("x", "n1", "slice 1-000003", percent) for percent in (low, high))
    assert less is not None
    assert more is not None
    assert set(more.starved) <= set(less.starved)


def test_couplings_push_is_measured_from_the_reference_or_the_value_in_force() -> None:
    influences = (
        Influence(parameter="store charge_kw", target="import", gain=1, dead_band=2),
        Influence(parameter="home hvac_kw", target="import", gain=2, reference=None, dead_band=5),
    )
    couplings = Couplings(ConflictPolicy(influences=influences))
    quantities = {"store s charge_kw": 40.0, "home h hvac_kw": 3.0, "home h ev_kw": 9.0}
    in_force = {"home h hvac_kw": 1.0}
    pushes = couplings.pushes(quantities, in_force.get, lambda _: Push(0.0))
    assert pushes["import"].by_parameter == {"store s charge_kw": 40.0, "home h hvac_kw": 4.0}
    assert (pushes["import"].amount, pushes["import"].dead_band) == (44.0, 5.0)
    unknown = couplings.pushes({"home h hvac_kw": 3.0}, {}.get, lambda _: Push(0.0))
    assert unknown == {}


def test_couplings_push_replaces_what_the_app_does_already() -> None:
    couplings = Couplings(ConflictPolicy(influences=(Influence(parameter="store charge_kw", target="t", gain=1),)))
    mine = Push(1.0, 50.0, {"store s charge_kw": 40.0, "store r charge_kw": 10.0})
    assert couplings.pushes({"store s charge_kw": 5.0}, {}.get, lambda _: mine)["t"].amount == 15.0


def test_couplings_need_the_value_in_force_only_where_a_check_asks_for_it() -> None:
    couplings = Couplings(ConflictPolicy())
    assert couplings.needs_value_in_force("slice 1-000001")
    assert couplings.needs_value_in_force("home_set_point h hvac_kw")
    assert not couplings.needs_value_in_force("home_set_point h battery_kw")
