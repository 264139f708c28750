"""The guard's pure rooms in closed loop with the simulated microgrids, with which they share no code."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from e2sim.grid.microgrids import Microgrids, MicrogridsConfig, generate_runs, reference_config
from ric.columns import Table
from ric.decision import Reason
from ric.e2sm.grid import GridReport
from ric.learned import LearnedModel, load_model
from xapps.microgrid_guard.config import GuardConfig
from xapps.microgrid_guard.fallback import hold_last_good
from xapps.microgrid_guard.model import INPUTS, MODEL_PATH, OUTPUTS, primed, stepped
from xapps.microgrid_guard.policy import GuardPolicy
from xapps.microgrid_guard.state import NodeMemory, State, sample_of
from xapps.microgrid_guard.takeover import AlarmChange, Decision, decide

START_S = 1_700_000_000.0
CONFIG = GuardConfig()
POLICY = GuardPolicy()


@pytest.fixture(scope="module")
def network() -> LearnedModel:
    return load_model(MODEL_PATH, INPUTS, OUTPUTS)


@dataclass
class Loop:
    """Microgrids and guard; `network` None leaves the guard to its fallback, `deaf` hides the agents' liveness."""

    microgrids: Microgrids
    network: LearnedModel | None
    policy: GuardPolicy = POLICY
    deaf: bool = False
    now_s: float = 0.0
    memories: dict[str, NodeMemory] = field(default_factory=dict)
    alarms: list[AlarmChange] = field(default_factory=list)
    report: Table | None = None
    twin: Table | None = None

    def step(self, dt_s: float = 0.1) -> Decision:
        self.now_s = round(self.now_s + dt_s, 3)
        tables = self.microgrids.step(START_S + self.now_s, dt_s)
        if self.deaf:
            alive = {"agent_alive": np.ones(len(tables[0]))}
            tables[0] = replace(tables[0], columns={**tables[0].columns, **alive})
        report = GridReport("00101-e2000001", tables[0].source_time_ns, {table.kind: table for table in tables})
        state = State((sample_of(report),), self.memories)
        if self.network is None:
            decision = hold_last_good(state, self.policy, Reason("MODEL_MISSING"), CONFIG)
        else:
            decision = decide(state, self.policy, self.network, CONFIG)
        self.memories = dict(decision.memories)
        for outcome in decision.outcomes:
            self.alarms.extend(outcome.alarms)
            self.twin = outcome.twin
            if outcome.set_points is not None:
                self.microgrids.apply(outcome.set_points, outcome.valid_until_ns / 1e9)
        self.report = tables[0]
        return decision

    def until(self, time_s: float) -> None:
        while self.now_s < time_s - 1e-6:
            self.step()

    def shares(self) -> np.ndarray:
        assert self.report is not None
        return self.report["dg_power_kw"] / self.report["rated_kw"]

    def told(self) -> list[tuple[str, str, bool, float]]:
        """Alarms as (microgrid, problem, cleared, seconds after the start)."""
        return [(a.microgrid, a.problem, a.cleared, round(a.time_ns / 1e9 - START_S, 3)) for a in self.alarms]


def loop(network: LearnedModel | None, config: MicrogridsConfig | None = None, *, seed: int = 1, **options) -> Loop:
    return Loop(Microgrids(config or MicrogridsConfig(), np.random.default_rng(seed), START_S), network, **options)


RESTLESS = MicrogridsConfig(step_mean_s=8.0, level_low=0.1, level_high=1.4)
"""A load step every two seconds or so, up to the limits of what the generators can carry."""


def test_reference_run_twin_takes_over_at_21_s_and_25_s_and_restores_sharing(network: LearnedModel):
    run = loop(network, reference_config())
    run.until(19.9)
    run.microgrids.attack(1)
    stages = {}
    while run.now_s < 40:
        run.step()
        assert run.twin is not None
        stages.setdefault(run.twin["taken_over"][1], run.now_s)
    assert run.told() == [("MG2", "DOS", False, 21.0)]
    assert {stage: at for stage, at in stages.items() if stage} == {1.0: 21.0, 2.0: 25.0}
    assert np.ptp(run.shares()) < 0.04
    run.microgrids.attack(1, on=False)
    run.until(60)
    assert run.told()[1:] == [("MG2", "DOS", True, run.told()[-1][3])]
    assert 42.0 <= run.told()[-1][3] <= 45.0
    assert run.report is not None
    assert run.report["contribution_factor"] == pytest.approx(24 / 38, abs=0.005)


@pytest.mark.parametrize("deaf", [False, True], ids=["liveness known", "by the twin alone"])
@pytest.mark.parametrize("victim", [0, 1, 2])
def test_dos_under_load_steps_only_the_victim_is_alarmed_within_tau(network: LearnedModel, victim: int, deaf: bool):
    run = loop(network, seed=40 + victim, deaf=deaf)
    run.until(15)
    run.microgrids.attack(victim)
    run.until(30)
    [(microgrid, problem, cleared, at_s)] = run.told()
    assert (microgrid, problem, cleared) == (f"MG{victim + 1}", "DOS", False)
    assert 1.0 <= at_s - 15.1 <= 1.3
    assert np.ptp(run.shares()) < 0.06


@pytest.mark.parametrize("seed", range(900, 904))
def test_held_out_load_steps_raise_no_false_alarm(network: LearnedModel, seed: int):
    run = loop(network, RESTLESS, seed=seed)
    run.until(60)
    assert run.told() == []


def test_held_out_load_steps_raise_no_false_alarm_in_the_fallback_either():
    run = loop(None, RESTLESS, seed=905)
    run.until(60)
    assert run.told() == []


def test_twin_running_freely_on_a_fresh_seed_is_within_half_a_percent(network: LearnedModel, tmp_path_factory):
    path = generate_runs(tmp_path_factory.mktemp("runs") / "fresh.npz", (12_345,), minutes=5)
    with np.load(path) as data:
        reference_r, truth = data["reference_r"][0], data["contribution_factor"][0]
    twin, outputs = primed(network, float(reference_r[0])), []
    for r in reference_r:
        twin = stepped(network, twin, float(r))
        outputs.append(twin.contribution_factor)
    error = (np.array(outputs) - truth)[50:]
    crude = (reference_r[:, None] - truth)[50:]
    rmse = np.sqrt((error**2).mean(axis=0))
    assert rmse.max() < 0.005
    assert rmse.max() < 0.2 * np.sqrt((crude**2).mean(axis=0)).min()  # it knows more than R
    assert np.abs(error).max() < 0.5 * POLICY.threshold


def test_same_seed_gives_bit_identical_decisions(network: LearnedModel):
    def run() -> list[bytes]:
        ours = loop(network, seed=77)
        octets = []
        for step in range(150):
            if step == 60:
                ours.microgrids.attack(2)
            [outcome] = ours.step().outcomes
            assert outcome.twin is not None
            octets += [values.tobytes() for values in outcome.twin.columns.values()]
        return octets

    assert run() == run()


def test_coarse_reports_and_focus_windows_raise_no_false_alarm(network: LearnedModel):
    """Steps of 60 s, then 100 ms, and back: each change is a gap, and loads move across it."""
    run = loop(network, RESTLESS, seed=31)
    for _ in range(4):
        for _ in range(5):
            run.step(60.0)
        run.until(run.now_s + 15)
    assert run.told() == []


def test_dos_before_the_focus_window_is_found_after_the_warm_up(network: LearnedModel):
    run = loop(network, seed=32)
    run.step(60.0)
    run.microgrids.attack(0)
    run.step(60.0)
    opened_s = run.now_s
    run.until(opened_s + 8)
    [(microgrid, _, _, at_s)] = run.told()
    assert microgrid == "MG1"
    assert at_s - opened_s == pytest.approx(CONFIG.warm_up_s + POLICY.tau_s, abs=0.2)


def test_takeover_lasts_over_coarse_reports_and_ends_after_them(network: LearnedModel):
    run = loop(network, MicrogridsConfig(step_mean_s=0.0), seed=33)  # a held value can't follow loads it isn't told of
    run.until(10)
    run.microgrids.attack(1)
    run.until(20)
    for _ in range(3):
        run.step(60.0)
        assert np.ptp(run.shares()) < 0.06
    run.microgrids.attack(1, on=False)
    for _ in range(3):
        run.step(60.0)
    assert [(microgrid, cleared) for microgrid, _, cleared, _ in run.told()] == [("MG2", False), ("MG2", True)]


def test_false_data_is_told_from_dos(network: LearnedModel):
    run = loop(network, seed=34)
    run.until(10)
    run.microgrids.attack(2, "false_data", bias=0.35)
    run.until(20)
    assert [(microgrid, problem) for microgrid, problem, _, _ in run.told()] == [("MG3", "FALSE_DATA")]
    assert np.ptp(run.shares()) < 0.06


def test_fallback_without_a_model_alarms_and_holds_the_last_good_value():
    run = loop(None, MicrogridsConfig(load_noise=0.01, step_mean_s=0.0), seed=35)
    run.until(10)
    assert run.report is not None
    before = run.report["contribution_factor"][1]
    run.microgrids.attack(1)
    run.until(25)
    assert [(microgrid, problem) for microgrid, problem, _, _ in run.told()] == [("MG2", "DOS")]
    assert run.memories["00101-e2000001"].last_good[1] == pytest.approx(before, abs=0.01)
    assert np.ptp(run.shares()) < 0.06


def test_alarm_only_policy_alarms_and_leaves_the_agents_alone(network: LearnedModel):
    run = loop(network, seed=36, policy=GuardPolicy(mode="alarm_only"))
    run.until(10)
    run.microgrids.attack(1)
    run.until(20)
    assert [microgrid for microgrid, *_ in run.told()] == ["MG2"]
    assert np.ptp(run.shares()) > 0.3
