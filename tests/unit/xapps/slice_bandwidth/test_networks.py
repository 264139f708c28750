"""The exports are the networks; before training the actor is its prior."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ric.learned import load_model  # noqa: E402
from xapps.slice_bandwidth import networks  # noqa: E402
from xapps.slice_bandwidth.forecast import COLUMNS, OUTPUTS  # noqa: E402
from xapps.slice_bandwidth.lattice import SPLITS  # noqa: E402
from xapps.slice_bandwidth.rl_agent import BASE, FEATURES, MOVE, MOVE_WEIGHT, split_logits  # noqa: E402


def rows(number, columns, seed=0):
    return np.random.default_rng(seed).normal(size=(number, columns)).astype(np.float32)


def run(net, given):
    with torch.no_grad():
        return net(torch.from_numpy(given)).numpy()


def test_export_actor_against_the_network(tmp_path):
    torch.manual_seed(0)
    net = networks.ScoreNet(8)
    torch.nn.init.normal_(net.body[4].weight)
    networks.export_actor(net, tmp_path / "a.onnx")
    model = load_model(tmp_path / "a.onnx", {"rows": (-1, FEATURES)}, {"scores": (-1,)})
    given = rows(63, FEATURES)
    assert model.run(rows=given)[0] == pytest.approx(run(net, given), rel=1e-4, abs=1e-3)


def test_export_forecaster_against_the_network(tmp_path):
    torch.manual_seed(0)
    net = networks.ForecastNet(8)
    networks.export_forecaster(net, tmp_path / "f.onnx")
    model = load_model(tmp_path / "f.onnx", {"rows": (-1, COLUMNS)}, {"quantiles": (-1, OUTPUTS)})
    given = rows(3, COLUMNS)
    assert model.run(rows=given)[0] == pytest.approx(run(net, given), abs=1e-5)


def test_untrained_actor_scores_as_the_prior_times_its_sharpness():
    given = rows(63, FEATURES, 1)
    prior = -given[:, BASE] - MOVE_WEIGHT * given[:, MOVE]
    assert run(networks.ScoreNet(8), given) == pytest.approx(np.exp(networks.SHARPNESS) * prior, rel=1e-4, abs=1e-3)


def test_actor_sees_the_move_through_its_price_alone():
    torch.manual_seed(1)
    net = networks.ScoreNet(8)
    torch.nn.init.normal_(net.body[4].weight)
    given = rows(10, FEATURES)
    other = given.copy()
    other[:, MOVE - 1] += 3
    assert np.array_equal(run(net, given), run(net, other))


def test_log_probabilities_are_those_of_the_permitted_splits_sums():
    net, mask = networks.ScoreNet(8), torch.zeros(2, 525, dtype=torch.bool)
    mask[:, 10:60] = True
    given = torch.from_numpy(rows(2 * 63, FEATURES)).reshape(2, 21, 3, FEATURES)
    with torch.no_grad():
        got, scores = networks.log_probabilities(net, given, mask).numpy(), net(given).numpy()
    logits = split_logits(scores)[:, 10:60]
    expected = logits - np.log(np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True))
    assert got[:, 10:60] == pytest.approx(expected - logits.max(axis=1, keepdims=True), abs=1e-3)
    assert len(SPLITS) == 525
