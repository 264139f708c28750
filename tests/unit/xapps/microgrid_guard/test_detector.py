import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xapps.microgrid_guard.detector import Verdict, Watch, watched
from xapps.microgrid_guard.policy import GuardPolicy, policies_of

POLICY = GuardPolicy()
IDS = ("mg1", "mg2", "mg3")
START_NS = 1_700_000_000_000_000_000
STEP_NS = 100_000_000


def follow(
    errors: list[list[float]], *, policy: GuardPolicy = POLICY, alive: list[list[bool]] | None = None, **options
):
    """Verdicts over samples 100 ms apart; stated factors are 0.6 less the error, as under a DoS."""
    watch, verdicts = Watch.blank(3), []
    for step, error in enumerate(errors):
        here = np.array(alive[step] if alive else [True] * 3)
        settings = {"continuous": True, "armed": True} | {name: values[step] for name, values in options.items()}
        verdict = watched(
            watch, np.array(error), 0.6 - np.array(error), here,
            time_ns=START_NS + step * STEP_NS, policies=policies_of(policy, "n1", IDS), **settings,
        )  # fmt: skip
        watch = verdict.watch
        verdicts.append(verdict)
    return verdicts


def steps_where(verdicts: list[Verdict], name: str) -> list[tuple[int, int]]:
    return [(step, int(row)) for step, v in enumerate(verdicts) for row in np.flatnonzero(getattr(v, name))]


ATTACKED, CALM = [0.1, 0.6, 0.1], [0.01, 0.02, 0.01]


def test_watched_error_for_tau_raises_once_with_its_onset():
    verdicts = follow([CALM] * 5 + [ATTACKED] * 30)
    assert steps_where(verdicts, "raised") == [(15, 1)]
    assert verdicts[15].onset_ns[1] == START_NS + 5 * STEP_NS
    assert verdicts[15].watch.problem == ("", "DOS", "")


@given(st.integers(1, 10))
def test_watched_error_shorter_than_tau_never_raises(length: int):
    assert not steps_where(follow(([ATTACKED] * length + [CALM]) * 4), "raised")


def test_watched_neighbour_above_threshold_is_not_suspected_while_another_leads():
    verdicts = follow([[0.25, 0.6, 0.25]] * 30)
    assert {row for _, row in steps_where(verdicts, "raised")} == {1}


def test_watched_two_victims_are_both_found():
    verdicts = follow([[0.6, 0.5, 0.25]] * 30)
    assert {row for _, row in steps_where(verdicts, "raised")} == {0, 1}


def test_watched_silence_counts_only_where_the_policy_says_so():
    silent = {"alive": [[True, False, True]] * 30}
    assert steps_where(follow([CALM] * 30, **silent), "raised") == [(10, 1)]
    assert not steps_where(follow([CALM] * 30, policy=GuardPolicy(use_liveness=False), **silent), "raised")


def test_watched_gap_restarts_the_count():
    verdicts = follow([ATTACKED] * 30, continuous=[step != 8 for step in range(30)])
    assert steps_where(verdicts, "raised") == [(18, 1)]


def test_watched_unarmed_counts_nothing():
    verdicts = follow([ATTACKED] * 40, armed=[step >= 20 for step in range(40)])
    assert steps_where(verdicts, "raised") == [(30, 1)]


def test_watched_second_stage_follows_after_its_delay_and_stays():
    verdicts = follow([ATTACKED] * 100, policy=GuardPolicy(consensus_delay_s=2.0))
    reached = [step for step, v in enumerate(verdicts) if v.watch.in_consensus[1]]
    assert reached == list(range(30, 100))


def test_watched_release_needs_agreement_without_a_break():
    wobbling = ([CALM] * 15 + [[0.0, 0.15, 0.0]]) * 3
    verdicts = follow([ATTACKED] * 20 + wobbling + [CALM] * 30)
    [(step, row)] = steps_where(verdicts, "cleared")
    assert (step, row) == (20 + len(wobbling) + 20, 1)
    assert verdicts[-1].watch.problem == ("", "", "")
    assert not steps_where(follow([ATTACKED] * 20 + wobbling), "cleared")


def test_watched_dead_agent_is_not_released():
    alive = [[True, False, True]] * 80
    assert not steps_where(follow([ATTACKED] * 20 + [CALM] * 60, alive=alive), "cleared")


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=80))
def test_watched_raises_and_clears_take_turns(errors: list[list[float]]):
    open_alarms = [False] * 3
    for verdict in follow(errors, policy=GuardPolicy(tau_s=0.1, release_s=0.1)):
        for row in range(3):
            assert not (verdict.raised[row] and open_alarms[row])
            assert not (verdict.cleared[row] and not open_alarms[row])
            open_alarms[row] = bool(verdict.watch.alarm_ns[row])


@pytest.mark.parametrize(("stated", "problem"), [(0.0, "DOS"), (0.9, "FALSE_DATA")])
def test_watched_problem_says_what_the_agent_states(stated: float, problem: str):
    watch = Watch.blank(1)
    for step in range(12):
        verdict = watched(
            watch, np.array([0.5]), np.array([stated]), np.array([True]),
            time_ns=START_NS + step * STEP_NS, continuous=True, armed=True,
            policies=policies_of(POLICY, "n1", ("mg1",)),
        )  # fmt: skip
        watch = verdict.watch
    assert watch.problem == (problem,)


def test_watched_policy_of_one_microgrid_leaves_the_others_alone():
    patient = GuardPolicy(scope={"microgrid": "mg2"}, tau_s=2.0)
    policy = GuardPolicy.layered([GuardPolicy(tau_s=0.5), patient])
    errors = [[0.6, 0.6, 0.1]] * 30
    assert steps_where(follow(errors, policy=policy), "raised") == [(5, 0), (20, 1)]
