"""Writes what is made from the apps' code: xApp and dApp descriptors, policy types, the chart's values schema.

    python tools/descriptors.py           write
    python tools/descriptors.py --check   exit 1 and name the files that are stale

Per xApp and dApp: `descriptor/config-file.json` (what an OSC onboarder takes), `descriptor/schema.json` (the schema of
its `controls`) and `descriptor/policy-type.json` (its A1 policy type). Per rApp: `rapp/Files/PolicyTypes/`. And
`charts/twinric/values.schema.json`, in which each component's `config` is checked like the component itself checks it.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ric.app_policies import policy_type_object
from ric.platform import RicConfig
from ric.telemetry import Metrics

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts" / "twinric"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
HEALTH_PORT = 8080

Json = dict[str, Any]


def app_entries() -> list[EntryPoint]:
    """The six apps by name, as pyproject.toml declares them."""
    return sorted(entry_points(group="twinric.apps"), key=lambda entry: entry.name)


def folder_of(entry: EntryPoint) -> Path:
    """The app's folder, for example xapps/hems_load."""
    return ROOT.joinpath(*entry.module.split(".")[:-1])


def image_of(name: str) -> str:
    """Image name of an app."""
    return f"twinric/{name.replace('_', '-')}"


def _text(value: Json) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def config_file(entry: EntryPoint) -> Json:
    """The descriptor of an xApp or dApp; it uses no RMR, so it needs no routes."""
    app = entry.load()
    name, dashed = app.spec.name, app.spec.name.replace("_", "-")
    module = entry.module.removesuffix(".app")
    probe = {"periodSeconds": 10, "initialDelaySeconds": 5}
    return {
        "xapp_name": dashed,
        "name": dashed,
        "version": app.spec.version,
        "containers": [
            {
                "name": dashed,
                "image": {"registry": "", "name": image_of(name), "tag": app.spec.version},
                "command": ["python", "-m", module, "--config", "/opt/ric/config/config-file.json"],
            }
        ],
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": HEALTH_PORT}, **probe},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": HEALTH_PORT}, **probe},
        "messaging": {
            "ports": [
                {
                    "name": "http",
                    "container": dashed,
                    "port": HEALTH_PORT,
                    "description": "/healthz, /readyz and /metrics (Prometheus)",
                }
            ]
        },
        "policies": [app.spec.policy_type_id],
        "ric": {"loop": app.spec.ric.value, "budget_ms": app.spec.budget_ms, "uses": sorted(app.spec.uses)},
        "metrics": [
            {"objectName": name, "name": family.name, "type": family.type, "description": family.documentation}
            for family in Metrics(name).registry.collect()
        ],
        "controls": controls(app.config_type),
    }


def controls(model: type[BaseModel]) -> Json:
    """Default settings, but for those that depend on where the app is installed (paths of shipped models)."""
    local = {name for name, field in model.model_fields.items() if field.default_factory is not None}
    settings = model(health_host="0.0.0.0", health_port=HEALTH_PORT)
    values: Json = settings.model_dump(mode="json", exclude=local)
    return values


def controls_schema(model: type[BaseModel]) -> Json:
    """The schema of a settings model; unknown keys are refused."""
    return {"$schema": DRAFT, **model.model_json_schema()}


def _embedded(model: type[BaseModel], name: str, definitions: Json) -> Json:
    """The model's schema with its own definitions moved to `definitions` under names that `name` begins."""
    text = json.dumps(model.model_json_schema()).replace('"#/$defs/', f'"#/$defs/{name}.')
    schema: Json = json.loads(text)
    for key, value in schema.pop("$defs", {}).items():
        definitions[f"{name}.{key}"] = value
    return schema


def _closed(properties: Json, **more: Any) -> Json:
    return {"type": "object", "additionalProperties": False, "properties": properties, **more}


TEXT: Json = {"type": "string"}
FLAG: Json = {"type": "boolean"}
PORT: Json = {"type": "integer", "minimum": 1, "maximum": 65_535}
OBJECTS: Json = {"type": "array", "items": {"type": "object"}}
QUANTITY: Json = {"type": ["string", "integer", "number"], "pattern": r"^[0-9.]+(m|k|Ki|M|Mi|G|Gi)?$"}
NAME: Json = {"type": "string", "pattern": r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?$"}
SERVERS: Json = {"type": "string", "pattern": r"^([^:,\s/]+:[0-9]{1,5}(,[^:,\s/]+:[0-9]{1,5})*)?$"}
AMOUNTS: Json = _closed({"cpu": QUANTITY, "memory": QUANTITY})
IMAGE: Json = _closed({"repository": {"type": "string", "minLength": 1}, "tag": TEXT})
RESOURCES: Json = _closed({"requests": AMOUNTS, "limits": AMOUNTS}, required=["requests", "limits"])
PERSISTENCE: Json = _closed({"enabled": FLAG, "size": QUANTITY, "storageClassName": NAME, "existingClaim": NAME})
PLACEMENT: Json = {"nodeSelector": {"type": "object", "additionalProperties": TEXT}, "tolerations": OBJECTS}
PORTS: Json = {
    "type": "array",
    "items": _closed(
        {"name": NAME, "port": PORT, "from": {"type": "array", "items": NAME}, "alsoFrom": OBJECTS},
        required=["name", "port"],
    ),
}
NETWORK: Json = _closed(
    {
        "bus": FLAG,
        "to": {
            "type": "array",
            "items": _closed({"component": NAME, "ports": {"type": "array", "items": PORT}}),
        },
        "alsoTo": OBJECTS,
    }
)
SECRET_MOUNTS: Json = {
    "type": "array",
    "items": _closed(
        {"secretName": {**NAME, "minLength": 1}, "mountPath": {"type": "string", "pattern": "^/"}},
        required=["secretName", "mountPath"],
    ),
}
WORKLOAD: Json = {
    "global": {"type": "object"},
    "enabled": FLAG,
    "image": IMAGE,
    "resources": RESOURCES,
    "ports": PORTS,
    "network": NETWORK,
    "secretMounts": SECRET_MOUNTS,
    "extraEnvironment": OBJECTS,
    "priorityClassName": NAME,
    **PLACEMENT,
}
GLOBAL: Json = _closed(
    {
        "image": _closed(
            {
                "registry": {"type": "string", "pattern": "^(.*/)?$"},
                "tag": TEXT,
                "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
                "pullSecrets": {"type": "array", "items": NAME},
            }
        ),
        "allowPlainText": FLAG,
        "networkPolicies": FLAG,
        "clock": {"enum": ["wall", "source"]},
        "kafka": _closed(
            {
                "servers": SERVERS,
                "securityProtocol": {"enum": ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]},
                "saslMechanism": {"enum": ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]},
                "saslUsername": TEXT,
                "secretName": NAME,
                "topicPrefix": {"type": "string", "pattern": "^[a-zA-Z0-9._-]{0,100}$"},
            }
        ),
    }
)


def values_schema() -> Json:
    """The schema of the chart's values; each `config` is the settings model of its component."""
    definitions: Json = {}
    ric = {
        **WORKLOAD,
        "config": _embedded(RicConfig, "ric", definitions),
        "tokenKeySecretName": NAME,
        "persistence": PERSISTENCE,
    }
    e2sim = {
        **WORKLOAD,
        "scenario": {"type": "string", "pattern": "^[a-z0-9_]+$"},
        "scenarioText": TEXT,
        "speed": {"type": "number", "minimum": 0, "maximum": 10_000},
        "tcpProbePort": PORT,
    }
    kafka = {
        "global": {"type": "object"},
        "enabled": FLAG,
        "image": IMAGE,
        "clusterId": {"type": "string", "pattern": "^[A-Za-z0-9_-]{22}$"},
        "heap": {"type": "string", "pattern": "^[0-9]+[mg]$"},
        "persistence": PERSISTENCE,
        "resources": RESOURCES,
        **PLACEMENT,
    }
    properties: Json = {
        "global": GLOBAL,
        "twinric-lib": {"type": "object"},
        "ric": _closed(ric),
        "e2sim": _closed(e2sim),
        "kafka": _closed(kafka),
    }
    for entry in app_entries():
        app = entry.load()
        section = {**WORKLOAD, "config": _embedded(app.config_type, entry.name, definitions)}
        if "e3" in app.spec.uses:
            section["e3"] = _closed({"setup": TEXT, "inbound": TEXT, "outbound": TEXT})
        if "a1_rest" in app.spec.uses:
            section["a1TokenSecretName"] = NAME
        properties[entry.name.replace("_", "-")] = _closed(section)
    return {"$schema": DRAFT, "title": "TwinRIC", **_closed(properties), "$defs": definitions}


def outputs() -> dict[Path, str]:
    """Every generated file and its text."""
    made: dict[Path, str] = {CHART / "values.schema.json": _text(values_schema())}
    for entry in app_entries():
        app, folder = entry.load(), folder_of(entry)
        policy_type = _text(policy_type_object(app.policy_type, app.spec))
        if folder.parent.name == "rapps":
            made[folder / "rapp" / "Files" / "PolicyTypes" / f"{app.spec.policy_type_id}.json"] = policy_type
            continue
        made[folder / "descriptor" / "config-file.json"] = _text(config_file(entry))
        made[folder / "descriptor" / "schema.json"] = _text(controls_schema(app.config_type))
        made[folder / "descriptor" / "policy-type.json"] = policy_type
    return made


def stale() -> list[Path]:
    """Generated files whose text is not what the code makes now."""
    return [path for path, text in outputs().items() if not path.is_file() or path.read_text(encoding="utf-8") != text]


def main() -> None:
    """Write, or check."""
    parser = argparse.ArgumentParser(description="Descriptors, policy types and the chart's values schema.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when something is stale")
    if parser.parse_args().check:
        found = stale()
        for path in found:
            print(f"stale: {path.relative_to(ROOT)}; run python tools/descriptors.py")
        sys.exit(1 if found else 0)
    for path, text in outputs().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
