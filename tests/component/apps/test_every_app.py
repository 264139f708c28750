"""What holds for all six apps: declared, configurable, refusing bad settings, safe without model, input or peer."""

import json
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace

import pytest

from ric.app_policies import policy_type_object
from ric.app_spec import Ric
from ric.clock import SimClock
from ric.config import validate
from ric.decision import Reason
from ric.errors import TwinRicError
from ric.links import Links
from ric.runtime import AppRuntime

ROOT = Path(__file__).resolve().parents[3]
ENTRIES = sorted(entry_points(group="twinric.apps"), key=lambda entry: entry.name)
LIMITS_MS = {Ric.NON_RT: (1_000, 300_000), Ric.NEAR_RT: (10, 1_000), Ric.RT: (0.1, 10)}

every_app = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)


def make_app(entry, **settings):
    app_type = entry.load()
    config = app_type.config_type(a1_address="", **settings)
    links = Links(app_type.spec, app_type.policy_type, config, SimClock(0.0))
    return AppRuntime(app_type, config, links).app


def test_all_six_apps_are_installed():
    assert [entry.name for entry in ENTRIES] == [
        "demand_twin", "fault_alarm", "hems_load", "microgrid_guard", "slice_bandwidth", "storage_scheduling",
    ]  # fmt: skip


@every_app
def test_app_declares_its_ric_and_a_budget_within_it(entry):
    spec = entry.load().spec
    low, high = LIMITS_MS[spec.ric]
    assert low <= spec.budget_ms <= high
    assert spec.name == entry.name
    folder = {Ric.NON_RT: "rapps", Ric.NEAR_RT: "xapps", Ric.RT: "dapps"}[spec.ric]
    assert entry.module == f"{folder}.{spec.name}.app"


@every_app
def test_app_folder_has_the_same_rooms(entry):
    folder = ROOT / Path(*entry.module.split(".")[:-1])
    for room in (
        "README.md",
        "__init__.py",
        "__main__.py",
        "app.py",
        "config.py",
        "policy.py",
        "state.py",
        "fallback.py",
    ):
        assert (folder / room).is_file(), room


@every_app
def test_app_policy_type_describes_every_field_with_its_range(entry):
    app_type = entry.load()
    schema = policy_type_object(app_type.policy_type, app_type.spec)["policySchema"]
    assert schema["additionalProperties"] is False
    for name, field in schema["properties"].items():
        assert field.get("description"), name


@every_app
def test_app_default_policy_is_valid_and_unknown_fields_are_named(entry):
    policy_type = entry.load().policy_type
    body = json.loads(policy_type().model_dump_json())
    assert validate(policy_type, body, "A1", unknown_code="A1-UNKNOWN-FIELD") == policy_type()
    with pytest.raises(TwinRicError, match="A1-UNKNOWN-FIELD no_such_field"):
        validate(policy_type, {"no_such_field": 1}, "A1", unknown_code="A1-UNKNOWN-FIELD")


@every_app
def test_app_without_any_input_has_nothing_to_do_and_does_not_fail(entry):
    app = make_app(entry)
    assert app.observe(0) is None
    policy = entry.load().policy_type()
    assert app.fallback(None, policy, Reason("STALE_INPUT")) is None


@every_app
def test_app_missing_model_is_told_as_unfit(entry, tmp_path):
    app_type = entry.load()
    paths = [name for name in app_type.config_type.model_fields if name.startswith("model") and name.endswith("path")]
    if not paths:
        return  # this app learns nothing
    app = make_app(entry, **dict.fromkeys(paths, tmp_path / "none.onnx"))
    state = SimpleNamespace(due=frozenset({"00101-e2000001"}))  # all that any app asks of it: which nodes are due
    reason = app.unfit(state)
    assert reason is not None
    assert reason.code == "MODEL_MISSING"


@every_app
def test_app_process_refuses_bad_settings_naming_the_key(entry, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("stale_after_s: -1\nbus_ulr: memory://\n")
    module = entry.module.removesuffix(".app")
    command = [sys.executable, "-m", module, "--config", str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "CONFIG-RANGE stale_after_s = -1" in ended.stderr
    assert "Did you mean 'bus_url'?" in ended.stderr
    assert "Traceback" not in ended.stderr
