import numpy as np
import pytest

from e2sim.network import GridParts, Network, NodeSample
from e2sim.ran_functions import CccFunction, DappFunction, GridFunction, KpmFunction
from e2sim.scenario import parse_scenario
from ric.clock import to_ns
from ric.columns import Table
from ric.e2.identities import RicRequestId
from ric.e2.node import NodeAction, NodeSubscription
from ric.e2sm import ccc, dapp, grid, kpm
from ric.errors import TwinRicError
from ric.pb.twinric.bus.v1.record_pb2 import Alarm

START_S = 1_465_948_800.0


@pytest.fixture
def network():
    scenario = parse_scenario({
        "seed": 2, "start": "2016-06-15T00:00:00Z", "duration_s": 600, "windows": [{"start_s": 0, "duration_s": 3}],
        "nodes": [{"gnb_id": 0xE2000001, "microgrids": {}}],
    })  # fmt: skip
    return Network(scenario, {"00101-e2000001": GridParts()})


@pytest.fixture
def node(network):
    return network.nodes["00101-e2000001"]


def subscription(trigger, *definitions, number=1, kind="report"):
    actions = tuple(NodeAction(index, kind, octets) for index, octets in enumerate(definitions))
    return NodeSubscription(RicRequestId(1, number), 2, trigger, actions)


def table(kind, time_s, **columns):
    return Table(kind, ("a",), {name: np.array([value]) for name, value in columns.items()}, to_ns(time_s))


def sample(node, time_s, dt_s, *tables, skew_s=0.0):
    ran = node.ran.step(time_s, dt_s)
    return NodeSample(time_s, dt_s, time_s + skew_s, ran, {t.kind: t for t in tables}, {t.kind: dt_s for t in tables})


async def test_kpm_reports_when_simulated_time_reaches_a_multiple(network, node):
    function = KpmFunction(node, START_S)
    assert await function.subscribe(subscription(kpm.encode_trigger(300), kpm.encode_action())) == [0]
    sent = [
        (round(s.end_s - START_S, 1), kpm.decode_indication(i.header, i.message))
        for s in network.advance(START_S + 1)
        for i in function.observe(s)
    ]
    assert [time for time, _ in sent] == [0.3, 0.6, 0.9]
    report = sent[1][1]
    assert report.source_time_ns == to_ns(START_S + 0.6)
    assert report.granularity_period_ms == 300
    assert [item.s_nssai for item in report.items] == ["1-000001", "1-000002", "1-000003"]
    np.testing.assert_array_equal(report.of("TWINRIC.FlexeSlots"), [5, 10, 5])


async def test_kpm_selection_reports_only_what_was_asked(network, node):
    function = KpmFunction(node, START_S)
    names = ("TWINRIC.QueueDl", "DRB.UEThpDl")
    await function.subscribe(subscription(kpm.encode_trigger(100), kpm.encode_action(names)))
    (indication,) = [i for s in network.advance(START_S + 0.1) for i in function.observe(s)]
    assert kpm.decode_indication(indication.header, indication.message).measurement_names == names


async def test_a_long_step_makes_one_report(network, node):
    function = KpmFunction(node, START_S)
    await function.subscribe(subscription(kpm.encode_trigger(100), kpm.encode_action()))
    assert len(function.observe(sample(node, START_S + 60, 60.0))) == 1
    assert len(function.observe(sample(node, START_S + 60.1, 0.1))) == 1


async def test_delete_ends_the_reports(network, node):
    function = KpmFunction(node, START_S)
    request = subscription(kpm.encode_trigger(100), kpm.encode_action())
    await function.subscribe(request)
    await function.delete(request)
    assert function.observe(sample(node, START_S + 60, 60.0)) == []


@pytest.mark.parametrize(
    ("trigger", "action"),
    [(b"\xff", b""), (kpm.encode_trigger(1), b""), (kpm.encode_trigger(100), kpm.encode_action(("DRB.Nope",)))],
    ids=["malformed trigger", "period out of range", "unknown measurement"],
)
async def test_kpm_refuses_a_bad_subscription(node, trigger, action):
    with pytest.raises(TwinRicError):
        await KpmFunction(node, START_S).subscribe(subscription(trigger, action))


async def test_policy_actions_are_not_admitted(node):
    function = KpmFunction(node, START_S)
    assert await function.subscribe(subscription(kpm.encode_trigger(100), b"", kind="policy")) == []


def ratios(*pairs, **more):
    return tuple(ccc.SliceRatio(s_nssai=name, rrm_policy_dedicated_ratio=value, **more) for name, value in pairs)


async def test_ccc_control_is_in_force_when_it_is_acknowledged(node):
    asked = ratios(("1-000001", 40), ("1-000003", 10))
    outcome = await CccFunction(node).control(*ccc.encode_control(asked))
    assert ccc.decode_outcome(outcome) == asked
    assert tuple(node.ran.calendar.slots) == (8, 10, 2)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (ratios(("1-000001", 42)), "rrm_policy_dedicated_ratio[1-000001]"),
        (ratios(("1-000002", 45)), "flexe_slots[1-000002]"),
        (ratios(("1-000001", 0)), "flexe_slots[1-000001]"),
        (ratios(("1-000001", 30)), "flexe_slots[1-000001]+flexe_slots[1-000002]+flexe_slots[1-000003]"),
        (ratios(("1-0000aa", 10)), "s_nssai"),
        (ratios(("1-000001", 20), rrm_policy_min_ratio=25), "rrm_policy_min_ratio[1-000001]"),
    ],
    ids=[
        "no whole slot",
        "no whole 10G granule",
        "no slot",
        "calendar full",
        "unknown slice",
        "minimum not guaranteed",
    ],
)
async def test_ccc_refuses_naming_the_bound(node, asked, field):
    with pytest.raises(TwinRicError) as error:
        await CccFunction(node).control(*ccc.encode_control(asked))
    assert error.value.faults[0].field == field
    assert tuple(node.ran.calendar.slots) == (5, 10, 5)


async def test_ccc_reports_nothing(node):
    with pytest.raises(TwinRicError) as error:
        await CccFunction(node).subscribe(subscription(b"", b""))
    assert error.value.code == "E2-ACTION"


async def grid_reports(node, samples, period_ms, kinds=()):
    function = GridFunction(node, START_S)
    await function.subscribe(subscription(grid.encode_trigger(period_ms), grid.encode_action(kinds)))
    return [i for s in samples for i in function.observe(s)]


FEEDER = {"loading_pct": 1.0, "losses_kw": 1.0, "buy_price": 0.3, "sell_price": 0.1}


async def test_grid_report_joins_means_extremes_and_last_values(node):
    first = table("feeder_report", START_S + 60, import_kw=10.0, voltage_min_pu=0.94, voltage_max_pu=1.0, **FEEDER)
    second = table(
        "feeder_report",
        START_S + 180,
        import_kw=40.0,
        voltage_min_pu=0.97,
        voltage_max_pu=1.02,
        **FEEDER | {"buy_price": 0.5},
    )
    samples = [sample(node, START_S + 60, 60.0, first), sample(node, START_S + 180, 120.0, second)]
    (indication,) = await grid_reports(node, samples, 180_000)
    feeder = grid.decode_indication(indication.header, indication.message).tables["feeder_report"]
    values = {name: feeder[name][0] for name in ("import_kw", "voltage_min_pu", "voltage_max_pu", "buy_price")}
    assert values == pytest.approx(
        {"import_kw": 30.0, "voltage_min_pu": 0.94, "voltage_max_pu": 1.02, "buy_price": 0.5}
    )


async def test_grid_sends_no_empty_report_and_only_the_kinds_asked_for(node):
    pcc = table("pcc_report", START_S + 60, reference_kw=5.0, power_kw=5.0, voltage_v=3_000.0, reference_r=0.5)
    samples = [sample(node, START_S + 60, 60.0, pcc), sample(node, START_S + 120, 60.0)]
    assert len(await grid_reports(node, samples, 60_000)) == 1
    assert await grid_reports(node, samples, 60_000, ("home_report",)) == []


async def test_grid_clock_skew_shifts_all_source_times(node):
    pcc = table("pcc_report", START_S + 60, reference_kw=5.0, power_kw=5.0, voltage_v=3_000.0, reference_r=0.5)
    (indication,) = await grid_reports(node, [sample(node, START_S + 60, 60.0, pcc, skew_s=-2.5)], 60_000)
    report = grid.decode_indication(indication.header, indication.message)
    assert report.source_time_ns == report.tables["pcc_report"].source_time_ns == to_ns(START_S + 57.5)


async def test_grid_control_of_a_kind_that_nobody_takes_is_refused(node):
    values = {"charge_kw": 1.0, "discharge_kw": 0.0, "reserve_kw": 0.0}
    control = grid.GridControl(table("storage_set_point", START_S, **values), to_ns(START_S + 60), "TEST")
    with pytest.raises(TwinRicError) as error:
        await GridFunction(node, START_S).control(*grid.encode_control(control))
    assert error.value.code == "E2-RANGE"


async def test_dapp_reports_reach_every_open_action():
    function = DappFunction()
    request = subscription(b"", b"", b"")
    await function.subscribe(request)
    report = dapp.DAppReport("00101-e2000001", 5, 3, 9, Alarm(managed_object="feeder/1"))
    sent = function.indications(report)
    assert [indication.ric_action_id for indication in sent] == [0, 1]
    assert dapp.decode_indication(sent[0].header, sent[0].message) == report
    await function.delete(request)
    assert function.indications(report) == []
