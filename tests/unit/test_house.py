"""Rules of the house that no linter knows: module size, the map, the changelog, the licence of words in wire files."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ric", "rapps", "xapps", "dapps", "e2sim", "benchmarks")
LONGEST_MODULE = 400


def modules():
    return [
        p for name in PACKAGES for p in sorted((ROOT / name).rglob("*.py")) if "pb" not in p.relative_to(ROOT).parts
    ]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_module_has_at_most_400_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE


def test_map_names_only_what_exists():
    text = (ROOT / "docs" / "map.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w./{},-]+/[\w./{},*-]*)`", text)
    assert len(named) > 20
    missing = [name for name in named if not list(ROOT.glob(name.rstrip("/")))]
    assert missing == []


def test_no_private_keys_in_the_tree():
    marker = "PRIVATE " + "KEY-----"
    suffixes = {".py", ".yaml", ".yml", ".json", ".md", ".pem", ".key", ".txt"}
    skipped = {".venv", ".git", ".kafka", ".venv-onos", "out"}
    files = [p for p in ROOT.rglob("*") if p.suffix in suffixes and not skipped & set(p.relative_to(ROOT).parts)]
    assert len(files) > 50
    assert [str(p) for p in files if marker in p.read_text(encoding="utf-8", errors="ignore")] == []


def test_banned_module_names_are_absent():
    banned = {"utils", "helpers", "common", "misc", "manager", "handler", "data"}
    assert [str(p) for p in modules() if p.stem in banned] == []
