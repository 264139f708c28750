"""Whether there is time for one more round: a budget in time that looks ahead by what the last round took."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Pace"]


class Pace:
    """Of one cycle that begins now, by a clock `now_ms` [ms], whose rounds are to end within `budget_ms` [ms].

    Called between two rounds: True while another one, so many `times` as long as what was done since the last call,
    would end in time.
    """

    def __init__(self, budget_ms: float, now_ms: Callable[[], float]) -> None:
        self._now_ms, self._last_ms = now_ms, now_ms()
        self._end_ms = self._last_ms + budget_ms

    def __call__(self, times: float = 1.0) -> bool:
        """Whether to go on."""
        now_ms = self._now_ms()
        took_ms, self._last_ms = now_ms - self._last_ms, now_ms
        return now_ms + times * took_ms <= self._end_ms
