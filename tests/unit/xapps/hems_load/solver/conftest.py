"""Random small fleets of every device kind, without the simulator."""

import numpy as np
import pytest

from xapps.hems_load.fleet_problem import Appliances, Battery, Ev, FleetProblem, HeatPump, Meter, Shiftable


def make_fleet(seed, homes=6, steps=24, *, hours=None, tight=False):
    """A fleet whose homes own each kind with some chance; `tight` gives targets and limits that can't all be kept."""
    rng = np.random.default_rng(seed)
    hours = np.full(steps, 1.0) if hours is None else hours
    shape = (homes, steps)

    def owned(low, high, share=0.7):
        return rng.uniform(low, high, homes) * (rng.random(homes) < share)

    clock = np.cumsum(hours) - hours
    sun = np.clip(np.sin((clock - 6) / 12 * np.pi), 0, None)
    buy = 0.25 + 0.1 * np.sin(clock / 4)[None, :] + rng.uniform(-0.02, 0.02, shape)
    meter = Meter(
        rng.uniform(0.1, 1.5, shape),
        owned(2, 8)[:, None] * sun,
        owned(0.5, 2, 0.3)[:, None] * rng.random(shape),
        buy,
        np.full(shape, 0.08),
        np.full(homes, 2.0 if tight else 8.0),
        np.broadcast_to(rng.uniform(0, 5, homes)[:, None], shape),
    )
    capacity, car = owned(3, 10), owned(30, 60)
    battery = Battery(
        capacity * rng.uniform(0, 1, homes),
        capacity,
        0.1 * capacity,
        0.5 * capacity,
        0.5 * capacity,
        np.full(homes, 0.95),
        np.full(homes, 0.94),
        np.full(homes, 0.02),
        np.full(homes, 0.2),
    )
    here, trip, target = np.ones(shape), np.zeros(shape), np.zeros(shape)
    leave, back = steps // 3, 2 * steps // 3
    here[:, leave:back] = 0
    trip[:, back - 1] = 6.0 * (car > 0)
    target[:, leave - 1] = (1.0 if tight else 0.6) * car
    ev = Ev(
        car * rng.uniform(0.3, 0.6, homes),
        car,
        np.where(car > 0, 7.0, 0),
        owned(3, 5, 0.5) * (car > 0),
        np.full(homes, 0.92),
        np.full(homes, 0.92),
        np.full(homes, 0.06),
        np.full(homes, 0.12),
        here,
        trip,
        np.broadcast_to(0.2 * car[:, None], shape),
        target,
    )
    left = np.exp(-hours * 0.05)[None, :] * np.ones(shape)
    low = np.full(shape, 19.0)
    pump = HeatPump(
        owned(1.5, 4),
        rng.uniform(18.5, 22, homes),
        left,
        (1 - left) / 0.15 * 3.0,
        (1 - left) * 6.0,
        low,
        low + 4,
        np.full(shape, 0.6),
        np.full(homes, 0.3),
    )
    first = rng.integers(0, steps // 3, (homes, 1))
    appliances = Appliances(
        owned(0.5, 2)[:, None], rng.uniform(0.5, 3, (homes, 1)), first, first + rng.integers(3, steps // 2, (homes, 1))
    )
    start = rng.integers(0, steps // 3, (homes, 2))
    runs = Shiftable(rng.uniform(0.3, 1.5, (homes, 2)), np.full((homes, 2), 2.0), start, start + steps // 4)
    return FleetProblem(hours, meter, battery, ev, pump, appliances, runs)


@pytest.fixture
def fleet():
    return make_fleet
