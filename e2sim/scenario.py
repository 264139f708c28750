"""The scenario file: one documented model, checked whole before anything starts.

`docs/reference/scenario.md` is made from this module by `python -m e2sim reference`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from e2sim.scenario_checks import CODE, inconsistencies
from e2sim.scenario_parts import (
    MILLISECONDS,
    AggregationSpec,
    AttackSpec,
    FaultSpec,
    ImpairmentSpec,
    LinkEventSpec,
    NodeSpec,
    PolicyEventSpec,
    TrafficEventSpec,
    WindowSpec,
)  # fmt: skip
from ric.config import FrozenModel, read_yaml
from ric.errors import Fault, TwinRicError, nearest

__all__ = ["Scenario", "load_scenario", "parse_scenario", "shipped_scenario"]


class Scenario(FrozenModel):
    """One run of the simulator: same file, same run, bit for bit."""

    name: str = Field(default="scenario", pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """Short name, for logs and reports."""
    seed: int = Field(ge=0, lt=2**63)
    """Every random draw of the run follows from it."""
    start: datetime
    """First instant, ISO 8601 with offset; picks the weather, profiles and prices of that date."""
    duration_s: float = Field(gt=0, le=31_622_400)
    """Length of the run [s]."""
    grid_step_s: float = Field(default=60.0, ge=1, le=900)
    """Step of homes, storage and feeder [s], and of everything else outside the windows."""
    kpm_period_ms: int = Field(default=100, ge=10, le=10_000, multiple_of=10)
    """Step of slices and microgrids inside the windows [ms]."""
    windows: tuple[WindowSpec, ...] = ()
    """Spans in which the fast loops run; the rest is fast-forwarded by the grid step."""
    nodes: tuple[NodeSpec, ...] = Field(min_length=1, max_length=256)
    """E2 nodes."""
    aggregation: tuple[AggregationSpec, ...] = ()
    """Links that nodes share."""
    faults: tuple[FaultSpec, ...] = ()
    """Feeder faults."""
    attacks: tuple[AttackSpec, ...] = ()
    """Attacks on microgrid agents and on the clock."""
    traffic_events: tuple[TrafficEventSpec, ...] = ()
    """Congestion and storms of slices, terminals in step."""
    link_events: tuple[LinkEventSpec, ...] = ()
    """Degradations of nodes' transport links."""
    policies: tuple[PolicyEventSpec, ...] = ()
    """A1 policy changes; the one who drives the run puts them through REST."""
    impairments: ImpairmentSpec = ImpairmentSpec()
    """What the link between node and RIC does to indications, and node restarts."""

    @property
    def start_s(self) -> float:
        """First instant, seconds since the Unix epoch."""
        return self.start.timestamp()

    @property
    def end_s(self) -> float:
        """Last instant, seconds since the Unix epoch."""
        return self.start_s + self.duration_s

    def node(self, e2_node_id: str) -> NodeSpec:
        """The node of that id; an empty id means the first. Raises KeyError."""
        if not e2_node_id:
            return self.nodes[0]
        return {node.e2_node_id: node for node in self.nodes}[e2_node_id]

    def instants(self) -> Iterator[float]:
        """Ends of all steps in order [s since the epoch]: grid steps, and `kpm_period_ms` inside the windows.

        Counted in whole milliseconds, so that equal scenarios step at bit-equal instants.
        """
        end_ms = round(self.duration_s * MILLISECONDS)
        grid_ms = round(self.grid_step_s * MILLISECONDS)
        spans = [(round(w.start_s * MILLISECONDS), round(w.end_s * MILLISECONDS)) for w in self.windows]
        fast = (range(first, last + 1, self.kpm_period_ms) for first, last in spans)
        start_ms, before = round(self.start_s * MILLISECONDS), 0
        for mark in heapq.merge(range(grid_ms, end_ms + 1, grid_ms), (end_ms,), *fast):
            if mark > before:
                before = mark
                yield (start_ms + mark) / MILLISECONDS

    def in_window(self, time_s: float) -> bool:
        """True when `time_s` [s since the epoch] ends a fast step."""
        offset_s = time_s - self.start_s
        return any(window.start_s < offset_s <= window.end_s + 1e-6 for window in self.windows)


def shipped_scenario(name: str) -> Path:
    """Path of a scenario that comes with the package. Raises TwinRicError (CONFIG-MISSING) with the nearest name."""
    folder = Path(__file__).parent / "scenarios"
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in folder.glob("*.yaml"))
        raise TwinRicError("CONFIG-MISSING", "scenario", name, "a shipped scenario", nearest(name, known))
    return path


def load_scenario(path: Path | str) -> Scenario:
    """The scenario in a YAML file, or a shipped one by name ("demo", "smoke").

    Raises TwinRicError: CONFIG-MISSING, CONFIG-RANGE for the file, SCENARIO-INVALID with every fault of its content.
    """
    text = str(path)
    file = shipped_scenario(text) if text.isidentifier() and not Path(text).is_file() else Path(path)
    return parse_scenario(read_yaml(file))


def parse_scenario(values: dict[str, Any]) -> Scenario:
    """A scenario from YAML's values. Raises TwinRicError (SCENARIO-INVALID) with every fault, named by its path."""
    try:
        scenario = Scenario.model_validate(values)
    except ValidationError as error:
        raise TwinRicError.of([_fault(item) for item in error.errors() if not _follows(item)]) from error
    faults = inconsistencies(scenario)
    if faults:
        raise TwinRicError.of(faults)
    return scenario


def _follows(item: Any) -> bool:
    """True for "too few entries" where there are entries and one of them is the real fault."""
    return bool(item["type"] == "too_short" and item["input"])


def _fault(item: Any) -> Fault:
    path = ".".join(str(part) for part in item["loc"]) or "(whole)"
    if item["type"] == "extra_forbidden":
        return Fault(CODE, path, item["input"], "a known key", nearest(str(item["loc"][-1]), _known_keys(item["loc"])))
    value = "(absent)" if item["type"] == "missing" else item["input"]
    return Fault(CODE, path, value, item["msg"].removeprefix("Input should be ").removeprefix("Value error, "))


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """Keys of the model in which the unknown key at `location` stands."""
    model: Any = Scenario
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        inner = [] if field is None else _models_in(field.annotation)
        if not inner:
            break
        model = inner[0]
    return list(model.model_fields)


def _models_in(annotation: Any) -> list[type[FrozenModel]]:
    if isinstance(annotation, type) and issubclass(annotation, FrozenModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]
