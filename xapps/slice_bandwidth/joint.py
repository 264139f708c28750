"""What the nodes of an aggregation link decide together: who holds back, and for whom, before the link is full.

A node's split costs what it costs on its own link, which `baselines.predict_and_enumerate` prices, and on top of it
the waits that all nodes of the link have behind it. Coordinate descent: every node in turn takes its best split given
the others', until none can do better. The same descent with the loads that come is the joint oracle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xapps.slice_bandwidth import joint_kernels as kernels
from xapps.slice_bandwidth.baselines import MOVE_SHARE
from xapps.slice_bandwidth.forecast import BLEND, LENGTHS, MASSES
from xapps.slice_bandwidth.joint_kernels import Carried, Foreseen, Terms
from xapps.slice_bandwidth.lattice import SPLITS, index_of, sum_over_slices
from xapps.slice_bandwidth.model import CALENDAR_SLOTS, NO_ALARM, SLOT_MBPS, STATIC_SLOTS, LinkModel
from xapps.slice_bandwidth.objective import Limits, limits_of, moved_slots
from xapps.slice_bandwidth.policy import SlicePolicy
from xapps.slice_bandwidth.rl_agent import Observation
from xapps.slice_bandwidth.state import HISTORY

__all__ = [
    "NEGLIGIBLE",
    "WORK",
    "LinkView",
    "Settled",
    "Together",
    "foresee_nodes",
    "helped",
    "part_of",
    "settled",
    "warm_up",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

TOGETHER = 0.5
"""Share of a scenario's distance from the mean load by which all slices of all nodes are taken to differ at once, on
the shared link: 1 would have every surge come everywhere, 0 sums means. 0, 0.5 and 1 differ by 1 % on tuning seeds."""
WORK = 12_000
"""Splits tried, times nodes, in one cycle; then the best found so far holds."""
NEGLIGIBLE = 1e-6
"""Expected cost below which a shared link counts as making nobody wait."""


@dataclass(frozen=True)
class LinkView:
    """An aggregation link as it stands: rate [Mb/s], buffer [Mbit], backlog (3,) [Mbit] by slice."""

    capacity_mbps: float
    buffer_mbit: float
    queue_mbit: Floats


@dataclass(frozen=True)
class Together:
    """What is foreseen of M nodes on one link, and what each split costs each of them by itself, (M, 525)."""

    foreseen: Foreseen
    terms: Terms
    period_s: float
    own: Floats


@dataclass(frozen=True)
class Settled:
    """Splits of a link's nodes, and what its waits are expected to cost under them and before: (M, 3) each."""

    slots: Ints
    added: Floats
    added_alone: Floats


def foresee_nodes(seen: Observation, loads: tuple[Floats, Floats], limits: Limits) -> Together:
    """Outlook of M nodes under `loads` (S, M, 3) each, as :func:`forecast.foresee` makes it, with volumes let through.

    `seen`, `limits` (M, ...); all nodes have one period. What a split costs a node by itself is as
    `predict_and_enumerate` reckons it, moves included, and :data:`joint_kernels.LOSS_PRICE` of what overflows.
    """
    number, count = len(seen.slots), CALENDAR_SLOTS + 1
    period_s = float(seen.period_s[0])
    terms = _terms(limits, number)
    out = Foreseen(*(np.empty((len(MASSES), len(LENGTHS), number, 3, count)) for _ in Foreseen._fields))
    held = seen.link
    link = (
        _whole(held.base_delay_ms, number, 3), _whole(held.burst_mbit, number, 3), _whole(held.buffer_mbit, number, 3),
        _whole(held.in_step, number, 3),
    )  # fmt: skip
    alone = np.stack(loads)
    mean = np.tensordot(MASSES, alone, (0, 1))[:, None]
    both = np.stack([alone, mean + TOGETHER * (alone - mean)])
    kernels.foreseen_on_link(both, _whole(seen.queue_mbit, number, 3), LENGTHS * period_s, terms, link, out)
    expected = np.tensordot(_weights(), out.cost + out.loss_cost, 2)
    moves = moved_slots(seen.slots[:, None], SPLITS) * np.broadcast_to(limits.slot_move_cost, number)[:, None]
    return Together(out, terms, period_s, sum_over_slices(np.swapaxes(expected, 1, 2)) + MOVE_SHARE * moves)


def settled(view: LinkView, nodes: Together, slots: Ints, permitted: Mask, work: int = WORK) -> tuple[Settled, int]:
    """Splits of a link's nodes that cost all of them less together than `slots` (M, 3), and the work that is left.

    The first F nodes choose among what `permitted` (F, 525) leaves them, the others keep what they have. Coordinate
    descent from `slots` until no node gains by changing alone, or `work` is used up: never dearer than `slots` under
    the scenarios foreseen. Only what the link makes nodes wait is a reason to leave `slots`: a split that would be
    cheaper without it counts as much as they do. The safety layer's delay bound is not among the masks: it knows the
    node's own link alone, and a queue that is held back for others is beyond it.
    """
    link = _carried(view, nodes.period_s)
    held = np.ascontiguousarray(np.clip(slots, 0, CALENDAR_SLOTS))
    before, free = _added(held, nodes, link), len(permitted)
    if before.sum() <= NEGLIGIBLE or not free:
        return Settled(slots, before, before), work
    rows = np.array([index_of(split) for split in held[:free]], dtype=np.int64)
    mask = permitted.copy()
    mask[np.arange(free), rows] = True
    chosen = nodes.own[np.arange(free), rows]
    own = np.where(mask, np.maximum(nodes.own[:free], chosen[:, None]), np.inf)
    order = np.argsort(own, axis=1, kind="stable")
    _, left = kernels.descend(rows, held, own, order, SPLITS, nodes.foreseen, nodes.terms, link, work)
    return Settled(np.concatenate([held[:free], slots[free:]]), _added(held, nodes, link), before), max(left, 0)


def helped(view: LinkView, nodes: Together, made: Settled, slots: Ints) -> Mask:
    """(M, M): which nodes (second axis) wait less because node n (first) does not hold its own `slots` (M, 3)."""
    link, out = _carried(view, nodes.period_s), np.zeros((len(slots), len(slots)), dtype=np.bool_)
    for n in np.flatnonzero((made.slots != slots).any(axis=1)):
        back = made.slots.copy()
        back[n] = slots[n]
        out[n] = _added(back, nodes, link).sum(axis=1) > made.added.sum(axis=1) + NEGLIGIBLE
        out[n, n] = False
    return out


def part_of(seen: Observation, limits: Limits, nodes: slice) -> tuple[Observation, Limits]:
    """Those of some nodes: values (N, ...) become (M, ...)."""
    values: dict[str, Any] = dict(vars(seen))
    link = LinkModel(*(value[nodes] for value in vars(values.pop("link")).values()))
    few = Limits(*(np.asarray(value)[nodes] for value in vars(limits).values()))
    return Observation(**{name: value[nodes] for name, value in values.items()}, link=link), few


def warm_up() -> None:
    """Compile what a first full link would otherwise wait for."""
    link, one = LinkModel(), np.ones((2, 3))
    loads = np.full((2, HISTORY, 3), 2.0 * SLOT_MBPS)
    slots, quiet = np.tile(STATIC_SLOTS, (2, 1)), np.full(2, NO_ALARM)
    seen = Observation(loads, 0.0 * one, one, one, slots, np.full(2, 0.1), quiet, link)
    coming = np.repeat(loads[None, :, -1], len(MASSES), axis=0)
    nodes = foresee_nodes(seen, (coming, coming), limits_of(SlicePolicy()))
    view = LinkView(SLOT_MBPS, 1.0, np.zeros(3))
    helped(view, nodes, settled(view, nodes, slots, np.ones((2, len(SPLITS)), dtype=np.bool_))[0], slots)


def _weights() -> Floats:
    """(S, K): what each scenario's stage counts for."""
    return np.asarray(MASSES[:, None] * np.array(BLEND))


def _carried(view: LinkView, period_s: float) -> Carried:
    return Carried(
        view.queue_mbit.astype(np.float64), view.capacity_mbps, view.buffer_mbit, LENGTHS * period_s, _weights()
    )


def _added(held: Ints, nodes: Together, link: Carried) -> Floats:
    out = np.empty((len(held), 3))
    kernels.added(held, nodes.foreseen, nodes.terms, link, out)
    return out


def _terms(limits: Limits, number: int) -> Terms:
    weights = _whole(limits.weights, number, 3, 3)
    d_max, j_max, b_min, price = (
        _whole(value, number, 3)
        for value in (limits.d_max_ms, limits.j_max_ms, limits.b_min_mbps, limits.violation_cost)
    )
    fixed = np.empty((number, 3, CALENDAR_SLOTS + 1))
    kernels.third_terms(weights, b_min, price, _whole(limits.shortfall, number), fixed)
    return Terms(weights, d_max, j_max, price, fixed)


def _whole(value: NDArray[Any], *shape: int) -> NDArray[Any]:
    return np.ascontiguousarray(np.broadcast_to(value, shape))
