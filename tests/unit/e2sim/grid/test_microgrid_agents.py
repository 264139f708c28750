import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2sim.grid.microgrid_agents import ConsensusConfig, Network
from e2sim.grid.microgrid_plant import PlantConfig
from e2sim.grid.microgrids import TABLE_1

LOADS = st.lists(st.floats(0, 9_000), min_size=4, max_size=4)


def network() -> Network:
    return Network(TABLE_1, PlantConfig(), ConsensusConfig())


@settings(max_examples=20, deadline=None)
@given(LOADS)
def test_network_healthy_at_rest_shares_in_proportion_to_rating(load_w: list[float]):
    net, load = network(), np.array([load_w])
    net.settle(load)
    expected = sum(load_w) / 38e3
    assert net.r[0] == pytest.approx(expected)
    share = net.plant.flows().generated_w[0] / net.rated_w
    # Line drops leave the droop a little to share unequally.
    assert share == pytest.approx(expected, abs=0.04)
    assert net.plant.flows().voltage_v[0, 3] == pytest.approx(3_000, abs=0.1)


@pytest.mark.parametrize("told", [False, True], ids=["unaided", "substituted"])
@pytest.mark.parametrize("attacked", [(), (0,), (0, 2)], ids=["healthy", "one attacked", "two attacked"])
@pytest.mark.parametrize("load_w", [(7e3, 6e3, 6e3, 5e3), (0.0, 0.0, 0.0, 7.5e3)], ids=["Table 1", "PCC only"])
def test_network_stepped_for_long_ends_where_settle_goes(
    load_w: tuple[float, ...], attacked: tuple[int, ...], told: bool
):
    fine, coarse, load = network(), network(), np.array([load_w])
    mask = np.isin(np.arange(3), attacked)[None, :]
    for net in (fine, coarse):
        net.silence(mask)
        net.in_consensus = mask & told
        net.substitute = np.full((1, 3), 0.4)
    for _ in range(6_000):
        fine.advance(load)
    coarse.settle(load)
    assert fine.r == pytest.approx(coarse.r, abs=1e-3)
    assert fine.plant.flows().generated_w == pytest.approx(coarse.plant.flows().generated_w, abs=60)
    assert fine.plant.flows().voltage_v == pytest.approx(coarse.plant.flows().voltage_v, abs=1.0)


def test_network_dos_pulls_neighbours_down_by_the_consensus_gains():
    net = network()
    net.silence(np.array([[False, True, False]]))
    net.settle(np.array([[7e3, 6e3, 6e3, 5e3]]))
    # (15) at rest for agents 1 and 3 with r_2 = 0, by hand: (2a + b) r - a r_other = b R.
    a, b, reference = 0.5, (2.0, 2.4), 24 / 38
    by_hand = np.linalg.solve([[2 * a + b[0], -a], [-a, 2 * a + b[1]]], [b[0] * reference, b[1] * reference])
    assert net.r[0] == pytest.approx([by_hand[0], 0.0, by_hand[1]])


def test_network_false_data_is_stated_not_believed():
    net = network()
    net.bias[0, 1] = 0.3
    net.settle(np.array([[7e3, 6e3, 6e3, 5e3]]))
    assert net.stated_r[0, 1] == pytest.approx(net.r[0, 1] + 0.3)
    assert net.r[0, 0] > 24 / 38 + 0.02  # its neighbours heard it


def test_network_agent_back_after_dos_starts_from_zero_and_converges():
    net, load = network(), np.array([[7e3, 6e3, 6e3, 5e3]])
    net.settle(load)
    net.silence(np.array([[False, True, False]]))
    net.advance(load)
    assert net.stated_r[0, 1] == 0.0
    net.silence(np.zeros((1, 3), dtype=np.bool_))
    net.advance(load)
    assert 0.0 < net.stated_r[0, 1] < 0.1
    for _ in range(600):
        net.advance(load)
    assert net.r[0] == pytest.approx(24 / 38, abs=1e-3)
