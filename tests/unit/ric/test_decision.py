"""A reason is a value: a code and the numbers that it refers to."""

from __future__ import annotations

import dataclasses

import pytest

from ric.decision import Reason


def test_reason_needs_a_code_only_and_cannot_be_changed() -> None:
    reason = Reason("OPTIMAL")
    assert (reason.numbers, reason.details) == ({}, {})
    with pytest.raises(dataclasses.FrozenInstanceError):
        reason.code = "OTHER"  # type: ignore[misc]
    assert Reason("A", {"x": 1.0}) == Reason("A", {"x": 1.0}) != Reason("A", {"x": 2.0})
