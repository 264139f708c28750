"""Says whether what is generated is what its sources make: `python tools/fresh.py`; exits 1 and names what is stale."""

from __future__ import annotations

import filecmp
import subprocess
import sys
import tempfile
from pathlib import Path

import protos

import docs

ROOT = Path(__file__).resolve().parent.parent


def stale_stubs() -> list[str]:
    """Stubs in `ric/pb/` that differ from fresh ones."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "pb"
        protos.generate(fresh)
        committed = ROOT / "ric" / "pb"
        names = {path.relative_to(fresh) for path in fresh.rglob("*.py*")}
        names |= {path.relative_to(committed) for path in committed.rglob("*.py*") if "__pycache__" not in path.parts}
        return [
            f"ric/pb/{name}"
            for name in sorted(names)
            if not (committed / name).is_file()
            or not (fresh / name).is_file()
            or not filecmp.cmp(fresh / name, committed / name, shallow=False)
        ]


def stale_outputs() -> list[str]:
    """Generated pages and descriptors that their commands would change."""
    found = [
        str(path.relative_to(ROOT))
        for path, text in docs.pages().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    command = [sys.executable, "tools/descriptors.py", "--check"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if checked.returncode:
        found.append(checked.stdout.strip() or checked.stderr.strip())
    return found


def main() -> int:
    """Exit status."""
    stale = [*stale_stubs(), *stale_outputs()]
    for name in stale:
        print(f"stale: {name} (run `make protos docs`)")
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
