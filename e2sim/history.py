"""The demand twin's start: the two days before a scenario, handed over on the bus as a meter archive would."""

from __future__ import annotations

from e2sim.network import Network
from ric.bus.bus import TWIN_REPORTED, Twins
from ric.columns import Table

__all__ = ["PRODUCER", "hand_over_history"]

PRODUCER = "e2sim/history"


async def hand_over_history(network: Network, twins: Twins) -> dict[str, Table]:
    """Publish twin `demand_history/<node>` of every node with homes; the tables by node. Raises TwinRicError BUS-*."""
    history = network.demand_history()
    for node_id, table in history.items():
        await twins.publish(TWIN_REPORTED, f"demand_history/{node_id}", table.kind, table)
    return history
