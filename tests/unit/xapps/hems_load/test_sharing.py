"""Shards without Ray: what the homes of a node are dealt out to, and what happens when one is lost."""

from dataclasses import replace

import numpy as np
import pytest

from ric.config import validate
from ric.errors import TwinRicError
from xapps.hems_load import sharing
from xapps.hems_load.config import HemsConfig
from xapps.hems_load.optimizer import Limits, Optimizer
from xapps.hems_load.policy import HemsPolicy
from xapps.hems_load.shards import LocalHost, LostShardError
from xapps.hems_load.sharing import SharedPlans, shared_plans_of
from xapps.hems_load.solver import Effort

DAY = np.where(np.arange(96) % 48 < 24, 0.2, 0.4)
NS = 10**9


class Shards:
    """Two shards of this process in the place of `RayShards`."""

    def __init__(self):
        self.actors, self.names, self.is_closed, self.made = ["one", "two"], (), False, []

    def hosts(self, name):
        self.made.append([LocalHost(Effort(threads=1), 24) for _ in self.actors])
        return self.made[-1]

    def keep(self, names):
        self.names = tuple(names)

    def close(self):
        self.is_closed = True


@pytest.fixture
def shared():
    started = SharedPlans(Shards)
    started.start()
    yield started
    started.close()


def later(state, seconds):
    return replace(state, source_time_ns=state.source_time_ns + seconds * NS)


@pytest.fixture
def state(make_state):
    state = make_state(5, buy=DAY, load=np.arange(1.0, 6.0)[:, None], pv=0.0, pv_available_kw=0.0)
    return replace(state, node="a")


@pytest.mark.parametrize("cap_kw", [40.0, 1_000.0])
def test_shared_plans_are_those_of_one_process_with_each_home_in_its_place(shared, state, cap_kw):
    policy, limits = HemsPolicy(import_cap_kw=cap_kw), Limits(plan_every_s=60, threads=1)
    alone, parted = Optimizer(limits), Optimizer(limits, shared)
    for seconds in (0, 900):
        mine, theirs = (each.decide(later(state, seconds), policy) for each in (alone, parted))
        cost = alone.plan.costs.total
        np.testing.assert_allclose(parted.plan.costs.total.sum(), cost.sum(), rtol=0.01)
        assert parted.plan.net_kw.shape == alone.plan.net_kw.shape
        np.testing.assert_allclose(theirs.homes["hvac_kw"], mine.homes["hvac_kw"], atol=0.3)
    assert theirs.reason.numbers["planned_in_shards"] == 1
    assert (theirs.reason.numbers["price_rounds"] > 0) == (mine.reason.numbers["price_rounds"] > 0)
    assert len(shared._shards.made) == 1, "the second plan begins where the first ended"


def test_other_homes_are_other_shards_and_the_old_ones_are_forgotten(shared, state):
    optimizer = Optimizer(Limits(threads=1), shared)
    optimizer.decide(state, HemsPolicy())
    (first,) = shared._shards.names
    renamed = replace(state, homes=replace(state.homes, ids=tuple(f"new-{n}" for n in range(5))))
    optimizer.decide(later(renamed, 60), HemsPolicy())
    assert len(shared._shards.names) == 1
    assert shared._shards.names != (first,)


def test_fewer_homes_than_shards_have_one_each(shared, make_state):
    optimizer = Optimizer(Limits(threads=1), shared)
    assert optimizer.decide(make_state(1, buy=DAY), HemsPolicy()).reason.numbers["planned_in_shards"] == 1


def test_lost_shard_fails_the_plan_and_new_ones_are_started(shared, state):
    optimizer, lost = Optimizer(Limits(plan_every_s=60, threads=1), shared), shared._shards
    optimizer.decide(state, HemsPolicy())
    plan = optimizer.plan

    def gone(*_):
        raise LostShardError("begin", "ActorDiedError")

    lost.made[0][1].begin = gone
    with pytest.raises(LostShardError):
        optimizer.decide(later(state, 60), HemsPolicy())
    assert optimizer.plan is plan
    assert "a shard that answers" in shared.fault
    assert shared._starting.result() is not lost
    assert lost.is_closed
    assert optimizer.decide(later(state, 120), HemsPolicy()).reason.numbers["planned_in_shards"] == 1
    assert shared.fault == ""


def test_shards_that_do_not_come_up_leave_the_plans_to_this_process_and_are_tried_again(state):
    attempts = []

    def start():
        attempts.append(1)
        raise LostShardError("start", "ConnectionError: nobody there")

    shared = SharedPlans(start)
    shared.start()
    assert "nobody there" in shared.fault
    optimizer = Optimizer(Limits(plan_every_s=60, threads=1), shared)
    for minute in range(3):
        decision = optimizer.decide(later(state, 60 * minute), HemsPolicy())
        assert decision.reason.numbers["planned_in_shards"] == 0
        shared._starting and shared._starting.exception()
    assert len(attempts) >= 3
    shared.close()
    assert shared.plan(state, None, np.zeros(1), {}) is None


def test_shards_without_ray_and_a_cluster_without_shards_are_refused_by_field(monkeypatch):
    assert shared_plans_of(HemsConfig()) is None
    monkeypatch.setattr(sharing, "find_spec", lambda _: None)
    with pytest.raises(TwinRicError, match=r"CONFIG-MISSING shards = 2.*where ray is installed"):
        shared_plans_of(HemsConfig(shards=2))
    with pytest.raises(TwinRicError, match=r"CONFIG-RANGE ray_address = 'head:6379'.*shards of 1 to 256"):
        validate(HemsConfig, {"ray_address": "head:6379"}, "CONFIG")
