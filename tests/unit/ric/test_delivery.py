"""The retry plan; deliveries themselves are tested over HTTP in tests/component/test_servers.py."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ric.delivery import RetryPlan


@given(st.integers(1, 10_000), st.floats(0.001, 10), st.floats(1, 100))
def test_retry_plan_waits_grow_to_the_longest_and_stay(failures: int, first_s: float, longest_s: float) -> None:
    plan = RetryPlan(first_wait_s=first_s, longest_wait_s=longest_s)
    assert 0 < plan.wait_s(failures) <= plan.wait_s(failures + 1) <= longest_s


def test_retry_plan_doubles() -> None:
    plan = RetryPlan(first_wait_s=0.2, longest_wait_s=1.0)
    assert [plan.wait_s(n) for n in (1, 2, 3, 4)] == [0.2, 0.4, 0.8, 1.0]
