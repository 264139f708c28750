"""Group commit: order, one write for many, nothing applied that is not written."""

import asyncio
import threading

import pytest

from ric.a1.commits import GroupCommit, Step
from ric.errors import TwinRicError
from ric.sdl import Change


class Store:
    """Remembers each write; `gate` holds writes up, `broken` fails them."""

    def __init__(self):
        self.writes = []
        self.gate = threading.Event()
        self.gate.set()
        self.broken = False

    def commit(self, changes, audit=()):
        self.gate.wait(5)
        if self.broken:
            raise TwinRicError("SDL-FAILED", "file", "x", "a writable SQLite file")
        self.writes.append([change.key for change in changes])


def step(key, memory):
    return lambda: Step(lambda: memory.append(key) or key, [Change("n", key, "v")])


async def _hold(store, commits, memory):
    """A write under way that waits at the gate."""
    store.gate.clear()
    first = asyncio.create_task(commits.perform("first", step("first", memory)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return first


async def test_what_comes_during_a_write_shares_the_next_one_in_order():
    store, memory = Store(), []
    commits = GroupCommit(store)
    first = await _hold(store, commits, memory)
    rest = [asyncio.create_task(commits.perform(key, step(key, memory))) for key in "cab"]
    await asyncio.sleep(0)
    assert memory == [], "nothing is applied before it is written"
    store.gate.set()
    assert await asyncio.gather(first, *rest) == ["first", "c", "a", "b"]
    assert store.writes == [["first"], ["c", "a", "b"]]
    assert memory == ["first", "c", "a", "b"]


async def test_second_request_of_a_key_and_a_barrier_wait_for_what_came_before():
    store, memory = Store(), []
    commits = GroupCommit(store)
    first = await _hold(store, commits, memory)
    seen = []

    def draft():
        seen.append(list(memory))
        return Step(lambda: None, [Change("n", "again", "v")])

    tasks = [asyncio.create_task(commits.perform(*request)) for request in
             [("a", step("a", memory)), ("a", draft), ("", draft), ("b", step("b", memory))]]  # fmt: skip
    await asyncio.sleep(0)
    store.gate.set()
    await asyncio.gather(first, *tasks)
    assert store.writes == [["first"], ["a"], ["again"], ["again"], ["b"]]
    assert seen == [["first", "a"], ["first", "a"]]


async def test_failed_write_fails_its_whole_group_and_applies_none_of_it():
    store, memory = Store(), []
    commits = GroupCommit(store)
    store.broken = True
    tasks = [asyncio.create_task(commits.perform(key, step(key, memory))) for key in "ab"]
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [answer.code for answer in answers] == ["SDL-FAILED"] * 2
    store.broken = False
    assert await commits.perform("c", step("c", memory)) == "c"
    assert memory == ["c"]


async def test_refused_draft_and_cancelled_caller_touch_nobody_else():
    store, memory = Store(), []
    commits = GroupCommit(store)
    first = await _hold(store, commits, memory)

    def refuse():
        raise TwinRicError("A1-UNKNOWN", "policyId", "x", "a policy")

    bad = asyncio.create_task(commits.perform("x", refuse))
    gone = asyncio.create_task(commits.perform("y", step("y", memory)))
    good = asyncio.create_task(commits.perform("z", step("z", memory)))
    await asyncio.sleep(0)
    gone.cancel()
    store.gate.set()
    with pytest.raises(TwinRicError, match="A1-UNKNOWN"):
        await bad
    assert await good == "z"
    assert await first == "first"
    assert memory == ["first", "y", "z"], "what a cancelled caller asked for is done all the same"


async def test_step_without_changes_writes_nothing():
    store = Store()
    assert await GroupCommit(store).perform("a", lambda: Step(lambda: 5)) == 5
    assert store.writes == []
