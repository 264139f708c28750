"""What apps are told of a scenario: links that nodes share and nodes told over the bus, under the settings' names."""

from pathlib import Path

import yaml

from e2sim.__main__ import main
from e2sim.scenario import load_scenario, parse_scenario
from e2sim.told import told

NODES = [{"gnb_id": 1}, {"gnb_id": 2, "desired_by_bus": True}, {"gnb_id": 3}]
NAMES = ["00101-1", "00101-2", "00101-3"]


def scenario(**parts: object):
    return parse_scenario({"seed": 1, "start": "2016-06-15T12:00:00Z", "duration_s": 20, "nodes": NODES, **parts})


def test_told_names_a_link_s_nodes_all_of_them_where_it_names_none() -> None:
    links = told(scenario(aggregation=[{"capacity_gbps": 85}]))["aggregation_links"]
    assert links == [
        {"link_id": "aggregation-1", "e2_node_ids": NAMES, "capacity_mbps": 85_000.0, "buffer_mbit": 5_000.0}
    ]


def test_told_leaves_a_link_of_one_node_out_and_keeps_the_numbers() -> None:
    parts = [{"capacity_gbps": 9, "nodes": NAMES[:1]}, {"capacity_gbps": 50, "nodes": NAMES[1:], "buffer_mbit": 7}]
    (link,) = told(scenario(aggregation=parts))["aggregation_links"]
    assert (link["link_id"], link["e2_node_ids"], link["buffer_mbit"]) == ("aggregation-2", NAMES[1:], 7)


def test_told_is_what_settings_take_and_nothing_where_nothing_is_to_be_told() -> None:
    made = scenario(aggregation=[{"capacity_gbps": 85}])
    assert told(made, {"desired_by_bus", "bus_url"}) == {"desired_by_bus": ["00101-2"]}
    assert told(load_scenario("smoke")) == {}


def test_settings_command_writes_them_as_yaml(tmp_path: Path) -> None:
    file = tmp_path / "new" / "settings.yaml"
    assert main(["settings", "--scenario", "aggregation", "--out", str(file)]) == 0
    assert yaml.safe_load(file.read_text()) == told(load_scenario("aggregation"))
