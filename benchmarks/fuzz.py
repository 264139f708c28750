"""Fuzzing: a million malformed inputs over every decoder and endpoint; none may crash, hang or leak.

Mutation of valid seeds, seeded: octets flipped, cut, repeated, inserted, spliced from other seeds, numbers replaced by
extremes; JSON and YAML as trees too. Targets are listed in `benchmarks/fuzz_targets.py`; each runs in a process of its
own, so that a native crash is seen and counted.

`inputs` were tried until `malformed` of them, at least `--inputs`, were refused with a TwinRicError or a 4xx; the
others were still valid. A crash is any other exception, a 5xx or the end of the process; a hang is an input that takes
longer than 5 s. `rss_slope_mb_per_100k` is the worst target's slope of resident memory over the second half of its
inputs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.fuzz_targets import SHARES, Pieces, Target, make_target
from benchmarks.machine import parser, write_result
from ric.errors import TwinRicError
from ric.telemetry import configure_logging

INPUTS = 1_000_000
HANG_S = 5.0
EVERY = 2_000
"""Inputs between two looks at the memory."""
KEPT = 5
LARGEST = 70_000
EXTREMES = (
    b"\x00", b"\xff", b"\x7f", b"\x80", b"\xff" * 9 + b"\x01", b"\x00" * 8, b"\xff" * 4, b"\x7f\xff\xff\xff",
    b"1e400", b"-1", b"NaN", b"null", b"\xc3\x28", b"\xf0\x9f\x98\x80", b"{", b"[" * 40, b"}" * 3, b"'", b'"', b": ",
    b"../", b"%00", b"\r\n", b"18446744073709551616", b"\xed\xa0\x80",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1e308, -1e308, 2**63, 2**70, 1e-320, "", "x" * 5_000, "\x00", "\ud7ff", [], {}, [[]] * 50,
    {"": {}}, [None], {"$ref": "#"}, "2016-99-99T00:00:00Z", ".inf", "!!python/object:os.system",
)  # fmt: skip


class Hang(BaseException):
    """An input took too long; no `except Exception` may swallow it."""


@dataclass
class Outcome:
    """What became of one target's inputs."""

    name: str
    inputs: int = 0
    malformed: int = 0
    crashes: int = 0
    hangs: int = 0
    slowest_ms: float = 0.0
    seconds: float = 0.0
    rss_slope_mb_per_100k: float = 0.0
    found: dict[str, str] = field(default_factory=dict)
    """Kind of failure -> where, and an input that shows it."""


# Mutation -------------------------------------------------------------------------------------------------------------


def mutated(seeds: Sequence[Pieces], dice: random.Random, *, text: bool) -> Pieces:
    """One seed with one to four changes in one or more of its pieces."""
    pieces = list(dice.choice(seeds))
    for _ in range(1 if dice.random() < 0.7 else dice.randint(2, 4)):
        index = len(pieces) - 1 if dice.random() < 0.8 else dice.randrange(len(pieces))
        if text and index == len(pieces) - 1 and dice.random() < 0.5:
            pieces[index] = _tree(pieces[index], dice)
        else:
            pieces[index] = _octets(pieces[index], dice.choice(dice.choice(seeds)), dice)
    return tuple(piece[:LARGEST] for piece in pieces)


def _octets(piece: bytes, other: bytes, dice: random.Random) -> bytes:
    """`piece` with one change; `other` is another seed's."""
    at = dice.randrange(len(piece) + 1)
    to = min(len(piece), at + dice.choice((1, 1, 2, 4, 8, 64)))
    kind = dice.randrange(9)
    if kind == 0 and piece:
        changed = bytearray(piece)
        changed[at % len(piece)] ^= 1 << dice.randrange(8)
        return bytes(changed)
    if kind == 1 and piece:
        changed = bytearray(piece)
        changed[at % len(piece)] = dice.randrange(256)
        return bytes(changed)
    replacements = {
        2: b"", 3: piece[at:to] * dice.choice((2, 3, 50)), 4: dice.choice(EXTREMES), 5: dice.randbytes(to - at),
        6: other[dice.randrange(len(other) + 1) :],
    }  # fmt: skip
    if kind in replacements:
        return piece[:at] + replacements[kind] + piece[to:]
    return piece[:at] if kind == 7 else piece[:at] + dice.choice(EXTREMES) + piece[at:]


def _tree(piece: bytes, dice: random.Random) -> bytes:
    """JSON with one value, key or member changed; octets that are none are left to the other mutations."""
    try:
        tree = json.loads(piece)
    except ValueError:
        return _octets(piece, piece, dice)
    where: list[tuple[Any, Any]] = []
    _collect(tree, where)
    if where:
        holder, key = dice.choice(where)
        kind = dice.randrange(4)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[str(key) + dice.choice(("x", "", "\x00"))] = holder[key]
        elif kind == 2 and isinstance(holder, list):
            holder.extend([holder[key]] * dice.choice((1, 100)))
        else:
            holder[key] = dice.choice(VALUES)
    return json.dumps(tree).encode(errors="surrogatepass")


def _collect(value: Any, where: list[tuple[Any, Any]]) -> None:
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        where.append((value, key))
        _collect(value[key], where)


# One target -----------------------------------------------------------------------------------------------------------


def _ring(*_: object) -> None:
    raise Hang


def fuzz(target: Target, outcome: Outcome, wanted: int, seed: int) -> Outcome:
    """Inputs until `wanted` of them were malformed."""
    dice = random.Random(f"{seed} {outcome.name}")
    signal.signal(signal.SIGALRM, _ring)
    process, memory = psutil.Process(), []
    for seed_input in target.seeds:  # what is not valid would not test what it seems to
        _try(target, seed_input, outcome)
    outcome.inputs = outcome.malformed = 0
    outcome.slowest_ms = 0.0
    began_s = time.perf_counter()
    while outcome.malformed < wanted:
        if outcome.inputs % EVERY == 0:
            memory.append((outcome.inputs, process.memory_info().rss / 1e6))
        _try(target, mutated(target.seeds, dice, text=target.text), outcome)
    outcome.seconds = time.perf_counter() - began_s
    half = np.array(memory[len(memory) // 2 :])
    if len(half) >= 3:
        outcome.rss_slope_mb_per_100k = float(np.polyfit(half[:, 0], half[:, 1], 1)[0] * 1e5)
    return outcome


def _try(target: Target, pieces: Pieces, outcome: Outcome) -> None:
    outcome.inputs += 1
    began_s = time.perf_counter()
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    try:
        target.take(pieces)
    except TwinRicError:
        outcome.malformed += 1
    except Hang:
        outcome.hangs += 1
        _keep(outcome, "hang", pieces)
    except Exception as error:  # noqa: BLE001 - this is what we look for
        outcome.crashes += 1
        frame = traceback.extract_tb(error.__traceback__)[-1]
        _keep(outcome, f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}: {error!s:.120}", pieces)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    outcome.slowest_ms = max(outcome.slowest_ms, (time.perf_counter() - began_s) * 1e3)


def _keep(outcome: Outcome, kind: str, pieces: Pieces) -> None:
    if len(outcome.found) < KEPT:
        outcome.found.setdefault(kind, repr(pieces)[:2_000])


def _run(pipe: Connection, name: str, wanted: int, seed: int) -> None:
    configure_logging("CRITICAL")
    pipe.send(fuzz(make_target(name), Outcome(name), wanted, seed))


def run_target(name: str, wanted: int, seed: int) -> Outcome:
    """One target in a process of its own; one that ends without a word has crashed."""
    ours, theirs = multiprocessing.Pipe()
    # Forked before anything of us runs a thread: nine fresh starts would take longer than a short run.
    process = multiprocessing.get_context("fork").Process(target=_run, args=(theirs, name, wanted, seed))
    process.start()
    theirs.close()
    try:
        outcome: Outcome = ours.recv()
    except EOFError:
        outcome = Outcome(name, crashes=1, found={"process ended": ""})
    process.join(30)
    if process.exitcode and not outcome.crashes:
        outcome.crashes, outcome.found = 1, {f"process ended with status {process.exitcode}": ""}
    return outcome


def main(arguments: argparse.Namespace) -> None:
    """All targets, one after the other. Exits 1 when something was found, so that CI sees it."""
    outcomes = []
    for name, share in SHARES.items():
        outcome = run_target(name, max(1, round(arguments.inputs * share)), arguments.seed)
        outcomes.append(outcome)
        sys.stderr.write(f"{json.dumps(asdict(outcome))}\n")
    figures = {
        "inputs": float(sum(each.inputs for each in outcomes)),
        "malformed": float(sum(each.malformed for each in outcomes)),
        "crashes": float(sum(each.crashes for each in outcomes)),
        "hangs": float(sum(each.hangs for each in outcomes)),
        "slowest_ms": max(each.slowest_ms for each in outcomes),
        "rss_slope_mb_per_100k": max(each.rss_slope_mb_per_100k for each in outcomes),
        "targets": float(len(outcomes)),
        "seconds": sum(each.seconds for each in outcomes),
        **{f"{each.name}_malformed": float(each.malformed) for each in outcomes},
    }
    baseline = {"malformed_wanted": float(arguments.inputs), "crashes_allowed": 0.0, "hangs_allowed": 0.0}
    write_result(arguments.json, figures, baseline)
    if figures["crashes"] or figures["hangs"]:
        raise SystemExit(1)


if __name__ == "__main__":
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--inputs", type=int, default=INPUTS, help="malformed inputs in all")
    made.add_argument("--seed", type=int, default=1, help="seed of the mutations")
    main(made.parse_args())
