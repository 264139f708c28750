"""Shell: set-points on their way to the homes, over E2 or as desired state on the bus, and whether they got there."""

from __future__ import annotations

import numpy as np

from ric.bus.bus import TWIN_DESIRED
from ric.bus.record import Ack, AckStatus
from ric.clock import to_ns
from ric.columns import Table
from ric.e2sm import grid
from ric.errors import TwinRicError
from ric.links import Links
from xapps.hems_load.alarms import publish_alarm
from xapps.hems_load.config import HemsConfig
from xapps.hems_load.confirmation import Confirmation, Overdue
from xapps.hems_load.decision import Decision

__all__ = ["Commands", "GRID"]

GRID = (grid.NAME, grid.VERSION)
BY_BUS = ("home_set_point", "appliance_set_point")
"""Kinds that a node told by desired state takes from the bus; community storage stays with E2."""
VERIFIED_KW = 1e-3
PROBLEM = "homes do not follow their desired state"


class Commands:
    """Each node is told one way: as `desired_by_bus` says, or over E2."""

    def __init__(self, config: HemsConfig, links: Links) -> None:
        self._config, self._links = config, links
        self._nodes = {node: Confirmation(config.confirm_within_s) for node in config.desired_by_bus}
        self._overdue: dict[str, Overdue] = {}
        self._unconfirmed: set[str] = set()
        self._onset_ns: dict[str, int] = {}
        """Of the alarm that was told last, by node; 0 for its clearing."""
        self._revisions: dict[str, int] = {}

    def by_bus(self, node: str) -> bool:
        """Whether the node's homes are told by desired state."""
        return node in self._nodes

    def see(self, report: grid.GridReport) -> None:
        """Judge a report of a node told by desired state; its tables `in_force` are needed for that."""
        node, homes = report.e2_node_id, report.tables.get("home_report")
        if homes is None or not self.by_bus(node):
            return
        in_force, starts_ns = report.in_force.get("home_in_force"), report.starts_ns.get("home_report")
        if in_force is None or starts_ns is None:
            if node not in self._unconfirmed:
                self._unconfirmed.add(node)
                self._links.log.warning("reports do not tell whether homes follow their desired state", node=node)
            return
        overdue = self._nodes[node].see(homes, in_force, starts_ns)
        if overdue is not None:
            self._overdue[node] = overdue

    def reported(self, node: str, revision: int) -> None:
        """The newest revision of the node's reported fleet, from which the next desired state is made."""
        self._revisions[node] = revision

    def answered(self, ack: Ack) -> None:
        """Take an answer to a desired state; one that is not an acceptance is logged with its reason."""
        kind, _, node = ack.twin_id.partition("/")
        if kind not in BY_BUS or node not in self._nodes:
            return
        text = "" if ack.status is AckStatus.ACCEPTED else f"{ack.status.name.lower()}: {ack.reason}"
        if text:
            self._links.log.warning("desired state not accepted", twin_id=ack.twin_id, answer=text)
        self._nodes[node].answer(text)

    async def give(self, node: Decision) -> TwinRicError | None:
        """Tell the node what was decided; the first fault."""
        fault = None
        for wanted in (node.homes, node.appliances, node.storage):
            if wanted is None:
                continue
            try:
                if self.by_bus(node.node) and wanted.kind in BY_BUS:
                    await self._publish(node.node, wanted)
                else:
                    await self._put_in_force(node, wanted)
            except TwinRicError as error:
                fault = fault or error
        return fault

    async def _publish(self, node: str, wanted: Table) -> None:
        valid_ms, revision = round(self._config.valid_for_s * 1e3), self._revisions.get(node, 0)
        await self._links.twins.publish(TWIN_DESIRED, f"{wanted.kind}/{node}", wanted.kind, wanted, valid_ms, revision)
        if wanted.kind == "home_set_point":
            self._nodes[node].ask(wanted)

    async def _put_in_force(self, node: Decision, wanted: Table) -> None:
        """Raises TwinRicError E2-UNVERIFIED when the node acknowledges other values than were asked for."""
        valid_until_ns = to_ns(self._links.clock.now_s() + self._config.valid_for_s)
        header, message = grid.encode_control(grid.GridControl(wanted, valid_until_ns, node.reason.code))
        self._links.metrics.count_message("e2", "out")
        outcome = await self._links.need_e2().control(
            node.node, GRID, header, message, deadline_s=self._config.control_deadline_s
        )
        in_force = grid.decode_outcome(outcome)
        for name, values in wanted.columns.items():
            if in_force.ids != wanted.ids or np.abs(in_force[name] - values).max(initial=0.0) > VERIFIED_KW:
                raise TwinRicError("E2-UNVERIFIED", f"{wanted.kind}.{name}", node.node, "the values asked for")

    async def tell(self, now_ns: int) -> None:
        """Raise an alarm for each node whose homes are overdue, clear it when they follow again.

        One that stands from an earlier life of the app is cleared too: what nobody has raised is cleared for nothing.
        Raises TwinRicError BUS-UNREACHABLE; the alarm is told at the next cycle then.
        """
        for node, overdue in self._overdue.items():
            if node in self._onset_ns and bool(overdue.ids) == bool(self._onset_ns[node]):
                continue
            onset_ns = self._onset_ns.get(node) or now_ns - to_ns(overdue.for_s)
            await self._alarm(node, overdue, onset_ns, now_ns)
            self._onset_ns[node] = onset_ns if overdue.ids else 0

    async def _alarm(self, node: str, overdue: Overdue, onset_ns: int, now_ns: int) -> None:
        raised = bool(overdue.ids)
        details = {"e2_node_id": node, "homes": ", ".join(overdue.ids[:8]), "why": overdue.text}
        await publish_alarm(
            self._links, f"home_fleet/{node}", PROBLEM, identifying=node, raised=raised, onset_ns=onset_ns,
            now_ns=now_ns, numbers={"homes": float(len(overdue.ids)), "for_s": overdue.for_s}, details=details,
        )  # fmt: skip
        if raised:
            self._links.log.warning(PROBLEM, node=node, homes=len(overdue.ids), why=overdue.text)
