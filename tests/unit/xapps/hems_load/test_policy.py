"""The A1 policy type: defaults, windows, refusals by field."""

import pytest

from ric.config import validate
from ric.errors import TwinRicError
from xapps.hems_load.policy import DrEvent, HemsPolicy, import_cap_kw

INF = float("inf")


@pytest.mark.parametrize(
    ("body", "time_s", "cap"),
    [
        ({}, 100, INF),
        ({"import_cap_kw": 30}, 100, 30),
        ({"import_cap_kw": 30, "import_cap_start_s": 200}, 100, INF),
        ({"import_cap_kw": 30, "import_cap_start_s": 100, "import_cap_end_s": 200}, 100, 30),
        ({"import_cap_kw": 30, "import_cap_start_s": 100, "import_cap_end_s": 200}, 200, INF),
        ({"import_cap_kw": 0}, 100, 0),
    ],
    ids=["no cap", "always", "before the window", "at its start", "at its end", "zero is a cap"],
)
def test_policy_cap_holds_inside_its_window(body, time_s, cap):
    assert import_cap_kw(validate(HemsPolicy, body, "A1"), time_s) == cap


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"import_cap_kw": -1}, "import_cap_kw"),
        ({"v2g_floor_soc": 1.1}, "v2g_floor_soc"),
        ({"dr_event": {"reduction_kw": 5, "start_s": 9, "end_s": 9}}, "dr_event"),
        ({"dr_event": {"reduction_kw": 5, "start_s": 1, "end_s": 9, "deadline_s": 10}}, "dr_event"),
        ({"ramp_limit_kw_per_min": 0}, "ramp_limit_kw_per_min"),
        ({"fairness": 2}, "fairness"),
        ({"import_cap_start_s": 10, "import_cap_end_s": 5}, "import_cap_start_s"),
        ({"import_cap": 10}, "import_cap_kw"),
        ({"comfort_eur_per_k_h": float("nan")}, "comfort_eur_per_k_h"),
    ],
    ids=[
        "negative cap",
        "floor above one",
        "event of no length",
        "deadline after the end",
        "no ramp at all",
        "more than fair",
        "window ends first",
        "unknown field",
        "not a number",
    ],
)
def test_policy_bad_statement_is_refused_by_field(body, field):
    with pytest.raises(TwinRicError, match=field):
        validate(HemsPolicy, body, "A1")


def test_policy_schema_tells_units_and_ranges():
    properties = HemsPolicy.model_json_schema()["properties"]
    assert "[kW]" in properties["import_cap_kw"]["description"]
    assert properties["v2g_floor_soc"]["maximum"] == 1


@pytest.mark.parametrize(("time_s", "due"), [(9, None), (10, 0.0), (15, 3.0), (20, 6.0), (29, 6.0), (30, None)])
def test_dr_event_grows_to_its_target_until_the_deadline(time_s, due):
    event = DrEvent(reduction_kw=6.0, start_s=10, end_s=30, deadline_s=20)
    assert event.due_kw(time_s) == due


def test_policy_for_a_home_group_takes_limits_on_its_import_only():
    group = {"scope": {"home_group": "school-street"}}
    event = {"reduction_kw": 3.0, "start_s": 10.0, "end_s": 20.0}
    taken = {"import_cap_kw": 5.0, "fairness": 1.0, "dr_event": event, "e2_node_id": "n"}
    assert validate(HemsPolicy, group | taken, "A1").import_cap_kw == 5.0
    with pytest.raises(TwinRicError, match=r"for a home group only .*; not export_allowed, reserve_kw"):
        validate(HemsPolicy, group | {"reserve_kw": 1.0, "export_allowed": False}, "A1")
