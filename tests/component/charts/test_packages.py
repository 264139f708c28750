"""Descriptors and rApp packages: fresh, complete, and accepted by what reads them."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import helm_python
import jsonschema
import kubernetes_validate
import pytest
import yaml

from ric.config import load_config

ROOT = Path(__file__).resolve().parents[3]
ON_RIC = ("fault_alarm", "hems_load", "microgrid_guard", "slice_bandwidth")
RAPPS = ("demand_twin", "storage_scheduling")


def test_generated_files_are_fresh(descriptors: ModuleType) -> None:
    assert [str(path.relative_to(ROOT)) for path in descriptors.stale()] == []


def test_every_app_has_a_descriptor_or_a_package(descriptors: ModuleType, csar_tool: ModuleType) -> None:
    folders = {entry.name: descriptors.folder_of(entry) for entry in descriptors.app_entries()}
    described = {name for name, folder in folders.items() if (folder / "descriptor" / "config-file.json").is_file()}
    assert described == set(ON_RIC)
    assert set(csar_tool.RAPPS) == set(folders) - described


@pytest.fixture(params=ON_RIC)
def described(request: pytest.FixtureRequest, descriptors: ModuleType) -> tuple[Any, Path]:
    """An xApp's or dApp's class and its descriptor folder."""
    entry = next(entry for entry in descriptors.app_entries() if entry.name == request.param)
    return entry.load(), descriptors.folder_of(entry) / "descriptor"


def test_descriptor_controls_pass_their_schema_and_start_the_app(described: tuple[Any, Path]) -> None:
    app, folder = described
    descriptor = json.loads((folder / "config-file.json").read_text())
    schema = json.loads((folder / "schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(descriptor["controls"], schema)
    config = load_config(app.config_type, folder / "config-file.json", "TWINRIC_X", {})
    assert config.health_port == descriptor["messaging"]["ports"][0]["port"]
    assert descriptor["containers"][0]["command"][2].endswith(app.spec.name)


def test_descriptor_schema_refuses_a_bad_control(described: tuple[Any, Path]) -> None:
    _, folder = described
    controls = json.loads((folder / "config-file.json").read_text())["controls"]
    schema = json.loads((folder / "schema.json").read_text())
    for bad in ({"stale_after_s": -1}, {"health_prt": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(controls | bad, schema)


def test_policy_type_default_passes_its_own_schema(described: tuple[Any, Path]) -> None:
    app, folder = described
    policy_type = json.loads((folder / "policy-type.json").read_text())
    assert policy_type["policyTypeId"] == app.spec.policy_type_id
    jsonschema.validate(app.policy_type().model_dump(mode="json"), policy_type["policySchema"])


@pytest.fixture(params=RAPPS)
def package(request: pytest.FixtureRequest, csar_tool: ModuleType) -> tuple[str, zipfile.ZipFile]:
    return request.param, zipfile.ZipFile(io.BytesIO(csar_tool.csar(request.param)))


def test_csar_is_the_same_every_time(csar_tool: ModuleType) -> None:
    for app in RAPPS:
        assert csar_tool.csar(app) == csar_tool.csar(app)


def test_csar_entry_definition_names_artifacts_that_are_there(package: tuple[str, zipfile.ZipFile]) -> None:
    app, archive = package
    assert archive.testzip() is None
    meta = dict(line.split(": ", 1) for line in archive.read("TOSCA-Metadata/TOSCA.meta").decode().splitlines())
    definition = yaml.safe_load(archive.read(meta["Entry-Definitions"]))
    descriptor = definition["topology_template"]["node_templates"]["applicationServiceDescriptor"]
    assert descriptor["properties"]["application_name"] == app.replace("_", "-")
    files = [artifact["file"] for artifact in descriptor["artifacts"].values()]
    assert set(files) < set(archive.namelist())
    types = yaml.safe_load(archive.read("Definitions/" + definition["imports"][0]))
    required = {
        name for name, rule in types["node_types"][descriptor["type"]]["properties"].items() if rule["required"]
    }
    assert required <= set(descriptor["properties"])


def test_csar_manifest_lists_every_file_with_its_hash(package: tuple[str, zipfile.ZipFile]) -> None:
    _, archive = package
    lines = archive.read("asd.mf").decode().splitlines()
    sources = [line.removeprefix("Source: ") for line in lines if line.startswith("Source: ")]
    assert sorted(sources) == sorted(archive.namelist())
    hashes = [line.removeprefix("Hash: ") for line in lines if line.startswith("Hash: ")]
    assert hashes == [hashlib.sha256(archive.read(name)).hexdigest() for name in sources if name != "asd.mf"]


def test_csar_policy_type_is_the_apps(package: tuple[str, zipfile.ZipFile], descriptors: ModuleType) -> None:
    app, archive = package
    found = [name for name in archive.namelist() if name.startswith("Files/PolicyTypes/")]
    spec = next(entry for entry in descriptors.app_entries() if entry.name == app).load().spec
    assert [json.loads(archive.read(name))["policyTypeId"] for name in found] == [spec.policy_type_id]


def test_csar_chart_renders_valid_kubernetes(package: tuple[str, zipfile.ZipFile]) -> None:
    app, archive = package
    (path,) = [name for name in archive.namelist() if name.endswith(".tgz")]
    dashed = app.replace("_", "-")
    values = {
        "global": {"kafka": {"servers": "kafka.example.org:9092"}},
        dashed: {"config": {"a1_url": "https://pms.example.org"}},
    }
    with helm_python.Chart.load_archive(archive.read(path)) as chart:
        assert chart.name == f"twinric-{dashed}"
        rendered = chart.render(values, name="smo", namespace="nonrtric")
        with pytest.raises(helm_python.HelmError, match=r"global\.kafka\.servers is empty"):
            chart.render({}, name="smo", namespace="nonrtric")
    found = [item for text in rendered.values() for item in yaml.safe_load_all(text) if item]
    assert {item["kind"] for item in found} >= {"Deployment", "Service", "ConfigMap", "NetworkPolicy"}
    for item in found:
        kubernetes_validate.validate(item, "1.31", strict=True)
