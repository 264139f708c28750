"""The committed OpenAPI file: valid, what the server says of itself, and complete in its answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import yaml

FILE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "a1-openapi.yaml"
PROTECTED = {"401", "403", "429", "500"}


def _committed() -> dict[str, Any]:
    return dict(yaml.safe_load(FILE.read_text(encoding="utf-8")))


async def test_committed_file_is_what_the_running_server_says(a1: Any) -> None:
    served, committed = (await a1.http.get("/openapi.json")).json(), _committed()
    assert set(served["paths"]) == set(committed["paths"])
    for path, operations in committed["paths"].items():
        for method, operation in operations.items():
            assert served["paths"][path][method]["responses"] == operation["responses"], f"{method} {path}"
    assert served["info"] == committed["info"]


def test_every_operation_documents_every_kind_of_answer() -> None:
    for path, operations in _committed()["paths"].items():
        for method, operation in operations.items():
            codes = set(operation["responses"])
            assert codes >= PROTECTED, f"{method} {path}"
            assert "422" not in codes, f"{method} {path}"
            if method in ("put", "delete"):
                assert {"400", "404", "503"} <= codes, f"{method} {path}"
            if method == "put":
                assert {"200", "201", "409", "413"} <= codes, f"{method} {path}"
                assert "Location" in operation["responses"]["201"]["headers"]
            if "{" in path:
                assert {"400", "404"} <= codes, f"{method} {path}"
            problems = [r for code, r in operation["responses"].items() if int(code) >= 400]
            assert all("application/problem+json" in answer["content"] for answer in problems)


def test_every_schema_in_the_file_is_a_schema() -> None:
    for schema in _committed()["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
