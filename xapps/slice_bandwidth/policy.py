"""The A1 policy type `twinric_slice_bandwidth_1.0.0`: what an operator tunes while the xApp runs."""

from __future__ import annotations

import math
from copy import copy
from enum import StrEnum
from typing import Any

from pydantic import Field, model_validator

from ric.config import FrozenModel
from ric.scopes import ScopedPolicy
from xapps.slice_bandwidth.model import CALENDAR_SLOTS, SLICES, SLOT_MBPS, SLOT_STEP

__all__ = [
    "POLICY_TYPE_ID", "ControlTerms", "Mode", "MonitoringTerms", "ProtectionTerms", "SlicePolicy", "SliceTerms",
    "ThirdTerm",
]  # fmt: skip

POLICY_TYPE_ID = "twinric_slice_bandwidth_1.0.0"


class Mode(StrEnum):
    """Who decides."""

    RL = "rl"
    GRADIENT = "gradient"
    ORACLE = "oracle"
    STATIC = "static"


class ThirdTerm(StrEnum):
    """Form of eq (3)'s third term."""

    LITERAL = "literal"
    SHORTFALL = "shortfall"


class SliceTerms(FrozenModel):
    """Weights, limits and bounds of one slice."""

    alpha: float = Field(default=0.5, ge=0, le=1)
    """Weight of delay in eq (3) [1], 0..1; alpha, beta and gamma are divided by their sum. Acts at once."""
    beta: float = Field(default=0.3, ge=0, le=1)
    """Weight of jitter in eq (3) [1], 0..1."""
    gamma: float = Field(default=0.2, ge=0, le=1)
    """Weight of the third term [1], 0..1: the price of bandwidth (literal) or of nearness to B_min (shortfall)."""
    d_max_ms: float = Field(default=50.0, gt=0, le=10_000)
    """Mean delay of a period that must not be exceeded [ms], above 0 up to 10,000; a period that loses traffic has."""
    j_max_ms: float = Field(default=10.0, gt=0, le=10_000)
    """Standard deviation of the delay that must not be exceeded [ms], above 0 up to 10,000."""
    packet_delay_budget_ms: float | None = Field(default=None, gt=0, le=10_000)
    """Packet delay budget [ms], above 0 up to 10,000, or none: what the longest delay of a period is to stay within
    (3GPP TS 23.501, 5.7.3.4). In modes `rl` and `oracle` slots are held for what may come and backlogs are cleared
    sooner than eq (3) asks for."""
    b_min_mbps: float = Field(default=5_000.0, gt=0, le=100_000)
    """Bandwidth that must always be granted [Mb/s], above 0 up to 100,000; rounded up to whole FlexE slots of 5,000."""
    floor_slots: int = Field(default=1, ge=0, le=CALENDAR_SLOTS)
    """FlexE slots never given away [slot], 0..20."""
    ceiling_slots: int = Field(default=CALENDAR_SLOTS, ge=0, le=CALENDAR_SLOTS)
    """FlexE slots never exceeded [slot], 0..20."""
    alarm_floor_slots: int = Field(default=0, ge=0, le=CALENDAR_SLOTS)
    """FlexE slots guaranteed while a fault alarm is active and `alarm_hold_s` after it clears [slot], 0..20."""
    violation_cost: float = Field(default=3.0, ge=0, le=1_000)
    """Price of one broken limit of this slice [1, on eq (3)'s scale], 0..1,000: decides who yields when not all fit."""

    @model_validator(mode="after")
    def _consistent(self) -> SliceTerms:
        if self.alpha + self.beta + self.gamma <= 0:
            raise ValueError("alpha + beta + gamma above 0")
        if self.floor_slots > self.ceiling_slots:
            raise ValueError("floor_slots <= ceiling_slots")
        return self


def _default(name: str, value: float) -> Any:
    """Field `name` of SliceTerms with another default, its bounds and text kept."""
    field = copy(SliceTerms.model_fields[name])
    field.default = value
    return field


class ControlTerms(SliceTerms):
    """The control slice's terms and their defaults."""

    alarm_floor_slots: int = _default("alarm_floor_slots", 5)


class ProtectionTerms(SliceTerms):
    """The protection slice's terms and their defaults."""

    alpha: float = _default("alpha", 0.6)
    gamma: float = _default("gamma", 0.1)
    d_max_ms: float = _default("d_max_ms", 5.0)
    j_max_ms: float = _default("j_max_ms", 1.0)
    b_min_mbps: float = _default("b_min_mbps", 10_000.0)
    floor_slots: int = _default("floor_slots", 2)
    alarm_floor_slots: int = _default("alarm_floor_slots", 8)
    violation_cost: float = _default("violation_cost", 5.0)


class MonitoringTerms(SliceTerms):
    """The monitoring slice's terms and their defaults."""

    alpha: float = _default("alpha", 0.4)
    beta: float = _default("beta", 0.2)
    gamma: float = _default("gamma", 0.4)
    d_max_ms: float = _default("d_max_ms", 100.0)
    j_max_ms: float = _default("j_max_ms", 30.0)
    violation_cost: float = _default("violation_cost", 1.0)


class SlicePolicy(ScopedPolicy):
    """How the slots of one E2 node are shared between its control, protection and monitoring slices."""

    mode: Mode = Mode.RL
    """Who decides: `rl` the trained actor, `gradient` eq (2), `oracle` forecast and enumeration, `static` 25/50/25."""
    third_term: ThirdTerm = ThirdTerm.LITERAL
    """`literal` prices granted bandwidth, gamma B / B_min, as eq (3) is printed; `shortfall` takes gamma B_min / B."""
    control: ControlTerms = ControlTerms()
    """Control slice, s_nssai 1-000001, whole slots."""
    protection: ProtectionTerms = ProtectionTerms()
    """Protection slice, s_nssai 1-000002, two slots at a time."""
    monitoring: MonitoringTerms = MonitoringTerms()
    """Monitoring slice, s_nssai 1-000003, whole slots."""
    slot_move_cost: float = Field(default=0.05, ge=0, le=1)
    """Price of moving one FlexE slot [1 per slot, on eq (3)'s scale], 0..1. Low flaps, high freezes."""
    max_moved_slots: int = Field(default=12, ge=1, le=CALENDAR_SLOTS)
    """Most slots that may change hands in one decision [slot], 1..20; a fault alarm overrides it."""
    alarm_hold_s: float = Field(default=10.0, ge=0, le=3_600)
    """How long protection and control keep their alarm floors after the last fault alarm cleared [s], 0..3,600."""

    @property
    def terms(self) -> tuple[SliceTerms, SliceTerms, SliceTerms]:
        """The slices in the order of `SLICES`."""
        return (self.control, self.protection, self.monitoring)

    def minimum_slots(self, *, alarm: bool) -> tuple[int, int, int]:
        """Slots per slice below which no decision goes: one granule, floor and bandwidth minimum, in whole granules."""
        low = [
            max(1, t.floor_slots, math.ceil(t.b_min_mbps / SLOT_MBPS), t.alarm_floor_slots if alarm else 0)
            for t in self.terms
        ]
        rounded = [math.ceil(slots / step) * int(step) for slots, step in zip(low, SLOT_STEP, strict=True)]
        return (rounded[0], rounded[1], rounded[2])

    @model_validator(mode="after")
    def _fits(self) -> SlicePolicy:
        for alarm in (False, True):
            minimum = self.minimum_slots(alarm=alarm)
            kind = "alarm floors" if alarm else "minima"
            if sum(minimum) > CALENDAR_SLOTS:
                raise ValueError(f"{kind} of at most {CALENDAR_SLOTS} slots together (they need {sum(minimum)})")
            for name, slots, terms in zip(SLICES, minimum, self.terms, strict=True):
                if slots > terms.ceiling_slots:
                    raise ValueError(f"{name}.ceiling_slots >= {slots}, its {kind}")
        return self
