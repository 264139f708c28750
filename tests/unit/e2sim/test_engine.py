import asyncio

from e2sim.engine import Engine
from e2sim.network import Network
from e2sim.scenario import parse_scenario
from ric.clock import SimClock


def network():
    return Network(parse_scenario({
        "seed": 2, "start": "2016-06-15T00:00:00Z", "duration_s": 300, "windows": [{"start_s": 60, "duration_s": 1}],
        "nodes": [{"gnb_id": 1}],
    }))  # fmt: skip


async def test_engine_as_fast_as_it_goes_takes_every_step():
    subject = network()
    seen = []

    async def hook(start_s, end_s):
        seen.append((round(start_s - subject.scenario.start_s, 1), round(end_s - subject.scenario.start_s, 1)))

    engine = Engine(subject, None, SimClock(0.0), speed=None)
    engine.hooks.append(hook)
    await engine.run()
    assert subject.finished
    assert engine.steps == len(seen) == 15
    assert seen[:2] == [(0, 60), (60, 60.1)]


async def test_engine_keeps_simulated_time_at_speed_times_elapsed_time():
    subject, clock = network(), SimClock(1_000.0)
    engine = Engine(subject, None, clock, speed=60.0)
    task = asyncio.ensure_future(engine.run())
    elapsed = {}
    for tick in range(51):
        await clock.advance_to(1_000.0 + tick * 0.1)
        for _ in range(40):
            await asyncio.sleep(0)
        elapsed[tick] = subject.now_s - subject.scenario.start_s
    await task
    assert elapsed[9] == 0
    assert elapsed[10] == 60
    assert elapsed[29] == 120
    assert elapsed[50] == 300


async def test_engine_stop_ends_the_wait_for_the_next_step():
    engine = Engine(network(), None, SimClock(0.0), speed=1.0)
    task = asyncio.ensure_future(engine.run())
    await asyncio.sleep(0)
    engine.stop()
    await asyncio.wait_for(task, 5)
    assert engine.steps == 0


async def test_engine_stop_leaves_work_that_waits():
    engine = Engine(network(), None, SimClock(0.0))
    asyncio.get_running_loop().call_soon(engine.stop)
    assert await asyncio.wait_for(engine.stopped_before(asyncio.sleep(1_000)), 5)
    done = []

    async def work():
        done.append(1)

    assert not await Engine(network(), None, SimClock(0.0)).stopped_before(work())
    assert done == [1]
