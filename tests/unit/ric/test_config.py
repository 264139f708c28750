"""Typed settings: file, then environment; every fault comes back with its key."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, ValidationError, model_validator

from ric.config import FrozenModel, load_config, read_yaml, validate
from ric.errors import TwinRicError


class Limits(FrozenModel):
    low: float = Field(default=0.0, ge=0, le=1)
    high: float = Field(default=1.0, ge=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> Limits:
        if self.low > self.high:
            raise ValueError("low <= high")
        return self


class Settings(FrozenModel):
    name: str
    """What it is called."""
    cadence_s: float = Field(default=1.0, gt=0)
    limits: Limits = Limits()
    tags: tuple[str, ...] = ()


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    return path


def test_load_config_environment_overrides_the_file(tmp_path: Path) -> None:
    path = _file(tmp_path, "name: a\ncadence_s: 5\nlimits: {low: 0.1}\n")
    environ = {
        "APP__CADENCE_S": "30",
        "APP__LIMITS__HIGH": "0.5",
        "APP__TAGS": "[x, y]",
        "OTHER__NAME": "b",
        "APPX": "1",
    }
    expected = Settings(name="a", cadence_s=30, limits=Limits(low=0.1, high=0.5), tags=("x", "y"))
    assert load_config(Settings, path, "APP", environ) == expected


def test_load_config_needs_no_file() -> None:
    assert load_config(Settings, None, "APP", {"APP__NAME": "b"}).name == "b"


@pytest.mark.parametrize(
    ("text", "environ", "faults"),
    [
        pytest.param(
            "cadence_s: 0", {}, ["CONFIG-RANGE name", "CONFIG-RANGE cadence_s"], id="missing and out of range"
        ),
        pytest.param("name: a\ncadense_s: 1", {}, ["CONFIG-UNKNOWN cadense_s"], id="typing error"),
        pytest.param("name: a\nlimits: {low: 2}", {}, ["CONFIG-RANGE limits.low"], id="nested"),
        pytest.param("name: a\nlimits: {low: 0.9, high: 0.1}", {}, ["CONFIG-RANGE limits"], id="whole section"),
        pytest.param("name: a\ncadence_s: .nan", {}, ["CONFIG-RANGE cadence_s"], id="NaN"),
        pytest.param("name: a", {"APP__NAME__X": "1"}, ["CONFIG-RANGE APP__NAME__X"], id="value used as a section"),
        pytest.param("name: a", {"APP__TAGS": "[x"}, ["CONFIG-RANGE APP__TAGS"], id="no YAML in a variable"),
        pytest.param("[1, 2]", {}, ["CONFIG-RANGE file"], id="a list"),
        pytest.param("name: [", {}, ["CONFIG-RANGE file"], id="no YAML"),
    ],
)
def test_load_config_tells_every_fault(tmp_path: Path, text: str, environ: dict[str, str], faults: list[str]) -> None:
    with pytest.raises(TwinRicError) as refused:
        load_config(Settings, _file(tmp_path, text), "APP", environ)
    assert [f"{fault.code} {fault.field}" for fault in refused.value.faults] == faults


def test_load_config_typing_error_gets_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(TwinRicError, match="Did you mean 'cadence_s'"):
        load_config(Settings, _file(tmp_path, "name: a\ncadense_s: 1"), "APP", {})


def test_read_yaml_names_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TwinRicError, match="CONFIG-MISSING file"):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(TwinRicError, match="CONFIG-MISSING file"):
        read_yaml(tmp_path)
    with pytest.raises(TwinRicError, match=r"CONFIG-RANGE file = .*settings\.yaml"):
        read_yaml(_file(tmp_path, "a: 1\nb: ]\n"))
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TwinRicError, match="CONFIG-RANGE file"):
        read_yaml(binary)
    assert read_yaml(_file(tmp_path, "")) == {}


def test_read_yaml_builds_no_objects(tmp_path: Path) -> None:
    with pytest.raises(TwinRicError, match="CONFIG-RANGE file"):
        read_yaml(_file(tmp_path, "a: !!python/object/apply:os.getcwd []"))


def test_validate_uses_the_prefix_and_the_code_for_unknown_fields() -> None:
    with pytest.raises(TwinRicError) as refused:
        validate(Settings, {"name": 1, "nmae": "x"}, "A1", unknown_code="A1-UNKNOWN-FIELD")
    assert {(fault.code, fault.field) for fault in refused.value.faults} == {
        ("A1-RANGE", "name"), ("A1-UNKNOWN-FIELD", "nmae"),
    }  # fmt: skip


def test_frozen_model_is_frozen_and_documents_itself() -> None:
    settings = Settings(name="a")
    with pytest.raises(ValidationError, match="frozen"):
        settings.name = "b"  # type: ignore[misc]
    assert Settings.model_json_schema()["properties"]["name"]["description"] == "What it is called."


@pytest.mark.parametrize("text", ["start: 2016-99-99T00:00:00Z", "a: \xff\x00", "a: &x [*x", "[" * 3_000, "? [a]\n: 1"])
def test_read_yaml_that_cannot_be_read_is_a_typed_error(tmp_path: Path, text: str) -> None:
    """A date that does not exist was found by fuzzing."""
    with pytest.raises(TwinRicError, match="CONFIG-RANGE file"):
        read_yaml(_file(tmp_path, text))
