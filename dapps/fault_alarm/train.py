"""Trains the fault classifier and exports it to ONNX.

`python -m e2sim waveforms --out F` makes the data (simulated); `python -m dapps.fault_alarm.train --data F` learns from
them. Every fifth run is held out; `python -m benchmarks.fault_detection` judges the shipped file on whole streams of
seeds that are not in the data at all.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dapps.fault_alarm.config import MODELS
from dapps.fault_alarm.model import CHANNELS, KINDS, features
from dapps.fault_alarm.state import CYCLE, FTUS

BATCH = 128
FIRST_SAMPLES = 8
"""A window with fewer samples of the fault than this (2 ms) is neither sound nor faulty: left out."""


@dataclass(frozen=True)
class Runs:
    """Simulated runs: waveforms (M, F, 6, N), kind index into KINDS (M,), section (M,), first and last sample (M,)."""

    waveforms: NDArray[np.float32]
    kind: NDArray[np.int64]
    section: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    resistance_ohm: NDArray[np.float64]

    @classmethod
    def read(cls, path: Path) -> Runs:
        """Runs in a file that `python -m e2sim waveforms` wrote."""
        with np.load(path) as data:
            return cls(
                data["waveforms"], data["kind"].astype(np.int64) + 1, data["section"].astype(np.int64),
                data["start"].astype(np.int64), data["stop"].astype(np.int64), data["resistance_ohm"],
            )  # fmt: skip

    def rows(self, mask: NDArray[np.bool_]) -> Runs:
        """Some of the runs."""
        return Runs(
            self.waveforms[mask], self.kind[mask], self.section[mask], self.start[mask], self.stop[mask],
            self.resistance_ohm[mask],
        )  # fmt: skip


class FaultNet(nn.Module):
    """One small convolution stack for every FTU, then kind and section from all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = nn.Sequential(
            nn.Conv1d(CHANNELS, 24, 5, stride=2, padding=2), nn.SiLU(),
            nn.Conv1d(24, 32, 5, stride=2, padding=2), nn.SiLU(),
            nn.Conv1d(32, 48, 3, stride=2, padding=1), nn.SiLU(),
        )  # fmt: skip
        self.joint = nn.Sequential(nn.Linear(FTUS * 48 * 3, 96), nn.SiLU(), nn.Linear(96, 64), nn.SiLU())
        self.kind = nn.Linear(64, len(KINDS))
        self.section = nn.Linear(64, FTUS + 1)

    def forward(self, cycle: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of kind (N, 6) and section (N, F + 1)."""
        number = cycle.shape[0]
        maps = self.stack(cycle.reshape(number * FTUS, CHANNELS, CYCLE))
        pooled = torch.cat([maps.mean(dim=2), maps.amax(dim=2), maps[:, :, -1]], dim=1)
        joint = self.joint(pooled.reshape(number, -1))
        return self.kind(joint), self.section(joint)


def draw_windows(
    runs: Runs, rng: np.random.Generator, number: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Random windows: inputs (number, F, 14, CYCLE), kinds and sections (number,)."""
    row = rng.integers(0, len(runs.kind), number)
    last = runs.waveforms.shape[3]
    faulty, start, stop = runs.kind[row] > 0, runs.start[row], runs.stop[row]
    ended = faulty & (stop + CYCLE < last)
    part = rng.random(number)
    before = rng.integers(2 * CYCLE, start + 1)
    during = rng.integers(np.minimum(start + FIRST_SAMPLES, stop), stop + 1)
    after = rng.integers(np.minimum(stop + CYCLE, last), last + 1)
    anywhere = rng.integers(2 * CYCLE, last + 1, number)
    end = np.select([~faulty, part < 0.15, ended & (part < 0.35)], [anywhere, before, after], during)
    is_fault = faulty & (end > start) & (end <= stop)
    # The reference is the cycle before until a suspicion, and from then on the last one before the event. Sound windows
    # see such old references too: while an alarm is up, and after a false suspicion. Once it has cleared, the cycle
    # before is the reference again.
    since = np.ceil((end - start) / CYCLE).astype(np.int64)
    cycles = np.where(rng.random(number) < 0.5, 1, rng.integers(1, (end - CYCLE) // CYCLE + 1))
    settled = (end - 2 * CYCLE >= stop) & (rng.random(number) < 0.5)
    lag = CYCLE * np.where(faulty & (end > start), np.where(settled, 1, since), cycles)
    index = end[:, None] + np.arange(-CYCLE, 0)
    cycle = runs.waveforms[row[:, None], :, :, index].transpose(0, 2, 3, 1)
    reference = runs.waveforms[row[:, None], :, :, index - lag[:, None]].transpose(0, 2, 3, 1)
    turn = int(rng.integers(0, 3))
    phases = [(p + turn) % 3 for p in range(3)]
    order = [*phases, *(3 + p for p in phases)]
    inputs = features(cycle[:, :, order], reference[:, :, order])
    return inputs, np.where(is_fault, runs.kind[row], 0), np.where(is_fault, runs.section[row], 0)


def fit(runs: Runs, *, steps: int, seed: int) -> FaultNet:
    """A network trained on random windows with cross-entropy for kind and section."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = FaultNet()
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    running = 0.0
    for step in range(steps):
        inputs, kinds, sections = draw_windows(runs, rng, BATCH)
        kind, section = network(torch.from_numpy(inputs))
        loss = nn.functional.cross_entropy(kind, torch.from_numpy(kinds))
        loss = loss + nn.functional.cross_entropy(section, torch.from_numpy(sections))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        running += 0.02 * (float(loss) - running)
        if (step + 1) % 250 == 0:
            print(f"step {step + 1}/{steps}: loss {running:.4f}", flush=True)  # noqa: T201
    network.eval()
    return network


def judge(network: FaultNet, runs: Runs, *, seed: int, number: int = 8_000) -> dict[str, object]:
    """Held-out figures per window."""
    inputs, kinds, sections = draw_windows(runs, np.random.default_rng(seed), number)
    with torch.no_grad():
        kind_logits, section_logits = network(torch.from_numpy(inputs))
    kind, section = kind_logits.argmax(dim=1).numpy(), section_logits[:, 1:].argmax(dim=1).numpy() + 1
    probability = 1 - torch.softmax(kind_logits, dim=1)[:, 0].numpy()
    fault = kinds > 0
    per_kind = {
        name: round(float((kind[kinds == index] == index).mean()), 4)
        for index, name in enumerate(KINDS)
        if (kinds == index).any()
    }
    return {
        "windows": number,
        "faults_found": round(float((probability[fault] >= 0.8).mean()), 4),
        "false_alarms_per_sound_window": round(float((probability[~fault] >= 0.8).mean()), 5),
        "kind_accuracy": round(float((kind == kinds).mean()), 4),
        "kind_recall": per_kind,
        "section_accuracy": round(float((section[fault] == sections[fault]).mean()), 4),
    }


def export(network: FaultNet, path: Path) -> None:
    """Write the ONNX file."""
    axes = {name: {0: "windows"} for name in ("cycle", "kind", "section")}
    torch.onnx.export(
        network, (torch.zeros(2, FTUS, CHANNELS, CYCLE),), str(path), input_names=["cycle"],
        output_names=["kind", "section"], dynamic_axes=axes, dynamo=False, opset_version=17,
    )  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the fault classifier and export it to ONNX.")
    parser.add_argument("--data", type=Path, required=True, help="file of `python -m e2sim waveforms`")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--threads", type=int, default=1, help="one is the fastest for a network this small")
    parser.add_argument("--out", type=Path, default=MODELS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    runs = Runs.read(options.data)
    held_out = np.arange(len(runs.kind)) % 5 == 0
    network = fit(runs.rows(~held_out), steps=options.steps, seed=options.seed)
    path = options.out / "fault.onnx"
    export(network, path)
    weak = held_out & ((runs.resistance_ohm >= 100) | (runs.kind == 0))
    card = {
        "data": f"python -m e2sim waveforms --out {options.data.name} (simulated)",
        "runs": len(runs.kind),
        "held_out": "every fifth run",
        "held_out_metrics": judge(network, runs.rows(held_out), seed=options.seed + 1),
        "held_out_100_ohm_and_more_metrics": judge(network, runs.rows(weak), seed=options.seed + 2),
        "command": f"python -m dapps.fault_alarm.train --data {options.data.name} --seed {options.seed} "
        f"--steps {options.steps}",
        "seed": options.seed,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    (options.out / "model_card.json").write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
