"""Set-points of the grid service model against acknowledgements and reports, by hand."""

from collections.abc import Mapping

import numpy as np
import pytest

from ric.columns import Table
from ric.e2.observations import Span
from ric.e2.set_points import observe_set_points, set_points_of, verify_set_points
from ric.e2sm import grid
from ric.errors import TwinRicError
from ric.schemas import HOME_REPORT

NODE, START_NS, END_NS = "n1", 10**18, 10**18 + 60 * 10**9


def table(kind: str, ids: tuple[str, ...], time_ns: int = END_NS, **columns: float | list[float]) -> Table:
    return Table(kind, ids, {k: np.broadcast_to(np.asarray(v, float), len(ids)) for k, v in columns.items()}, time_ns)


def seen(*tables: Table, in_force: tuple[Table, ...], starts: Mapping[str, int]) -> dict[str, tuple[float, ...]]:
    report = grid.GridReport(NODE, END_NS, {t.kind: t for t in tables}, {t.kind: t for t in in_force}, starts)
    observation = observe_set_points(*grid.encode_indication(report))
    assert observation.source_time_ns == END_NS
    return {name: tuple(each) for name, each in observation.amounts.items()}


def home(**columns: float | list[float]) -> Table:
    zero = dict.fromkeys(HOME_REPORT.columns, 0.0)
    return table("home_report", ("h1", "h2"), **(zero | columns))


LIMITS = table(
    "home_in_force", ("h1", "h2"), battery_low_kw=-3, battery_high_kw=[3, 1], ev_low_kw=0, ev_high_kw=0, hvac_low_kw=0,
    hvac_high_kw=2,
)  # fmt: skip


def control(kind: str = "storage_set_point", **columns: float) -> tuple[bytes, bytes]:
    wanted = table(kind, ("s",), **(columns or {"charge_kw": 5.0, "discharge_kw": 0.0, "reserve_kw": 1.0}))
    return grid.encode_control(grid.GridControl(wanted, END_NS, "TEST"))


def test_set_points_are_named_by_table_entity_and_column() -> None:
    assert set_points_of(*control()) == {
        "storage_set_point s charge_kw": 5.0, "storage_set_point s discharge_kw": 0.0,
        "storage_set_point s reserve_kw": 1.0,
    }  # fmt: skip


def test_verify_set_points_in_force_span_from_the_outcome_to_the_controls_end() -> None:
    header, payload = control()
    outcome = grid.encode_outcome(
        table("storage_set_point", ("s",), START_NS, charge_kw=5, discharge_kw=0, reserve_kw=1)
    )
    assert verify_set_points(header, set_points_of(header, payload), outcome) == Span(START_NS, END_NS)


@pytest.mark.parametrize(
    ("ids", "charge_kw", "shown"), [(("s",), 4.0, "4.0"), (("t",), 5.0, "absent")], ids=["other value", "other unit"]
)
def test_verify_set_points_that_the_node_did_not_put_in_force_is_refused(
    ids: tuple[str, ...], charge_kw: float, shown: str
) -> None:
    header, payload = control()
    outcome = grid.encode_outcome(table("storage_set_point", ids, charge_kw=charge_kw, discharge_kw=0, reserve_kw=1))
    with pytest.raises(TwinRicError, match=f"E2-UNVERIFIED storage_set_point s charge_kw = .*{shown}"):
        verify_set_points(header, set_points_of(header, payload), outcome)


def test_observe_homes_shows_powers_with_the_limits_of_the_period() -> None:
    found = seen(home(battery_kw=[2.0, 1.0], pv_kw=[4.0, 0.0]), in_force=(LIMITS,), starts={"home_report": START_NS})
    assert len(found) == 2 * 5
    amount, from_ns, low, high, slack = found["home_set_point h2 battery_kw"]
    assert (amount, from_ns, low, high) == (1.0, START_NS, -3.0, 1.0)
    assert slack == pytest.approx(0.02)
    amount, _, low, high, _ = found["home_set_point h1 pv_limit_kw"]
    assert (amount, low, high) == (4.0, -np.inf, -np.inf)


def test_observe_means_over_nobody_knows_how_long_shows_nothing() -> None:
    assert seen(home(battery_kw=2.0), in_force=(LIMITS,), starts={}) == {}


def test_observe_without_what_decided_shows_nothing() -> None:
    assert seen(home(battery_kw=2.0), in_force=(), starts={"home_report": START_NS}) == {}
    assert seen(in_force=(LIMITS,), starts={"home_report": START_NS}) == {}


def test_observe_appliances_shows_those_that_follow() -> None:
    ids = ("h1/pump", "h1/boiler")
    report = table(
        "appliance_report", ids, home=0, power_kw=1, left_h=1, opens_h=0, closes_h=5, interruptible=1, running=[1, 0]
    )
    found = seen(report, in_force=(table("appliance_in_force", ids, follows=[1, 0]),), starts={})
    ((name, (amount, from_ns, *_)),) = found.items()
    assert (name, amount) == ("appliance_set_point h1/pump run", 1.0)
    assert END_NS - 10**7 < from_ns < END_NS


def test_observe_storage_may_answer_to_frequency_by_its_reserve_and_no_more() -> None:
    report = table(
        "storage_report", ("s",), charge_kw=7, discharge_kw=0, soc=0.5, capacity_kwh=100, max_kw=50, efficiency=0.9,
        frequency_hz=50.1,
    )  # fmt: skip
    in_force = table("storage_in_force", ("s",), charge_limit_kw=50, discharge_limit_kw=50, reserve_kw=2)
    found = seen(report, in_force=(in_force,), starts={"storage_report": START_NS})
    _, _, low, high, slack = found["storage_set_point s charge_kw"]
    assert (low, high) == (-np.inf, 50.0)
    assert slack == pytest.approx(2.08)
    assert found["storage_set_point s reserve_kw"][0] == 2.0


def test_observe_microgrids_shows_the_substitution_in_force() -> None:
    report = table(
        "microgrid_report", ("MG1",), contribution_factor=0, agent_alive=0, power_kw=1, dg_power_kw=1, load_kw=1,
        voltage_v=3_000, rated_kw=15,
    )  # fmt: skip
    in_force = table("microgrid_in_force", ("MG1",), contribution_factor=0.6, in_local_control=1, in_consensus=0)
    found = seen(report, in_force=(in_force,), starts={})
    names = ("contribution_factor", "in_local_control", "in_consensus")
    assert {name: row[0] for name, row in found.items()} == dict(
        zip((f"microgrid_substitution MG1 {name}" for name in names), (0.6, 1.0, 0.0), strict=True)
    )


def test_observe_octets_that_are_no_report_is_refused() -> None:
    with pytest.raises(TwinRicError, match="E2-MALFORMED"):
        observe_set_points(b"\xff", b"\xff")
    pcc = table("pcc_report", ("pcc",), reference_kw=0, power_kw=0, voltage_v=0, reference_r=0)
    wrong = grid.GridReport(NODE, END_NS, {}, {"pcc_report": pcc})
    with pytest.raises(TwinRicError, match=r"E2-RANGE in_force\.pcc_report"):
        observe_set_points(*grid.encode_indication(wrong))
    assert grid.decode_indication(*grid.encode_indication(wrong)).in_force == {}  # who does not ask does not care
