"""Set-points desired on the bus, which tell devices what a control would: noted where conflicts are settled.

The bus has no gate, so nothing is held back here. What apps desire holds its parameters and pushes its quantities like
a control, so that controls over E2 which work against it are refused, and what works against them is told.
"""

from __future__ import annotations

import asyncio

from ric.bus.acks import follow_acks
from ric.bus.bus import TWIN_DESIRED, Bus, Twins
from ric.bus.record import Ack, AckStatus, TwinState
from ric.clock import SourceClock
from ric.e2.conflict_mitigation import ConflictDecision, ControlIntent
from ric.e2.controls import RicControls
from ric.e2.set_points import amounts_of
from ric.e2sm import grid
from ric.telemetry import Metrics

__all__ = ["DesiredControls"]


class DesiredControls:
    """Follows set-points on `twin.desired`, twin id `<kind>/<node>`, and the answers to them, until :meth:`stop`."""

    def __init__(self, bus: Bus, metrics: Metrics, controls: RicControls) -> None:
        self._bus, self._metrics, self._controls = bus, metrics, controls
        # Scenarios bear dates of their own: whether a record is still valid is judged by those before it.
        self._twins = Twins(bus, SourceClock(), metrics, "near_rt_ric/1")
        self._decisions: dict[str, tuple[int, ConflictDecision]] = {}
        self._answers: dict[str, Ack] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Take every desired state from now on. Raises TwinRicError BUS-UNREACHABLE."""
        loop = asyncio.get_running_loop()
        work = await self._twins.following([TWIN_DESIRED], self._on_twin)
        self._tasks = [
            loop.create_task(follow_acks(self._bus, self._metrics, self._on_ack)),
            loop.create_task(work),
        ]

    async def stop(self) -> None:
        """Follow no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_twin(self, _: str, twin: TwinState) -> None:
        kind, _, node = twin.twin_id.partition("/")
        if kind != twin.kind or kind not in grid.CONTROL_KINDS:
            return
        amounts, app_id = amounts_of(twin.table), twin.producer.partition("/")[0]
        decision = self._controls.note(ControlIntent(app_id, node, grid.OID, amounts, amounts))
        self._decisions[twin.twin_id] = twin.revision, decision
        self._settle(twin.twin_id)

    def _on_ack(self, ack: Ack) -> None:
        if ack.twin_id.partition("/")[0] in grid.CONTROL_KINDS:
            self._answers[ack.twin_id] = ack
            self._settle(ack.twin_id)

    def _settle(self, twin_id: str) -> None:
        """Take the answer to a desired state for what became of it; two topics keep no order between them."""
        revision, decision = self._decisions.get(twin_id, (0, None))
        answer = self._answers.get(twin_id)
        if decision is None or answer is None or answer.revision != revision:
            return
        del self._decisions[twin_id], self._answers[twin_id]
        if answer.status is AckStatus.ACCEPTED:
            self._controls.conflicts.applied(decision)
        else:
            self._controls.conflicts.withdraw(decision)
