"""The app with `shards`: it decides as in one process, and goes on where actors are lost."""

import asyncio

import numpy as np
import pytest
import ray

from ric.bus.bus import RIC_ALARMS
from ric.pb.twinric.bus.v1.record_pb2 import PERCEIVED_SEVERITY_CLEARED, PERCEIVED_SEVERITY_MINOR, Alarm
from tests.component.hems_load.test_app import cycle, decisions, records, running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:ResourceWarning"),
]
SHARDS = {"shards": 2, "solver_threads": 1}
CAP_KW = 4.0
"""Two thirds of what eight homes import at most in a night."""


async def planned(cap_kw, **settings):
    """Plans of two cycles, a new one each, and the last decision's numbers."""
    plans = []
    async with running({"import_cap_kw": cap_kw}, plan_every_s=60, quarter_steps=60, **settings) as (
        runtime,
        peer,
        bus,
        clock,
    ):
        for minute in (1, 2):
            await cycle(runtime, peer, clock, minute)
            (optimizer,) = runtime.app._optimizers.values()
            plans.append(optimizer.plan)
        return plans, decisions(bus)[-1].numbers


@pytest.mark.parametrize("cap_kw", [CAP_KW, 500.0], ids=["capped", "free"])
async def test_app_in_two_shards_plans_as_in_its_own_process(ray_cluster, cap_kw):
    here, alone = await planned(cap_kw)
    there, shared = await planned(cap_kw, **SHARDS)
    assert "planned_in_shards" not in alone
    assert shared["planned_in_shards"] == 1
    for mine, theirs in zip(here, there, strict=True):
        cost = float(mine.costs.total.sum())
        assert float(theirs.costs.total.sum()) == pytest.approx(cost, abs=0.01 * abs(cost))
        assert (theirs.fleet_net_kw <= cap_kw * 1.02).all()
        assert theirs.net_kw.shape == mine.net_kw.shape
        if cap_kw > CAP_KW:  # no price passes between the homes then
            np.testing.assert_allclose(theirs.fleet_net_kw, mine.fleet_net_kw, atol=0.2)
    assert shared["price_rounds"] == alone["price_rounds"]
    assert (shared["price_rounds"] > 0) == (cap_kw == CAP_KW)


async def test_app_whose_shard_is_lost_follows_its_last_plan_then_plans_itself_and_has_new_shards(ray_cluster):
    async with running(plan_every_s=60, **SHARDS) as (runtime, peer, bus, clock):
        await cycle(runtime, peer, clock, 1)
        lost = runtime.app._shared._shards
        ray.kill(lost.actors[1])
        for minute in (2, 3):
            await cycle(runtime, peer, clock, minute)
        first, failed, alone = decisions(bus)
        assert (first.reason_code, first.numbers["planned_in_shards"]) == ("FIRST_PLAN", 1)
        assert (failed.reason_code, failed.safe_action) == ("SOLVE_FAILED", True)
        assert failed.numbers["plan_age_s"] == 60
        assert alone.reason_code == "PLAN_AGED"
        runtime.app._shared._starting and await asyncio.to_thread(runtime.app._shared._starting.result)
        await cycle(runtime, peer, clock, 4)
        assert decisions(bus)[-1].numbers["planned_in_shards"] == 1
        alarms = [Alarm.FromString(message.value) for message in records(bus, RIC_ALARMS)]
        assert [alarm.perceived_severity for alarm in alarms] == [
            PERCEIVED_SEVERITY_CLEARED, PERCEIVED_SEVERITY_MINOR, PERCEIVED_SEVERITY_CLEARED
        ]  # fmt: skip
        assert "a shard that answers" in alarms[1].details["why"]
        new = runtime.app._shared._shards
        assert new is not lost
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(new.actors[0].keep.remote(()), timeout=10)
