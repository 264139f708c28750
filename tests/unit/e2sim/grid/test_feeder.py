"""Power flow against a backward-forward sweep written here, and the feeder's report."""

from dataclasses import replace

import numpy as np
import pytest

from e2sim.grid.feeder import Feeder, FeederInputs, PowerFlow
from ric.columns import SUBSTITUTED, Table, decode_table, encode_table
from ric.errors import TwinRicError
from ric.schemas import GRID_SCHEMAS


def sweep(grid, p_kw, q_kvar):
    """Backward-forward sweep on the radial LV grid, transformer as series impedance; shunts and iron losses left out.

    Returns node voltages [pu] and the power into the LV busbar [kW].
    """
    children, order = {}, [grid.trafo_node]
    neighbours = {}
    for line, (a, b) in enumerate(grid.line_ends.tolist()):
        neighbours.setdefault(a, []).append((b, line))
        neighbours.setdefault(b, []).append((a, line))
    seen = {grid.trafo_node}
    for node in order:
        for other, line in neighbours.get(node, []):
            if other not in seen:
                seen.add(other)
                children[other] = (node, line)
                order.append(other)
    base = 0.4e3
    trafo = grid.trafo
    z_base = base**2 / (trafo["s_kva"] * 1e3)
    r = trafo["p_cu_kw"] / trafo["s_kva"] * z_base
    z_trafo = complex(r, np.sqrt((trafo["u_k_pct"] / 100 * z_base) ** 2 - r**2))
    ratio = 1 + trafo["tap_position"] * trafo["tap_pct"] / 100
    source = grid.source_pu * base / ratio
    power = (p_kw + 1j * q_kvar) * 1e3
    volts = np.full(grid.node_count, source, dtype=complex)
    impedance = grid.line_ohm[:, 0] + 1j * grid.line_ohm[:, 1]
    for _ in range(50):
        current = np.conj(power / volts)
        for node in reversed(order[1:]):
            current[children[node][0]] += current[node]
        volts[grid.trafo_node] = source - z_trafo * current[grid.trafo_node]
        for node in order[1:]:
            parent, line = children[node]
            volts[node] = volts[parent] - impedance[line] * current[node]
    into = volts[grid.trafo_node] * np.conj(current[grid.trafo_node])
    return np.abs(volts) / base, into.real / 1e3


@pytest.mark.parametrize("scale", [0.0, 1.0, -1.0], ids=["no load", "evening peak", "midday export"])
def test_power_flow_against_backward_forward_sweep(grid, scale):
    rng = np.random.default_rng(5)
    p_kw = scale * rng.uniform(0, 3, grid.node_count)
    p_kw[0] = 0
    q_kvar = 0.3 * np.abs(p_kw)
    flow = PowerFlow(grid).solve(p_kw, q_kvar)
    volts, into = sweep(grid, p_kw, q_kvar)
    # Line capacitance and the transformer's magnetising branch are what the sweep leaves out.
    np.testing.assert_allclose(flow.voltages_pu, volts[1:], atol=6e-4)
    assert flow.import_kw == pytest.approx(into + grid.trafo["p_fe_kw"], rel=0.02, abs=0.4)
    assert flow.import_kw - p_kw.sum() == pytest.approx(flow.losses_kw, abs=1e-6)


def inputs(grid, fleet, traces, home_kw, storage_kw=0.0):
    return FeederInputs(
        home_node=fleet.node, home_kw=lambda: home_kw, other_kw=traces.background_kw,
        other_nodes=(grid.loads.node[fleet.background[0]], grid.generators.node[fleet.background[1]]),
        storage_kw=lambda: storage_kw, price=lambda _: (0.3, 0.08),
    )  # fmt: skip


def test_feeder_more_load_means_more_import_losses_and_less_voltage(grid, fleet, traces):
    reports = []
    for load in (0.0, 3.0):
        feeder = Feeder(grid, inputs(grid, fleet, traces, np.full(len(fleet.ids), load)), node_id="n")
        reports.append(feeder.step(1_460_462_460, 60)[0])
    light, heavy = reports
    assert heavy["import_kw"][0] > light["import_kw"][0] + 3 * len(fleet.ids)
    assert heavy["voltage_min_pu"][0] < light["voltage_min_pu"][0]
    assert decode_table(encode_table(heavy), GRID_SCHEMAS, "E2").ids == ("n",)


def test_feeder_storage_counts_at_the_busbar(grid, fleet, traces):
    homes = np.ones(len(fleet.ids))
    without, charging = (
        Feeder(grid, inputs(grid, fleet, traces, homes, kw), node_id="n").step(1_460_462_460, 60)[0]["import_kw"][0]
        for kw in (0.0, 50.0)
    )
    assert charging - without == pytest.approx(50.0, abs=1.0)


def test_feeder_collapse_keeps_the_last_values_marked(grid, fleet, traces):
    powers = np.ones(len(fleet.ids))
    feeder = Feeder(grid, inputs(grid, fleet, traces, powers), node_id="n")
    good = feeder.step(1_460_462_460, 60)[0]
    powers[:] = 1e5
    bad = feeder.step(1_460_462_520, 60)[0]
    assert feeder.failures == 1
    assert bad["import_kw"][0] == good["import_kw"][0]
    assert bad.quality["import_kw"][0] == SUBSTITUTED


def test_feeder_takes_no_set_points(grid, fleet, traces):
    feeder = Feeder(grid, inputs(grid, fleet, traces, np.zeros(len(fleet.ids))), node_id="n")
    with pytest.raises(TwinRicError, match="E2-RANGE"):
        feeder.apply(Table("home_set_point", (), {}, 0), 1e10)


def test_power_flow_tap_raises_the_voltage(grid):
    none = np.zeros(grid.node_count)
    low, high = (
        PowerFlow(replace(grid, trafo=grid.trafo | {"tap_position": tap})).solve(none, none).voltage_min_pu
        for tap in (0.0, -2.0)
    )
    assert high / low == pytest.approx(1 / 0.95, rel=1e-3)
