"""The E2 node side of E2 for simulated nodes: one agent per node, its RAN functions, its link with impairments.

Lock-step: the driver calls `network.advance(end_s)` and then `await agents.publish(end_s)`. Samples reach the RAN
functions while the network steps; indications leave when they are published.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from google.protobuf.message import DecodeError

from e2sim.impairments import ImpairedLink, is_down
from e2sim.network import Network, Node, NodeSample
from e2sim.ran_functions import CccFunction, DappFunction, GridFunction, Indication, KpmFunction, NodeFunction
from e2sim.scenario_parts import RestartSpec
from e2sim.streams import Streams
from ric.e2.identities import NodeIdentity, RicRequestId
from ric.e2.node import E2NodeConnection
from ric.e2sm import dapp
from ric.errors import TwinRicError
from ric.pb.twinric.bus.v1.record_pb2 import Alarm
from ric.security import TlsMaterial
from ric.telemetry import Metrics, logger

__all__ = ["E2Agent", "E2Agents"]

MAX_REPORTS = 128
"""DApp reports of one node that a RIC which comes back is told again."""
REPEAT_S = 0.1


class E2Agent:
    """One simulated node's E2 agent."""

    def __init__(
        self, node: Node, connection: E2NodeConnection, functions: Sequence[NodeFunction], dapps: DappFunction,
        link: ImpairedLink[Indication],
    ) -> None:  # fmt: skip
        self.node = node
        self.connection = connection
        self.sent = 0
        self._functions = tuple(functions)
        self._reports: deque[dapp.DAppReport] = deque(maxlen=MAX_REPORTS)
        self._told: dict[RicRequestId, int] = {}
        self._dapps = dapps
        self._link = link
        self._down = False

    def observe(self, sample: NodeSample) -> None:
        """Hand a step's sample to the RAN functions and put what becomes due on the link."""
        for function in self._functions:
            for indication in function.observe(sample):
                self._link.offer(sample.end_s, indication)

    async def publish(self, now_s: float) -> int:
        """Send what arrives by `now_s` [s]; how many indications were sent. Waits when the connection is slow."""
        sent = 0
        for indication in self._link.release(now_s):
            sent += await self._indicate(indication)
        return sent

    async def report_dapp(self, dapp_identifier: int, sequence_id: int, report_data: bytes, source_time_ns: int) -> int:
        """Bridge a dApp report of the E3 agent to E2, at once; how many indications were sent.

        `report_data` is a serialised `twinric.bus.v1.Alarm`. Raises TwinRicError (E3-MALFORMED).
        """
        try:
            alarm = Alarm.FromString(report_data)
        except DecodeError as error:
            raise TwinRicError("E3-MALFORMED", "report_data", report_data[:16], "a serialised Alarm") from error
        report = dapp.DAppReport(self.node.e2_node_id, source_time_ns, dapp_identifier, sequence_id, alarm)
        self._reports.append(report)
        sent = 0
        for indication in self._dapps.indications(report):
            sent += await self._indicate(indication)
        return sent

    def serve_dapps(self, on_control: Callable[[dapp.DAppControl], Awaitable[None]]) -> None:
        """Let xApps' controls for dApps go to `on_control`, which returns when the dApp has accepted."""
        self._dapps.on_control = on_control

    async def repeat_reports(self) -> int:
        """Send the newest dApp reports to every subscription that is new; how many indications were sent.

        E2 acknowledges no indication: what was on its way when the RIC died, or came while it was away, arrives by
        the repetition. The RIC knows what it has taken.
        """
        in_force = self.connection.subscriptions.keys()
        opened = {key: number for key, number in self._dapps.opened.items() if key in in_force}
        new = {key for key, number in opened.items() if self._told.get(key) != number}
        self._told = opened
        sent = 0
        for report in list(self._reports) if new else ():
            for indication in self._dapps.indications(report):
                if indication.ric_request_id in new:
                    sent += await self._indicate(indication)
        return sent

    async def keep_up(self, *, down: bool) -> None:
        """Take the node down, or bring it back, when that is not how it is."""
        if down and not self._down:
            await self.connection.stop()
        if self._down and not down:
            await self.connection.start()
        self._down = down

    async def _indicate(self, indication: Indication) -> int:
        if not self.connection.is_connected:
            return 0
        done = await self.connection.indicate(
            indication.ric_request_id, indication.ran_function_id, indication.ric_action_id,
            indication.header, indication.message,
        )  # fmt: skip
        self.sent += done
        return int(done)


class E2Agents:
    """The agents of all nodes of a network, towards one RIC at `address` ("host:port" of its E2 termination)."""

    def __init__(self, network: Network, address: str, *, metrics: Metrics, tls: TlsMaterial | None = None) -> None:
        self.network = network
        self.agents: dict[str, E2Agent] = {}
        self._repeating: asyncio.Task[None] | None = None
        self._log = logger("e2sim")
        scenario = network.scenario
        streams = Streams(scenario.seed)
        for node in network.nodes.values():
            dapps = DappFunction()
            start_s = scenario.start_s
            functions = (KpmFunction(node, start_s), CccFunction(node), GridFunction(node, start_s), dapps)
            identity = NodeIdentity(node.spec.plmn_id, node.spec.gnb_id)
            connection = E2NodeConnection(address, identity, functions, metrics=metrics, tls=tls)
            link = ImpairedLink[Indication](scenario.impairments, streams.generator(f"node/{node.e2_node_id}/link"))
            self.agents[node.e2_node_id] = E2Agent(node, connection, functions, dapps, link)
        network.listeners.append(self._observe)

    async def start(self, timeout_s: float | None = None) -> None:
        """Dial the RIC and return when all nodes are set up. Raises TwinRicError (E2-LOST) after `timeout_s`."""
        for agent in self.agents.values():
            await agent.connection.start()
        for agent in self.agents.values():
            await agent.connection.connected(timeout_s)
        self._repeating = asyncio.get_running_loop().create_task(self._repeat_reports())
        self._log.info("E2 nodes connected", nodes=len(self.agents))

    async def stop(self) -> None:
        """Leave the RIC."""
        if self._repeating is not None:
            self._repeating.cancel()
            await asyncio.gather(self._repeating, return_exceptions=True)
            self._repeating = None
        for agent in self.agents.values():
            await agent.connection.stop()

    async def publish(self, now_s: float) -> int:
        """Send every indication due by `now_s` [s] from nodes that are up; how many were sent."""
        sent = 0
        for agent in self.agents.values():
            await agent.keep_up(down=self._is_down(agent.node, now_s))
            sent += await agent.publish(now_s)
        return sent

    async def _repeat_reports(self) -> None:
        """On the wall clock: it is about connections, and goes on when the scenario is over."""
        while True:
            await asyncio.sleep(REPEAT_S)
            for agent in self.agents.values():
                await agent.repeat_reports()

    def _observe(self, node: Node, sample: NodeSample) -> None:
        self.agents[node.e2_node_id].observe(sample)

    def _is_down(self, node: Node, now_s: float) -> bool:
        scenario = self.network.scenario
        restarts: Sequence[RestartSpec] = scenario.impairments.node_restarts
        return is_down(restarts, node.e2_node_id, scenario.nodes[0].e2_node_id, now_s - scenario.start_s)
