"""Both clocks pass one contract; the simulated one wakes sleepers in order."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ric.clock import Clock, Deadline, SimClock, SourceClock, WallClock, learn_time, sleep_for, to_ns, to_s

START_S = 1_700_000_000.0


@pytest.mark.parametrize("clock", [WallClock(), SimClock(START_S), SourceClock()], ids=["wall", "simulated", "source"])
async def test_clock_contract_sleep_in_the_past_returns_and_time_does_not_go_back(clock: Clock) -> None:
    before_s = clock.now_s()
    await asyncio.wait_for(clock.sleep_until(before_s - 10), 5)
    await asyncio.wait_for(clock.sleep_until(before_s), 5)
    assert clock.now_s() >= before_s


async def test_wall_clock_sleeps_at_least_until_the_instant() -> None:
    clock = WallClock()
    until_s = clock.now_s() + 0.01
    await clock.sleep_until(until_s)
    assert clock.now_s() >= until_s - 0.005  # the two system clocks may differ a little


async def test_sim_clock_stands_still_until_advanced_and_wakes_in_order() -> None:
    clock, woken = SimClock(START_S), []

    async def sleeper(name: str, offset_s: float) -> None:
        await clock.sleep_until(START_S + offset_s)
        woken.append((name, clock.now_s() - START_S))

    tasks = [
        asyncio.create_task(sleeper(*args)) for args in (("late", 3.0), ("early", 1.0), ("same", 1.0), ("never", 9.0))
    ]
    await asyncio.sleep(0)
    assert woken == []
    await clock.advance_to(START_S + 5)
    assert woken == [("early", 1.0), ("same", 1.0), ("late", 3.0)]
    assert clock.now_s() == START_S + 5
    tasks[-1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_sim_clock_cancelled_sleeper_is_passed_over() -> None:
    clock = SimClock(START_S)
    task = asyncio.create_task(clock.sleep_until(START_S + 1))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await clock.advance_to(START_S + 2)
    assert clock.now_s() == START_S + 2


async def test_sim_clock_does_not_go_back() -> None:
    clock = SimClock(START_S)
    with pytest.raises(ValueError, match="cannot go back"):
        await clock.advance_to(START_S - 1)


@given(st.integers(0, 2**31 - 1), st.integers(0, 999_999))
def test_to_ns_is_exact_to_the_microsecond_until_2038(seconds: int, micros: int) -> None:
    expected = (seconds * 1_000_000 + micros) * 1_000
    assert to_ns(expected / 1e9) == expected
    assert to_ns(to_s(expected)) == expected


def test_deadline_is_late_exactly_when_elapsed_exceeds_the_budget() -> None:
    assert not Deadline(1e9).late
    deadline = Deadline(0.0)
    first = deadline.elapsed_ms
    assert deadline.elapsed_ms >= first >= 0
    assert deadline.late


def test_source_clock_is_the_machines_until_it_has_learnt_a_time() -> None:
    clock = SourceClock()
    assert abs(clock.now_s() - WallClock().now_s()) < 60
    learn_time(clock, to_ns(START_S))
    assert START_S <= clock.now_s() < START_S + 60


def test_source_clock_moves_on_with_later_inputs_and_not_back_with_late_ones() -> None:
    clock = SourceClock()
    for offset_s, least_s in ((0, 0), (600, 600), (300, 600), (-2_900, 600), (601, 601)):
        learn_time(clock, to_ns(START_S + offset_s))
        assert START_S + least_s <= clock.now_s() < START_S + least_s + 60


def test_source_clock_begins_anew_with_a_world_that_lies_an_hour_back_but_not_with_stored_records() -> None:
    clock = SourceClock()
    learn_time(clock, to_ns(START_S))
    learn_time(clock, to_ns(START_S - 86_400), live=False)
    assert clock.now_s() >= START_S
    learn_time(clock, to_ns(START_S - 86_400))
    assert START_S - 86_400 <= clock.now_s() < START_S - 86_400 + 60


def test_other_clocks_learn_nothing() -> None:
    clock = SimClock(START_S)
    learn_time(clock, to_ns(START_S + 600))
    assert clock.now_s() == START_S


@pytest.mark.parametrize("step_s", [3_600.0, -3_600.0])
async def test_wall_clock_durations_do_not_show_steps_of_the_system_clock(
    monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    clock, true_time = WallClock(), time.time
    began_s, date_s = clock.elapsed_s(), clock.now_s()
    monkeypatch.setattr(time, "time", lambda: true_time() + step_s)
    assert abs(clock.now_s() - date_s - step_s) < 5
    assert 0 <= clock.elapsed_s() - began_s < 5
    async with asyncio.timeout(5):
        await sleep_for(clock, 0.01)
