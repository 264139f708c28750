"""Reference pages say what the models say."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from ric.config import FrozenModel
from ric.reference import models_of, section


class InnerSettings(FrozenModel):
    """A part."""

    share: float = Field(default=0.5, ge=0, le=1)
    """Share of the | whole [1]."""


class WholeSettings(FrozenModel):
    """All of it."""

    name: str
    """What it is called."""
    mode: Literal["on", "off"] = "on"
    """Whether it runs."""
    parts: tuple[InnerSettings, ...] = ()
    """Its parts."""
    weights: Mapping[str, float] = Field(default_factory=dict)
    """Weights by name."""


def test_models_of_lists_each_model_once_outer_first():
    assert models_of(WholeSettings) == [WholeSettings, InnerSettings]


def test_section_has_a_row_per_key_with_type_default_and_range():
    rows = section(InnerSettings).splitlines()
    assert rows[0] == "## Inner"
    assert rows[2] == "A part."
    assert rows[-1] == "| `share` | number | `0.5` | Share of the \\| whole [1]. Accepted: >= 0, <= 1. |"


def test_section_names_literals_lists_mappings_and_required_keys():
    text = section(WholeSettings, title="whole", without={"mode"})
    assert text.startswith("## whole\n")
    assert "| `name` | text | required |" in text
    assert "`mode`" not in text
    assert "`on` or `off`" in section(WholeSettings)
    assert "list of [Inner](#inner)" in text
    assert "mapping of text to number" in text
