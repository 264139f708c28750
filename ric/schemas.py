"""The data dictionary: every kind of table on E2 and on the twin bus, with unit, range and meaning per column.

Signs follow the load convention: `_kw` > 0 consumes; `charge_kw` and `discharge_kw` are both >= 0; `soc` is 0..1.
A width of 0 means any number of values per entity: a time series, its step in `step_s`.
"""

from __future__ import annotations

from collections.abc import Mapping

from ric.columns import Quantity, Schema

__all__ = [
    "APPLIANCE_IN_FORCE", "APPLIANCE_REPORT", "APPLIANCE_SET_POINT", "DEMAND_FORECAST", "DEMAND_HISTORY",
    "FEEDER_REPORT", "FLEET_PLAN", "GRID_SCHEMAS", "HOME_IN_FORCE", "HOME_REPORT", "HOME_SET_POINT", "HOME_STATIC",
    "IN_FORCE_SCHEMAS", "MICROGRID_IN_FORCE", "MICROGRID_REPORT", "MICROGRID_SUBSTITUTION", "MICROGRID_TWIN", "OUTLOOK",
    "PCC_REPORT", "SLICE_TWIN", "STORAGE_IN_FORCE", "STORAGE_REPORT", "STORAGE_SCHEDULE", "STORAGE_SET_POINT",
    "TARIFFS", "TWIN_SCHEMAS",
]  # fmt: skip

HOME_REPORT = Schema("home_report", 1, {
    "inflexible_kw": Quantity("kW", 0, 100, "mean uncontrollable load of the period"),
    "pv_available_kw": Quantity("kW", 0, 100, "mean PV power before curtailment"),
    "pv_kw": Quantity("kW", 0, 100, "mean PV power fed in, after curtailment"),
    "wind_available_kw": Quantity("kW", 0, 100, "mean wind power before curtailment"),
    "wind_kw": Quantity("kW", 0, 100, "mean wind power fed in, after curtailment"),
    "appliance_kw": Quantity("kW", 0, 100, "mean power of the appliances that can be shifted"),
    "battery_kw": Quantity("kW", -100, 100, "mean battery power, > 0 charges"),
    "battery_soc": Quantity("1", 0, 1, "state of charge at the end of the period; 0 where there is none"),
    "ev_kw": Quantity("kW", -50, 50, "mean EV power, > 0 charges"),
    "ev_soc": Quantity("1", 0, 1, "EV state of charge; 0 while away"),
    "ev_connected": Quantity("1", 0, 1, "1 while plugged in"),
    "ev_departure_h": Quantity("h", 0, 48, "hours until the announced departure; 0 while away"),
    "ev_target_soc": Quantity("1", 0, 1, "state of charge wanted at departure"),
    "hvac_kw": Quantity("kW", 0, 30, "mean electrical heat-pump power"),
    "indoor_c": Quantity("degC", -40, 60, "indoor temperature at the end of the period"),
    "outdoor_c": Quantity("degC", -60, 60, "outdoor temperature"),
    "occupied": Quantity("1", 0, 1, "1 while somebody is at home"),
    "import_kw": Quantity("kW", 0, 200, "mean import at the meter"),
    "export_kw": Quantity("kW", 0, 200, "mean export at the meter"),
})  # fmt: skip

HOME_STATIC = Schema("home_static", 1, {
    "battery_kwh": Quantity("kWh", 0, 200, "usable battery capacity; 0 where there is none"),
    "battery_max_kw": Quantity("kW", 0, 100, "battery power limit, both ways"),
    "battery_efficiency": Quantity("1", 0.5, 1, "one-way efficiency"),
    "ev_kwh": Quantity("kWh", 0, 200, "EV battery capacity; 0 where there is none"),
    "ev_max_kw": Quantity("kW", 0, 50, "charger power limit"),
    "ev_v2g_kw": Quantity("kW", 0, 50, "discharge limit of the charger; 0 without V2G"),
    "ev_efficiency": Quantity("1", 0.5, 1, "one-way efficiency"),
    "hvac_max_kw": Quantity("kW", 0, 30, "electrical heat-pump limit; 0 where there is none"),
    "hvac_cop": Quantity("1", 1, 8, "coefficient of performance at 7 degC outdoors"),
    "heat_capacity_kwh_per_k": Quantity("kWh/K", 0.1, 200, "lumped heat capacity"),
    "heat_loss_kw_per_k": Quantity("kW/K", 0.005, 5, "lumped heat loss"),
    "comfort_low_c": Quantity("degC", 5, 30, "lower comfort bound while occupied"),
    "comfort_high_c": Quantity("degC", 5, 40, "upper comfort bound while occupied"),
    "connection_kw": Quantity("kW", 1, 200, "contract limit of import at the meter"),
    "export_limit_kw": Quantity("kW", 0, 200, "contract limit of export at the meter"),
    "pv_kwp": Quantity("kW", 0, 100, "PV peak power"),
    "wind_rated_kw": Quantity("kW", 0, 100, "wind turbine's rated power; 0 where there is none"),
    "setback_k": Quantity("K", 0, 10, "how far the room may leave its comfort band while nobody is at home"),
    "ev_floor_soc": Quantity("1", 0, 1, "state of charge below which the owner lets nobody discharge the EV"),
    "tariff": Quantity("1", 0, 1_000, "row of the home's tariff in the table tariffs, from 0"),
})  # fmt: skip

HOME_SET_POINT = Schema("home_set_point", 1, {
    "battery_kw": Quantity("kW", -100, 100, "battery power, > 0 charges"),
    "ev_kw": Quantity("kW", -50, 50, "EV power, > 0 charges"),
    "hvac_kw": Quantity("kW", 0, 30, "electrical heat-pump power"),
    "pv_limit_kw": Quantity("kW", 0, 100, "most PV power fed in"),
    "wind_limit_kw": Quantity("kW", 0, 100, "most wind power fed in"),
})  # fmt: skip

APPLIANCE_REPORT = Schema("appliance_report", 1, {
    "home": Quantity("1", 0, 100_000, "row of the appliance's home in home_static, from 0"),
    "power_kw": Quantity("kW", 0, 50, "power while it runs"),
    "left_h": Quantity("h", 0, 48, "run time that the job in hand still needs; 0 without a job"),
    "opens_h": Quantity("h", 0, 48, "hours until the job's window opens; 0 while it is open"),
    "closes_h": Quantity("h", 0, 72, "hours until the job has to be done"),
    "interruptible": Quantity("1", 0, 1, "1 where a run may be stopped and taken up again"),
    "running": Quantity("1", 0, 1, "1 while it runs"),
})  # fmt: skip

APPLIANCE_SET_POINT = Schema("appliance_set_point", 1, {
    "run": Quantity("1", 0, 1, "1 runs the job in hand, 0 lets it wait"),
})  # fmt: skip

STORAGE_REPORT = Schema("storage_report", 1, {
    "charge_kw": Quantity("kW", 0, 10_000, "mean charging power"),
    "discharge_kw": Quantity("kW", 0, 10_000, "mean discharging power"),
    "soc": Quantity("1", 0, 1, "state of charge at the end of the period"),
    "capacity_kwh": Quantity("kWh", 0, 100_000, "usable capacity"),
    "max_kw": Quantity("kW", 0, 10_000, "power limit, both ways"),
    "efficiency": Quantity("1", 0.5, 1, "one-way efficiency"),
    "frequency_hz": Quantity("Hz", 40, 70, "mean grid frequency seen by the unit"),
})  # fmt: skip

STORAGE_SET_POINT = Schema("storage_set_point", 1, {
    "charge_kw": Quantity("kW", 0, 10_000, "charging power"),
    "discharge_kw": Quantity("kW", 0, 10_000, "discharging power"),
    "reserve_kw": Quantity("kW", 0, 10_000, "power held back for frequency response"),
})  # fmt: skip

MICROGRID_REPORT = Schema("microgrid_report", 1, {
    "contribution_factor": Quantity("1", -10, 10, "r of eq (15) as the microgrid's agent states it; 0 under DoS"),
    "agent_alive": Quantity("1", 0, 1, "1 while the agent's messages arrive"),
    "power_kw": Quantity("kW", -1_000, 1_000, "power the microgrid delivers to the PCC"),
    "dg_power_kw": Quantity("kW", 0, 1_000, "power of its distributed generators"),
    "load_kw": Quantity("kW", 0, 1_000, "its local load"),
    "voltage_v": Quantity("V", 0, 10_000, "its DC busbar voltage"),
    "rated_kw": Quantity("kW", 0, 1_000, "rated power of its generators"),
})  # fmt: skip

PCC_REPORT = Schema("pcc_report", 1, {
    "reference_kw": Quantity("kW", -1_000, 1_000, "power reference of the PCC agent, eq (14)"),
    "power_kw": Quantity("kW", -1_000, 1_000, "power at the PCC"),
    "voltage_v": Quantity("V", 0, 10_000, "voltage at the PCC"),
    "reference_r": Quantity("1", -10, 10, "R of eq (15)"),
})  # fmt: skip

MICROGRID_SUBSTITUTION = Schema("microgrid_substitution", 1, {
    "contribution_factor": Quantity("1", -10, 10, "value that stands in for the agent's, C_f(twin) of eq (22)"),
    "in_local_control": Quantity("1", 0, 1, "1: the microgrid's local controller uses it"),
    "in_consensus": Quantity("1", 0, 1, "1: its neighbours use it in eq (15)"),
})  # fmt: skip

HOME_IN_FORCE = Schema("home_in_force", 1, {
    "battery_low_kw": Quantity("kW", -100, 100, "highest lower limit of the battery's power in the period"),
    "battery_high_kw": Quantity("kW", -100, 100, "lowest upper limit of the battery's power in the period"),
    "ev_low_kw": Quantity("kW", -50, 50, "highest lower limit of the EV's power in the period; 0 while away"),
    "ev_high_kw": Quantity("kW", -50, 50, "lowest upper limit of the EV's power in the period; 0 while away"),
    "hvac_low_kw": Quantity("kW", 0, 30, "highest lower limit of the heat pump's power in the period"),
    "hvac_high_kw": Quantity("kW", 0, 30, "lowest upper limit of the heat pump's power in the period"),
})  # fmt: skip

APPLIANCE_IN_FORCE = Schema("appliance_in_force", 1, {
    "follows": Quantity("1", 0, 1, "1 where the set-point decides; 0 without open job, or where deadline or run do"),
})  # fmt: skip

STORAGE_IN_FORCE = Schema("storage_in_force", 1, {
    "charge_limit_kw": Quantity("kW", 0, 10_000, "lowest limit of the charging power in the period"),
    "discharge_limit_kw": Quantity("kW", 0, 10_000, "lowest limit of the discharging power in the period"),
    "reserve_kw": Quantity("kW", 0, 10_000, "power held back for frequency response"),
})  # fmt: skip

MICROGRID_IN_FORCE = Schema("microgrid_in_force", 1, {
    "contribution_factor": Quantity("1", -10, 10, "value that stands in for the agent's"),
    "in_local_control": Quantity("1", 0, 1, "1 while the microgrid's local controller uses it"),
    "in_consensus": Quantity("1", 0, 1, "1 while its neighbours use it"),
})  # fmt: skip

FEEDER_REPORT = Schema("feeder_report", 1, {
    "import_kw": Quantity("kW", -100_000, 100_000, "power drawn from the MV side"),
    "loading_pct": Quantity("%", 0, 10_000, "transformer loading"),
    "voltage_min_pu": Quantity("pu", 0, 3, "lowest busbar voltage"),
    "voltage_max_pu": Quantity("pu", 0, 3, "highest busbar voltage"),
    "losses_kw": Quantity("kW", 0, 100_000, "line and transformer losses"),
    "buy_price": Quantity("EUR/kWh", -10, 100, "import tariff in force"),
    "sell_price": Quantity("EUR/kWh", -10, 100, "export tariff in force"),
})  # fmt: skip

OUTLOOK = Schema("outlook", 1, {
    "step_s": Quantity("s", 1, 86_400, "step of the series; their first value holds from the source time on"),
    "buy_eur_per_kwh": Quantity("EUR/kWh", -10, 100, "import tariff", width=0),
    "sell_eur_per_kwh": Quantity("EUR/kWh", -10, 100, "export tariff", width=0),
    "outdoor_c": Quantity("degC", -60, 60, "forecast outdoor temperature", width=0),
    "pv_kw_per_kwp": Quantity("kW/kW", 0, 2, "forecast PV power per peak power", width=0),
    "wind_kw_per_kw": Quantity("kW/kW", 0, 2, "forecast wind power per rated power", required=False, width=0),
    "carbon_g_per_kwh": Quantity("g/kWh", 0, 5_000, "forecast CO2 intensity of imports", required=False, width=0),
})  # fmt: skip

TARIFFS = Schema("tariffs", 1, {
    "step_s": Quantity("s", 1, 86_400, "step of the series; their first value holds from the source time on"),
    "buy_eur_per_kwh": Quantity("EUR/kWh", -10, 100, "import price of each tariff", width=0),
    "sell_eur_per_kwh": Quantity("EUR/kWh", -10, 100, "export price of each tariff", width=0),
})  # fmt: skip

DEMAND_HISTORY = Schema("demand_history", 1, {
    "step_s": Quantity("s", 1, 86_400, "step of the series; their last value ends at the source time"),
    "load_kw": Quantity("kW", 0, 100_000, "mean uncontrollable load", width=0),
    "pv_kw": Quantity("kW", 0, 100_000, "mean available PV power", width=0),
})  # fmt: skip

DEMAND_FORECAST = Schema("demand_forecast", 1, {
    "step_s": Quantity("s", 1, 86_400, "step of the series; their first value holds from the source time on"),
    "load_p10_kw": Quantity("kW", 0, 100_000, "10 % quantile of the uncontrollable load", width=0),
    "load_p50_kw": Quantity("kW", 0, 100_000, "median of the uncontrollable load", width=0),
    "load_p90_kw": Quantity("kW", 0, 100_000, "90 % quantile of the uncontrollable load", width=0),
    "pv_p50_kw": Quantity("kW", 0, 100_000, "median of the available PV power", width=0),
    "seasonal_naive": Quantity("1", 0, 1, "1 where the safe action made the forecast"),
})  # fmt: skip

FLEET_PLAN = Schema("fleet_plan", 1, {
    "step_s": Quantity("s", 1, 86_400, "step of the series; their first value holds from the source time on"),
    "net_kw": Quantity("kW", -1e6, 1e6, "what the homes plan to import together, exports counted against it", width=0),
})  # fmt: skip

STORAGE_SCHEDULE = Schema("storage_schedule", 1, {
    "step_s": Quantity("s", 1, 86_400, "step of the series; their first value holds from the source time on"),
    "charge_kw": Quantity("kW", 0, 10_000, "charging power", width=0),
    "discharge_kw": Quantity("kW", 0, 10_000, "discharging power", width=0),
    "reserve_kw": Quantity("kW", 0, 10_000, "power held back for frequency response", width=0),
    "soc": Quantity("1", 0, 1, "planned state of charge at the end of each step", width=0),
})  # fmt: skip

SLICE_TWIN = Schema("slice_twin", 1, {
    "flexe_slots": Quantity("slot", 0, 20, "FlexE slots in force"),
    "offered_mbps": Quantity("Mb/s", 0, 1e6, "offered load"),
    "delay_ms": Quantity("ms", 0, 1e5, "mean delay"),
    "jitter_ms": Quantity("ms", 0, 1e5, "standard deviation of the delay"),
})  # fmt: skip

MICROGRID_TWIN = Schema("microgrid_twin", 1, {
    "contribution_factor": Quantity("1", -10, 10, "C_f that the twin expects"),
    "measured": Quantity("1", -10, 10, "C_f that the agent states"),
    "error": Quantity("1", 0, 20, "|measured - expected|"),
    "taken_over": Quantity("1", 0, 2, "0 agent in charge, 1 twin in local control, 2 twin in the consensus too"),
})  # fmt: skip

GRID_SCHEMAS: Mapping[str, Schema] = {
    schema.kind: schema
    for schema in (
        HOME_REPORT, HOME_STATIC, HOME_SET_POINT, APPLIANCE_REPORT, APPLIANCE_SET_POINT, STORAGE_REPORT,
        STORAGE_SET_POINT, MICROGRID_REPORT, PCC_REPORT, MICROGRID_SUBSTITUTION, FEEDER_REPORT, OUTLOOK, TARIFFS,
    )
}  # fmt: skip
"""Kinds that the grid service model carries."""

IN_FORCE_SCHEMAS: Mapping[str, Schema] = {
    schema.kind: schema for schema in (HOME_IN_FORCE, APPLIANCE_IN_FORCE, STORAGE_IN_FORCE, MICROGRID_IN_FORCE)
}
"""Kinds that say what decided over devices with a set-point, beside the report of the same name."""

TWIN_SCHEMAS: Mapping[str, Schema] = {
    schema.kind: schema
    for schema in (
        HOME_REPORT, HOME_STATIC, HOME_SET_POINT, APPLIANCE_REPORT, APPLIANCE_SET_POINT, STORAGE_REPORT,
        STORAGE_SCHEDULE, MICROGRID_TWIN, FEEDER_REPORT, OUTLOOK, TARIFFS, DEMAND_HISTORY,
        DEMAND_FORECAST, FLEET_PLAN, SLICE_TWIN,
    )
}  # fmt: skip
"""Kinds that twin records carry."""
