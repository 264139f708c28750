from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from e2sim.grid.microgrids import LoadStep, Microgrids, MicrogridsConfig, generate_runs, reference_config
from ric.columns import Table, decode_table, encode_table
from ric.errors import TwinRicError
from ric.schemas import GRID_SCHEMAS, IN_FORCE_SCHEMAS

START_S = 1_700_000_000.0


def grid(config: MicrogridsConfig | None = None, seed: int = 1) -> Microgrids:
    return Microgrids(config or MicrogridsConfig(), np.random.default_rng(seed), START_S)


def substitution(value: float, *, local: float = 1.0, consensus: float = 1.0, ids: tuple[str, ...] = ("MG2",)) -> Table:
    ones = np.ones(len(ids))
    columns = {"contribution_factor": value * ones, "in_local_control": local * ones, "in_consensus": consensus * ones}
    return Table("microgrid_substitution", ids, columns, 0)


def shares(report: Table) -> np.ndarray:
    return report["dg_power_kw"] / report["rated_kw"]


def run_reference(*, attack: bool, take_over: bool, until_s: float) -> dict[float, Table]:
    """The paper's reference run; returns the microgrid reports by second."""
    microgrids, reports = grid(reference_config()), {}
    for step in range(1, round(until_s * 10) + 1):
        now_s = START_S + step / 10
        if attack and step == 200:
            microgrids.attack(1)
        if take_over and step > 210:
            microgrids.apply(substitution(24 / 38, consensus=float(step > 250)), now_s + 1)
        report = microgrids.step(now_s, 0.1)[0]
        if step % 10 == 0:
            reports[step / 10] = report
    return reports


def test_reference_run_without_attack_shares_equally():
    reports = run_reference(attack=False, take_over=False, until_s=30)
    assert shares(reports[1.0]) == pytest.approx(0.0, abs=1e-6)  # loads come at 1 s
    assert shares(reports[14.0]) == pytest.approx(19 / 38, abs=0.015)
    assert shares(reports[30.0]) == pytest.approx(24 / 38, abs=0.015)
    assert reports[30.0]["contribution_factor"] == pytest.approx(24 / 38, abs=1e-3)


def test_reference_run_dos_distorts_sharing():
    reports = run_reference(attack=True, take_over=False, until_s=40)
    assert reports[20.0]["contribution_factor"][1] == 0.0
    assert reports[20.0]["agent_alive"].tolist() == [1, 0, 1]
    share = shares(reports[40.0])
    assert share[1] < 0.15
    assert share[[0, 2]].min() > 0.9


def test_reference_run_takeover_in_two_stages_restores_sharing():
    reports = run_reference(attack=True, take_over=True, until_s=30)
    local_only, both = reports[24.0], reports[30.0]
    assert local_only["contribution_factor"][[0, 2]].max() < 0.55  # the neighbours still hear 0
    assert both["contribution_factor"][[0, 2]] == pytest.approx(24 / 38, abs=0.005)
    assert np.ptp(shares(both)) < 0.04
    assert both["contribution_factor"][1] == 0.0  # the agent itself is still silent


def test_step_same_seed_is_bit_identical_and_another_seed_is_not():
    def run(seed: int) -> bytes:
        microgrids, octets = grid(seed=seed), b""
        for step in range(1, 120):
            if step == 50:
                microgrids.attack(0)
            for table in microgrids.step(START_S + step / 10, 0.1):
                octets += encode_table(table).SerializeToString()
        return octets + encode_table(microgrids.step(START_S + 71.9, 60.0)[0]).SerializeToString()

    assert run(7) == run(7)
    assert run(7) != run(8)


def test_step_reports_pass_the_schemas_also_under_coarse_steps():
    microgrids = grid()
    microgrids.attack(2)
    for table in [*microgrids.step(START_S + 60, 60.0), *microgrids.step(START_S + 60.1, 0.1)]:
        assert len(decode_table(encode_table(table), {**GRID_SCHEMAS, **IN_FORCE_SCHEMAS}, "E2")) == len(table)


def test_step_coarse_then_fine_starts_without_a_jump():
    config = MicrogridsConfig(load_noise=0.0, step_mean_s=0.0)
    microgrids = grid(config)
    coarse = microgrids.step(START_S + 60, 60.0)[0]
    fine = microgrids.step(START_S + 60.1, 0.1)[0]
    for name in coarse.columns:
        assert fine[name] == pytest.approx(coarse[name], rel=1e-3, abs=1e-3)


def test_step_not_a_multiple_of_the_inner_step_is_refused():
    with pytest.raises(TwinRicError, match="dt_s"):
        grid().step(START_S + 0.105, 0.105)


def test_loads_scheduled_step_comes_in_the_step_that_contains_it():
    config = MicrogridsConfig(load_noise=0.0, step_mean_s=0.0, steps=(LoadStep(at_s=1.0, where="MG3", level=0.5),))
    microgrids = grid(config)
    before = [microgrids.step(START_S + step / 10, 0.1)[0]["load_kw"][2] for step in range(1, 11)]
    after = microgrids.step(START_S + 1.1, 0.1)[0]["load_kw"][2]
    assert (set(before), after) == ({6.0}, 3.0)


def test_apply_returns_the_values_in_force():
    in_force = grid().apply(substitution(0.5, consensus=0.0, ids=("MG3", "MG1")), START_S + 1)
    assert in_force.ids == ("MG3", "MG1")
    assert in_force["contribution_factor"].tolist() == [0.5, 0.5]
    assert in_force["in_local_control"].tolist() == [1, 1]
    assert in_force["in_consensus"].tolist() == [0, 0]


def test_apply_substitution_ends_at_its_time():
    microgrids = grid(MicrogridsConfig(load_noise=0.0, step_mean_s=0.0))
    microgrids.attack(1)
    microgrids.apply(substitution(24 / 38), START_S + 5.0)
    during = [microgrids.step(START_S + step / 10, 0.1)[0] for step in range(1, 51)][-1]
    after = [microgrids.step(START_S + step / 10, 0.1)[0] for step in range(51, 101)][-1]
    assert np.ptp(shares(during)) < 0.05
    assert np.ptp(shares(after)) > 0.3


@pytest.mark.parametrize(
    ("table", "until_s", "field"),
    [
        (substitution(0.5, ids=("MG9",)), START_S + 1, "set_points.ids"),
        (substitution(99.0), START_S + 1, "set_points.contribution_factor"),
        (substitution(float("nan")), START_S + 1, "set_points.contribution_factor"),
        (substitution(0.5), START_S - 1, "valid_until_s"),
        (substitution(0.5), float("nan"), "valid_until_s"),
        (Table("home_set_point", (), {}, 0), START_S + 1, "set_points.kind"),
        (
            Table("microgrid_substitution", ("MG1",), {"in_consensus": np.ones(1)}, 0),
            START_S + 1,
            "contribution_factor",
        ),
    ],
    ids=["unknown id", "out of range", "not a number", "in the past", "no time", "other kind", "missing column"],
)
def test_apply_malformed_is_refused_and_changes_nothing(table: Table, until_s: float, field: str):
    refused, untouched = grid(), grid()
    with pytest.raises(TwinRicError, match=field) as caught:
        refused.apply(table, until_s)
    assert caught.value.code == "E2-RANGE"
    for ours, theirs in zip(refused.step(START_S + 1, 1.0), untouched.step(START_S + 1, 1.0), strict=True):
        assert all((ours[name] == theirs[name]).all() for name in ours.columns)


@pytest.mark.parametrize(
    ("index", "kind", "bias"), [(3, "dos", 0.3), (-1, "dos", 0.3), (0, "replay", 0.3), (0, "false_data", 9)]
)
def test_attack_unknown_is_refused(index: int, kind: str, bias: float):
    with pytest.raises(TwinRicError, match="SCENARIO-INVALID attack"):
        grid().attack(index, kind, bias=bias)


def test_config_inconsistent_is_refused():
    for values in (
        {"steps": ({"at_s": 1, "where": "MG7", "level": 1},)},
        {"level_low": 1.5},
        {"consensus": {"leader_per_s": (1.0, 2.0)}},
    ):
        with pytest.raises(ValidationError):
            MicrogridsConfig.model_validate(values)


def test_generate_runs_a_run_depends_on_its_own_seed_only(tmp_path: Path):
    generate_runs(tmp_path / "both.npz", (3, 4), minutes=0.5)
    generate_runs(tmp_path / "alone.npz", (4,), minutes=0.5)
    with np.load(tmp_path / "both.npz") as both, np.load(tmp_path / "alone.npz") as alone:
        assert both["contribution_factor"].shape == (2, 300, 3)
        assert both["ids"].tolist() == ["MG1", "MG2", "MG3"]
        for name in ("reference_r", "contribution_factor", "dg_power_kw", "pcc_voltage_v"):
            assert both[name][1] == pytest.approx(alone[name][0], rel=1e-5, abs=1e-5)
            assert (both[name][0] != both[name][1]).any()


def test_generate_runs_nothing_to_run_is_refused(tmp_path: Path):
    with pytest.raises(TwinRicError):
        generate_runs(tmp_path / "x.npz", ())
