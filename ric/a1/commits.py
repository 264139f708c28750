"""Changes on disk in groups: whatever comes while one write is under way shares the next, and its fsync."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ric.errors import TwinRicError
from ric.sdl import AuditEntry, Change, Sdl

__all__ = ["GroupCommit", "Step"]

Result = TypeVar("Result")
LARGEST_GROUP = 256


@dataclass(frozen=True)
class Step(Generic[Result]):
    """What one request writes; `apply` makes it so in memory once it is on disk, and gives the answer.

    Without changes and audit nothing is written.
    """

    apply: Callable[[], Result]
    changes: Sequence[Change] = ()
    audit: Sequence[AuditEntry] = ()


@dataclass(eq=False)
class _Request:
    key: str
    draft: Callable[[], Step[Any]]
    answer: asyncio.Future[Any]


class GroupCommit:
    """Drafts, writes and applies requests in the order in which they came.

    A request is drafted on what all earlier requests of its key left behind. A request with an empty key is drafted
    after all earlier requests are applied, and later ones after it. All on one event loop; the disk has a thread.
    """

    def __init__(self, sdl: Sdl) -> None:
        self._sdl = sdl
        self._waiting: deque[_Request] = deque()
        self._task: asyncio.Task[None] | None = None

    async def perform(self, key: str, draft: Callable[[], Step[Result]]) -> Result:
        """What the step's `apply` returned, once its changes are on disk.

        Raises what `draft` raises, and TwinRicError (SDL-FAILED) when the group could not be written: then none of it
        was, nor applied. A caller that is cancelled does not take the request back.
        """
        loop = asyncio.get_running_loop()
        request = _Request(key, draft, loop.create_future())
        self._waiting.append(request)
        if self._task is None:
            self._task = loop.create_task(self._work())
        return await request.answer  # type: ignore[no-any-return]

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._write(self._next_group())
        finally:
            self._task = None

    def _next_group(self) -> list[tuple[_Request, Step[Any]]]:
        group: list[tuple[_Request, Step[Any]]] = []
        keys: set[str] = set()
        while self._waiting and len(group) < LARGEST_GROUP:
            key = self._waiting[0].key
            if keys and (not key or key in keys or "" in keys):
                break
            request = self._waiting.popleft()
            try:
                step = request.draft()
            except Exception as error:  # noqa: BLE001 - the caller's, whatever it is: it must not end the worker
                _fail(request, error)
                continue
            keys.add(key)
            group.append((request, step))
        return group

    async def _write(self, group: list[tuple[_Request, Step[Any]]]) -> None:
        changes = [change for _, step in group for change in step.changes]
        audit = [entry for _, step in group for entry in step.audit]
        if changes or audit:
            try:
                # In a worker thread: the disk must not hold up the control loops that share this event loop.
                await asyncio.to_thread(self._sdl.commit, changes, audit)
            except TwinRicError as error:
                for request, _ in group:
                    _fail(request, TwinRicError.of(error.faults))
                return
        for request, step in group:
            try:
                result = step.apply()
            except Exception as error:  # noqa: BLE001 - as above
                _fail(request, error)
            else:
                if not request.answer.done():
                    request.answer.set_result(result)


def _fail(request: _Request, error: Exception) -> None:
    if not request.answer.done():
        request.answer.set_exception(error)
