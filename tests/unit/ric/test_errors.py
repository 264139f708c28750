"""The error type, and that catalogue, documentation pages and code agree."""

from __future__ import annotations

import ast
import pickle
import re
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ric.errors import CATALOGUE, SHOWN_FAULTS, Fault, TwinRicError, nearest

ROOT = Path(__file__).resolve().parents[3]
PAGES = ROOT / "docs" / "reference" / "errors"
PACKAGES = ("ric", "rapps", "xapps", "dapps", "e2sim")
PREFIXED = ("RANGE", "UNKNOWN", "MALFORMED", "MISSING")


def _constants() -> set[str]:
    found: set[str] = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if "pb" in path.parts or path == ROOT / "ric" / "errors.py":
                continue
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found |= {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return found


def test_catalogue_and_pages_name_the_same_codes() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == set(CATALOGUE)


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_page_tells_statuses_cause_and_resolution(code: str) -> None:
    row = CATALOGUE[code]
    text = (PAGES / f"{code}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {code}\n")
    assert f"| {row.grpc_status} | {row.http_status} | {row.cause[0]}/{row.cause[1]} |" in text
    cause, resolution = re.search(r"## Cause\n\n(.+)\n\n## How to resolve\n\n(.+)\n", text).groups()  # type: ignore[union-attr]
    assert min(len(cause), len(resolution)) > 40


def test_every_code_is_raised_somewhere() -> None:
    constants = _constants()

    def is_raised(code: str) -> bool:
        prefix, _, tail = code.partition("-")
        # validate(..., "CONFIG") and decode_table(..., "E2") make their codes from a prefix.
        return code in constants or (tail in PREFIXED and prefix in constants)

    assert [code for code in CATALOGUE if not is_raised(code)] == []


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_catalogue_row_has_statuses_that_exist(code: str) -> None:
    row = CATALOGUE[code]
    assert row.grpc_status in grpc.StatusCode.__members__
    assert 400 <= row.http_status <= 599
    assert row.cause[0] in {"ric", "ric_service", "e2_node", "transport", "protocol", "misc"}


def test_fault_of_an_unknown_code_is_a_programming_error() -> None:
    with pytest.raises(KeyError, match="NOT-A-CODE"):
        Fault("NOT-A-CODE", "field", 1, "2")


def test_error_reads_as_code_field_value_range_and_remedy() -> None:
    error = TwinRicError("A1-RANGE", "slices[1].min_ratio", 1.2, "0..1", "Give a fraction.")
    assert str(error) == "A1-RANGE slices[1].min_ratio = 1.2: accepted 0..1. Give a fraction."
    assert (error.code, error.row.http_status) == ("A1-RANGE", 400)


def test_error_of_many_faults_shows_the_first_and_counts_the_rest() -> None:
    error = TwinRicError.of([Fault("A1-RANGE", f"f{index}", index, "none") for index in range(25)])
    lines = str(error).splitlines()
    assert len(lines) == SHOWN_FAULTS + 1
    assert lines[-1] == "... and 5 more"
    assert len(error.faults) == 25
    assert error.args == (str(error),)


def test_error_of_no_faults_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one fault"):
        TwinRicError.of([])


@given(st.text(max_size=500))
def test_shown_value_is_cut(value: str) -> None:
    line = str(Fault("A1-RANGE", "f", value, "x"))
    assert len(line) <= len("A1-RANGE f = : accepted x.") + 80


def test_nearest_suggests_the_close_name_and_else_lists_the_known() -> None:
    assert nearest("wieght", ["weight", "limit"]) == "Did you mean 'weight'?"
    assert nearest("zzz", ["weight", "limit"]) == "Known: limit, weight."


def test_error_crosses_processes_with_all_its_faults():
    error = TwinRicError.of([Fault("E2-RANGE", "a", 1, "0", "Do."), Fault("E2-RANGE", "b", None, "2")])
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is TwinRicError
    assert copy.faults == error.faults
    assert str(copy) == str(error)
