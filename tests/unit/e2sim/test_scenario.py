from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import e2sim
from e2sim.scenario import load_scenario, parse_scenario
from ric.errors import TwinRicError

VALID = {
    "seed": 1, "start": "2016-06-15T00:00:00Z", "duration_s": 600,
    "nodes": [{"gnb_id": 0xE2000001, "microgrids": {}}], "windows": [{"start_s": 60, "duration_s": 2}],
    "faults": [{"at_s": 61, "kind": "ARCING"}],
    "attacks": [{"at_s": 61, "duration_s": 2, "kind": "dos", "target": "MG2"}],
    "traffic_events": [{"at_s": 5, "duration_s": 3, "slice": "control", "factor": 2}],
}  # fmt: skip

WINDOW, STORM = {"start_s": 60, "duration_s": 2}, {"at_s": 1, "duration_s": 2, "slice": "control", "factor": 2}
DOS = {"at_s": 1, "duration_s": 2, "kind": "dos"}
POLICY = {"at_s": 601, "policy_type_id": "t", "policy_id": "p", "body": None}


def nodes(*specs):
    return {"nodes": [{"microgrids": {}} | spec for spec in specs]}


BAD = {
    "unknown key suggests the nearest": ({"window": []}, "window", "'windows'"),
    "unknown nested key suggests among its siblings": (
        nodes({"gnb_id": 1, "transport": {"hop": 2}}), "nodes.0.transport.hop", "'hops'",
    ),
    "seed of the wrong type": ({"seed": "x"}, "seed", ""),
    "start without offset": ({"start": "2016-06-15T00:00:00"}, "start", "offset"),
    "no nodes": ({"nodes": []}, "nodes", ""),
    "same node twice": (nodes({"gnb_id": 1}, {"gnb_id": 1}), "nodes.1.gnb_id", ""),
    "window beyond the end": ({"windows": [WINDOW | {"start_s": 599}], "faults": []}, "windows.0.duration_s", "600"),
    "windows overlap": ({"windows": [WINDOW, WINDOW | {"start_s": 61}]}, "windows.1.start_s", "62"),
    "window off the raster": ({"windows": [WINDOW | {"start_s": 60.05}]}, "windows.0.start_s", "100 ms"),
    "period does not divide the grid step": ({"kpm_period_ms": 70}, "kpm_period_ms", "divisor"),
    "duration off the raster": ({"duration_s": 600.05}, "duration_s", "100 ms"),
    "fault outside every window": ({"faults": [{"at_s": 100, "kind": "ARCING"}]}, "faults.0.at_s", "window"),
    "unknown fault kind": ({"faults": [{"at_s": 61, "kind": "SHORT"}]}, "faults.0.kind", "ARCING"),
    "attack on no microgrid": ({"attacks": [DOS | {"target": "MG9"}]}, "attacks.0.target", "MG"),
    "event on no slice": ({"traffic_events": [STORM | {"slice": "controll"}]}, "traffic_events.0.slice", "'control'"),
    "event of an unknown node": (
        {"traffic_events": [STORM | {"node": "00101-2"}]}, "traffic_events.0.node", "00101-e2000001",
    ),
    "restart of an unknown node": (
        {"impairments": {"node_restarts": [{"at_s": 1, "node": "00101-2"}]}}, "impairments.node_restarts.0.node", "",
    ),
    "event after the end": ({"policies": [POLICY]}, "policies.0.at_s", "600"),
    "share above one": ({"impairments": {"loss": 1.5}}, "impairments.loss", "1"),
    "not a number": ({"duration_s": float("nan")}, "duration_s", ""),
}  # fmt: skip


def slices(**changes):
    base = [
        {"role": "control", "s_nssai": "1-000001", "flexe_slots": 5, "services": {"fisr": 1}},
        {"role": "protection", "s_nssai": "1-000002", "flexe_slots": 10, "granularity": 2, "services": {"fisr": 1}},
        {"role": "monitoring", "s_nssai": "1-000003", "flexe_slots": 5, "services": {"fisr": 1}},
    ]
    base[1].update(changes)
    return {"nodes": [{"gnb_id": 1, "microgrids": {}, "slices": base}]}


BAD |= {
    "too many slots": (slices(flexe_slots=12), "nodes.0.slices", "20"),
    "slots that are no whole granules": (slices(flexe_slots=9), "nodes.0.slices.1.flexe_slots", "2"),
    "unknown service": (slices(services={"fisrr": 3}), "nodes.0.slices.1.services.fisrr", "'fisr'"),
    "slice id twice": (slices(s_nssai="1-000001"), "nodes.0.slices", "once"),
    "slice id malformed": (slices(s_nssai="1-1"), "nodes.0.slices.1.s_nssai", "pattern"),
    "slice without an open gate": (
        nodes({"gnb_id": 1, "transport": {"gates": [["control"]]}}), "nodes.0.transport.gates", "slice",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "field", "says"), BAD.values(), ids=BAD.keys())
def test_scenario_fault_is_named_by_its_path(changes, field, says):
    with pytest.raises(TwinRicError) as error:
        parse_scenario({**deepcopy(VALID), **changes})
    faults = {fault.field: fault for fault in error.value.faults}
    assert field in faults
    assert faults[field].code == "SCENARIO-INVALID"
    assert says in str(faults[field])


def test_scenario_names_all_faults_at_once():
    with pytest.raises(TwinRicError) as error:
        parse_scenario({**VALID, "windows": [{"start_s": 60.05, "duration_s": 900}], "faults": []})
    assert {fault.field for fault in error.value.faults} == {"windows.0.start_s", "windows.0.duration_s"}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*VALID, "x", "gnb_id", "at_s"]), inner),
        max_leaves=20,
    ).filter(lambda value: isinstance(value, dict))
)
def test_scenario_any_mapping_gives_a_scenario_or_named_faults(values):
    try:
        parse_scenario(values)
    except TwinRicError as error:
        codes = {fault.code for fault in error.faults}
    else:
        codes = {"SCENARIO-INVALID"}
    assert codes == {"SCENARIO-INVALID"}


def test_instants_are_grid_steps_and_fast_steps_in_windows():
    instants = [round(time - 1_465_948_800, 3) for time in parse_scenario(VALID).instants()]
    assert instants[:4] == [60, 60.1, 60.2, 60.3]
    assert instants[19:22] == [61.9, 62.0, 120]
    assert instants[-1] == 600
    assert len(instants) == 30


def test_in_window_is_true_for_fast_steps_only():
    scenario = parse_scenario(VALID)
    fast = [time for time in scenario.instants() if scenario.in_window(time)]
    assert len(fast) == 20


@pytest.mark.parametrize(
    "path", sorted(Path(e2sim.__file__).parent.glob("scenarios/*.yaml")), ids=lambda path: path.stem
)
def test_shipped_scenario_is_valid_and_says_what_it_shows(path):
    scenario = load_scenario(path)
    assert scenario == load_scenario(path.stem)
    assert scenario.name == path.stem
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_demo_is_the_day_that_was_promised():
    demo = load_scenario("demo")
    assert demo.duration_s == 86_400
    residential = demo.nodes[0].residential
    assert residential is not None
    assert residential.homes >= 50
    assert len(demo.faults) == 2
    assert [attack.kind for attack in demo.attacks] == ["dos"]
    assert [event.slice for event in demo.traffic_events] == ["control"]
    assert len({policy.policy_type_id for policy in demo.policies}) == 2


def test_scenario_file_faults(tmp_path):
    broken = tmp_path / "broken.yaml"
    broken.write_text("seed: [1", encoding="utf-8")
    for path, code in (
        (broken, "CONFIG-RANGE"),
        (tmp_path / "absent.yaml", "CONFIG-MISSING"),
        ("demoo", "CONFIG-MISSING"),
    ):
        with pytest.raises(TwinRicError) as error:
            load_scenario(path)
        assert error.value.code == code
    good = tmp_path / "good.yaml"
    good.write_text(yaml.safe_dump(VALID), encoding="utf-8")
    assert load_scenario(str(good)).seed == 1
