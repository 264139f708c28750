"""The homes' side of `twin.desired`: puts desired state in force at nodes told over the bus, and answers it."""

from __future__ import annotations

import asyncio

from e2sim.network import BY_BUS, Network, Node
from ric.bus.bus import TWIN_DESIRED, Twins
from ric.bus.record import AckStatus, TwinState
from ric.clock import to_s
from ric.errors import TwinRicError
from ric.telemetry import logger

__all__ = ["DesiredAgent"]


class DesiredAgent:
    """Acts on `home_set_point/<node>` and `appliance_set_point/<node>`; other desired state is not its own.

    What the compacted topic holds and is still valid is put in force at the start, as a gateway does after a failure.
    """

    def __init__(self, network: Network, twins: Twins) -> None:
        self._network, self._twins = network, twins
        self._answers: asyncio.Queue[tuple[TwinState, AckStatus, str]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._log = logger("e2sim")

    @staticmethod
    def wanted(network: Network) -> bool:
        """Whether any node of the scenario is told over the bus."""
        return any(node.spec.desired_by_bus for node in network.nodes.values())

    async def start(self) -> None:
        """Follow the topic. Raises TwinRicError BUS-UNREACHABLE."""
        loop = asyncio.get_running_loop()
        work = await self._twins.following([TWIN_DESIRED], self._on_twin, late=self._on_expired)
        for kind in sorted(BY_BUS):
            for twin in (await self._twins.rebuild(TWIN_DESIRED, f"{kind}/")).values():
                if to_s(twin.source_time_ns) <= self._network.now_s:  # else of an earlier run of these days
                    self._on_twin(TWIN_DESIRED, twin)
        self._tasks = [loop.create_task(work), loop.create_task(self._answer())]

    async def stop(self) -> None:
        """Follow no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def busy(self) -> bool:
        """True while answers wait to be published."""
        return not self._answers.empty()

    def _node_of(self, twin: TwinState) -> Node | None:
        """The node whose homes are meant; None where that is none of this network."""
        kind, _, name = twin.twin_id.partition("/")
        return self._network.nodes.get(name) if kind in BY_BUS else None

    def _on_expired(self, _: str, twin: TwinState) -> None:
        if self._node_of(twin) is not None:
            reason = f"came more than {twin.valid_for_ms} ms after its source time"
            self._answers.put_nowait((twin, AckStatus.EXPIRED, reason))

    def _on_twin(self, _: str, twin: TwinState) -> None:
        node = self._node_of(twin)
        if node is None:
            return
        try:
            if not node.spec.desired_by_bus:
                raise TwinRicError(
                    "BUS-RANGE", "twin_id", twin.twin_id, "a node with desired_by_bus; this one obeys E2"
                )
            if not twin.valid_for_ms:
                raise TwinRicError("BUS-RANGE", "valid_for_ms", 0, "a desired state that ends, > 0 ms")
            node.apply(twin.table, to_s(twin.source_time_ns) + twin.valid_for_ms / 1e3)
        except TwinRicError as error:
            self._log.warning("desired state refused", twin_id=twin.twin_id, fault=str(error))
            self._answers.put_nowait((twin, AckStatus.REJECTED, str(error)))
            return
        self._answers.put_nowait((twin, AckStatus.ACCEPTED, ""))

    async def _answer(self) -> None:
        while True:
            twin, status, reason = await self._answers.get()
            try:
                await self._twins.acknowledge(twin, status, reason)
            except TwinRicError as error:
                self._log.warning("answer not published", twin_id=twin.twin_id, fault=str(error))
