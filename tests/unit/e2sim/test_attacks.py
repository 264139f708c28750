from e2sim.attacks import AgentAttack, attack_on, clock_offset_s, under_way
from e2sim.scenario_parts import AttackSpec

DOS = AttackSpec(at_s=10, duration_s=5, kind="dos", target="MG2")
FALSE = AttackSpec(at_s=12, duration_s=5, kind="false_data", target="MG2", bias=4)
SKEW = AttackSpec(at_s=0, duration_s=100, kind="clock_skew", bias=-1.5)
ALL = (DOS, FALSE, SKEW)


def test_under_way_is_from_start_up_to_the_end():
    assert [len(under_way(ALL, offset)) for offset in (9.9, 10, 12, 15, 17, 100)] == [1, 2, 3, 2, 1, 0]


def test_attack_on_adds_up_per_agent_and_is_bounded():
    assert attack_on(ALL, "MG2") == AgentAttack(silenced=True, bias=4)
    assert attack_on((FALSE, FALSE), "MG2") == AgentAttack(silenced=False, bias=5)
    assert attack_on(ALL, "MG1") == AgentAttack()


def test_clock_offset_is_that_of_skews_only():
    assert clock_offset_s(ALL) == -1.5
    assert clock_offset_s((DOS, FALSE)) == 0
