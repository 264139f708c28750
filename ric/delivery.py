"""HTTP POSTs that must arrive: in order per key, retried with back-off, never in the way of whoever asks for them."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from ric.clock import Clock
from ric.telemetry import Metrics, logger

__all__ = ["Delivery", "RetryPlan"]

MAX_KEYS = 50_000
PER_PEER = 16
"""POSTs under way to one peer: thousands of keys may have news for it at once."""
MAX_WAITING = 64
RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class RetryPlan:
    """At most `attempts` tries; `first_wait_s` before the second, then doubled up to `longest_wait_s`."""

    attempts: int = 8
    first_wait_s: float = 0.2
    longest_wait_s: float = 30.0
    timeout_s: float = 5.0

    def wait_s(self, failures: int) -> float:
        """Pause after `failures` (>= 1) failed tries [s]."""
        return min(self.first_wait_s * 2.0 ** min(failures - 1, 32), self.longest_wait_s)


class Delivery:
    """Sends JSON objects; a key (one policy, one collector) has its own queue, so a dead peer delays nobody else.

    Full queues drop their oldest object and count it under `name`; so do objects whose last try failed.
    """

    def __init__(
        self, name: str, clock: Clock, metrics: Metrics, plan: RetryPlan | None = None, *,
        verify: ssl.SSLContext | bool = True, headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self._name = name
        self._clock = clock
        self._metrics = metrics
        self._plan = plan or RetryPlan()
        self._verify = verify
        self._headers = dict(headers or {})
        self._log = logger(name)
        self._http: httpx.AsyncClient | None = None
        self._queues: dict[str, deque[tuple[str, Mapping[str, Any]]]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turns: dict[str, asyncio.Semaphore] = {}

    def post(self, key: str, url: str, body: Mapping[str, Any]) -> None:
        """Queue `body` for `url` behind what waits under `key`."""
        if key not in self._queues and len(self._queues) >= MAX_KEYS:
            self._metrics.count_dropped(self._name)
            return
        queue = self._queues.setdefault(key, deque())
        if len(queue) >= MAX_WAITING:
            queue.popleft()
            self._metrics.count_dropped(self._name)
        queue.append((url, body))
        if key not in self._tasks:
            self._tasks[key] = asyncio.get_running_loop().create_task(self._drain(key))

    async def stop(self) -> None:
        """Drop what waits, counted, and close."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        left = sum(len(queue) for queue in self._queues.values())
        if left:
            self._metrics.count_dropped(self._name, left)
        self._queues.clear()
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def _drain(self, key: str) -> None:
        queue = self._queues[key]
        try:
            while queue:
                url, body = queue[0]
                sent = await self._deliver(url, body)
                if not sent:
                    self._metrics.count_dropped(self._name)
                if queue and queue[0][1] is body:
                    queue.popleft()
        finally:
            self._tasks.pop(key, None)
            if not queue:
                self._queues.pop(key, None)
            if not self._tasks:
                self._turns.clear()

    async def _deliver(self, url: str, body: Mapping[str, Any]) -> bool:
        for failures in range(1, self._plan.attempts + 1):
            outcome = await self._try(url, body)
            if outcome == "":
                self._metrics.count_message(self._name, "out")
                return True
            final = outcome.startswith("refused") or failures == self._plan.attempts
            self._log.warning("not delivered", url=url, why=outcome, attempt=failures, final=final)
            if final:
                return False
            await self._clock.sleep_until(self._clock.now_s() + self._plan.wait_s(failures))
        return False

    async def _try(self, url: str, body: Mapping[str, Any]) -> str:
        if self._http is None:
            self._http = httpx.AsyncClient(
                timeout=self._plan.timeout_s, verify=self._verify, headers=self._headers, trust_env=False,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=4 * PER_PEER),
            )  # fmt: skip
        try:
            parts = urlsplit(url)
            if parts.port == 0:  # a port beyond 65535 is a ValueError already
                return "refused: port 0"
            async with self._turns.setdefault(parts.netloc, asyncio.Semaphore(PER_PEER)):
                answer = await self._http.post(url, json=dict(body))
        except httpx.HTTPError as error:
            return f"unreachable: {type(error).__name__}"
        except (httpx.InvalidURL, ValueError) as error:
            return f"refused: {error}"
        if answer.is_success:
            return ""
        retried = answer.status_code in RETRIED_STATUSES
        return f"{'failed' if retried else 'refused'}: status {answer.status_code}"
