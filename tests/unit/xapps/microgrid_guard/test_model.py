import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from ric.errors import TwinRicError
from ric.learned import load_model
from xapps.microgrid_guard.model import HIDDEN, INPUTS, MODEL_PATH, OUTPUTS, TwinMemory, primed, stepped


def test_primed_rests_at_r_over_the_whole_range():
    network = load_model(MODEL_PATH, INPUTS, OUTPUTS)
    for r in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9):
        memory = primed(network, r)
        assert memory.contribution_factor == pytest.approx(r, abs=0.02)
        assert memory.rate == pytest.approx(0.0, abs=0.02)


def test_stepped_feeds_its_own_rate_back():
    class Ramp:
        def run(self, **inputs):
            self.features = inputs["features"]
            return [np.full((1, 3), 0.5, dtype=np.float32), inputs["hidden"], inputs["cell"]]

    network, zero = Ramp(), np.zeros((1, HIDDEN), dtype=np.float32)
    memory = TwinMemory(zero, zero, np.array([0.4, 0.5, 0.6], dtype=np.float32), np.zeros(3, dtype=np.float32))
    memory = stepped(network, memory, 0.7)
    assert network.features[0] == pytest.approx([0.7, 0, 0, 0])
    assert memory.rate == pytest.approx([1.0, 0.0, -1.0], abs=1e-5)
    stepped(network, memory, 0.8)
    assert network.features[0] == pytest.approx([0.8, 1.0, 0.0, -1.0], abs=1e-5)


def test_shipped_model_is_the_one_in_its_card():
    card = json.loads(MODEL_PATH.with_name("model_card.json").read_text())
    assert card["sha256"] == hashlib.sha256(MODEL_PATH.read_bytes()).hexdigest()
    assert max(card["held_out"]["rmse"].values()) < 0.002
    assert not set(card["training_seeds"]) & set(card["held_out_seeds"])


def test_load_model_missing_or_of_other_shape_is_refused(tmp_path: Path):
    with pytest.raises(TwinRicError, match="MODEL-MISSING"):
        load_model(tmp_path / "none.onnx", INPUTS, OUTPUTS)
    with pytest.raises(TwinRicError, match="MODEL-SHAPE"):
        load_model(MODEL_PATH, {**INPUTS, "hidden": (1, HIDDEN + 1)}, OUTPUTS)
    (tmp_path / "torn.onnx").write_bytes(MODEL_PATH.read_bytes()[:100])
    with pytest.raises(TwinRicError, match="MODEL-SHAPE"):
        load_model(tmp_path / "torn.onnx", INPUTS, OUTPUTS)
