"""The networks that training fits, and their export to ONNX: forecaster, actor, critic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from xapps.slice_bandwidth.forecast import COLUMNS, OUTPUTS
from xapps.slice_bandwidth.lattice import SPLITS
from xapps.slice_bandwidth.rl_agent import BASE, FEATURES, MOVE, MOVE_WEIGHT

__all__ = ["ForecastNet", "ScoreNet", "ValueNet", "export_actor", "export_forecaster", "log_probabilities"]

PICK = torch.zeros(63, len(SPLITS)).scatter_(0, torch.from_numpy((SPLITS * 3 + np.arange(3)).T.copy()), 1.0)
"""(63, 525): which three scores make a split's logit."""
NEVER = -1e9
SHOWN = torch.ones(FEATURES)
SHOWN[[MOVE - 1, MOVE]] = 0.0
"""Columns that the actor's perceptron sees."""
SHARPNESS = 3.4
"""Log of how much a unit of cost weighs in the logits at first; low, and exploring drowns what choices differ by."""


def _perceptron(inputs: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)
    )


class ForecastNet(nn.Module):
    """Quantiles (R, OUTPUTS) of log(load / last load) from rows (R, COLUMNS)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = _perceptron(COLUMNS, width, OUTPUTS)

    def forward(self, rows: Any) -> Any:
        """See the class."""
        return self.body(rows)


class ScoreNet(nn.Module):
    """Scores (R,) of feature rows (R, FEATURES): minus the expected cost, corrected by a perceptron, sharpened.

    The perceptron does not see how far a count is from the one in force: what holding still is worth is one learned
    weight on the price of moving, else the actor takes the habit of the commonest policies to those that price moves
    dearly.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = _perceptron(FEATURES, width, 1)
        nn.init.zeros_(self.body[4].weight)
        nn.init.zeros_(self.body[4].bias)
        self.log_sharpness = nn.Parameter(torch.tensor(SHARPNESS))
        self.move_weight = nn.Parameter(torch.tensor(MOVE_WEIGHT))
        self.register_buffer("shown", SHOWN)

    def forward(self, rows: Any) -> Any:
        """See the class."""
        prior = -rows[..., BASE] - self.move_weight * rows[..., MOVE]
        return (self.body(rows * self.shown)[..., 0] + prior) * self.log_sharpness.exp()


class ValueNet(nn.Module):
    """Discounted reward to come from the three slices' rows at their present slot counts (..., 3 x FEATURES)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(3 * FEATURES, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)
        )

    def forward(self, rows: Any) -> Any:
        """See the class."""
        return self.body(rows)[..., 0]


def log_probabilities(net: Any, rows: Any, mask: Any) -> Any:
    """(B, 525) from feature rows (B, 21, 3, FEATURES) and permitted splits (B, 525)."""
    logits = (net(rows).flatten(-2) @ PICK).masked_fill(~mask, NEVER)
    return torch.log_softmax(logits, dim=-1)


def _layers(body: nn.Sequential) -> tuple[list[Any], dict[str, Any], str]:
    """Nodes and weights of a perceptron that reads `rows`, and the name of what it gives."""
    nodes, arrays, name = [], {}, "rows"
    for layer in (0, 2, 4):
        linear = body[layer]
        assert isinstance(linear, nn.Linear)  # our own module, not a peer's input
        arrays[f"w{layer}"] = linear.weight.detach().numpy().T.copy()
        arrays[f"b{layer}"] = linear.bias.detach().numpy()
        nodes.append(onnx.helper.make_node("Gemm", [name, f"w{layer}", f"b{layer}"], [f"y{layer}"]))
        name = f"y{layer}"
        if layer < 4:
            nodes.append(onnx.helper.make_node("Relu", [name], [f"a{layer}"]))
            name = f"a{layer}"
    return nodes, arrays, name


def _save(name: str, nodes: list[Any], arrays: dict[str, Any], shapes: tuple[list[Any], list[Any]], path: Path) -> None:
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    output = nodes[-1].output[0]
    graph = helper.make_graph(
        nodes, name,
        [helper.make_tensor_value_info("rows", float32, shapes[0])],
        [helper.make_tensor_value_info(output, float32, shapes[1])],
        [onnx.numpy_helper.from_array(value, key) for key, value in arrays.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))


def export_forecaster(net: ForecastNet, path: Path) -> None:
    """Write the forecaster as ONNX: input `rows` (R, COLUMNS), output `quantiles` (R, OUTPUTS)."""
    nodes, arrays, name = _layers(net.body)
    nodes.append(onnx.helper.make_node("Identity", [name], ["quantiles"]))
    _save("slice_bandwidth_forecaster", nodes, arrays, (["R", COLUMNS], ["R", OUTPUTS]), path)


def export_actor(net: ScoreNet, path: Path) -> None:
    """Write the actor as ONNX: input `rows` (R, FEATURES), output `scores` (R,)."""
    nodes, arrays, name = _layers(net.body)
    arrays["w0"] = arrays["w0"] * SHOWN.numpy()[:, None]
    prior = np.zeros((FEATURES, 1), dtype=np.float32)
    prior[BASE, 0], prior[MOVE, 0] = -1.0, -float(net.move_weight.detach())
    arrays |= {"prior": prior, "sharpness": net.log_sharpness.detach().exp().numpy().reshape(1), "last": np.array([1])}
    make = onnx.helper.make_node
    nodes += [
        make("MatMul", ["rows", "prior"], ["base"]),
        make("Add", [name, "base"], ["sum"]),
        make("Mul", ["sum", "sharpness"], ["sharp"]),
        make("Squeeze", ["sharp", "last"], ["scores"]),
    ]
    _save("slice_bandwidth_actor", nodes, arrays, (["R", FEATURES], ["R"]), path)
