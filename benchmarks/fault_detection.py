"""What the fault alarm finds, names, locates and falsely raises on held-out streams, beside the threshold relay.

Every stream is a feeder of its own: parameters, neutral earthing and event are drawn from a seed that training never
saw. It is sound for 0.2 s, then has a fault or a switching event for 0.3 s, then is sound for 0.4 s, in windows of 5 ms
at 4 kHz. The shipped model with the default policy and the relay that is its safe action judge the same windows. Delay
is simulated time from the event to the end of the window that raises; a breaking conductor conducts until its current
next passes zero, up to 10 ms of its delay.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.machine import parser, write_result
from dapps.fault_alarm.config import FaultAlarmConfig
from dapps.fault_alarm.detector import Decision, Finding, detect_faults
from dapps.fault_alarm.fallback import threshold_relay
from dapps.fault_alarm.model import load_classifier
from dapps.fault_alarm.policy import FaultAlarmPolicy
from dapps.fault_alarm.state import Memory, State
from e2sim.grid.waveforms import (
    FAULT_KINDS,
    NEUTRALS,
    SAMPLE_RATE_HZ,
    SWITCHING,
    FaultEvent,
    FeederWaveforms,
    draw_event,
)
from ric.decision import Reason
from ric.e3.e3ap import Waveform

WINDOW = 20
WINDOW_NS = WINDOW * 1_000_000_000 // SAMPLE_RATE_HZ
SOUND_S, EVENT_S, AFTER_S = 0.2, 0.3, 0.4
FIRST_SEED = 7_000_000
WEAK_OHM = 100.0

Detect = Callable[[State, FaultAlarmPolicy], Decision]


@dataclass(frozen=True)
class Stream:
    """One stream: its event, the neutral's earthing, windows in order."""

    event: FaultEvent
    neutral: str
    windows: tuple[Waveform, ...]

    @property
    def is_fault(self) -> bool:
        """False for switching."""
        return self.event.kind in FAULT_KINDS


@dataclass(frozen=True)
class Outcome:
    """What a detector made of a stream. `raised` is its first alarm during the event, if any."""

    stream: Stream
    raised: Finding | None
    cleared: bool
    false_alarms: int

    @property
    def delay_ms(self) -> float:
        """From the event to the alarm [ms]."""
        assert self.raised is not None
        return self.raised.found_ns / 1e6 - self.stream.event.start_s * 1e3


def make_stream(kind: str, seed: int) -> Stream:
    """The stream of `kind` and `seed`."""
    rng = np.random.default_rng(seed)
    neutral = NEUTRALS[int(rng.integers(0, len(NEUTRALS)))]
    # Not on the windows' grid: a fault strikes at any instant.
    drawn = draw_event(rng, kind, SOUND_S + float(rng.uniform(0, 0.02)))
    event = FaultEvent(kind, drawn.section, drawn.start_s, EVENT_S, drawn.resistance_ohm, drawn.phase)
    feeder = FeederWaveforms(rng, [event], neutral=neutral)
    feeder.jump_to(0.0)
    number = round((SOUND_S + EVENT_S + AFTER_S) * SAMPLE_RATE_HZ / WINDOW)
    windows = tuple(
        Waveform(SAMPLE_RATE_HZ, index, index * WINDOW_NS, feeder.next_window(WINDOW)) for index in range(number)
    )
    return Stream(event, neutral, windows)


def judge_stream(stream: Stream, detect: Detect, policy: FaultAlarmPolicy) -> Outcome:
    """Play the stream to a detector window by window."""
    memory, findings = Memory.empty(), list[Finding]()
    for window in stream.windows:
        decision = detect(State((window,), memory), policy)
        memory = decision.memory
        findings += decision.findings
    start_ns = stream.event.start_s * 1e9
    end_ns = (stream.event.start_s + EVENT_S) * 1e9
    raises = [finding for finding in findings if not finding.cleared]
    during = [finding for finding in raises if start_ns < finding.found_ns <= end_ns + 4 * WINDOW_NS]
    right = during[:1] if stream.is_fault else []
    return Outcome(stream, right[0] if right else None, memory.raised is None, len(raises) - len(right))


def figures_of(outcomes: list[Outcome]) -> dict[str, float]:
    """Rates over the streams; delays [ms] over the faults found."""
    faults = [outcome for outcome in outcomes if outcome.stream.is_fault]
    switching = [outcome for outcome in outcomes if not outcome.stream.is_fault]
    found = [(outcome, outcome.raised) for outcome in faults if outcome.raised is not None]
    delays = np.array([outcome.delay_ms for outcome, _ in found]) if found else np.array([np.nan])
    figures = {
        "faults": float(len(faults)),
        "found": len(found) / len(faults),
        "found_at_100_ohm_and_more": _rate([o.raised is not None for o in faults if _is_weak(o)]),
        "kind_right": _rate([raised.kind == outcome.stream.event.kind for outcome, raised in found]),
        "section_right": _rate([raised.section == outcome.stream.event.section for outcome, raised in found]),
        "section_right_by_currents_alone": _rate(
            [raised.passage_section == outcome.stream.event.section for outcome, raised in found]
        ),
        "cleared_in_0_4_s": _rate([outcome.cleared for outcome, _ in found]),
        "delay_p50_ms": float(np.percentile(delays, 50)),
        "delay_p90_ms": float(np.percentile(delays, 90)),
        "switching": float(len(switching)),
        "switching_with_false_alarm": _rate([outcome.false_alarms > 0 for outcome in switching]),
        "faults_with_extra_alarm": _rate([outcome.false_alarms > 0 for outcome in faults]),
    }
    for kind in FAULT_KINDS:
        of_kind = [outcome for outcome in faults if outcome.stream.event.kind == kind]
        figures[f"found_{kind.lower()}"] = _rate([o.raised is not None for o in of_kind])
        named = [o.raised.kind == kind for o in of_kind if o.raised is not None]
        figures[f"named_{kind.lower()}"] = _rate(named)
    for neutral in NEUTRALS:
        figures[f"found_{neutral}"] = _rate([o.raised is not None for o in faults if o.stream.neutral == neutral])
    return figures


def _is_weak(outcome: Outcome) -> bool:
    return outcome.stream.event.resistance_ohm >= WEAK_OHM and outcome.stream.event.kind != "OPEN_CONDUCTOR"


def _rate(answers: list[bool]) -> float:
    return sum(answers) / len(answers) if answers else float("nan")


def main(arguments: argparse.Namespace) -> None:
    """Judge `--streams` streams of every kind of fault and of switching."""
    model = load_classifier(FaultAlarmConfig().model_path)
    policy = FaultAlarmPolicy()
    detectors: dict[str, Detect] = {
        "classifier": partial(detect_faults, model=model),
        "relay": partial(threshold_relay, reason=Reason("MODEL_MISSING")),
    }
    outcomes: dict[str, list[Outcome]] = {name: [] for name in detectors}
    for index, kind in enumerate((*FAULT_KINDS, *SWITCHING)):
        for number in range(arguments.streams):
            stream = make_stream(kind, FIRST_SEED + 10_000 * index + number)
            for name, detect in detectors.items():
                outcomes[name].append(judge_stream(stream, detect, policy))
    write_result(arguments.json, figures_of(outcomes["classifier"]), {"relay": figures_of(outcomes["relay"])})


if __name__ == "__main__":
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--streams", type=int, default=40, help="streams of every kind")
    main(made.parse_args())
