"""Enrichment information (EI): its types, what a job asks for, what it gets and whether it gets anything. Pure.

EI is made of twins that apps publish on the bus. What a job gets is the newest twin of each E2 node in JSON, with the
units of the data dictionary. Names of members: O-RAN.WG2.A1AP, as the OSC Information Coordination Service has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import jsonschema
from jsonschema.protocols import Validator

from ric.a1.bodies import schema_faults
from ric.a1.destinations import DESTINATION_PATTERN, RESULT_PATTERN
from ric.bus.bus import TWIN_FORECAST, TWIN_REPORTED
from ric.bus.record import TwinState, is_expired
from ric.columns import ESTIMATED, GOOD, STALE, SUBSTITUTED
from ric.errors import TwinRicError, nearest
from ric.schemas import DEMAND_FORECAST, OUTLOOK, TWIN_SCHEMAS

__all__ = ["BUS_URI", "EI_TYPES", "EiBook", "EiJob", "EiResult", "EiType", "job_schema"]

BUS_URI = "bus:"
"""A `jobResultUri` for consumers on the twin bus: nothing is posted, the data is on the type's topic."""
QUALITIES = {GOOD: "good", STALE: "stale", ESTIMATED: "estimated", SUBSTITUTED: "substituted"}
NS_PER_S = 1_000_000_000
_NAMES = {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 128}, "maxItems": 1_000}


@dataclass(frozen=True)
class EiType:
    """A type of enrichment information: twins `family`/<E2 node> of one kind on one topic, of these columns."""

    ei_type_id: str
    description: str
    topic: str
    family: str
    kind: str
    columns: tuple[str, ...]
    entities: tuple[str, ...] = ()
    """What a job gets that does not choose; empty for all."""

    def definition_schema(self) -> dict[str, Any]:
        """JSON schema of a job's `jobDefinition`."""
        about = "Entities of the table, such as homes; without it, " + (", ".join(self.entities) or "all")
        node = {"type": "string", "maxLength": 128, "description": "E2 node; empty or absent for all"}
        columns = {"type": "array", "items": {"enum": list(self.columns)}, "description": "Columns; absent for all"}
        return {
            "type": "object",
            "properties": {"e2NodeId": node, "columns": columns, "entities": {**_NAMES, "description": about}},
            "additionalProperties": False,
        }

    def body(self) -> dict[str, Any]:
        """The EI type object: the schema of a job's definition, units of the result, and where it lies on the bus."""
        quantities = TWIN_SCHEMAS[self.kind].columns
        units = {
            name: {"unit": quantities[name].unit, "description": quantities[name].meaning} for name in self.columns
        }
        return {
            "description": self.description,
            "eiJobDefinitionSchema": self.definition_schema(),
            "columns": units,
            "bus": {"topic": self.topic, "keyPrefix": f"{self.family}/"},
        }

    @cached_property
    def validator(self) -> Validator:
        """Checks a whole job object."""
        return jsonschema.Draft202012Validator(job_schema([self]))


EI_TYPES = {
    row.ei_type_id: row
    for row in (
        EiType(
            "twinric_demand_forecast_15min_1.0.0", "Demand of homes and feeder in steps of 15 min, up to 48 h",
            TWIN_FORECAST, "demand_forecast_15min", DEMAND_FORECAST.kind, tuple(DEMAND_FORECAST.columns), ("feeder",),
        ),
        EiType(
            "twinric_demand_forecast_1min_1.0.0", "Demand of homes and feeder in steps of 1 min, one hour",
            TWIN_FORECAST, "demand_forecast_1min", DEMAND_FORECAST.kind, tuple(DEMAND_FORECAST.columns), ("feeder",),
        ),
        EiType(
            "twinric_prices_1.0.0", "Tariffs for import and export, and the CO2 of imports, where known",
            TWIN_REPORTED, "outlook", OUTLOOK.kind,
            ("step_s", "buy_eur_per_kwh", "sell_eur_per_kwh", "carbon_g_per_kwh"),
        ),
    )
}  # fmt: skip
"""By id. What is not published yet is a type too; its jobs are DISABLED until it is."""


def job_schema(types: Iterable[EiType]) -> dict[str, Any]:
    """JSON schema of a job object for one of `types`."""
    branches: list[dict[str, Any]] = [
        {
            "type": "object",
            "required": ["eiTypeId", "jobOwner", "jobDefinition", "jobResultUri"],
            "properties": {
                "eiTypeId": {"const": ei_type.ei_type_id},
                "jobOwner": {"type": "string", "minLength": 1, "maxLength": 128},
                "jobDefinition": ei_type.definition_schema(),
                "jobResultUri": {"type": "string", "maxLength": 2_048, "pattern": RESULT_PATTERN},
                "jobStatusNotificationUri": {"type": "string", "maxLength": 2_048, "pattern": DESTINATION_PATTERN},
            },
            "additionalProperties": False,
        }
        for ei_type in types
    ]
    return branches[0] if len(branches) == 1 else {"oneOf": branches}


@dataclass(frozen=True)
class EiJob:
    """One job; `body` is the job object as it was put."""

    ei_job_id: str
    body: Mapping[str, Any]

    @classmethod
    def of(cls, ei_job_id: str, body: Mapping[str, Any]) -> EiJob:
        """The job that `body` describes. Raises TwinRicError: A1-UNKNOWN (type), A1-RANGE, A1-UNKNOWN-FIELD."""
        name = body.get("eiTypeId")
        if isinstance(name, str) and name not in EI_TYPES:
            raise TwinRicError("A1-UNKNOWN", "eiTypeId", name, "a type of enrichment information",
                               nearest(name[:80], EI_TYPES))  # fmt: skip
        ei_type = EI_TYPES[name] if isinstance(name, str) else next(iter(EI_TYPES.values()))
        faults = schema_faults(ei_type.validator, body)
        if faults:
            raise TwinRicError.of(faults)
        return cls(ei_job_id, body)

    @property
    def ei_type(self) -> EiType:
        """The job's type."""
        return EI_TYPES[self.body["eiTypeId"]]

    @property
    def result_uri(self) -> str:
        """Where its data goes."""
        return str(self.body["jobResultUri"])

    @property
    def status_uri(self) -> str:
        """Where changes of its status go; empty for nowhere."""
        return str(self.body.get("jobStatusNotificationUri", ""))

    def wants(self, node: str) -> bool:
        """Whether data of this E2 node belongs to the job."""
        return self.body["jobDefinition"].get("e2NodeId", "") in ("", node)


@dataclass(frozen=True)
class EiResult:
    """Data due for one job: the newest twin of one E2 node."""

    job: EiJob
    twin: TwinState

    def body(self) -> dict[str, Any]:
        """The data as JSON: times in RFC 3339, values per column in the order of `entities`, series as arrays."""
        definition, table, twin = self.job.body["jobDefinition"], self.twin.table, self.twin
        wanted = definition.get("entities") or self.job.ei_type.entities or table.ids
        place = {name: row for row, name in enumerate(table.ids)}
        present = [name for name in wanted if name in place]
        rows = [place[name] for name in present]
        names = [
            name for name in definition.get("columns") or self.job.ei_type.columns if name in table.columns
        ]  # fmt: skip
        quantities = TWIN_SCHEMAS[twin.kind].columns
        until_ns = twin.source_time_ns + twin.valid_for_ms * 1_000_000
        return {
            "eiJobId": self.job.ei_job_id,
            "eiTypeId": self.job.ei_type.ei_type_id,
            "e2NodeId": node_of(twin.twin_id),
            "producer": twin.producer,
            "revision": twin.revision,
            "sourceTime": _rfc3339(twin.source_time_ns),
            **({"validUntil": _rfc3339(until_ns)} if twin.valid_for_ms else {}),
            "entities": present,
            "columns": {
                name: {"unit": quantities[name].unit, "values": table[name][rows].tolist()} for name in names
            },
            "quality": {
                name: [QUALITIES[int(octet)] for octet in table.quality[name][rows]]
                for name in names
                if name in table.quality
            },
        }  # fmt: skip


class EiBook:
    """All jobs, and the newest twin of each type and E2 node."""

    def __init__(self) -> None:
        self.jobs: dict[str, EiJob] = {}
        self._twins: dict[str, dict[str, TwinState]] = {name: {} for name in EI_TYPES}
        self._told: dict[str, bool] = {}

    def job(self, ei_job_id: str) -> EiJob:
        """One job. Raises TwinRicError (A1-UNKNOWN)."""
        try:
            return self.jobs[ei_job_id]
        except KeyError:
            raise TwinRicError("A1-UNKNOWN", "eiJobId", ei_job_id, "the id of a job") from None

    def check(self, job: EiJob) -> None:
        """Raises TwinRicError (A1-CONFLICT) when the job exists with another type."""
        held = self.jobs.get(job.ei_job_id)
        if held is not None and held.ei_type != job.ei_type:
            raise TwinRicError("A1-CONFLICT", "eiTypeId", job.ei_type.ei_type_id, held.ei_type.ei_type_id,
                               "A job keeps its type: delete it first, or choose another id.")  # fmt: skip

    def put(self, job: EiJob, now_ns: int) -> list[EiResult]:
        """Take a job; what is due for it at once. Its first status is answered, not notified."""
        self.jobs[job.ei_job_id] = job
        self._told.setdefault(job.ei_job_id, self.is_enabled(job, now_ns))
        return [EiResult(job, twin) for twin in self._offered(job, now_ns)]

    def delete(self, ei_job_id: str) -> None:
        """Forget a job; deleting twice is harmless."""
        self.jobs.pop(ei_job_id, None)
        self._told.pop(ei_job_id, None)

    def take(self, topic: str, twin: TwinState, now_ns: int) -> list[EiResult]:
        """Take a newer revision of a twin, or a twin's first one; what is due because of it."""
        due = []
        for ei_type in EI_TYPES.values():
            if topic != ei_type.topic or not twin.twin_id.startswith(f"{ei_type.family}/") or twin.kind != ei_type.kind:
                continue
            node = node_of(twin.twin_id)
            held = self._twins[ei_type.ei_type_id].get(node)
            if is_expired(twin, now_ns) or (held is not None and twin.source_time_ns <= held.source_time_ns):
                continue
            self._twins[ei_type.ei_type_id][node] = twin
            due += [EiResult(job, twin) for job in self.jobs.values() if job.ei_type == ei_type and job.wants(node)]
        return due

    def is_enabled(self, job: EiJob, now_ns: int) -> bool:
        """Whether there is data for the job that is still valid."""
        return any(True for _ in self._offered(job, now_ns))

    def status_changes(self, now_ns: int) -> list[tuple[EiJob, bool]]:
        """Jobs whose status is not the one told last, with the new one."""
        changes = []
        for job in self.jobs.values():
            enabled = self.is_enabled(job, now_ns)
            if enabled != self._told.get(job.ei_job_id):
                self._told[job.ei_job_id] = enabled
                changes.append((job, enabled))
        return changes

    def _offered(self, job: EiJob, now_ns: int) -> Iterator[TwinState]:
        for node, twin in self._twins[job.ei_type.ei_type_id].items():
            if job.wants(node) and not is_expired(twin, now_ns):
                yield twin


def node_of(twin_id: str) -> str:
    """The E2 node that a twin named `family`/<node> belongs to."""
    return twin_id.partition("/")[2]


def _rfc3339(time_ns: int) -> str:
    seconds, rest_ns = divmod(time_ns, NS_PER_S)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest_ns // 1_000_000:03d}Z"
