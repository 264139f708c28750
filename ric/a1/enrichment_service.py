"""The EI service: jobs on disk, twins off the bus, data and statuses posted to whoever asked for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from ric.a1.commits import GroupCommit, Step
from ric.a1.destinations import AllowedHosts
from ric.a1.enrichment import BUS_URI, EI_TYPES, EiBook, EiJob, EiResult
from ric.bus import record
from ric.bus.bus import Bus, BusMessage
from ric.clock import Clock, to_ns
from ric.delivery import Delivery
from ric.errors import TwinRicError
from ric.sdl import AuditEntry, Change, Sdl
from ric.telemetry import Metrics, logger

__all__ = ["EnrichmentService"]

JOBS = "a1.ei_jobs"
LOOK_EVERY_S = 1.0
"""How often expired data is looked for."""
TOPICS = tuple(sorted({ei_type.topic for ei_type in EI_TYPES.values()}))
_PREFIXES = {topic: tuple(f"{t.family}/" for t in EI_TYPES.values() if t.topic == topic) for topic in TOPICS}


class EnrichmentService:
    """EI types and jobs. `start` takes up stored jobs and the twins that the bus holds; `stop` ends deliveries.

    Raises TwinRicError (SDL-FAILED) when the stored jobs cannot be read.
    """

    def __init__(
        self, bus: Bus, sdl: Sdl, clock: Clock, metrics: Metrics, delivery: Delivery, *,
        allowed_hosts: AllowedHosts | None = None,
    ) -> None:  # fmt: skip
        self._bus = bus
        self._commits = GroupCommit(sdl)
        self._clock = clock
        self._metrics = metrics
        self._delivery = delivery
        self._allowed_hosts = allowed_hosts or AllowedHosts()
        self._log = logger("a1_enrichment")
        self._tasks: list[asyncio.Task[None]] = []
        self.book = EiBook()
        for ei_job_id, text in sdl.read(JOBS).items():
            try:
                self.book.put(EiJob.of(ei_job_id, json.loads(text)), 0)
            except TwinRicError as error:  # of a type that this version does not know
                metrics.count_refused(error.code)
                self._log.warning("stored EI job left out", ei_job_id=ei_job_id, fault=str(error))

    async def start(self) -> None:
        """Return once what the bus holds is known and the rest is followed. Raises TwinRicError (BUS-UNREACHABLE)."""
        messages = self._bus.follow(TOPICS)
        for topic in TOPICS:
            for message in (await self._bus.latest(topic)).values():
                self._take(message)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._follow(messages)), loop.create_task(self._look())]

    async def stop(self) -> None:
        """Follow no more. What is being posted belongs to the delivery."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def put(self, ei_job_id: str, body: Mapping[str, Any], *, actor: str = "") -> tuple[EiJob, bool]:
        """The job as stored and whether it is new. What is known already is delivered at once.

        Raises TwinRicError: A1-UNKNOWN, A1-RANGE, A1-UNKNOWN-FIELD, A1-CONFLICT, A1-DESTINATION, SDL-FAILED.
        """
        job = EiJob.of(ei_job_id, body)
        for field, url in (("jobResultUri", job.result_uri), ("jobStatusNotificationUri", job.status_uri)):
            if url not in ("", BUS_URI):
                self._allowed_hosts.check(field, url)

        def draft() -> Step[tuple[EiJob, bool]]:
            self.book.check(job)
            held = self.book.jobs.get(ei_job_id)
            if held == job:
                return Step(lambda: (job, False))

            def apply() -> tuple[EiJob, bool]:
                self._post(self.book.put(job, self._now_ns()))
                return job, held is None

            change = Change(JOBS, ei_job_id, json.dumps(dict(body)))
            return Step(apply, [change], [AuditEntry(actor, "a1ei.put", ei_job_id, dict(body))])

        return await self._commits.perform(ei_job_id, draft)

    async def delete(self, ei_job_id: str, *, actor: str = "") -> None:
        """Return once the job is gone from the disk. Raises TwinRicError (A1-UNKNOWN, SDL-FAILED)."""

        def draft() -> Step[None]:
            self.book.job(ei_job_id)
            entry = AuditEntry(actor, "a1ei.delete", ei_job_id)
            return Step(lambda: self.book.delete(ei_job_id), [Change(JOBS, ei_job_id, None)], [entry])

        await self._commits.perform(ei_job_id, draft)

    def status(self, ei_job_id: str) -> dict[str, str]:
        """The job's status object. Raises TwinRicError (A1-UNKNOWN)."""
        return _status(self.book.is_enabled(self.book.job(ei_job_id), self._now_ns()))

    def _now_ns(self) -> int:
        return to_ns(self._clock.now_s())

    async def _follow(self, messages: AsyncIterator[BusMessage]) -> None:
        async for message in messages:
            self._take(message)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)  # real time: a simulation need not stop here every second
            self._tell_statuses()

    def _take(self, message: BusMessage) -> None:
        """Keys tell what is of use, so that the twins of a large network are not all decoded here."""
        if not message.key.startswith(_PREFIXES[message.topic]):
            return
        try:
            twin = record.decode(message.value)
        except TwinRicError as error:
            self._metrics.count_refused(error.code)
            self._log.warning("twin refused", topic=message.topic, key=message.key, fault=str(error))
            return
        self._post(self.book.take(message.topic, twin, self._now_ns()))
        self._tell_statuses()

    def _post(self, results: Iterable[EiResult]) -> None:
        for result in results:
            url = result.job.result_uri
            if url != BUS_URI and self._allowed_hosts.allows(url):
                # Keyed by job and node: nodes do not wait for each other, revisions of one node stay in order.
                self._delivery.post(f"{result.job.ei_job_id}/{result.twin.twin_id}", url, result.body())

    def _tell_statuses(self) -> None:
        for job, enabled in self.book.status_changes(self._now_ns()):
            self._log.info("EI job status", ei_job_id=job.ei_job_id, enabled=enabled)
            if job.status_uri and self._allowed_hosts.allows(job.status_uri):
                self._delivery.post(f"{job.ei_job_id}/status", job.status_uri, _status(enabled))


def _status(enabled: bool) -> dict[str, str]:
    return {"eiJobStatus": "ENABLED" if enabled else "DISABLED"}
