"""`twinric certs` and `twinric audit`: what an operator does with them, and what an intruder leaves behind."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import ric.__main__ as command
from ric.clock import WallClock
from ric.errors import TwinRicError
from ric.sdl import STORE_FILE, AuditEntry, Sdl
from ric.security import TlsFiles, load_tls


def ask(*words: str) -> str:
    result = CliRunner().invoke(command.cli, list(words))
    if isinstance(result.exception, TwinRicError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def store(tmp_path: Path) -> Path:
    sdl = Sdl(tmp_path / STORE_FILE, WallClock())
    for number in range(4):
        sdl.commit([], [AuditEntry("pms", "a1.put", f"t/p{number}", {"revision": number})])
    sdl.close()
    return tmp_path


def test_certs_print_settings_that_load(tmp_path: Path) -> None:
    text = ask("certs", "--out", str(tmp_path / "pki"), "--name", "ric", "--name", "app", "--host", "ric.example")
    parts = [yaml.safe_load(part) for part in text.split("# ") if part.strip() for part in [part.split("\n", 1)[1]]]
    assert [part["tls"]["certificate_file"].rsplit("/", 1)[1] for part in parts] == ["ric.pem", "app.pem"]
    for part in parts:
        assert load_tls(TlsFiles.model_validate(part["tls"])) is not None
    assert "PRIVATE" not in text


def test_audit_verify_prints_a_head_that_later_logs_still_hold(store: Path) -> None:
    head = ask("audit", "verify", "--data", str(store)).rsplit(" ", 1)[1].strip()
    assert head.startswith("4:")
    sdl = Sdl(store / STORE_FILE, WallClock())
    sdl.commit([], [AuditEntry("pms", "a1.delete", "t/p0")])
    sdl.close()
    assert "5 rows match" in ask("audit", "verify", "--data", str(store), "--head", head)
    rows = [json.loads(line) for line in ask("audit", "list", "--data", str(store), "--after", "3").splitlines()]
    assert [(row["number"], row["action"]) for row in rows] == [(4, "a1.put"), (5, "a1.delete")]


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("UPDATE audit SET subject = 't/other' WHERE number = 2", id="tampered"),
        pytest.param("DELETE FROM audit WHERE number > 2", id="truncated"),
        pytest.param("UPDATE audit SET number = 9 - number WHERE number > 3", id="renumbered"),
    ],
)
def test_audit_verify_refuses_a_log_that_was_changed(store: Path, statement: str) -> None:
    with sqlite3.connect(store / STORE_FILE) as db:
        db.execute(statement)
    db.close()
    with pytest.raises(TwinRicError, match="AUDIT-TAMPERED"):
        ask("audit", "verify", "--data", str(store))


def test_audit_without_a_store_or_with_an_unusable_head_says_so(store: Path, tmp_path: Path) -> None:
    with pytest.raises(TwinRicError, match="CONFIG-MISSING --data"):
        ask("audit", "verify", "--data", str(tmp_path / "nowhere"))
    with pytest.raises(TwinRicError, match="CONFIG-RANGE --head"):
        ask("audit", "verify", "--data", str(store), "--head", "4")
