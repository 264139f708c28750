"""What of a scenario apps have to be told as settings, because no interface tells of it. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from e2sim.scenario import Scenario

__all__ = ["told"]


def told(scenario: Scenario, settings: Collection[str] | None = None) -> dict[str, Any]:
    """Values by the name of the setting that takes them, of `settings` alone where given; none is empty.

    `aggregation_links`: links that several nodes share, numbered in the scenario's order, as `slice_bandwidth` takes
    them. `desired_by_bus`: nodes whose homes obey desired state on the bus, as `hems_load` takes them.
    """
    every = [node.e2_node_id for node in scenario.nodes]
    links = [
        {
            "link_id": f"aggregation-{number}", "e2_node_ids": list(entry.nodes or every),
            "capacity_mbps": entry.capacity_gbps * 1e3, "buffer_mbit": entry.buffer_mbit,
        }
        for number, entry in enumerate(scenario.aggregation, start=1)
        if len(entry.nodes or every) > 1
    ]  # fmt: skip
    by_bus = [node.e2_node_id for node in scenario.nodes if node.desired_by_bus]
    values = {"aggregation_links": links, "desired_by_bus": by_bus}
    return {name: value for name, value in values.items() if value and (settings is None or name in settings)}
