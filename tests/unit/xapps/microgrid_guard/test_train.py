import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ric.learned import load_model
from xapps.microgrid_guard import train
from xapps.microgrid_guard.model import INPUTS, OUTPUTS, primed


def runs(path: Path) -> Path:
    rng = np.random.default_rng(1)
    r = np.repeat(rng.uniform(0.2, 0.8, (5, 6)), 50, axis=1).astype(np.float32)
    np.savez(path, seeds=np.arange(5), ids=np.array(["MG1", "MG2", "MG3"]), reference_r=r,
             contribution_factor=np.repeat(r[:, :, None], 3, axis=2))  # fmt: skip
    return path


def test_main_exports_a_model_that_loads_and_a_card_that_fits(tmp_path: Path):
    out = tmp_path / "twin.onnx"
    train.main(["--data", str(runs(tmp_path / "runs.npz")), "--out", str(out), "--rounds", "2"])
    assert np.isfinite(primed(load_model(out, INPUTS, OUTPUTS), 0.5).contribution_factor).all()
    card = json.loads((tmp_path / "model_card.json").read_text())
    assert (card["training_seeds"], card["held_out_seeds"]) == ([0, 1, 2], [3, 4])


def test_export_steps_as_the_network_does(tmp_path: Path):
    torch.manual_seed(3)
    network = train.AgentTwin().eval()
    train.export(network, tmp_path / "twin.onnx")
    inputs = {name: np.random.default_rng(2).normal(size=shape).astype(np.float32) for name, shape in INPUTS.items()}
    ours = load_model(tmp_path / "twin.onnx", INPUTS, OUTPUTS).run(**inputs)
    with torch.no_grad():
        theirs = network(*(torch.from_numpy(inputs[name]) for name in ("features", "hidden", "cell")))
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other.numpy(), abs=1e-5)


def test_run_freely_sees_r_only():
    network = train.AgentTwin().eval()
    r = torch.rand(2, 30)
    with torch.no_grad():
        once, again = (train.run_freely(network, r, r[:, :1].expand(-1, 3)) for _ in range(2))
    assert once.shape == (2, 30, 3)
    assert torch.equal(once, again)
