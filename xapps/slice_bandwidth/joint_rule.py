"""Nodes that decide together on the links that they share, as a rule for the environment."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xapps.slice_bandwidth.environment import VectorSliceEnv
from xapps.slice_bandwidth.evaluation import as_served
from xapps.slice_bandwidth.forecast import scenarios
from xapps.slice_bandwidth.joint import foresee_nodes, part_of, settled
from xapps.slice_bandwidth.lattice import SPLITS, index_of
from xapps.slice_bandwidth.rl_agent import Learned
from xapps.slice_bandwidth.safety import bounded, in_budget

__all__ = ["decide_jointly"]


def decide_jointly(learned: Learned, env: VectorSliceEnv) -> NDArray[np.intp]:
    """Rows (N,) of the splits: each node's own choice under mode `rl`, then what nodes of one link make of them."""
    seen, links = env.apart()
    limits, mask = env.policies.limits, env.mask()
    safe = bounded(seen.offered_mbps[:, -1], seen.queue_mbit, seen.period_s, limits, seen.link, mask)
    safe = in_budget(seen, learned.forecaster, limits, safe)
    rows: NDArray[np.intp] = np.argmax(np.where(safe, as_served(learned, seen, limits), -np.inf), axis=-1)
    loads = scenarios(learned.forecaster, seen.offered_mbps, seen.period_s, seen.alarm)
    for number, link in enumerate(links):
        nodes = slice(number * env.cells, (number + 1) * env.cells)
        some, few = part_of(seen, limits, nodes)
        together = foresee_nodes(some, (loads[0][:, nodes], loads[1][:, nodes]), few)
        made, _ = settled(link, together, SPLITS[rows[nodes]], mask[nodes])
        rows[nodes] = [index_of(slots) for slots in made.slots]
    return rows
