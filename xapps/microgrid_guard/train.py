"""Trains the agents' twin on healthy runs and exports it to ONNX with a model card.

`python -m e2sim microgrids --out runs.npz --seeds 15` makes the data, `python -m xapps.microgrid_guard.train --data
runs.npz` learns. The first 60 % of the runs are for training; the figures in the card are of the others, with the twin
running freely for the whole of each run: only R is given, its outputs feed back.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from xapps.microgrid_guard.model import AGENTS, HIDDEN, MODEL_PATH, PERIOD_S, SEQUENCE

WARM_UP = 50
"""Steps of a sequence that count for nothing: the network's state starts empty."""
LARGE_STEP = 0.05
"""Change of R within one period that makes a load step large [1]."""
TRAIN_SHARE = 0.6
BATCH = 96
WINDOW = 50
COMMAND = "python -m xapps.microgrid_guard.train"


class AgentTwin(nn.Module):
    """One LSTM step; see `model.py` for inputs and outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(1 + AGENTS, HIDDEN)
        self.head = nn.Linear(HIDDEN, AGENTS)

    def forward(
        self, features: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Contribution factors (B, AGENTS) and the next state."""
        next_hidden, next_cell = self.cell(features, (hidden, cell))
        return features[:, :1] + self.head(next_hidden), next_hidden, next_cell


def run_freely(network: AgentTwin, reference_r: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """Outputs (B, T, AGENTS) for R (B, T): rates come from the outputs themselves, which follow `first`."""
    batch = reference_r.shape[0]
    hidden = cell = torch.zeros(batch, HIDDEN)
    last, rate = first, torch.zeros(batch, AGENTS)
    outputs = []
    for step in range(reference_r.shape[1]):
        features = torch.cat((reference_r[:, step : step + 1], rate), dim=1)
        factor, hidden, cell = network(features, hidden, cell)
        rate, last = (factor - last) / PERIOD_S, factor
        outputs.append(factor)
    return torch.stack(outputs, dim=1)


def windows(
    reference_r: NDArray[np.float32], factors: NDArray[np.float32], rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """BATCH random sequences of R and contribution factors, half of them around a large load step."""
    runs = rng.integers(0, reference_r.shape[0], BATCH)
    starts = rng.integers(0, reference_r.shape[1] - SEQUENCE, BATCH)
    jumps = np.argwhere(np.abs(np.diff(reference_r, axis=1)) > LARGE_STEP)
    chosen = jumps[rng.integers(0, len(jumps), BATCH // 2)] if len(jumps) else np.empty((0, 2), dtype=np.int64)
    runs[: len(chosen)] = chosen[:, 0]
    before = rng.integers(WARM_UP, SEQUENCE - WARM_UP // 2, len(chosen))
    starts[: len(chosen)] = np.clip(chosen[:, 1] - before, 0, reference_r.shape[1] - SEQUENCE)
    steps = starts[:, None] + np.arange(SEQUENCE)
    return torch.from_numpy(reference_r[runs[:, None], steps]), torch.from_numpy(factors[runs[:, None], steps])


def fit(reference_r: NDArray[np.float32], factors: NDArray[np.float32], *, rounds: int, seed: int) -> AgentTwin:
    """A network trained by Adam on the mean squared error of free runs."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = AgentTwin()
    optimiser = torch.optim.Adam(network.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, rounds)
    best, best_loss, recent = copy.deepcopy(network.state_dict()), float("inf"), 0.0
    for index in range(1, rounds + 1):
        r, truth = windows(reference_r, factors, rng)
        outputs = run_freely(network, r, r[:, :1].expand(-1, AGENTS))
        loss = ((outputs - truth)[:, WARM_UP:] ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 0.05)
        optimiser.step()
        schedule.step()
        recent += float(loss.detach()) / WINDOW
        if index % WINDOW == 0:
            # Feedback makes training jumpy: what is exported is the best of all windows, not the last one.
            if recent < best_loss:
                best, best_loss = copy.deepcopy(network.state_dict()), recent
            print(f"round {index}/{rounds}: rmse {recent**0.5:.5f}", flush=True)  # noqa: T201
            recent = 0.0
    network.load_state_dict(best)
    network.eval()
    return network


def judge(
    network: AgentTwin, reference_r: NDArray[np.float32], factors: NDArray[np.float32], ids: list[str]
) -> dict[str, object]:
    """Held-out figures of free runs; beside them those of R itself, the expectation that needs no twin."""
    with torch.no_grad():
        r = torch.from_numpy(reference_r)
        outputs = run_freely(network, r, r[:, :1].expand(-1, AGENTS)).numpy()
    error, crude = (outputs - factors)[:, WARM_UP:], (reference_r[:, :, None] - factors)[:, WARM_UP:]
    rmse = np.sqrt((error**2).mean(axis=(0, 1)))
    return {
        "samples": int(error.shape[0] * error.shape[1]),
        "rmse": {name: round(float(value), 6) for name, value in zip(ids, rmse, strict=True)},
        "largest_error": round(float(np.abs(error).max()), 5),
        "rmse_of_reference_r": round(float(np.sqrt((crude**2).mean())), 5),
        "largest_error_of_reference_r": round(float(np.abs(crude).max()), 5),
    }


def export(network: AgentTwin, path: Path) -> None:
    """Write the ONNX file."""
    state = torch.zeros(1, HIDDEN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter announces its successor, which needs one more package
        torch.onnx.export(
            network,
            (torch.zeros(1, 1 + AGENTS), state, state),
            str(path),
            input_names=["features", "hidden", "cell"],
            output_names=["contribution_factor", "next_hidden", "next_cell"],
            dynamo=False,
            opset_version=17,
        )


def main(arguments: list[str] | None = None) -> None:
    """Train, export and write the model card."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="runs made by `python -m e2sim microgrids`")
    parser.add_argument("--out", type=Path, default=MODEL_PATH, help="ONNX file to write")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2500)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with np.load(options.data) as data:
        reference_r, factors, ids = data["reference_r"], data["contribution_factor"], data["ids"].tolist()
        seeds = data["seeds"].tolist()
    cut = round(TRAIN_SHARE * len(reference_r))
    network = fit(reference_r[:cut], factors[:cut], rounds=options.rounds, seed=options.seed)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    export(network, options.out)
    card = {
        "model": "LSTM, one layer, explicit state, one step of 100 ms; output corrects R",
        "data": f"healthy runs of 100 ms, {reference_r.shape[1] * PERIOD_S / 60:g} min each, seeds {seeds}",
        "data_command": f"python -m e2sim microgrids --out runs.npz --seeds {len(seeds)}",
        "command": f"{COMMAND} --data runs.npz --seed {options.seed} --rounds {options.rounds}",
        "training_seeds": seeds[:cut],
        "held_out_seeds": seeds[cut:],
        "held_out": judge(network, reference_r[cut:], factors[cut:], ids),
        "seed": options.seed,
        "sha256": hashlib.sha256(options.out.read_bytes()).hexdigest(),
    }
    card_path = options.out.with_name("model_card.json")
    card_path.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(card["held_out"]))  # noqa: T201


if __name__ == "__main__":
    main()
