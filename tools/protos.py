"""Write the protobuf and gRPC stubs of `proto/` to a package folder: `python tools/protos.py [TARGET]`.

Generated imports are rewritten so that every stub lives under `ric.pb`; nothing else is edited.
"""

from __future__ import annotations

import re
import shutil
import sys
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
PACKAGE = "ric.pb"
ABSOLUTE_IMPORT = re.compile(r"^(from|import) (onos|libe3|twinric)([.\s])", re.MULTILINE)


def generate(target: Path) -> None:
    """Replace what stands in `target` by fresh stubs, type stubs and package markers."""
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    files = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    well_known = resources.files("grpc_tools") / "_proto"
    arguments = ["protoc", f"-I{PROTO}", f"-I{well_known}"]
    scripts = Path(sys.executable).parent
    arguments += [f"--plugin=protoc-gen-{kind}={scripts}/protoc-gen-{kind}" for kind in ("mypy", "mypy_grpc")]
    arguments += [f"--{kind}_out={target}" for kind in ("python", "mypy", "grpc_python", "mypy_grpc")]
    if protoc.main([*arguments, *files]) != 0:
        raise SystemExit("protoc failed")
    for path in sorted([*target.rglob("*.py"), *target.rglob("*.pyi")]):
        text = path.read_text(encoding="utf-8")
        text = ABSOLUTE_IMPORT.sub(rf"\1 {PACKAGE}.\2\3", text)
        text = re.sub(r"(?<![\w.])(onos|libe3|twinric)((?:\.\w+)+_pb2)", rf"{PACKAGE}.\1\2", text)
        path.write_text(text, encoding="utf-8")
    for folder in sorted({path.parent for path in target.rglob("*.py")} | {target}):
        while folder != target.parent:
            (folder / "__init__.py").touch()
            folder = folder.parent


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "ric" / "pb")
