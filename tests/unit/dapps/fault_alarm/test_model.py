"""The classifier's input, and the shipped file: it loads, keeps its shapes and beats what its card admits."""

import hashlib
import json

import numpy as np
import pytest

from dapps.fault_alarm.config import MODELS, FaultAlarmConfig
from dapps.fault_alarm.model import CHANNELS, KINDS, features, load_classifier
from dapps.fault_alarm.state import CYCLE, FTUS
from ric.errors import TwinRicError


def test_features_sound_cycle_changes_nothing():
    cycle = np.random.default_rng(0).normal(0, 1_000, (FTUS, 6, CYCLE)).astype(np.float32)
    made = features(cycle, cycle)
    assert made.shape == (FTUS, CHANNELS, CYCLE)
    assert not made[:, 6:12].any()


def test_features_batch_equals_single():
    rng = np.random.default_rng(1)
    cycle, reference = rng.normal(0, 1_000, (2, 3, FTUS, 6, CYCLE)).astype(np.float32)
    together = features(cycle, reference)
    assert np.array_equal(together[1], features(cycle[1], reference[1]))


def test_features_stay_small_for_short_circuits():
    cycle = np.full((FTUS, 6, CYCLE), 30_000, dtype=np.float32)
    assert np.abs(features(cycle, np.zeros_like(cycle))).max() < 12


def test_shipped_model_is_the_one_of_its_card():
    card = json.loads((MODELS / "model_card.json").read_text())
    assert hashlib.sha256(FaultAlarmConfig().model_path.read_bytes()).hexdigest() == card["sha256"]


def test_shipped_model_takes_a_sound_feeder_for_sound():
    model = load_classifier(FaultAlarmConfig().model_path)
    angle = 2 * np.pi * np.arange(CYCLE) / CYCLE - 2 * np.pi / 3 * np.arange(3)[:, None]
    cycle = np.concatenate([80 * np.sin(angle - 0.3), 8_500 * np.sin(angle)]).astype(np.float32)
    cycle = np.broadcast_to(cycle, (FTUS, 6, CYCLE)).copy()
    cycle[:, :3] *= np.array([4, 3, 2, 1])[:, None, None]
    kind, section = model.run(cycle=features(cycle, cycle)[None])
    assert kind.shape == (1, len(KINDS))
    assert section.shape == (1, FTUS + 1)
    assert kind.argmax() == 0


def test_load_classifier_missing_and_wrong_files_are_named(tmp_path):
    with pytest.raises(TwinRicError, match="MODEL-MISSING"):
        load_classifier(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(TwinRicError, match="MODEL-SHAPE"):
        load_classifier(tmp_path / "bad.onnx")
