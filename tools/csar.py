"""Packs the rApps for an SMO's rApp manager: `python tools/csar.py [--out dist]` writes <app>.csar per rApp.

A CSAR is a zip of `rapps/<app>/rapp/` (application service descriptor, TOSCA metadata, policy types) with the rApp's
Helm chart, which is cut out of charts/twinric, and a manifest with a hash per file. Same sources, same octets.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts" / "twinric"
RAPPS = ("demand_twin", "storage_scheduling")
MADE = (1980, 1, 1, 0, 0, 0)
RELEASED = "2026-01-01T00:00:00Z"

CHECKS = """{{- if not .Values.global.kafka.servers }}
{{- fail "global.kafka.servers is empty: name the brokers of the twin bus, host:port[,host:port]" }}
{{- end }}
"""


def _dashed(app: str) -> str:
    return app.replace("_", "-")


def chart_files(app: str) -> dict[str, bytes]:
    """The rApp's own chart: the library, the rApp's subchart and the global values of the umbrella, by path."""
    name, component = f"twinric-{_dashed(app)}", _dashed(app)
    umbrella = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    wanted = [entry for entry in umbrella["dependencies"] if entry["name"] in ("twinric-lib", component)]
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    schema["properties"] = {key: schema["properties"][key] for key in ("global", "twinric-lib", component)}
    schema["$defs"] = {key: part for key, part in schema["$defs"].items() if key.startswith(f"{app}.")}
    metadata: dict[str, Any] = {
        **{key: umbrella[key] for key in ("apiVersion", "type", "version", "appVersion", "kubeVersion")},
        "name": name,
        "description": yaml.safe_load((CHART / "charts" / component / "Chart.yaml").read_text("utf-8"))["description"],
        "dependencies": wanted,
    }
    files = {
        "Chart.yaml": yaml.safe_dump(metadata, sort_keys=False).encode(),
        "values.yaml": yaml.safe_dump({"global": values["global"], component: {"enabled": True}}).encode(),
        "values.schema.json": (json.dumps(schema, indent=2, ensure_ascii=False) + "\n").encode(),
        "templates/checks.yaml": CHECKS.encode(),
    }
    for part in ("twinric-lib", component):
        for path in sorted((CHART / "charts" / part).rglob("*")):
            if path.is_file():
                files[str(path.relative_to(CHART))] = path.read_bytes()
    return {f"{name}/{path}": content for path, content in sorted(files.items())}


def chart_archive(app: str) -> bytes:
    """The chart as Helm packs it, with fixed times and owners."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, filename="") as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path, content in chart_files(app).items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def csar_files(app: str) -> dict[str, bytes]:
    """The package's files by path; the manifest, first, names each with its SHA-256."""
    sources = ROOT / "rapps" / app / "rapp"
    files = {str(path.relative_to(sources)): path.read_bytes() for path in sources.rglob("*") if path.is_file()}
    version = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["version"]
    files[f"Artifacts/Deployment/HELM/twinric-{_dashed(app)}-{version}.tgz"] = chart_archive(app)
    lines = [
        "metadata:",
        f"  application_name: {_dashed(app)}",
        "  application_provider: TwinRIC",
        f"  application_version: {version}",
        f"  release_date_time: {RELEASED}",
        "  entry_definition_type: asd",
        "",
        "Source: asd.mf",
    ]
    for path in sorted(files):
        lines += [f"Source: {path}", "Algorithm: SHA-256", f"Hash: {hashlib.sha256(files[path]).hexdigest()}"]
    return {"asd.mf": ("\n".join(lines) + "\n").encode(), **dict(sorted(files.items()))}


def csar(app: str) -> bytes:
    """The package's octets."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in csar_files(app).items():
            entry = zipfile.ZipInfo(path, MADE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return packed.getvalue()


def main() -> None:
    """Write the packages."""
    parser = argparse.ArgumentParser(description="rApp packages (CSAR) for an SMO.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for app in RAPPS:
        path = options.out / f"{app}.csar"
        path.write_bytes(csar(app))
        print(path)


if __name__ == "__main__":
    main()
