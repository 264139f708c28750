"""The operator of a scenario: puts and deletes its A1 policies at their times, as a client of the RIC."""

from __future__ import annotations

from collections import deque

from e2sim.scenario import Scenario
from ric.a1.client import PolicyClient
from ric.errors import TwinRicError
from ric.telemetry import logger

__all__ = ["Operator"]


class Operator:
    """Plays `scenario.policies`; what the RIC does not take is told in the log and tried again with the next step."""

    def __init__(self, scenario: Scenario, client: PolicyClient) -> None:
        self._start_s = scenario.start_s
        self._waiting = deque(sorted(scenario.policies, key=lambda event: event.at_s))
        self._client = client
        self._log = logger("operator")

    async def play(self, _: float, end_s: float) -> int:
        """Carry out what is due before `end_s` [s since the epoch], in order; how many policies that changed."""
        done = 0
        while self._waiting and self._start_s + self._waiting[0].at_s < end_s:
            event = self._waiting[0]
            try:
                if event.body is None:
                    await self._client.delete_policy(event.policy_type_id, event.policy_id)
                else:
                    await self._client.put_policy(event.policy_type_id, event.policy_id, event.body)
            except TwinRicError as error:
                self._log.warning("policy not taken", policy_id=event.policy_id, fault=str(error))
                break
            self._waiting.popleft()
            done += 1
        return done
