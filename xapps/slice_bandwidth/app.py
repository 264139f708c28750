"""The shell: KPM reports and fault alarms in, slice ratios out, twins and decisions published."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter, Gauge

from ric.app_policies import PolicyOutcome
from ric.app_spec import AppConfig, AppSpec, Ric
from ric.bus.bus import TWIN_REPORTED
from ric.columns import Table
from ric.config import FrozenModel
from ric.decision import Reason
from ric.e2sm import ccc, dapp, kpm
from ric.errors import TwinRicError
from ric.learned import LearnedModel, load_model
from ric.runtime import App, AppRuntime
from ric.scopes import Scope, reach_of
from xapps.slice_bandwidth import joint
from xapps.slice_bandwidth.config import SliceBandwidthConfig
from xapps.slice_bandwidth.decision import NodeDecision, warm_up
from xapps.slice_bandwidth.fallback import fall_back_fleet
from xapps.slice_bandwidth.fleet import FleetDecision, decide_fleet
from xapps.slice_bandwidth.forecast import COLUMNS, OUTPUTS
from xapps.slice_bandwidth.lattice import bounds_of
from xapps.slice_bandwidth.model import S_NSSAI, SLICES, LinkModel
from xapps.slice_bandwidth.policy import POLICY_TYPE_ID, Mode, SlicePolicy
from xapps.slice_bandwidth.rl_agent import FEATURES, Learned
from xapps.slice_bandwidth.state import MEASUREMENT_NAMES, FleetState, LinkWindow, NodeWindow

__all__ = ["SliceBandwidthApp"]

CCC = (ccc.NAME, ccc.VERSION)


class SliceBandwidthApp(App[SliceBandwidthConfig, SlicePolicy, FleetState, FleetDecision]):
    """Shares each node's 20 FlexE slots between its control, protection and monitoring slices."""

    spec: ClassVar[AppSpec] = AppSpec("slice_bandwidth", Ric.NEAR_RT, 100.0, POLICY_TYPE_ID, frozenset({"e2"}))
    config_type: ClassVar[type[AppConfig]] = SliceBandwidthConfig
    policy_type: ClassVar[type[FrozenModel]] = SlicePolicy

    def __init__(self, config: SliceBandwidthConfig, runtime: AppRuntime) -> None:
        super().__init__(config, runtime)
        figures = (config.base_delay_ms, config.burst_mbit, config.buffer_mbit)
        self.link = LinkModel(*(np.array(figure) for figure in figures))
        self.windows: dict[str, NodeWindow] = {}
        self.shared = {
            link.link_id: LinkWindow(link.link_id, link.e2_node_ids, link.capacity_mbps, link.buffer_mbit)
            for link in config.aggregation_links
        }
        self._due: set[str] = set()
        self._unfit: dict[Mode, Reason] = {}
        self.learned = self._load(config)
        self._overrides = Counter(
            "twinric_slice_overrides",
            "Decisions that the safety layer changed, by layer",
            ["layer"],
            registry=runtime.metrics.registry,
        )
        self._backlog = Gauge(
            "twinric_slice_link_backlog_mbit",
            "Backlog that an aggregation link should have after what its nodes let through [Mbit]",
            ["link", "slice"],
            registry=runtime.metrics.registry,
        )

    async def rebuild(self) -> None:
        """Make decisions ready, and the joint one where nodes share links: nobody's first one is to be late."""
        if self.learned is not None:
            await asyncio.to_thread(warm_up, self.learned)
        if self.shared:
            await asyncio.to_thread(joint.warm_up)

    def _load(self, config: SliceBandwidthConfig) -> Learned | None:
        forecaster = self._model(config.forecaster_path, COLUMNS, {"quantiles": (-1, OUTPUTS)}, (Mode.ORACLE, Mode.RL))
        actor = self._model(config.model_path, FEATURES, {"scores": (-1,)}, (Mode.RL,))
        return None if forecaster is None else Learned(forecaster, actor)

    def _model(
        self, path: Path, columns: int, outputs: dict[str, tuple[int, ...]], modes: tuple[Mode, ...]
    ) -> _Onnx | None:
        try:
            return _Onnx(load_model(path, {"rows": (-1, columns)}, outputs))
        except TwinRicError as error:
            reason = Reason(error.code.replace("-", "_"), details={"fault": str(error)})
            self._unfit |= dict.fromkeys(modes, reason)
            self.runtime.log.error("no usable model; eq (2) decides", file=path.name, fault=str(error))
            return None

    async def connect(self) -> None:
        """Subscribe to KPM and to dApp reports at every node."""
        self.runtime.follow_e2(
            (kpm.NAME, kpm.VERSION), trigger=kpm.encode_trigger(self.config.granularity_period_ms),
            action=kpm.encode_action(MEASUREMENT_NAMES), handler=self._on_report,
        )  # fmt: skip
        self.runtime.follow_e2((dapp.NAME, dapp.VERSION), trigger=b"", action=b"", handler=self._on_alarm)

    def _on_report(self, e2_node_id: str, header: bytes, message: bytes) -> int | None:
        if not self.config.serves(e2_node_id):
            return None
        report = kpm.decode_indication(header, message)
        window = self._window(e2_node_id)
        if not window.add_report(report):
            self.runtime.metrics.count_dropped("kpm_out_of_order")
            return None
        due = window.due()
        self._due |= due
        return report.source_time_ns if due else None

    def _on_alarm(self, e2_node_id: str, header: bytes, message: bytes) -> int | None:
        if not self.config.serves(e2_node_id):
            return None
        report = dapp.decode_indication(header, message)
        if report.alarm.application not in self.config.alarm_applications:
            return None
        window = self._window(e2_node_id)
        window.add_alarm(report)
        self._due.add(e2_node_id)
        return report.source_time_ns

    def _window(self, e2_node_id: str) -> NodeWindow:
        """The node's window, made at its first message."""
        if e2_node_id not in self.windows:
            link = self.config.link_of(e2_node_id)
            shared = None if link is None else self.shared[link.link_id]
            self.windows[e2_node_id] = NodeWindow(e2_node_id, self.link, shared=shared)
        return self.windows[e2_node_id]

    def observe(self, now_ns: int) -> FleetState | None:
        """All nodes that have reported; those with something new since the last call are due."""
        states = [self.windows[name].state(now_ns) for name in sorted(self.windows)]
        nodes = tuple(state for state in states if state is not None)
        due = frozenset(self._due)
        self._due.clear()
        links = tuple(window.state() for window in self.shared.values() if window.passed_ns)
        for link in links:
            for name, backlog in zip(SLICES, link.queue_mbit.tolist(), strict=True):
                self._backlog.labels(link.link_id, name).set(backlog)
        return FleetState(nodes, due, links) if nodes else None

    def parts(self) -> tuple[Scope, ...]:
        """Every node that has reported: a policy may be restricted to one."""
        return tuple(Scope(e2_node_id=node) for node in self.windows)

    def unfit(self, state: FleetState) -> Reason | None:
        """The model's fault while a node that is due has a policy that asks for the model."""
        if not self._unfit:
            return None
        policy: SlicePolicy = self.runtime.policies.effective()
        modes = {policy.at(Scope(e2_node_id=node)).mode for node in state.due}
        return next((self._unfit[mode] for mode in modes if mode in self._unfit), None)

    def decide(self, state: FleetState, policy: SlicePolicy) -> FleetDecision:
        """See :func:`fleet.decide_fleet`."""
        return decide_fleet(state, policy, self.learned)

    def fallback(self, state: FleetState | None, policy: SlicePolicy, reason: Reason) -> FleetDecision | None:
        """See :func:`fallback.fall_back`."""
        return None if state is None else fall_back_fleet(state, policy, reason)

    async def act(self, decision: FleetDecision) -> None:
        """Control the nodes whose split changes, all at once, and publish every twin. Raises the first node's fault."""
        for node in decision.nodes:
            for layer in node.overrides:
                self._overrides.labels(layer).inc()
                self.runtime.log.info("override", layer=layer, e2_node_id=node.e2_node_id, slots=node.slots.tolist())
        faults = await asyncio.gather(*(self._apply(node) for node in decision.nodes))
        for fault in faults:
            if fault is not None:
                raise fault

    async def _apply(self, node: NodeDecision) -> TwinRicError | None:
        fault = None
        slots = node.slots_before
        if node.changed:
            try:
                slots = await self._control(node)
            except TwinRicError as error:
                fault = error
        await self._publish(node, slots)
        return fault

    async def _control(self, node: NodeDecision) -> NDArray[np.int64]:
        """Put the split in force and return what the node says is. Raises TwinRicError E2-UNVERIFIED and others."""
        header, message = ccc.encode_control(ratios_of(node.slots))
        self.runtime.metrics.count_message("e2", "out")
        outcome = await self.links.need_e2().control(
            node.e2_node_id, CCC, header, message, deadline_s=self.config.control_deadline_s
        )
        in_force = slots_of(ccc.decode_outcome(outcome), node.slots)
        window = self.windows.get(node.e2_node_id)
        if window is not None:
            window.slots = in_force
        if not np.array_equal(in_force, node.slots):
            raise TwinRicError("E2-UNVERIFIED", "flexe_slots", in_force.tolist(), str(node.slots.tolist()))
        return in_force

    async def _publish(self, node: NodeDecision, slots: NDArray[np.int64]) -> None:
        state = node.state
        columns = {
            "flexe_slots": slots.astype(np.float64), "offered_mbps": state.offered_mbps[-1],
            "delay_ms": state.delay_ms, "jitter_ms": state.jitter_ms,
        }  # fmt: skip
        table = Table("slice_twin", S_NSSAI, columns, node.source_time_ns)
        await self.links.twins.publish(
            TWIN_REPORTED, f"slice/{node.e2_node_id}", "slice_twin", table, self.config.twin_valid_for_ms
        )

    def policy_outcome(self, policy: SlicePolicy, decision: FleetDecision) -> PolicyOutcome | None:
        """Enforced while every split lies inside the policy's own floors and ceilings; None where none is its own."""
        reach, bounds = reach_of(policy), bounds_of(policy, False)
        nodes = [node for node in decision.nodes if reach.covers(Scope(e2_node_id=node.e2_node_id))]
        for node in nodes:
            if (node.slots < bounds.low).any() or (node.slots > bounds.high).any():
                text = f"{node.e2_node_id}: {node.slots.tolist()} slots, another policy leaves no room"
                return PolicyOutcome(False, "OTHER_REASON", text)
        return PolicyOutcome(True) if nodes else None


class _Onnx:
    """A model with one input and one output as a function of rows."""

    def __init__(self, model: LearnedModel) -> None:
        self._model = model

    def __call__(self, rows: NDArray[np.float32], /) -> NDArray[np.float32]:
        return self._model.run(rows=rows)[0]


def ratios_of(slots: NDArray[np.int64]) -> tuple[ccc.SliceRatio, ...]:
    """The control's ratios [%] for slots (3,): dedicated and guaranteed alike, 5 per slot."""
    return tuple(
        ccc.SliceRatio(
            s_nssai=name, rrm_policy_dedicated_ratio=int(number) * ccc.SLOT_PERCENT,
            rrm_policy_min_ratio=int(number) * ccc.SLOT_PERCENT,
        )
        for name, number in zip(S_NSSAI, slots, strict=True)
    )  # fmt: skip


def slots_of(ratios: tuple[ccc.SliceRatio, ...], default: NDArray[np.int64]) -> NDArray[np.int64]:
    """Slots (3,) that ratios stand for; a slice that they do not name keeps its `default`."""
    named = {ratio.s_nssai: ratio.rrm_policy_dedicated_ratio // ccc.SLOT_PERCENT for ratio in ratios}
    return np.array([named.get(name, int(old)) for name, old in zip(S_NSSAI, default, strict=True)])
