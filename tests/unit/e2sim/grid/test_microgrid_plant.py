import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from e2sim.grid.microgrid_plant import STEP_S, MicrogridConfig, Plant, PlantConfig
from e2sim.grid.microgrids import TABLE_1

CONFIG = PlantConfig()
V_REF = np.full((1, 3), CONFIG.voltage_v)


def powers_w(share: float) -> np.ndarray:
    return share * 1e3 * np.array([[10.0, 5.0, 8.0, 7.0, 8.0]])


def test_plant_default_parameters_every_pole_is_stable():
    assert Plant(TABLE_1, CONFIG).poles.real.max() < -0.1


def test_plant_unloaded_rests_at_nominal_voltage():
    flows = Plant(TABLE_1, CONFIG).flows()
    assert flows.voltage_v == pytest.approx(CONFIG.voltage_v)
    assert flows.generated_w == pytest.approx(0.0, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 10_000), min_size=4, max_size=4), st.floats(0, 1))
def test_plant_at_rest_balances_power_at_every_busbar(load_w: list[float], share: float):
    plant, load = Plant(TABLE_1, CONFIG), np.array([load_w])
    plant.settle(load, V_REF, powers_w(share))
    flows = plant.flows()
    assert flows.generated_w - load[:, :3] - flows.delivered_w == pytest.approx(np.zeros((1, 3)), abs=0.1)
    assert flows.arriving_w[0] == pytest.approx(load[0, 3], abs=0.1)
    losses = (flows.delivered_w.sum() - flows.arriving_w).item()
    current = flows.delivered_w / flows.voltage_v[:, :3]
    assert losses == pytest.approx(CONFIG.line_ohm * float((current**2).sum()), abs=0.1)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(0, 10_000), min_size=4, max_size=4), st.floats(0, 1))
def test_plant_stepped_for_long_ends_where_settle_goes(load_w: list[float], share: float):
    stepped, settled, load = Plant(TABLE_1, CONFIG), Plant(TABLE_1, CONFIG), np.array([load_w])
    for _ in range(4_000):
        stepped.advance(load, V_REF, powers_w(share))
    settled.settle(load, V_REF, powers_w(share))
    assert stepped.state == pytest.approx(settled.state, rel=1e-3, abs=1e-3)


def test_plant_batch_equals_runs_one_by_one():
    load = np.array([[7e3, 6e3, 6e3, 5e3], [1e3, 0.0, 2e3, 0.0]])
    power = np.concatenate((powers_w(0.6), powers_w(0.1)))
    both = Plant(TABLE_1, CONFIG, batch=2)
    alone = [Plant(TABLE_1, CONFIG), Plant(TABLE_1, CONFIG)]
    for _ in range(50):
        both.advance(load, np.repeat(V_REF, 2, axis=0), power)
        for run, plant in enumerate(alone):
            plant.advance(load[run : run + 1], V_REF, power[run : run + 1])
    assert both.state == pytest.approx(np.concatenate([plant.state for plant in alone]))


def test_plant_load_step_against_scipy_ode_of_the_paper_s_equations():
    """The circuit and loops (6)-(7) written out per element, loads at P/v throughout, solved by an adaptive method."""
    c = CONFIG
    rated, home = [10.0, 5.0, 8.0, 7.0, 8.0], [0, 0, 1, 1, 2]
    load_w, p_ref = [7e3, 6e3, 6e3, 5e3], powers_w(0.6)[0]

    def slope(_: float, y: np.ndarray) -> np.ndarray:
        v, line, coil, inner, outer = y[:4], y[4:7], y[7:12], y[12:17], y[17:22]
        d = np.zeros(22)
        for m in range(3):
            fed = sum(coil[g] for g in range(5) if home[g] == m)
            d[m] = (fed - line[m] - load_w[m] / v[m]) / c.busbar_f
            d[4 + m] = (v[m] - v[3] - c.line_ohm * line[m]) / c.line_h
        d[3] = (line.sum() - load_w[3] / v[3]) / c.pcc_f
        kpc = c.current_loop_rad_s * c.filter_h / c.supply_v
        for g, m in enumerate(home):
            p_error = c.voltage_v * (p_ref[g] / v[m] - coil[g])
            v_error = c.voltage_v - v[m]
            i_ref = outer[g] + c.kpv_a_per_v_kw * rated[g] * v_error + c.kpp_a_per_w * p_error
            duty = inner[g] + kpc * (i_ref - coil[g])
            d[7 + g] = (duty * c.supply_v - v[m]) / c.filter_h
            d[12 + g] = kpc * c.current_corner_rad_s * (i_ref - coil[g])
            d[17 + g] = c.kiv_a_per_vs_kw * rated[g] * v_error + c.kip_a_per_ws * p_error
        return d

    start = np.concatenate((np.full(4, c.voltage_v), np.zeros(8), np.full(5, c.voltage_v / c.supply_v), np.zeros(5)))
    oracle = solve_ivp(slope, (0.0, 1.0), start, method="LSODA", rtol=1e-8, atol=1e-8, t_eval=np.arange(1, 101) / 100)
    plant = Plant(TABLE_1, c)
    worst_v = worst_a = 0.0
    for step in range(100):
        plant.advance(np.array([load_w]), V_REF, p_ref[None, :])
        worst_v = max(worst_v, float(np.abs(plant.state[0, :4] - oracle.y[:4, step]).max()))
        worst_a = max(worst_a, float(np.abs(plant.state[0, 7:12] - oracle.y[7:12, step]).max()))
    sag_v = c.voltage_v - oracle.y[:4].min()
    assert sag_v > 10.0  # the step is one to see
    assert worst_v < 0.02 * sag_v
    assert worst_a < 0.02


def test_plant_other_topologies_are_allowed():
    plant = Plant((MicrogridConfig(id="a", generators_kw=(3.0,), load_kw=1), *TABLE_1[:1]), CONFIG)
    plant.settle(np.array([[1e3, 2e3, 0.0]]), np.full((1, 2), 3e3), np.array([[1e3, 1e3, 1e3]]))
    assert plant.flows().generated_w.sum() == pytest.approx(3e3, rel=1e-3)
    assert STEP_S == 0.01
