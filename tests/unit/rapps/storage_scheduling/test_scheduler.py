"""Storage schedules against a dynamic programme, and their invariants."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rapps.storage_scheduling.fallback import hold_soc
from rapps.storage_scheduling.policy import StorageSchedulingPolicy
from rapps.storage_scheduling.scheduler import plan_cost_eur, schedule_storage
from rapps.storage_scheduling.state import State
from ric.decision import Reason

STEP_H = 0.25


def make_state(net_kw, buy, sell, *, soc=0.5, capacity_kwh=100.0, max_kw=40.0, efficiency=0.95, units=1):
    ones = np.ones(units)
    return State(
        "node", 0, tuple(f"unit-{i}" for i in range(units)), soc * ones, capacity_kwh * ones, max_kw * ones,
        efficiency * ones, np.asarray(net_kw, float), np.asarray(net_kw, float) * 1.2, np.asarray(buy, float),
        np.asarray(sell, float),
    )  # fmt: skip


PLAIN = StorageSchedulingPolicy(
    reserve_share=0.0, peak_price_eur_per_kw=0.0, losses_per_kw=0.0, soc_min=0.0, soc_max=1.0
)


def dynamic_programme_eur(state, policy, levels):
    """Least cost over a lattice of energies: an oracle that shares nothing with the linear programme."""
    energies = np.linspace(0, state.capacity_kwh[0], levels)
    eta, limit = state.efficiency[0], state.max_kw[0] * STEP_H
    moved = energies[None, :] - energies[:, None]
    ac_kwh = np.where(moved > 0, moved / eta, moved * eta)
    cost_to_go = np.where(energies >= state.soc[0] * state.capacity_kwh[0] - 1e-9, 0.0, np.inf)
    tariffs = zip(state.net_kw[::-1], state.buy_eur_per_kwh[::-1], state.sell_eur_per_kwh[::-1], strict=True)
    for net, buy, sell in tariffs:
        exchange = net * STEP_H + ac_kwh
        stage = np.where(exchange > 0, exchange * buy, exchange * sell) + policy.wear_eur_per_kwh * np.abs(ac_kwh)
        stage = np.where(np.abs(ac_kwh) <= limit + 1e-9, stage, np.inf)
        cost_to_go = (stage + cost_to_go[None, :]).min(axis=1)
    return cost_to_go[np.abs(energies - state.soc[0] * state.capacity_kwh[0]).argmin()]


@pytest.mark.parametrize("seed", range(4))
def test_schedule_storage_against_dynamic_programme(seed):
    rng = np.random.default_rng(seed)
    state = make_state(rng.uniform(-20, 40, 24), rng.uniform(0.1, 0.5, 24), np.full(24, 0.05))
    decision = schedule_storage(state, PLAIN)
    net_kw = state.net_kw + (decision.charge_kw - decision.discharge_kw)[0]
    wear = PLAIN.wear_eur_per_kwh * float((decision.charge_kw + decision.discharge_kw).sum()) * STEP_H
    ours = plan_cost_eur(net_kw, state) + wear
    lattice = dynamic_programme_eur(state, PLAIN, 1601)
    assert ours <= lattice + 1e-6
    assert ours == pytest.approx(lattice, abs=0.06)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    soc=st.floats(0, 1),
    units=st.integers(1, 3),
    share=st.floats(0, 1),
)
def test_schedule_storage_keeps_power_energy_and_reserve_limits(seed, soc, units, share):
    rng = np.random.default_rng(seed)
    state = make_state(
        rng.uniform(-50, 80, 16), rng.uniform(0.0, 0.6, 16), rng.uniform(0, 0.7, 16), soc=soc, units=units
    )
    policy = StorageSchedulingPolicy(reserve_share=share)
    decision = schedule_storage(state, policy)
    charge, discharge, reserve = decision.charge_kw, decision.discharge_kw, decision.reserve_kw
    assert (np.minimum(charge, discharge) == 0).all()
    assert (charge <= 40 + 1e-6).all()
    assert (discharge - charge + reserve <= 40 + 1e-6).all()
    assert (reserve >= share * 40 - 1e-6).all()
    low, high = min(soc, policy.soc_min), max(soc, policy.soc_max)
    assert (decision.soc >= low - 1e-6).all()
    assert (decision.soc <= high + 1e-6).all()


def test_schedule_storage_peak_price_flattens_import():
    net_kw = np.r_[np.full(12, 10.0), np.full(4, 60.0), np.full(12, 10.0)]
    state = make_state(net_kw, np.full(28, 0.3), np.full(28, 0.05))
    cheap = schedule_storage(state, PLAIN).reason.numbers["peak_kw"]
    dear = schedule_storage(state, PLAIN.model_copy(update={"peak_price_eur_per_kw": 5.0})).reason.numbers["peak_kw"]
    assert cheap == pytest.approx(60)
    assert dear < 30


def test_schedule_storage_with_losses_spreads_what_a_flat_tariff_leaves_open():
    net_kw = np.r_[np.full(12, -30.0), np.full(12, 30.0)]
    state = make_state(net_kw, np.full(24, 0.3), np.full(24, 0.05), soc=0.0)
    policy = PLAIN.model_copy(update={"losses_per_kw": 1e-3, "soc_target": 0.0})
    decision = schedule_storage(state, policy)
    given, taken = decision.discharge_kw[0, 12:], decision.charge_kw[0, :12]
    chord_kw = (30.0 + 40.0) / 20
    assert np.ptp(given) <= chord_kw + 1e-6
    assert np.ptp(taken) <= chord_kw + 1e-6
    assert given.sum() == pytest.approx(taken.sum() * 0.95**2, rel=1e-6)
    assert given.sum() * STEP_H > 60


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), factor=st.floats(1e-4, 1e-2))
def test_schedule_storage_with_losses_in_the_price_loses_no_more(seed, factor):
    rng = np.random.default_rng(seed)
    state = make_state(rng.uniform(-50, 80, 16), rng.uniform(0.05, 0.6, 16), np.full(16, 0.05))

    def losses_eur(policy):
        decision = schedule_storage(state, policy)
        net_kw = state.net_kw + (decision.charge_kw - decision.discharge_kw)[0]
        edges = np.linspace(0, np.abs(state.net_kw).max() + 40.0, 21)
        return float(np.interp(np.abs(net_kw), edges, edges**2) @ state.buy_eur_per_kwh)

    assert losses_eur(PLAIN.model_copy(update={"losses_per_kw": factor})) <= losses_eur(PLAIN) * (1 + 1e-6) + 1e-6


def test_schedule_storage_feeder_limit_caps_homes_in_the_window_that_breaks_it():
    net_kw = np.r_[np.full(8, 10.0), np.full(4, 100.0), np.full(8, 10.0)]
    state = make_state(net_kw, np.full(20, 0.3), np.full(20, 0.05), capacity_kwh=1.0)
    decision = schedule_storage(state, PLAIN.model_copy(update={"feeder_limit_kw": 80.0}))
    assert decision.cap is not None
    assert decision.cap.start_ns == 8 * 900 * 10**9
    assert decision.cap.end_ns == 12 * 900 * 10**9
    assert decision.cap.import_cap_kw <= 80.0 + 1e-6
    assert schedule_storage(state, PLAIN).cap is None


def test_hold_soc_moves_nothing_and_keeps_reserve():
    state = make_state(np.ones(8), np.ones(8), np.zeros(8))
    decision = hold_soc(state, StorageSchedulingPolicy(reserve_share=0.25), Reason("STALE_INPUT"))
    assert not decision.charge_kw.any()
    assert not decision.discharge_kw.any()
    assert (decision.reserve_kw == 10.0).all()
    assert decision.reason.code == "STALE_INPUT"
