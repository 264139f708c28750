"""Trains the two LSTM twins and exports them to ONNX.

`python -m rapps.demand_twin.train 15min` learns from the load profiles of the SimBench package;
`python -m rapps.demand_twin.train 1min --minutes FILE` from a file of minute means in the form of the UCI set
"Individual household electric power consumption" (columns timestamp, active_kw).

Held out from training: whole profiles (HELD_OUT_PROFILES) and, of all profiles, every fourth ISO week; the 1-min model
holds out the last 40 % of its file. The figures in the model card are of held-out data only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from rapps.demand_twin.config import MODELS
from rapps.demand_twin.model import FEATURES, QUANTILES, model_inputs, row_scale
from rapps.demand_twin.state import FIFTEEN_MINUTES, ONE_MINUTE, Resolution

HELD_OUT_PROFILES = ("H0-C_pload", "H0-L_pload", "G1-B_pload", "L1-A_pload")
PROFILE_PREFIXES = ("H0", "G0", "G1", "G2", "G3", "G4", "G5", "G6", "L0", "L1", "L2", "BL")
HELD_OUT_WEEK = 4
HIDDEN = 48
Windows = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]
"""Histories (B, history) [kW], their end times (B,) [ns] and what followed (B, horizon) [kW]."""


class QuantileLstm(nn.Module):
    """LSTM over the past, then one small decoder per coming step; its output corrects the seasonal mean."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.LSTM(FEATURES, HIDDEN, batch_first=True)
        self.decoder = nn.Sequential(
            nn.Linear(HIDDEN + FEATURES, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, len(QUANTILES))
        )

    def forward(self, past: torch.Tensor, future: torch.Tensor) -> torch.Tensor:
        """Quantiles (N, horizon, 3) over the row's scale."""
        _, (hidden, _) = self.encoder(past)
        context = hidden[-1].unsqueeze(1).expand(-1, future.shape[1], -1)
        seasonal = future[:, :, :2].mean(dim=2, keepdim=True)
        return seasonal + self.decoder(torch.cat([context, future], dim=2))


def pinball(predicted: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Mean quantile loss over (N, horizon, 3)."""
    error = truth.unsqueeze(2) - predicted
    levels = torch.tensor(QUANTILES)
    return torch.maximum(levels * error, (levels - 1) * error).mean()


def simbench_series() -> tuple[dict[str, NDArray[np.float64]], NDArray[np.int64]]:
    """SimBench load profiles (per unit) and their times [ns], 15 min, the year 2016."""
    path = resources.files("simbench") / "networks" / "1-complete_data-mixed-all-1-sw" / "LoadProfile.csv"
    frame = pd.read_csv(str(path), sep=";")
    stamps = pd.date_range("2016-01-01", periods=len(frame), freq="15min")
    names = [n for n in frame.columns if n.endswith("_pload") and n.split("-")[0] in PROFILE_PREFIXES]
    return {name: frame[name].to_numpy(float) for name in names}, stamps.as_unit("ns").asi8


def windows_at(
    series: NDArray[np.float64], times_ns: NDArray[np.int64], ends: NDArray[np.int64], resolution: Resolution
) -> Windows:
    """Windows of `series` whose history ends before index `ends`."""
    back = ends[:, None] + np.arange(-resolution.history, 0)
    ahead = ends[:, None] + np.arange(resolution.horizon)
    return series[back], times_ns[ends], series[ahead]


def concatenate(parts: list[Windows]) -> Windows:
    """All windows of `parts`."""
    histories, ends, truths = zip(*parts, strict=True)
    return np.concatenate(histories), np.concatenate(ends), np.concatenate(truths)


def tensors(windows: Windows, resolution: Resolution) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Model inputs and scaled truth."""
    histories, ends, truths = windows
    parts: list[tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]] = []
    for end in np.unique(ends):
        rows = ends == end
        parts.append((np.flatnonzero(rows), *model_inputs(histories[rows], int(end), resolution)))
    back = np.argsort(np.concatenate([rows for rows, _, _ in parts]))
    past = np.concatenate([past for _, past, _ in parts])[back]
    future = np.concatenate([future for _, _, future in parts])[back]
    truth = (truths / row_scale(histories)).astype(np.float32)
    return torch.from_numpy(past), torch.from_numpy(future), torch.from_numpy(truth)


def fit(train: Windows, resolution: Resolution, *, epochs: int, seed: int) -> QuantileLstm:
    """A network trained by Adam on the quantile loss."""
    torch.manual_seed(seed)
    past, future, truth = tensors(train, resolution)
    network = QuantileLstm()
    batch = 256
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    rounds = epochs * (len(past) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, rounds)
    for epoch in range(epochs):
        shuffled = torch.randperm(len(past))
        total = 0.0
        for start in range(0, len(past) - batch + 1, batch):
            rows = shuffled[start : start + batch]
            loss = pinball(network(past[rows], future[rows]), truth[rows])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total += float(loss)
        print(f"epoch {epoch + 1}/{epochs}: loss {total / (len(past) // batch):.4f}", flush=True)  # noqa: T201
    network.eval()
    return network


def judge(network: QuantileLstm, windows: Windows, resolution: Resolution) -> dict[str, float]:
    """Held-out figures beside the seasonal-naive forecast, all in units of the series' mean."""
    past, future, truth = tensors(windows, resolution)
    with torch.no_grad():
        predicted = network(past, future).sort(dim=2).values.clamp(min=0)
    naive = future[:, :, 0]
    spread = (future[:, :, 0] - future[:, :, 1]).abs()
    naive_quantiles = torch.stack([(naive - spread).clamp(min=0), naive, naive + spread], dim=2)
    covered = ((truth >= predicted[:, :, 0]) & (truth <= predicted[:, :, 2])).float().mean()
    return {
        "windows": float(len(past)),
        "mae": round(float((predicted[:, :, 1] - truth).abs().mean()), 4),
        "mae_seasonal_naive": round(float((naive - truth).abs().mean()), 4),
        "pinball": round(float(pinball(predicted, truth)), 4),
        "pinball_seasonal_naive": round(float(pinball(naive_quantiles, truth)), 4),
        "coverage_p10_p90": round(float(covered), 4),
    }


def export(network: QuantileLstm, resolution: Resolution, path: Path) -> None:
    """Write the ONNX file."""
    example = (torch.zeros(2, resolution.past, FEATURES), torch.zeros(2, resolution.horizon, FEATURES))
    names = {"input_names": ["past", "future"], "output_names": ["quantiles"]}
    axes = {name: {0: "rows"} for name in ("past", "future", "quantiles")}
    torch.onnx.export(network, example, str(path), dynamic_axes=axes, dynamo=False, opset_version=17, **names)


def fifteen_minutes(seed: int, epochs: int) -> tuple[QuantileLstm, dict[str, object]]:
    """Train on SimBench profiles."""
    series, times_ns = simbench_series()
    rng = np.random.default_rng(seed)
    weeks = pd.to_datetime(times_ns).isocalendar().week.to_numpy(dtype=int)
    resolution = FIFTEEN_MINUTES
    indices = np.arange(resolution.history, len(times_ns) - resolution.horizon)
    touched = weeks[indices] % HELD_OUT_WEEK == 0
    touched |= weeks[indices + resolution.horizon - 1] % HELD_OUT_WEEK == 0
    train, new_weeks, new_profiles = [], [], []
    for name, values in series.items():
        if name in HELD_OUT_PROFILES:
            ends = rng.choice(indices[touched], 400, replace=False)
            new_profiles.append(windows_at(values, times_ns, ends, resolution))
            continue
        ends = rng.choice(indices[~touched], 2500, replace=False)
        train.append(windows_at(values, times_ns, ends, resolution))
        ends = rng.choice(indices[touched], 150, replace=False)
        new_weeks.append(windows_at(values, times_ns, ends, resolution))
    network = fit(concatenate(train), resolution, epochs=epochs, seed=seed)
    card: dict[str, object] = {
        "data": "SimBench load profiles (PyPI package simbench), 15 min, 2016",
        "held_out_profiles": list(HELD_OUT_PROFILES),
        "held_out_weeks": f"ISO weeks divisible by {HELD_OUT_WEEK}",
        "metrics_unit": "mean of the series = 1",
        "held_out_weeks_metrics": judge(network, concatenate(new_weeks), resolution),
        "held_out_profiles_and_weeks_metrics": judge(network, concatenate(new_profiles), resolution),
    }
    return network, card


def one_minute(path: Path, seed: int, epochs: int) -> tuple[QuantileLstm, dict[str, object]]:
    """Train on the first 60 % of a file of minute means."""
    frame = pd.read_csv(path, parse_dates=["timestamp"])
    values = frame["active_kw"].interpolate().to_numpy(float)
    times_ns = pd.DatetimeIndex(frame["timestamp"]).as_unit("ns").asi8
    resolution = ONE_MINUTE
    split = int(0.6 * len(values))
    rng = np.random.default_rng(seed)
    ends = rng.integers(resolution.history, split - resolution.horizon, 20_000)
    held_out = rng.integers(split + resolution.history, len(values) - resolution.horizon, 3_000)
    network = fit(windows_at(values, times_ns, ends, resolution), resolution, epochs=epochs, seed=seed)
    card: dict[str, object] = {
        "data": f"UCI Individual household electric power consumption (CC BY 4.0), {path.name}, first 60 %",
        "metrics_unit": "mean of the window = 1",
        "held_out_last_40_percent_metrics": judge(
            network, windows_at(values, times_ns, held_out, resolution), resolution
        ),
    }
    return network, card


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train a demand twin and export it to ONNX.")
    parser.add_argument("resolution", choices=["15min", "1min"])
    parser.add_argument("--minutes", type=Path, help="minute means for the 1-min twin (columns timestamp, active_kw)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, default=MODELS)
    options = parser.parse_args()
    torch.set_num_threads(2)
    if options.resolution == "15min":
        network, card = fifteen_minutes(options.seed, options.epochs)
        resolution, command = FIFTEEN_MINUTES, "python -m rapps.demand_twin.train 15min"
    elif options.minutes is None:
        parser.error("1min needs --minutes FILE")
    else:
        network, card = one_minute(options.minutes, options.seed, options.epochs)
        resolution, command = ONE_MINUTE, f"python -m rapps.demand_twin.train 1min --minutes {options.minutes.name}"
    path = options.out / f"demand_{options.resolution}.onnx"
    export(network, resolution, path)
    card |= {
        "command": f"{command} --seed {options.seed} --epochs {options.epochs}",
        "seed": options.seed,
        "quantiles": list(QUANTILES),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    (options.out / f"demand_{options.resolution}.card.json").write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
