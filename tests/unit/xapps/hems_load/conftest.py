"""Small fleets that tests shape to their needs."""

from dataclasses import fields

import numpy as np
import pytest

from ric.columns import Table
from xapps.hems_load.horizon import Horizon, Steps
from xapps.hems_load.model import Homes, Jobs
from xapps.hems_load.state import State

NOW_NS = 1_460_462_400 * 10**9  # 2016-04-12 12:00
QUARTERS = Steps(0, 96)
STATIC = {
    "battery_kwh": 10.0, "battery_max_kw": 5.0, "battery_efficiency": 0.95, "ev_kwh": 50.0, "ev_max_kw": 11.0,
    "ev_v2g_kw": 10.0, "ev_efficiency": 0.94, "hvac_max_kw": 4.0, "hvac_cop": 3.5, "heat_capacity_kwh_per_k": 12.0,
    "heat_loss_kw_per_k": 0.2, "comfort_low_c": 20.0, "comfort_high_c": 24.0, "connection_kw": 14.5, "pv_kwp": 8.0,
    "export_limit_kw": 14.5, "wind_rated_kw": 0.0, "setback_k": 2.0, "ev_floor_soc": 0.2, "tariff": 0.0,
}  # fmt: skip
REPORT = {
    "inflexible_kw": 0.6, "pv_available_kw": 2.0, "pv_kw": 2.0, "wind_available_kw": 0.0, "wind_kw": 0.0,
    "appliance_kw": 0.0, "battery_kw": 0.0, "battery_soc": 0.5, "ev_kw": 0.0,
    "ev_soc": 0.5, "ev_connected": 1.0, "ev_departure_h": 10.0, "ev_target_soc": 0.8, "hvac_kw": 0.5, "indoor_c": 21.0,
    "outdoor_c": 7.0, "occupied": 1.0, "import_kw": 0.0, "export_kw": 0.9,
}  # fmt: skip


def spread(values, number, changes):
    return {name: np.broadcast_to(np.asarray(changes.get(name, value), float), number).copy()
            for name, value in values.items()}  # fmt: skip


@pytest.fixture
def tables():
    """`tables(number, time_ns, **columns)` -> the tables of one indication."""

    def make(number=2, time_ns=NOW_NS, *, steps=140, buy=0.3, sell=0.08, **changes):
        ids = tuple(f"home-{n}" for n in range(number))
        static, report = spread(STATIC, number, changes), spread(REPORT, number, changes)
        series = np.ones((1, steps))
        outlook = {
            "step_s": np.array([900.0]), "buy_eur_per_kwh": buy * series, "sell_eur_per_kwh": sell * series,
            "outdoor_c": 7.0 * series, "pv_kw_per_kwp": 0.25 * series,
        }  # fmt: skip
        return {
            "home_static": Table("home_static", ids, static, time_ns),
            "home_report": Table("home_report", ids, report, time_ns),
            "outlook": Table("outlook", ("node",), outlook, time_ns),
        }

    return make


@pytest.fixture(scope="session")
def make_jobs():
    """`make_jobs(**columns of appliance_report)` -> one appliance per value, in home 0 unless said otherwise."""

    def make(number=1, **changes):
        usual = {"home": 0, "power_kw": 2.0, "left_h": 1.5, "opens_h": 0.0, "closes_h": 8.0, "interruptible": False,
                 "running": False}  # fmt: skip
        columns = {name: np.broadcast_to(changes.get(name, value), number).copy() for name, value in usual.items()}
        columns["home"] = columns["home"].astype(np.intp)
        columns |= {name: columns[name].astype(float) for name in ("power_kw", "left_h", "opens_h", "closes_h")}
        return Jobs(tuple(f"home-{home}/{n}" for n, home in enumerate(columns["home"])), **columns)

    return make


@pytest.fixture(scope="session")
def make_state():
    """`make_state(number, **columns of home_static and home_report, horizon series)` -> State."""

    def make(
        number=2, *, grid=QUARTERS, buy=0.3, sell=0.08, load=0.6, pv=2.0, wind=0.0, jobs=None, time_ns=NOW_NS, **changes
    ):
        ids = tuple(f"home-{n}" for n in range(number))
        static = spread(STATIC, number, changes)
        homes = Homes(ids, *(static[field.name] for field in fields(Homes)[1:]))
        steps, full = grid.count, np.ones((number, grid.count))
        horizon = Horizon(
            load_kw=load * full, pv_kw=pv * full, wind_kw=wind * full, occupied=full.copy(),
            outdoor_c=np.full(steps, 7.0), buy=np.broadcast_to(buy, (number, steps)).astype(float),
            sell=np.broadcast_to(sell, (number, steps)).astype(float), carbon_g_per_kwh=np.full(steps, 400.0),
        )  # fmt: skip
        return State(
            node="node", source_time_ns=time_ns, homes=homes, report=spread(REPORT, number, changes),
            jobs=jobs or Jobs(),
            prices_now=(horizon.buy[:, 0], horizon.sell[:, 0]), expect=lambda: horizon,
            gains_kw=np.full(number, 0.3), storage=None, schedule=None,
            stale=np.zeros(number, dtype=bool), forecast_ns=0, steps=grid,
        )  # fmt: skip

    return make
