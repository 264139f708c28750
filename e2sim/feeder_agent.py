"""The DU of one node on E3: plays the waveforms around the scenario's faults, bridges dApp reports and xApp controls.

Waveforms exist around faults only, inside the windows: a day of samples would be 345 million. Each span starts and ends
with a healthy feeder, so a false alarm has its chance.
"""

from __future__ import annotations

import asyncio

from e2sim.e2_agent import E2Agent, E2Agents
from e2sim.e3_agent import E3Agent
from e2sim.grid.waveforms import FaultEvent, FeederWaveforms
from e2sim.network import Network
from e2sim.scenario_parts import FaultSpec
from e2sim.streams import Streams
from ric.clock import to_ns
from ric.e2sm import dapp
from ric.e3.e3ap import Waveform
from ric.e3.session import E3Endpoints
from ric.telemetry import Metrics, logger

__all__ = ["FeederAgent"]

WINDOW_SAMPLES = 20
"""Samples per indication: 5 ms at 4 kHz."""
LEAD_S, TAIL_S = 2.0, 3.0
"""Healthy time before a fault and after it [s]."""
FAST_STEP_S = 2.0
FREE = E3Endpoints("tcp://127.0.0.1:0", "tcp://127.0.0.1:0", "tcp://127.0.0.1:0")


class FeederAgent:
    """One node's feeder on E3. `sent` counts windows times subscribed dApps, `reports` the dApp reports passed on."""

    def __init__(self, network: Network, agent: E2Agent, endpoints: E3Endpoints) -> None:
        scenario, node_id = network.scenario, agent.node.e2_node_id
        first_id = scenario.nodes[0].e2_node_id
        self._faults = [fault for fault in scenario.faults if (fault.node or first_id) == node_id]
        generator = Streams(scenario.seed).generator(f"node/{node_id}/waveforms")
        self._waveforms = FeederWaveforms(generator, [_event(fault) for fault in self._faults])
        self._agent = agent
        self._start_s = scenario.start_s
        self._windows = [(window.start_s, window.end_s) for window in scenario.windows]
        self._played_ms = -1
        self._sequence = 0
        self._now_ns = to_ns(scenario.start_s)
        self._e3 = E3Agent(endpoints, node_id, on_report=self._pass_on, metrics=Metrics("e3_agent"))
        agent.serve_dapps(self._control)

    @classmethod
    def of(cls, network: Network, agents: E2Agents, endpoints: E3Endpoints = FREE) -> FeederAgent:
        """The agent of the node with the scenario's first fault, or of the first node. One node has E3 at a time."""
        scenario = network.scenario
        node = scenario.node(scenario.faults[0].node if scenario.faults else "")
        if len({fault.node for fault in scenario.faults}) > 1:
            logger("e2sim").warning("faults of other nodes have no waveforms", e2_node_id=node.e2_node_id)
        return cls(network, agents.agents[node.e2_node_id], endpoints)

    @property
    def endpoints(self) -> E3Endpoints:
        """Where dApps connect; free ports are known after `start`."""
        return self._e3.endpoints

    @property
    def sent(self) -> int:
        """Waveform indications sent."""
        return self._e3.sent

    @property
    def reports(self) -> int:
        """DApp reports passed on to E2."""
        return self._e3.reports

    @property
    def subscribers(self) -> int:
        """DApps that have subscribed to waveforms."""
        return self._e3.subscribers

    async def start(self) -> None:
        """Bind the sockets. Raises TwinRicError (CONFIG-RANGE) when an address is taken."""
        await self._e3.start()

    async def stop(self) -> None:
        """Close the sockets."""
        await self._e3.stop()

    async def play(self, start_s: float, end_s: float) -> int:
        """Send the waveforms of the step from `start_s` to `end_s` [s]; how many windows there were.

        None outside the windows, far from a fault, or while no dApp listens.
        """
        first_ms, last_ms = round((start_s - self._start_s) * 1e3), round((end_s - self._start_s) * 1e3)
        if last_ms - first_ms > FAST_STEP_S * 1e3 or not self._is_near(first_ms / 1e3) or not self.subscribers:
            return 0
        if self._played_ms != first_ms:
            self._waveforms.jump_to(first_ms / 1e3)
        window_ms = WINDOW_SAMPLES * 1_000 // self._waveforms.sample_rate_hz
        number = (last_ms - first_ms) // window_ms
        for index in range(number):
            samples = self._waveforms.next_window(WINDOW_SAMPLES)
            first_ns = to_ns(start_s) + index * window_ms * 1_000_000
            self._now_ns = first_ns + window_ms * 1_000_000
            self._sequence = (self._sequence + 1) % 2**32
            await self._e3.indicate(Waveform(self._waveforms.sample_rate_hz, self._sequence, first_ns, samples))
            await asyncio.sleep(0)
        self._played_ms = first_ms + number * window_ms
        return number

    def _is_near(self, offset_s: float) -> bool:
        inside = any(start <= offset_s < end for start, end in self._windows)
        return inside and any(
            fault.at_s - LEAD_S <= offset_s < fault.at_s + fault.cleared_after_s + TAIL_S for fault in self._faults
        )

    async def _control(self, control: dapp.DAppControl) -> None:
        await self._e3.control_dapp(control.dapp_identifier, control.sequence_id, control.data)

    async def _pass_on(self, dapp_identifier: int, sequence_id: int, report_data: bytes) -> None:
        await self._agent.report_dapp(dapp_identifier, sequence_id, report_data, self._now_ns)


def _event(fault: FaultSpec) -> FaultEvent:
    """The fault as the waveform solver knows it, its time an offset from the scenario's start."""
    phase = "abc".index(fault.phase)
    return FaultEvent(fault.kind, fault.section, fault.at_s, fault.cleared_after_s, fault.resistance_ohm, phase)
