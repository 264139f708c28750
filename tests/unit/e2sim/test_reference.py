from pathlib import Path

from e2sim.reference import scenario_reference

PAGE = Path(__file__).parents[3] / "docs/reference/scenario.md"


def test_reference_page_is_fresh():
    assert PAGE.read_text(encoding="utf-8") == scenario_reference(), "run: python -m e2sim reference --out " + str(PAGE)


def test_reference_describes_every_key():
    rows = [line for line in scenario_reference().splitlines() if line.startswith("| `") and line.count("|") == 5]
    bare = [line for line in rows if not line.split("|")[4].strip()]
    assert len(rows) > 60
    assert bare == []
