"""A1-EI over real HTTP: discovery, jobs, delivery with retry, statuses, restart."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import Response

from ric.bus.bus import TWIN_FORECAST, TWIN_REPORTED, MemoryBus, Twins
from ric.clock import WallClock
from ric.columns import Table
from ric.servers import serve
from ric.telemetry import Metrics

QUARTERS, PRICES = "twinric_demand_forecast_15min_1.0.0", "twinric_prices_1.0.0"
JOBS = "/A1-EI/v1/eijobs"


class Consumer:
    """A Near-RT side that takes data and statuses; refuses the first POST of data."""

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.statuses: list[Any] = []
        self.refusals = 1
        self.app = FastAPI()

        @self.app.post("/data")
        async def data(request: Request) -> Response:
            if self.refusals:
                self.refusals -= 1
                return Response(status_code=503)
            self.results.append(await request.json())
            return Response(status_code=200)

        @self.app.post("/status")
        async def status(request: Request) -> Response:
            self.statuses.append(await request.json())
            return Response(status_code=200)


async def publish_forecast(bus: MemoryBus, valid_s: float = 60.0, node: str = "n1") -> None:
    names = ("load_p10_kw", "load_p50_kw", "load_p90_kw", "pv_p50_kw")
    columns = {name: np.full((2, 4), 3.5) for name in names}
    columns |= {"step_s": np.full(2, 900.0), "seasonal_naive": np.zeros(2)}
    table = Table("demand_forecast", ("h1", "feeder"), columns, time.time_ns())
    twins = Twins(bus, WallClock(), Metrics("demand_twin"), "demand_twin/1")
    await twins.publish(TWIN_FORECAST, f"demand_forecast_15min/{node}", table.kind, table, round(valid_s * 1e3))


async def publish_prices(bus: MemoryBus) -> None:
    series = {name: np.full((1, 3), 0.25) for name in ("buy_eur_per_kwh", "sell_eur_per_kwh")}
    series |= {name: np.full((1, 3), 0.5) for name in ("outdoor_c", "pv_kw_per_kwp")}
    table = Table("outlook", ("n1",), {"step_s": np.array([900.0]), **series}, time.time_ns())
    await Twins(bus, WallClock(), Metrics("x"), "x/1").publish(TWIN_REPORTED, "outlook/n1", table.kind, table)


def job(ei_type: str, port: int, **members: Any) -> dict[str, Any]:
    uri = f"http://127.0.0.1:{port}"
    return {
        "eiTypeId": ei_type, "jobOwner": "hems", "jobDefinition": {}, "jobResultUri": f"{uri}/data",
        "jobStatusNotificationUri": f"{uri}/status", **members,
    }  # fmt: skip


async def test_ei_forecasts_and_prices_reach_the_consumer_with_retry(a1: Any, kit: SimpleNamespace) -> None:
    consumer = Consumer()
    async with serve(consumer.app, "127.0.0.1", 0) as port:
        types = (await a1.http.get("/A1-EI/v1/eitypes")).json()
        assert {QUARTERS, PRICES} <= set(types)
        described = (await a1.http.get(f"/A1-EI/v1/eitypes/{QUARTERS}")).json()
        assert described["columns"]["load_p50_kw"]["unit"] == "kW"

        created = await a1.http.put(f"{JOBS}/j1", json=job(QUARTERS, port))
        assert (created.status_code, created.headers["location"]) == (201, f"{JOBS}/j1")
        assert (await a1.http.put(f"{JOBS}/j1", json=job(QUARTERS, port))).status_code == 200
        assert (await a1.http.get(f"{JOBS}/j1/status")).json() == {"eiJobStatus": "DISABLED"}
        assert (await a1.http.get(JOBS, params={"eiTypeId": PRICES})).json() == []
        assert (await a1.http.get(JOBS, params={"owner": "hems"})).json() == ["j1"]

        await publish_forecast(a1.bus)
        await kit.eventually(lambda: len(consumer.results) == 1, "the forecast arrives after a retry")
        assert consumer.results[0]["columns"]["load_p50_kw"] == {"unit": "kW", "values": [[3.5] * 4]}
        await kit.eventually(lambda: consumer.statuses == [{"eiJobStatus": "ENABLED"}], "the status is told")

        await publish_prices(a1.bus)
        await a1.http.put(f"{JOBS}/j2", json=job(PRICES, port))
        await kit.eventually(lambda: len(consumer.results) == 2, "known prices are delivered at once")
        assert consumer.results[1]["columns"]["buy_eur_per_kwh"]["values"] == [[0.25] * 3]

        assert (await a1.http.delete(f"{JOBS}/j1")).status_code == 204
        assert (await a1.http.delete(f"{JOBS}/j1")).status_code == 404
        assert (await a1.http.get(JOBS)).json() == ["j2"]


async def test_ei_job_is_disabled_once_its_data_expires(a1: Any, kit: SimpleNamespace) -> None:
    consumer = Consumer()
    consumer.refusals = 0
    async with serve(consumer.app, "127.0.0.1", 0) as port:
        await publish_forecast(a1.bus, valid_s=0.5)
        await a1.http.put(f"{JOBS}/j1", json=job(QUARTERS, port))
        await kit.eventually(lambda: consumer.statuses == [{"eiJobStatus": "DISABLED"}], "expiry is told")
        assert (await a1.http.get(f"{JOBS}/j1/status")).json() == {"eiJobStatus": "DISABLED"}


async def test_ei_jobs_and_twins_are_taken_up_after_a_restart(tmp_path: Path, kit: SimpleNamespace) -> None:
    store, consumer, bus = tmp_path / "a1.sqlite", Consumer(), MemoryBus()
    consumer.refusals = 0
    async with serve(consumer.app, "127.0.0.1", 0) as port:
        async with kit.running_a1(store, bus=bus) as a1:
            await a1.http.put(f"{JOBS}/j1", json=job(QUARTERS, port))
        await publish_forecast(bus)
        async with kit.running_a1(store, bus=bus) as a1:
            assert (await a1.http.get(f"{JOBS}/j1")).json() == job(QUARTERS, port)
            await kit.eventually(lambda: len(consumer.results) == 1, "what the bus held is delivered")
            await publish_forecast(bus, node="n2")
            await kit.eventually(lambda: len(consumer.results) == 2, "and what comes later")


async def test_ei_refusals_name_the_field(a1: Any) -> None:
    away = job(QUARTERS, 9, jobResultUri="http://169.254.169.254/latest")
    answer = await a1.http.put(f"{JOBS}/j1", json=away)
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (
        403,
        "A1-DESTINATION",
        "jobResultUri",
    )
    answer = await a1.http.put(f"{JOBS}/j1", json=job("nothing", 9))
    assert (answer.status_code, answer.json()["field"]) == (404, "eiTypeId")
    answer = await a1.http.put(f"{JOBS}/j1", json=job(QUARTERS, 9, jobDefinition={"columns": ["x"]}))
    assert (answer.status_code, answer.json()["field"]) == (400, "jobDefinition.columns[0]")
    assert (await a1.http.put(f"{JOBS}/j1", json=job(QUARTERS, 9, jobResultUri="bus:"))).status_code == 201
    answer = await a1.http.put(f"{JOBS}/j1", json=job(PRICES, 9))
    assert (answer.status_code, answer.json()["code"]) == (409, "A1-CONFLICT")
    assert (await a1.http.get(f"{JOBS}/j9/status")).status_code == 404
    assert (await a1.http.get("/A1-EI/v1/eitypes/nothing")).status_code == 404
