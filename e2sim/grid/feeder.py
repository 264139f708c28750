"""The low-voltage feeder: power flow of the SimBench grid with the homes, the other customers and the storage on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from power_grid_model import (
    CalculationMethod,
    ComponentType,
    DatasetType,
    LoadGenType,
    PowerGridModel,
    WindingType,
    initialize_array,
)

from e2sim.grid.simbench_profiles import LvGrid
from ric.clock import to_ns
from ric.columns import SUBSTITUTED, Table
from ric.errors import TwinRicError

__all__ = ["Feeder", "FeederFlow", "FeederInputs", "PowerFlow"]

Floats = NDArray[np.float64]

HOUSEHOLD_TAN_PHI = 0.33
"""Reactive over active power of ordinary customers; inverters, chargers and heat pumps run at unity."""


_RESULTS = {ComponentType.node, ComponentType.line, ComponentType.transformer, ComponentType.source}


@dataclass(frozen=True)
class FeederFlow:
    """Result of one power flow: [kW], [%], [pu]."""

    import_kw: float
    loading_pct: float
    voltage_min_pu: float
    voltage_max_pu: float
    losses_kw: float
    voltages_pu: Floats


@dataclass(frozen=True)
class FeederInputs:
    """What the feeder asks for at each step; powers > 0 consume."""

    home_node: NDArray[np.int64]
    home_kw: Callable[[], Floats]
    """(N,) meter powers of the homes [kW]."""
    other_kw: Callable[[float], tuple[Floats, Floats]]
    """Loads and generators that are no part of a home, at a time [kW]."""
    other_nodes: tuple[NDArray[np.int64], NDArray[np.int64]]
    storage_kw: Callable[[], float]
    """Power of the community storage [kW]."""
    price: Callable[[float], tuple[float, float]]
    """Import and export tariff at a time [EUR/kWh]."""


class PowerFlow:
    """Balanced power flow on `grid` by power-grid-model. Against: pandapower, tests/unit/e2sim/grid/test_feeder.py."""

    def __init__(self, grid: LvGrid) -> None:
        self._grid = grid
        self._model = PowerGridModel(_input(grid), system_frequency=50.0)
        self._update = initialize_array(DatasetType.update, ComponentType.sym_load, grid.node_count - 1)
        self._update["id"] = _LOAD_ID + np.arange(1, grid.node_count)

    def solve(self, p_kw: Floats, q_kvar: Floats) -> FeederFlow:
        """Flow for node powers (node_count,) [kW], [kvar], node 0 (the MV side) left out.

        Raises RuntimeError (power-grid-model's PowerGridError) when there is no solution (voltage collapse).
        """
        self._update["p_specified"], self._update["q_specified"] = p_kw[1:] * 1e3, q_kvar[1:] * 1e3
        self._model.update(update_data={ComponentType.sym_load: self._update})
        result = self._model.calculate_power_flow(
            calculation_method=CalculationMethod.newton_raphson,
            output_component_types=_RESULTS,
        )
        volts = result[ComponentType.node]["u_pu"][1:]
        line, trafo = result[ComponentType.line], result[ComponentType.transformer]
        losses = float((line["p_from"] + line["p_to"]).sum() + (trafo["p_from"] + trafo["p_to"]).sum()) / 1e3
        return FeederFlow(
            import_kw=float(result[ComponentType.source]["p"].sum()) / 1e3,
            loading_pct=float(trafo["loading"].max()) * 100,
            voltage_min_pu=float(volts.min()),
            voltage_max_pu=float(volts.max()),
            losses_kw=losses,
            voltages_pu=volts.copy(),
        )


class Feeder:
    """A `GridPart` without set-points: the table `feeder_report` at the end of each step."""

    set_point_kinds: frozenset[str] = frozenset()

    def __init__(self, grid: LvGrid, inputs: FeederInputs, *, node_id: str) -> None:
        self._grid, self._inputs, self._node_id = grid, inputs, node_id
        self._flow = PowerFlow(grid)
        self._last = FeederFlow(0, 0, 1, 1, 0, np.ones(grid.node_count - 1))
        self.failures = 0

    def step(self, end_s: float, dt_s: float) -> Sequence[Table]:
        """Power flow with the means of the step; where it has no solution the last values stand in, marked."""
        inputs = self._inputs
        p_kw, q_kvar = np.zeros(self._grid.node_count), np.zeros(self._grid.node_count)
        loads, units = inputs.other_kw(end_s - dt_s)
        np.add.at(p_kw, inputs.other_nodes[0], loads)
        np.add.at(q_kvar, inputs.other_nodes[0], HOUSEHOLD_TAN_PHI * loads)
        np.add.at(p_kw, inputs.other_nodes[1], -units)
        np.add.at(p_kw, inputs.home_node, inputs.home_kw())
        p_kw[self._grid.trafo_node] += inputs.storage_kw()
        quality: dict[str, NDArray[np.uint8]] = {}
        try:
            self._last = self._flow.solve(p_kw, q_kvar)
        except RuntimeError:
            self.failures += 1
            quality = {name: np.array([SUBSTITUTED], dtype=np.uint8) for name in ("import_kw", "loading_pct")}
        flow = self._last
        buy, sell = inputs.price(end_s)
        columns = {
            "import_kw": flow.import_kw, "loading_pct": flow.loading_pct, "voltage_min_pu": flow.voltage_min_pu,
            "voltage_max_pu": flow.voltage_max_pu, "losses_kw": flow.losses_kw, "buy_price": buy, "sell_price": sell,
        }  # fmt: skip
        table = {name: np.array([value]) for name, value in columns.items()}
        return [Table("feeder_report", (self._node_id,), table, to_ns(end_s), quality)]

    def apply(self, set_points: Table, valid_until_s: float) -> Table:
        """Raises TwinRicError E2-RANGE: a feeder takes no set-points."""
        del valid_until_s
        raise TwinRicError("E2-RANGE", "set_points.kind", set_points.kind, "(none)")


_LINE_ID, _TRAFO_ID, _SOURCE_ID, _LOAD_ID = 100_000, 200_000, 200_001, 300_000
_DYN5 = 5


def _input(grid: LvGrid) -> dict[ComponentType, Any]:
    trafo = grid.trafo
    node = initialize_array(DatasetType.input, ComponentType.node, grid.node_count)
    node["id"] = np.arange(grid.node_count)
    node["u_rated"] = [trafo["u1_kv"] * 1e3] + [trafo["u2_kv"] * 1e3] * (grid.node_count - 1)
    line = initialize_array(DatasetType.input, ComponentType.line, len(grid.line_ends))
    line["id"] = _LINE_ID + np.arange(len(grid.line_ends))
    line["from_node"], line["to_node"] = grid.line_ends.T
    line["from_status"] = line["to_status"] = 1
    line["r1"], line["x1"] = grid.line_ohm.T
    line["c1"], line["tan1"], line["i_n"] = grid.line_c_f, 0.0, grid.line_ka * 1e3
    unit = initialize_array(DatasetType.input, ComponentType.transformer, 1)
    for name, value in {
        "id": _TRAFO_ID, "from_node": 0, "to_node": grid.trafo_node, "from_status": 1, "to_status": 1,
        "u1": trafo["u1_kv"] * 1e3, "u2": trafo["u2_kv"] * 1e3, "sn": trafo["s_kva"] * 1e3,
        "uk": trafo["u_k_pct"] / 100, "pk": trafo["p_cu_kw"] * 1e3, "i0": trafo["i_0_pct"] / 100,
        "p0": trafo["p_fe_kw"] * 1e3, "winding_from": WindingType.delta, "winding_to": WindingType.wye_n,
        "clock": _DYN5, "tap_side": 0, "tap_pos": int(trafo["tap_position"]), "tap_min": int(trafo["tap_min"]),
        "tap_max": int(trafo["tap_max"]), "tap_nom": 0, "tap_size": trafo["tap_pct"] / 100 * trafo["u1_kv"] * 1e3,
    }.items():  # fmt: skip
        unit[name] = value
    source = initialize_array(DatasetType.input, ComponentType.source, 1)
    source["id"], source["node"], source["status"], source["u_ref"] = _SOURCE_ID, 0, 1, grid.source_pu
    load = initialize_array(DatasetType.input, ComponentType.sym_load, grid.node_count - 1)
    load["id"] = _LOAD_ID + np.arange(1, grid.node_count)
    load["node"], load["status"], load["type"] = np.arange(1, grid.node_count), 1, LoadGenType.const_power
    load["p_specified"] = load["q_specified"] = 0.0
    return {
        ComponentType.node: node, ComponentType.line: line, ComponentType.transformer: unit,
        ComponentType.source: source, ComponentType.sym_load: load,
    }  # fmt: skip
