"""`twinric up` tells each app what its scenario asks for, under settings that the app really has."""

from importlib.metadata import entry_points
from pathlib import Path

from ric.__main__ import _told
from ric.config import load_config
from ric.up import Ports, processes_of

SETTINGS = {entry.name: entry.load().config_type for entry in entry_points(group="twinric.apps")}
APPS = [(name, f"xapps.{name}") for name in SETTINGS]


def told(scenario: str, folder: Path):
    asked = _told(scenario, folder / "config" / "scenario.yaml")
    processes = processes_of(
        APPS, asked, scenario=scenario, bus_url="kafka://127.0.0.1:9092", speed=1.0, data=folder, ports=Ports()
    )
    files = {process.name: Path(process.command[-1]) for process in processes if process.name in SETTINGS}
    return {name: load_config(SETTINGS[name], file, "NONE", {}) for name, file in files.items()}


def test_up_tells_the_slice_app_which_nodes_share_a_link(tmp_path: Path) -> None:
    (link,) = told("aggregation", tmp_path)["slice_bandwidth"].aggregation_links
    assert link.e2_node_ids == ("00101-e2000001", "00101-e2000002", "00101-e2000003")
    assert (link.capacity_mbps, link.buffer_mbit) == (85_000.0, 5_000.0)


def test_up_tells_the_hems_which_nodes_are_told_over_the_bus(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    nodes = "[{gnb_id: 1}, {gnb_id: 2, desired_by_bus: true}]"
    file.write_text(f"seed: 1\nstart: 2016-06-15T12:00:00Z\nduration_s: 20\nnodes: {nodes}\n", encoding="utf-8")
    settings = told(str(file), tmp_path)
    assert settings["hems_load"].desired_by_bus == ("00101-2",)
    assert settings["slice_bandwidth"].aggregation_links == ()


def test_up_tells_nothing_where_interfaces_tell_of_all(tmp_path: Path) -> None:
    assert _told("smoke", tmp_path / "scenario.yaml") == {}
