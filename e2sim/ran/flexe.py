"""FlexE calendar: 20 slots of 5 Gb/s on a 100 Gb/s group, one client (slice) per slot, and what a switch costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ric.errors import Fault, TwinRicError

__all__ = ["FlexeCalendar"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

IDLE = -1


class FlexeCalendar:
    """Which client owns each slot. Slots that change hands carry nothing for `switch_outage_ms` (calendar A to B).

    `granularity` (S,) is the slots that a client moves at a time: 1 is 5G, 2 is 10G.
    """

    def __init__(
        self, slots: Sequence[int], granularity: Sequence[int], *, calendar_slots: int = 20, slot_gbps: float = 5.0,
        switch_outage_ms: float = 2.0,
    ) -> None:  # fmt: skip
        """Calendar with `slots` (S,) per client. Raises TwinRicError (E2-RANGE) when they do not fit."""
        self.granularity = np.array(granularity, dtype=np.int64)
        self.slot_gbps = slot_gbps
        self.switch_outage_ms = switch_outage_ms
        self.owners: Ints = np.full(calendar_slots, IDLE, dtype=np.int64)
        self.slots_moved = 0
        self._outage_left_ms = 0.0
        self._gained = np.zeros(len(self.granularity), dtype=np.int64)
        wanted = np.array(slots, dtype=np.int64)
        self._check(wanted)
        self.owners[: wanted.sum()] = np.repeat(np.arange(len(wanted)), wanted)

    @property
    def slots(self) -> Ints:
        """Slots in force per client (S,)."""
        owned: Ints = np.bincount(self.owners[self.owners != IDLE], minlength=len(self.granularity)).astype(np.int64)
        return owned

    def allocate(self, slots: Sequence[int], fields: Sequence[str] | None = None) -> int:
        """Give each client `slots` (S,) and return how many slots changed hands; as few as possible do.

        Raises TwinRicError (E2-RANGE) with every fault, named by `fields`, and changes nothing then.
        """
        wanted = np.array(slots, dtype=np.int64)
        self._check(wanted, fields)
        gain = wanted - self.slots
        for client in np.flatnonzero(gain < 0):
            mine = np.flatnonzero(self.owners == client)
            self.owners[mine[gain[client] :]] = IDLE
        for client in np.flatnonzero(gain > 0):
            free = np.flatnonzero(self.owners == IDLE)
            self.owners[free[: gain[client]]] = client
        moved = int(np.maximum(gain, 0).sum() + max(0, -int(gain.sum())))
        if moved:
            self._gained = np.maximum(gain, 0)
            self._outage_left_ms = self.switch_outage_ms
            self.slots_moved += moved
        return moved

    def capacity_mbps(self, steps: int, step_ms: float) -> Floats:
        """Capacity (steps, S) [Mb/s] of the next inner steps; lower at first while moved slots come into service."""
        full = self.slots * self.slot_gbps * 1e3
        capacity = np.repeat(full[None, :], steps, axis=0).astype(np.float64)
        if self._outage_left_ms > 0:
            ends_ms = np.arange(1, steps + 1) * step_ms
            out_share = np.clip((self._outage_left_ms - (ends_ms - step_ms)) / step_ms, 0.0, 1.0)
            capacity -= out_share[:, None] * self._gained * self.slot_gbps * 1e3
            self._outage_left_ms = max(0.0, self._outage_left_ms - steps * step_ms)
        return capacity

    def _check(self, wanted: Ints, fields: Sequence[str] | None = None) -> None:
        names = fields or [f"slots[{index}]" for index in range(len(wanted))]
        size = len(self.owners)
        faults = []
        for name, number, step in zip(names, wanted.tolist(), self.granularity.tolist(), strict=True):
            if number < step or number % step or number > size:
                accepted = f"multiples of {step} from {step} to {size} slots"
                faults.append(Fault("E2-RANGE", name, number, accepted, "A slice keeps at least one granule."))
        total = int(wanted.sum())
        if total > size:
            faults.append(Fault("E2-RANGE", "+".join(names), total, f"at most {size} slots together"))
        if faults:
            raise TwinRicError.of(faults)
