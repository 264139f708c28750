"""Three-phase feeder waveforms with faults, and with switching that is none: a stream for E3, data for training.

The feeder is a 10 kV radial one of four sections. Ranges of its parameters and of the faults are assumptions in the
order of textbook values; every draw comes from the generator that is handed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from e2sim.grid.emt import FREQUENCY_HZ, OPEN_OHM, FeederParameters, FeederSolver

__all__ = [
    "FAULT_KINDS", "NO_FAULT", "SAMPLE_RATE_HZ", "SECTIONS", "FaultEvent", "FeederWaveforms", "generate_events",
]  # fmt: skip

Floats = NDArray[np.float64]

SECTIONS = 4
SAMPLE_RATE_HZ = 4_000
PEAK_V = 10_500 * np.sqrt(2 / 3)
FAULT_KINDS = ("PHASE_TO_GROUND", "PHASE_TO_PHASE", "OPEN_CONDUCTOR", "ARCING", "COMPOUND")
NO_FAULT = "NO_FAULT"
STEADY = "steady"
SWITCHING = ("load_step", "motor_start", "capacitor")
NEUTRALS = ("isolated", "resonant", "low_resistance", "solid")
NOISE = 0.002
WARM_UP_S = 0.3
ARC_TIME_S = 0.0008
ARC_V = 900.0
"""Voltage that an arc of a ground fault settles at."""


@dataclass(frozen=True)
class FaultEvent:
    """A fault, or switching, in one section. `phase` 0..2 is the faulted one, or the first of two."""

    kind: str
    section: int
    start_s: float
    duration_s: float
    resistance_ohm: float = 10.0
    phase: int = 0


def draw_parameters(rng: np.random.Generator, batch: int, neutral: str | None = None) -> FeederParameters:
    """Random feeders (B). `neutral` is one of `NEUTRALS`; without it each feeder draws its own."""
    shape = (batch, SECTIONS)
    omega = 2 * np.pi * FREQUENCY_HZ
    length_km = rng.uniform(0.8, 4.0, shape)
    per_km_ohm, per_km_h = rng.uniform(0.15, 0.45, (batch, 1)), rng.uniform(0.30, 0.40, (batch, 1)) / omega
    per_km_f = np.exp(rng.uniform(np.log(6e-9), np.log(2.5e-7), (batch, 1)))
    halves = (length_km / 2)[:, :, None, None] * np.ones((1, 1, 2, 3))
    line_c = (length_km * per_km_f)[:, :, None] * np.ones((1, 1, 3))
    load_kw = rng.uniform(150, 1_200, shape)[:, :, None] * rng.uniform(0.85, 1.15, (*shape, 3)) / 3
    magnitude = 10_500**2 / (load_kw * 1e3)
    cos_phi = rng.uniform(0.9, 0.99, shape)[:, :, None]
    names = np.array([NEUTRALS.index(neutral)] * batch) if neutral else rng.integers(0, len(NEUTRALS), batch)
    coil_h = rng.uniform(0.9, 1.1, batch) / (3 * omega**2 * line_c[:, :, 0].sum(axis=1))
    neutral_r = np.choose(
        names, [np.full(batch, 1e6), 0.03 * omega * coil_h, rng.uniform(8, 25, batch), np.full(batch, 0.1)]
    )
    neutral_l = np.choose(names, [np.zeros(batch), coil_h, np.zeros(batch), np.zeros(batch)])
    off = np.zeros((*shape, 3))
    return FeederParameters(
        emf_v=PEAK_V * rng.uniform(0.97, 1.03, batch), source_r=rng.uniform(0.05, 0.2, batch),
        source_l=rng.uniform(0.5, 1.5, batch) / omega, neutral_r=neutral_r, neutral_l=neutral_l,
        line_r=halves * per_km_ohm[:, :, None, None], line_l=halves * per_km_h[:, :, None, None], line_c=line_c,
        load_r=magnitude * cos_phi, load_l=magnitude * np.sqrt(1 - cos_phi**2) / omega,
        extra_r=off + OPEN_OHM, extra_l=off, extra_c=off, ground_g=off, phase_g=off,
    )  # fmt: skip


def disturbed(base: FeederParameters, events: Sequence[FaultEvent]) -> FeederParameters:
    """`base` with event b in force at feeder b. Arcs add nothing here: their conductance changes at every step."""
    line_r, ground, phase = base.line_r.copy(), base.ground_g.copy(), base.phase_g.copy()
    extra_r, extra_l, extra_c = base.extra_r.copy(), base.extra_l.copy(), base.extra_c.copy()
    for row, event in enumerate(events):
        place = (row, event.section - 1)
        faulted, conductance = event.phase, 1 / max(event.resistance_ohm, 1e-2)
        if event.kind in ("PHASE_TO_GROUND", "COMPOUND"):
            ground[(*place, faulted)] = conductance
        if event.kind == "PHASE_TO_PHASE":
            phase[(*place, faulted)] = conductance
        if event.kind in ("OPEN_CONDUCTOR", "COMPOUND"):
            line_r[(*place, 1, faulted)] = OPEN_OHM
        if event.kind in ("load_step", "motor_start"):
            # A motor draws several times its rating at low power factor; a load step is resistive.
            ohm = event.resistance_ohm * 40
            extra_r[place] = ohm if event.kind == "load_step" else 0.3 * ohm
            extra_l[place] = 0.0 if event.kind == "load_step" else 0.95 * ohm / (2 * np.pi * FREQUENCY_HZ)
        if event.kind == "capacitor":
            extra_c[place] = 2e-6 * max(event.resistance_ohm, 1.0) / 10
    return replace(
        base, line_r=line_r, ground_g=ground, phase_g=phase, extra_r=extra_r, extra_l=extra_l, extra_c=extra_c
    )


class _Arcs:
    """Conductances of arcs to ground (B,): a Cassie arc in series with the fault resistance."""

    def __init__(self, solver: FeederSolver, events: Sequence[FaultEvent], step_s: float) -> None:
        self._rows = np.array([event.kind == "ARCING" for event in events])
        self.node = np.array([solver.middle_node(e.section - 1, e.phase) for e in events], dtype=np.intp)
        self._place = (np.array([e.section - 1 for e in events]), np.array([e.phase for e in events]))
        self._series_ohm = np.array([max(e.resistance_ohm, 0.1) for e in events])
        self._arc_s = np.where(self._rows, 0.05, 0.0)
        self._decay = 1 - np.exp(-step_s / ARC_TIME_S)

    @property
    def any(self) -> bool:
        """True when there is an arc at all."""
        return bool(self._rows.any())

    @property
    def conductance(self) -> Floats:
        """(B,) [S]."""
        return np.asarray(np.where(self._rows, 1 / (self._series_ohm + 1 / np.maximum(self._arc_s, 1e-6)), 0.0))

    def end(self, rows: NDArray[np.bool_]) -> None:
        """Put out the arcs of `rows` (B,)."""
        self._rows &= ~rows

    def follow(self, middle_v: Floats) -> None:
        """Let the arcs answer to the voltage (B, S, 3) at the fault."""
        voltage = np.abs(middle_v[np.arange(len(self._rows)), *self._place])
        arc_v = voltage / (1 + self._series_ohm * np.maximum(self._arc_s, 1e-6))
        # Cassie: the conductance grows while the arc's voltage is above ARC_V and dies at current zero.
        target = self._arc_s * np.minimum((arc_v / ARC_V) ** 2, 50.0)
        self._arc_s = np.clip(self._arc_s + self._decay * (target - self._arc_s), 1e-5, 5.0)


class FeederWaveforms:
    """One feeder's FTUs as a stream of windows; faults strike at their simulated times."""

    def __init__(
        self, rng: np.random.Generator, faults: Sequence[FaultEvent] = (), *, neutral: str = "low_resistance",
        sample_rate_hz: int = SAMPLE_RATE_HZ,
    ) -> None:  # fmt: skip
        self.sample_rate_hz = sample_rate_hz
        self._rng = rng
        self._faults = sorted(faults, key=lambda fault: fault.start_s)
        self._base = draw_parameters(rng, 1, neutral)
        self._step_s = 1 / sample_rate_hz
        self._solver = FeederSolver(self._base, self._step_s)
        self._active: FaultEvent | None = None
        self._arcs: _Arcs | None = None
        self._time_s = 0.0

    def jump_to(self, time_s: float) -> None:
        """Go on at `time_s` [s] with a feeder in steady state."""
        self._active = self._arcs = None
        self._solver = FeederSolver(self._base, self._step_s)
        for _ in range(round(WARM_UP_S * self.sample_rate_hz)):
            self._solver.step()
        self._time_s = time_s

    def next_window(self, samples: int) -> NDArray[np.float32]:
        """The next window (F, 6, samples) float32: currents [A], then voltages [V]."""
        window = np.empty((samples, SECTIONS, 6))
        for index in range(samples):
            self._switch()
            current, voltage = self._step()
            window[index, :, :3], window[index, :, 3:] = current[0], voltage[0]
            self._time_s += self._step_s
        return noisy(window.transpose(1, 2, 0), self._rng)

    def _switch(self) -> None:
        now = next((f for f in self._faults if f.start_s <= self._time_s < f.start_s + f.duration_s), None)
        if now is self._active:
            return
        self._active = now
        self._arcs = None if now is None else _Arcs(self._solver, [now], self._step_s)
        self._solver.change(self._base if now is None else disturbed(self._base, [now]))

    def _step(self) -> tuple[Floats, Floats]:
        if self._arcs is None or not self._arcs.any:
            return self._solver.step()
        measured = self._solver.step((self._arcs.node, self._arcs.conductance))
        self._arcs.follow(self._solver.middle_v)
        return measured


def noisy(window: Floats, rng: np.random.Generator) -> NDArray[np.float32]:
    """`window` (..., 6, N) with the transducers' noise, relative to 100 A and to the nominal voltage."""
    scale = np.array([100.0] * 3 + [PEAK_V] * 3)[:, None]
    return np.asarray(window + NOISE * scale * rng.standard_normal(window.shape), dtype=np.float32)


def draw_event(rng: np.random.Generator, kind: str, start_s: float) -> FaultEvent:
    """A random event of one kind: fault resistance 0.1 to 300 ohm (phase to phase to 30), any section and phase."""
    top = 30.0 if kind == "PHASE_TO_PHASE" else 300.0
    resistance = float(np.exp(rng.uniform(np.log(0.1), np.log(top)))) if kind in FAULT_KINDS else rng.uniform(3, 15)
    return FaultEvent(kind, int(rng.integers(1, SECTIONS + 1)), start_s, 10.0, resistance, int(rng.integers(0, 3)))


def generate_events(out: Path, *, seed: int = 1, batches: int = 18, batch: int = 256, duration_s: float = 0.16) -> Path:
    """Write labelled windows for training to `out` (.npz); `python -m e2sim waveforms --out F`.

    waveforms (M, F, 6, N) float32 at 4 kHz; the event holds from sample `start` (M,) to `stop` (M,), which is N where
    it stays; kind (M,) index into `FAULT_KINDS`, -1 none; section (M,) 1..F, 0 none; resistance_ohm (M,). One third of
    the runs have no fault: steady state, and switching on and off.
    """
    rng = np.random.default_rng(seed)
    samples = round(duration_s * SAMPLE_RATE_HZ)
    parts: dict[str, list[NDArray[np.generic]]] = {
        name: [] for name in ("waveforms", "kind", "section", "start", "stop", "resistance_ohm")
    }
    for _ in range(batches):
        kinds = [*FAULT_KINDS, *FAULT_KINDS, *SWITCHING, STEADY, STEADY]
        picked = [kinds[index] for index in rng.integers(0, len(kinds), batch)]
        first = int(rng.integers(160, 240))
        events = [draw_event(rng, kind, 0.0) for kind in picked]
        # A third stay, a third stop early, a third late.
        stops = np.array([samples, first + int(rng.integers(100, 160)), first + int(rng.integers(160, 240))])
        stop = stops[rng.integers(0, 3, batch)]
        waveforms, start = _simulate(rng, events, first, stop, samples)
        is_fault = np.array([event.kind in FAULT_KINDS for event in events])
        parts["waveforms"].append(waveforms)
        parts["kind"].append(np.array([FAULT_KINDS.index(e.kind) if e.kind in FAULT_KINDS else -1 for e in events]))
        parts["section"].append(np.where(is_fault, [event.section for event in events], 0))
        parts["start"].append(start)
        parts["stop"].append(stop)
        parts["resistance_ohm"].append(np.array([event.resistance_ohm for event in events]))
    out.parent.mkdir(parents=True, exist_ok=True)
    joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    np.savez_compressed(out, allow_pickle=False, **joined)
    return out


def _simulate(
    rng: np.random.Generator, events: list[FaultEvent], first: int, stop: NDArray[np.int64], samples: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Waveforms (B, F, 6, N), and the sample (B,) at which each event takes hold: what opens waits for current zero."""
    base = draw_parameters(rng, len(events))
    step_s = 1 / SAMPLE_RATE_HZ
    solver = FeederSolver(base, step_s)
    # The instant within the cycle at which events strike differs from batch to batch.
    for _ in range(round(WARM_UP_S * SAMPLE_RATE_HZ) + int(rng.integers(0, 80))):
        solver.step()
    found = np.empty((samples, len(events), SECTIONS, 6))
    start = np.full(len(events), first)
    waits = np.array([event.kind == "OPEN_CONDUCTOR" for event in events])
    changes = {first, *np.unique(stop).tolist()}
    arcs: _Arcs | None = None
    for index in range(samples):
        if index in changes:
            holding = [_until(event, index < end) for event, end in zip(events, stop, strict=True)]
            solver.change(disturbed(base, holding))
            arcs = arcs or _Arcs(solver, events, step_s)
            arcs.end(index >= stop)
        if arcs is not None and arcs.any:
            current, voltage = solver.step((arcs.node, arcs.conductance))
            arcs.follow(solver.middle_v)
        else:
            current, voltage = solver.step()
        found[index, :, :, :3], found[index, :, :, 3:] = current, voltage
        start[waits & solver.opening & (index < stop)] = index + 1
    return noisy(found.transpose(1, 2, 3, 0), rng), start


def _until(event: FaultEvent, holds: bool) -> FaultEvent:
    return event if holds else replace(event, kind=STEADY)
