"""Twin bus: 10,000 twins, each updated once a second through a real Kafka broker, which is killed and restarted once.

Two processes beside the broker, on one machine: a producer (`Twins.publish_many`: next revision, schema check, hash
chain, CloudEvents headers, 20 calls a second of 500 twins each) and a reader (`Twins.follow`: decode, schema check,
hash, succession of revisions). A twin is a record of its own under a key of its own: four quantities of one slice.
Times are from the producer's call to the reader's handler.

`updates_per_s` and `p99_s` are of `--seconds` of steady state. Then the producer goes on at the same rate while the
broker is killed (SIGKILL) and started again: `outage_s` from the kill until a record arrives again, `catch_up_s` until
the reader is less than a second behind. `lost` and `applied_twice` are of the whole run: revisions that were published
and never handed over, and handed over twice. `*_ratio_vs_bare` is twins per second of CPU over the baseline's records
per second: what the schema, the hash chain and the headers cost.

The baseline is kafka-python alone, in the same run and on the same broker, before and after: records of the same size,
keys and headers, sent as fast as it goes, and read back by a bare consumer.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import multiprocessing
import os
import sys
import time
import uuid
import warnings
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import psutil
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from benchmarks.machine import ROOT, parser, write_result
from ric.bus.bus import TWIN_REPORTED, Twins, TwinUpdate
from ric.bus.kafka import KafkaBus
from ric.bus.record import TwinState
from ric.clock import WallClock, to_ns
from ric.columns import Table
from ric.errors import TwinRicError
from ric.telemetry import Metrics, configure_logging

TWINS = 10_000
TICKS_PER_S = 20
NAMES = ("flexe_slots", "offered_mbps", "delay_ms", "jitter_ms")
ENTITY = ("1-000001",)
QUIET_S = 60.0
"""A reader that has heard nothing for so long has missed something."""
BASELINE_RECORDS = 60_000
RECORD_OCTETS, HEADERS = 230, 6


def twin_ids(number: int) -> list[str]:
    """`slice/n00000`, ..."""
    return [f"slice/n{index:05d}" for index in range(number)]


def make_bus(address: str, prefix: str) -> KafkaBus:
    """A bus with topics of its own, as an app opens it."""
    environ = {"TWINRIC_KAFKA__TOPIC_PREFIX": prefix}
    return KafkaBus.at(f"kafka://{address}", Metrics("bench"), client_id=f"bench-{os.getpid()}", environ=environ)


# The reader's process -------------------------------------------------------------------------------------------------


class Ledger:
    """What was handed over: revisions per twin, times per second of arrival."""

    def __init__(self, twins: int) -> None:
        self._row = {name: index for index, name in enumerate(twin_ids(twins))}
        self.newest = np.zeros(twins, np.int64)
        self.applied = np.zeros(twins, np.int64)
        self.twice = 0
        self.delays: list[tuple[float, float]] = []

    def take(self, _: str, state: TwinState) -> None:
        """One revision is handed to an app."""
        now_s = time.time()
        row = self._row[state.twin_id]
        self.twice += state.revision <= self.newest[row]
        self.newest[row] = max(self.newest[row], state.revision)
        self.applied[row] += 1
        self.delays.append((now_s, now_s - state.source_time_ns / 1e9))


async def _read(pipe: Connection, address: str, prefix: str, twins: int) -> None:
    bus = make_bus(address, prefix)
    await bus.start()
    ledger, metrics = Ledger(twins), Metrics("reader")
    following = asyncio.create_task(await Twins(bus, WallClock(), metrics, "reader/1").following(
        [TWIN_REPORTED], ledger.take
    ))  # fmt: skip
    pipe.send("ready")
    loop = asyncio.get_running_loop()
    while (wanted := await loop.run_in_executor(None, pipe.recv)) != "end":
        limit_s = loop.time() + QUIET_S
        while int(ledger.newest.sum()) < wanted and loop.time() < limit_s:
            await asyncio.sleep(0.05)
        pipe.send((int(ledger.newest.sum()), time.process_time()))
    await bus.stop()
    await following
    gaps = int(metrics.twins.labels("reader", "gap")._value.get())
    pipe.send((ledger.newest, ledger.applied, ledger.twice, gaps, np.array(ledger.delays)))


def _run_reader(pipe: Connection, address: str, prefix: str, twins: int) -> None:
    warnings.simplefilter("ignore", DeprecationWarning)
    configure_logging("ERROR")
    asyncio.run(_read(pipe, address, prefix, twins))


# The producer ---------------------------------------------------------------------------------------------------------


class Producer:
    """Publishes every twin in turn at a fixed rate; counts what it published, also while the broker is away."""

    def __init__(self, bus: KafkaBus, number: int) -> None:
        self._twins = Twins(bus, WallClock(), Metrics("producer"), "bench/1")
        self._ids = twin_ids(number)
        self._random = np.random.default_rng(3)
        self._tick = 0
        self.published = np.zeros(number, np.int64)
        self.failed_calls = 0
        self.largest_lag_s = 0.0

    async def tick(self) -> None:
        """The next share of the twins, each with a state of its own."""
        share = len(self._ids) // TICKS_PER_S
        first = self._tick % TICKS_PER_S * share
        self._tick += 1
        now_ns = to_ns(time.time())
        values = self._random.uniform(1.0, 5.0, (share, len(NAMES)))
        updates = [
            TwinUpdate(
                twin_id, "slice_twin",
                Table("slice_twin", ENTITY, {name: row[i : i + 1] for i, name in enumerate(NAMES)}, now_ns),
            )
            for twin_id, row in zip(self._ids[first : first + share], values, strict=True)
        ]  # fmt: skip
        self.published[first : first + share] += 1
        try:
            await self._twins.publish_many(TWIN_REPORTED, updates)
        except TwinRicError:
            self.failed_calls += 1  # the client goes on trying; what never arrives shows as lost

    async def run(self, seconds: float, until: asyncio.Future[Any] | None = None) -> float:
        """Keep the pace for `seconds`, then on until `until` is done; the seconds it took."""
        loop = asyncio.get_running_loop()
        began_s, done = loop.time(), 0
        while done < seconds * TICKS_PER_S or (until is not None and not until.done()):
            due_s = began_s + done / TICKS_PER_S
            self.largest_lag_s = max(self.largest_lag_s, loop.time() - due_s)
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            await self.tick()
            done += 1
        return loop.time() - began_s


async def _kill_and_restart(node: Any) -> tuple[float, float]:
    """When the broker was killed and when it answered again."""
    await asyncio.sleep(2.0)
    killed_s = time.time()
    await asyncio.to_thread(node.kill)
    await asyncio.to_thread(node.start)
    return killed_s, time.time()


async def _measure(node: Any, twins: int, seconds: float, after_s: float) -> dict[str, float]:
    prefix = f"{uuid.uuid4().hex}."
    bus = make_bus(node.address, prefix)
    await bus.start()
    pipe, theirs = multiprocessing.Pipe()
    reader = multiprocessing.get_context("spawn").Process(
        target=_run_reader, args=(theirs, node.address, prefix, twins)
    )
    reader.start()
    loop = asyncio.get_running_loop()

    async def heard() -> Any:
        return await loop.run_in_executor(None, pipe.recv)

    await heard()
    producer = Producer(bus, twins)
    await producer.run(3.0)  # first revisions are read more carefully; JVM and caches warm up
    producer.largest_lag_s = 0.0
    broker = psutil.Process(node.process.pid) if getattr(node, "process", None) else None
    cpu_s, reader_cpu_s, broker_cpu_s = time.process_time(), _cpu_s(psutil.Process(reader.pid)), _cpu_s(broker)
    steady_from_s = time.time()
    before = int(producer.published.sum())
    took_s = await producer.run(seconds)
    steady_to_s = time.time()
    updates = int(producer.published.sum()) - before
    cores = {
        "producer_cores": (time.process_time() - cpu_s) / took_s,
        "reader_cores": (_cpu_s(psutil.Process(reader.pid)) - reader_cpu_s) / took_s,
        "broker_cores": (_cpu_s(broker) - broker_cpu_s) / took_s,
    }
    lag_s = producer.largest_lag_s
    restarting = asyncio.ensure_future(_kill_and_restart(node))
    await producer.run(1.0, restarting)
    killed_s, answered_s = restarting.result()
    await producer.run(after_s)
    pipe.send(int(producer.published.sum()))
    await heard()
    pipe.send("end")
    newest, applied, twice, gaps, delays = await heard()
    reader.join(30)
    await bus.stop()
    arrived_s, delay_s = delays[:, 0], delays[:, 1]
    made_s = arrived_s - delay_s
    steady = delay_s[(made_s >= steady_from_s) & (made_s < steady_to_s)]
    after = arrived_s > killed_s
    back_s = arrived_s[after & (arrived_s > answered_s)].min(initial=np.inf)
    behind = arrived_s[(arrived_s > killed_s) & (delay_s > 1.0)]
    return {
        "updates_per_s": updates / took_s,
        "p50_s": float(np.percentile(steady, 50)),
        "p99_s": float(np.percentile(steady, 99)),
        "max_s": float(steady.max()),
        "steady_s": took_s,
        "lost": float((producer.published - applied).clip(0).sum()),
        "applied_twice": float(twice),
        "gaps": float(gaps),
        "broker_down_s": answered_s - killed_s,
        "outage_s": float(back_s - killed_s),
        "catch_up_s": float(behind.max(initial=killed_s) - killed_s),
        "failed_calls": float(producer.failed_calls),
        "largest_lag_s": lag_s,
        "published": float(producer.published.sum()),
        "newest_agree": float((newest == producer.published).all()),
        **cores,
    }


def _cpu_s(process: psutil.Process | None) -> float:
    if process is None:
        return 0.0
    times = process.cpu_times()
    return float(times.user + times.system)


# The baseline ---------------------------------------------------------------------------------------------------------


def measure_bare(address: str, prefix: str, number: int) -> tuple[float, float]:
    """Records per second that kafka-python alone sends, and reads, one after the other."""
    topic = prefix + TWIN_REPORTED
    keys = [name.encode() for name in twin_ids(TWINS)]
    value, headers = bytes(RECORD_OCTETS), [(f"ce_{index}", bytes(20)) for index in range(HEADERS)]
    producer = KafkaProducer(
        bootstrap_servers=address, acks="all", enable_idempotence=True, linger_ms=0, batch_size=1024 * 1024
    )
    producer.partitions_for(topic)
    began_s = time.perf_counter()
    for index in range(number):
        producer.send(topic, value, keys[index % len(keys)], headers)
    producer.flush(60)
    send_s = time.perf_counter() - began_s
    producer.close()
    consumer = KafkaConsumer(bootstrap_servers=address, group_id=None, enable_auto_commit=False)
    partitions = [TopicPartition(topic, each) for each in consumer.partitions_for_topic(topic)]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    began_s, seen = time.perf_counter(), 0
    while seen < number:
        seen += sum(len(records) for records in consumer.poll(timeout_ms=1_000).values())
    read_s = time.perf_counter() - began_s
    consumer.close()
    return number / send_s, number / read_s


async def _make_topics(address: str, prefix: str) -> None:
    bus = make_bus(address, prefix)
    await bus.start()
    await bus.stop()


def _bare(address: str, number: int) -> tuple[float, float]:
    prefix = f"{uuid.uuid4().hex}."
    asyncio.run(_make_topics(address, prefix))
    return measure_bare(address, prefix, number)


def _kafka_tools() -> Any:
    spec = importlib.util.spec_from_file_location("kafka_broker", ROOT / "tools" / "kafka" / "broker.py")
    if spec is None or spec.loader is None:
        raise SystemExit("tools/kafka/broker.py is missing")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main(arguments: argparse.Namespace) -> None:
    """Bare client, twins, bare client; the baseline is the mean of both, so that a drift of the machine shows in it."""
    warnings.simplefilter("ignore", DeprecationWarning)
    configure_logging("ERROR")
    with _kafka_tools().broker(own=True) as node:
        records = min(BASELINE_RECORDS, 6 * arguments.twins)
        first = _bare(node.address, records)
        figures = asyncio.run(_measure(node, arguments.twins, arguments.seconds, arguments.after))
        second = _bare(node.address, records)
    sent, read = (np.mean(pair) for pair in zip(first, second, strict=True))
    figures["twins"] = float(arguments.twins)
    figures["producer_ratio_vs_bare"] = figures["updates_per_s"] / figures["producer_cores"] / float(sent)
    figures["reader_ratio_vs_bare"] = figures["updates_per_s"] / figures["reader_cores"] / float(read)
    baseline = {
        "bare_kafka_python_sent_per_s": float(sent), "bare_kafka_python_read_per_s": float(read),
        "second_over_first_sent": second[0] / first[0], "record_octets": RECORD_OCTETS, "headers": HEADERS,
    }  # fmt: skip
    write_result(arguments.json, figures, baseline)


if __name__ == "__main__":
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--twins", type=int, default=TWINS, help="twins, each updated once a second")
    made.add_argument("--seconds", type=float, default=60.0, help="steady state that is measured")
    made.add_argument("--after", type=float, default=20.0, help="seconds that the producer goes on after the restart")
    main(made.parse_args())
