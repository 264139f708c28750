"""Coverage-guided fuzzing of one decoder or endpoint, as long as you like: the counterpart of `benchmarks.fuzz`.

    .venv/bin/pip install -e '.[fuzz]' -c constraints.txt
    .venv/bin/python tools/fuzz_coverage.py e2ap -max_total_time=600

What follows the target's name goes to libFuzzer. Any exception but TwinRicError ends the run and leaves the input
that shows it in the working folder.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
with atheris.instrument_imports(include=["ric", "e2sim.scenario", "e2sim.scenario_parts", "e2sim.scenario_checks"]):
    from benchmarks.fuzz_targets import SHARES, Pieces, Target, make_target
    from ric.errors import TwinRicError
    from ric.telemetry import configure_logging

SEPARATOR = b"\x00\xff|\xff\x00"
"""Between the pieces of one input, such as header and message."""


def take(target: Target, octets: bytes) -> None:
    """Hand an input to the target. Raises what the target should not raise."""
    pieces: Pieces = tuple(octets.split(SEPARATOR))
    wanted = len(target.seeds[0])
    pieces = (*pieces, *(b"",) * wanted)[:wanted]
    try:
        target.take(pieces)
    except TwinRicError:
        return


def main(arguments: list[str]) -> None:
    """Command line: a target's name, then libFuzzer's options. Raises TwinRicError (CONFIG-RANGE) for another name."""
    name = arguments[1] if len(arguments) > 1 else ""
    if name not in SHARES:
        raise TwinRicError("CONFIG-RANGE", "target", name, f"one of {', '.join(SHARES)}")
    configure_logging("CRITICAL")
    target = make_target(name)
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(target.seeds):
            Path(corpus, str(number)).write_bytes(SEPARATOR.join(seed))
        atheris.Setup([arguments[0], *arguments[2:], corpus], lambda octets: take(target, octets))
        atheris.Fuzz()


if __name__ == "__main__":
    try:
        main(sys.argv)
    except TwinRicError as error:
        sys.exit(str(error))
