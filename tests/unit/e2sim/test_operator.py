"""The scenario's policies reach the RIC at their times, in order, and once."""

from __future__ import annotations

from typing import Any

from e2sim.operator import Operator
from e2sim.scenario import Scenario, parse_scenario
from ric.errors import TwinRicError

START_S = 1_465_948_800.0


def scenario() -> Scenario:
    policies = [
        {"at_s": 120, "policy_type_id": "t", "policy_id": "late", "body": {"gain": 2}},
        {"at_s": 30, "policy_type_id": "t", "policy_id": "early", "body": {"gain": 1}},
        {"at_s": 90, "policy_type_id": "t", "policy_id": "early", "body": None},
    ]
    return parse_scenario({
        "seed": 1, "start": "2016-06-15T00:00:00Z", "duration_s": 300, "nodes": [{"gnb_id": 1}], "policies": policies,
    })  # fmt: skip


class Ric:
    """Takes policies, or is away."""

    def __init__(self) -> None:
        self.away = False
        self.calls: list[tuple[Any, ...]] = []

    async def put_policy(self, *arguments: Any) -> None:
        self._take(*arguments)

    async def delete_policy(self, *arguments: Any) -> None:
        self._take(*arguments)

    def _take(self, *arguments: Any) -> None:
        if self.away:
            raise TwinRicError("A1-UNREACHABLE", "base_url", "http://ric", "an A1 service that answers")
        self.calls.append(arguments)


async def test_operator_acts_in_order_of_time_and_each_event_once() -> None:
    ric = Ric()
    operator = Operator(scenario(), ric)
    done = [await operator.play(START_S + end_s - 30, START_S + end_s) for end_s in (30, 60, 90, 120, 150, 180)]
    assert done == [0, 1, 0, 1, 1, 0]
    assert ric.calls == [("t", "early", {"gain": 1}), ("t", "early"), ("t", "late", {"gain": 2})]


async def test_operator_tries_again_where_it_stopped_once_the_ric_is_back() -> None:
    ric = Ric()
    operator = Operator(scenario(), ric)
    ric.away = True
    assert await operator.play(START_S, START_S + 100) == 0
    ric.away = False
    assert await operator.play(START_S + 100, START_S + 200) == 3
    assert [call[1] for call in ric.calls] == ["early", "early", "late"]
