import numpy as np
import pytest

from e2sim.network import GridParts, Network
from e2sim.scenario import load_scenario, parse_scenario
from ric.clock import to_ns
from ric.columns import Table, decode_table, encode_table
from ric.errors import TwinRicError
from ric.schemas import TWIN_SCHEMAS

NODE = "00101-e2000001"


class FakePart:
    """A grid part that writes down how it was stepped; agents "MG1", "MG2" can be attacked."""

    ids = ("MG1", "MG2")

    def __init__(self, kind="home_report", takes=frozenset({"home_set_point"})):
        self.kind, self.set_point_kinds, self.steps, self.applied, self.attacks = kind, takes, [], [], []

    def step(self, end_s, dt_s):
        self.steps.append((end_s, dt_s))
        return [Table(self.kind, ("x",), {"v": np.array([end_s])}, to_ns(end_s))]

    def apply(self, set_points, valid_until_s):
        self.applied.append((set_points, valid_until_s))
        return set_points

    def attack(self, agent_index, kind="dos", on=True, *, bias=0.3):
        self.attacks.append((agent_index, kind, on, bias))


def scenario(**changes):
    base = {
        "seed": 2, "start": "2016-06-15T00:00:00Z", "duration_s": 300, "windows": [{"start_s": 90, "duration_s": 1}],
        "nodes": [{"gnb_id": 0xE2000001, "microgrids": {}}],
    }  # fmt: skip
    return parse_scenario(base | changes)


def make(**changes):
    slow, fast = FakePart(), FakePart("microgrid_report", frozenset({"microgrid_substitution"}))
    network = Network(scenario(**changes), {NODE: GridParts([slow], [fast], fast)})
    return network, slow, fast


def test_slow_parts_step_with_the_grid_and_fast_ones_always():
    network, slow, fast = make()
    network.advance(network.scenario.end_s)
    assert [round(dt, 3) for _, dt in slow.steps] == [60.0] * 5
    assert sum(dt for _, dt in fast.steps) == pytest.approx(300)
    assert len(fast.steps) == 5 + 11
    assert network.finished


def test_advance_takes_all_steps_up_to_a_time_once():
    network, _, _ = make()
    start_s = network.scenario.start_s
    assert [sample.end_s - start_s for sample in network.advance(start_s + 130)][-1] == 120
    assert network.advance(start_s + 130) == []
    assert network.now_s == start_s + 120


def test_attacks_reach_the_agents_at_their_times_and_end():
    network, _, fast = make(attacks=[
        {"at_s": 90.2, "duration_s": 0.3, "kind": "dos", "target": "MG2"},
        {"at_s": 90.4, "duration_s": 60, "kind": "false_data", "target": "MG1", "bias": 0.5},
    ])  # fmt: skip
    seen = []
    start_s = network.scenario.start_s
    network.listeners.append(lambda _, sample: seen.append((round(sample.end_s - start_s, 1), list(fast.attacks))))
    network.advance(network.scenario.end_s)
    log = dict(seen)
    assert log[90.2] == []
    assert log[90.3] == [(1, "dos", True, 0.3)]
    assert log[90.5][1:] == [(0, "false_data", True, 0.5)]
    assert log[90.6][2:] == [(1, "dos", False, 0.3)]
    assert log[240.0][3:] == [(0, "false_data", False, 0)]


def test_clock_skew_shifts_the_stamp_only():
    network, _, _ = make(attacks=[{"at_s": 60, "duration_s": 200, "kind": "clock_skew", "bias": -2.5}])
    samples = network.advance(network.scenario.end_s)
    assert samples[0].stamp_s == samples[0].end_s
    assert samples[1].stamp_s == samples[1].end_s - 2.5


def test_set_points_go_to_the_part_that_takes_their_kind():
    network, slow, fast = make()
    node = network.nodes[NODE]
    table = Table("microgrid_substitution", ("MG1",), {}, 0)
    assert node.apply(table, 5.0) is table
    assert (len(slow.applied), len(fast.applied)) == (0, 1)
    with pytest.raises(TwinRicError) as error:
        node.apply(Table("storage_set_point", ("s",), {}, 0), 5.0)
    assert "home_set_point" in str(error.value)


def test_allocate_keeps_the_slices_that_are_not_named():
    node = make()[0].nodes[NODE]
    assert node.allocate({"1-000001": 3, "1-000003": 7}) == 2
    assert tuple(node.ran.calendar.slots) == (3, 10, 7)
    with pytest.raises(TwinRicError) as error:
        node.allocate({"1-000009": 3})
    assert "1-000001" in str(error.value)


def offered(network):
    return np.array([sample.ran.stats.offered_mbit for sample in network.advance(network.scenario.end_s)])


def test_offered_traffic_does_not_depend_on_slots_bit_for_bit():
    one, other = make()[0], make()[0]
    other.nodes[NODE].allocate({"1-000001": 2, "1-000002": 14, "1-000003": 4})
    np.testing.assert_array_equal(offered(one), offered(other))


def test_another_node_shifts_no_draw():
    one = make()[0]
    two = Network(scenario(nodes=[{"gnb_id": 0xE2000001, "microgrids": {}}, {"gnb_id": 7}]), {})
    np.testing.assert_array_equal(offered(one), offered(two)[::2])


def everything(network):
    rows = []
    for sample in network.advance(network.scenario.end_s):
        stats = sample.ran.stats
        rows += [stats.offered_mbit.tobytes(), stats.delay_ms.tobytes(), stats.backlog_mbit.tobytes()]
        for kind, table in sorted(sample.tables.items()):
            rows += [kind, *(np.ascontiguousarray(values).tobytes() for _, values in sorted(table.columns.items()))]
    return rows


def test_smoke_runs_twice_bit_for_bit():
    """The shipped scenario with all real parts: slices, homes, feeder, microgrids, faults and attacks."""
    assert everything(Network(load_scenario("smoke"))) == everything(Network(load_scenario("smoke")))


def test_recording_drives_a_slice(tmp_path):
    path = tmp_path / "kpm.csv"
    path.write_text("run,sample,traffic_class,dl_mbps,ul_mbps\n" + "r,0,a,1,1\nr,1,a,3,1\n", encoding="utf-8")
    slices = [
        {"role": "control", "s_nssai": "1-000001", "flexe_slots": 5, "services": {"der_microgrids": 10},
         "recording": {"file": str(path), "mean_gbps": 4}},
        {"role": "protection", "s_nssai": "1-000002", "flexe_slots": 10, "services": {"fisr": 1}},
        {"role": "monitoring", "s_nssai": "1-000003", "flexe_slots": 5, "services": {"advanced_metering": 1}},
    ]  # fmt: skip
    network = Network(scenario(nodes=[{"gnb_id": 1, "slices": slices}]), {})
    rates = network.nodes["00101-1"].ran.traffic.mean_mbps(network.scenario.start_s + 0.25)
    assert rates[0, 0] == pytest.approx(6_000)


def test_demand_history_ends_at_the_last_quarter_and_fits_its_schema():
    network = Network(load_scenario("smoke"))
    (table,) = network.demand_history().values()
    assert table["load_kw"].shape == table["pv_kw"].shape == (10, 192)
    assert network.scenario.start_s - 900 < table.source_time_ns / 1e9 <= network.scenario.start_s
    assert decode_table(encode_table(table), TWIN_SCHEMAS, "BUS").ids == table.ids
    assert 0.05 < table["load_kw"].mean() < 2
