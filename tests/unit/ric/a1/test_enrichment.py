"""Enrichment information: jobs, what is due for them, their status."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ric.a1.enrichment import EI_TYPES, EiBook, EiJob
from ric.bus.bus import TWIN_FORECAST, TWIN_REPORTED
from ric.bus.record import TwinState, successor
from ric.columns import SUBSTITUTED, Table
from ric.errors import TwinRicError

QUARTERS, PRICES = "twinric_demand_forecast_15min_1.0.0", "twinric_prices_1.0.0"
SECOND = 1_000_000_000


def forecast(node: str = "n1", time_s: int = 100, valid_s: int = 60) -> TwinState:
    names = ("load_p10_kw", "load_p50_kw", "load_p90_kw", "pv_p50_kw")
    columns = {name: np.arange(6.0).reshape(3, 2) for name in names}
    columns |= {"step_s": np.full(3, 900.0), "seasonal_naive": np.zeros(3)}
    quality = {"load_p50_kw": np.array([0, 0, SUBSTITUTED], dtype=np.uint8)}
    table = Table("demand_forecast", ("h1", "h2", "feeder"), columns, time_s * SECOND, quality)
    return successor(
        None, twin_id=f"demand_forecast_15min/{node}", kind="demand_forecast", table=table, now_ns=time_s * SECOND,
        valid_for_ms=valid_s * 1_000, producer="demand_twin/1", trace_id="",
    )  # fmt: skip


def job(job_id: str = "j1", ei_type: str = QUARTERS, **definition: Any) -> EiJob:
    body = {"eiTypeId": ei_type, "jobOwner": "xapp", "jobDefinition": definition, "jobResultUri": "bus:"}
    return EiJob.of(job_id, body)


def test_every_type_offers_columns_that_its_twins_have():
    for ei_type in EI_TYPES.values():
        assert set(ei_type.body()["columns"]) == set(ei_type.columns)
        assert ei_type.topic in (TWIN_FORECAST, TWIN_REPORTED)


def test_result_has_units_times_and_the_chosen_part():
    book = EiBook()
    wanted = job(entities=["feeder", "h1", "nobody"], columns=["load_p50_kw", "step_s"])
    assert book.put(wanted, 0) == []
    [due] = book.take(TWIN_FORECAST, forecast(), 100 * SECOND)
    body = due.body()
    assert body["entities"] == ["feeder", "h1"]
    assert body["columns"] == {
        "load_p50_kw": {"unit": "kW", "values": [[4.0, 5.0], [0.0, 1.0]]},
        "step_s": {"unit": "s", "values": [900.0, 900.0]},
    }
    assert body["quality"] == {"load_p50_kw": ["substituted", "good"]}
    assert (body["sourceTime"], body["validUntil"]) == ("1970-01-01T00:01:40.000Z", "1970-01-01T00:02:40.000Z")
    assert (body["eiJobId"], body["eiTypeId"], body["e2NodeId"]) == ("j1", QUARTERS, "n1")


def test_forecast_is_of_the_feeder_where_the_job_does_not_choose():
    book = EiBook()
    book.take(TWIN_FORECAST, forecast(), 100 * SECOND)
    [due] = book.put(job(), 100 * SECOND)
    assert due.body()["entities"] == ["feeder"]
    assert set(due.body()["columns"]) == set(EI_TYPES[QUARTERS].columns)


def test_only_newer_twins_of_the_right_topic_family_and_node_are_due():
    book = EiBook()
    book.put(job("here", e2NodeId="n1"), 0)
    book.put(job("all"), 0)
    book.put(job("prices", PRICES), 0)

    def due(topic: str, twin: TwinState) -> set[str]:
        return {result.job.ei_job_id for result in book.take(topic, twin, 100 * SECOND)}

    assert due(TWIN_FORECAST, forecast("n1")) == {"here", "all"}
    assert due(TWIN_FORECAST, forecast("n1")) == set(), "the same again"
    assert due(TWIN_FORECAST, forecast("n1", time_s=90)) == set(), "an older one"
    assert due(TWIN_FORECAST, forecast("n2")) == {"all"}
    assert due(TWIN_REPORTED, forecast("n3")) == set(), "another topic"
    assert due(TWIN_FORECAST, forecast("n4", time_s=10, valid_s=5)) == set(), "expired"


def test_status_is_enabled_while_valid_data_is_there_and_each_change_is_told_once():
    book, wanted = EiBook(), job()
    book.put(wanted, 0)
    assert book.status_changes(0) == [], "the first status is the answer to the PUT"
    book.take(TWIN_FORECAST, forecast(time_s=100, valid_s=60), 100 * SECOND)
    assert book.status_changes(100 * SECOND) == [(wanted, True)]
    assert book.status_changes(159 * SECOND) == []
    assert book.status_changes(161 * SECOND) == [(wanted, False)]
    assert book.status_changes(162 * SECOND) == []


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        pytest.param({"eiTypeId": "nothing"}, "A1-UNKNOWN", "eiTypeId", id="unknown type"),
        pytest.param({"eiTypeId": 5}, "A1-RANGE", "eiTypeId", id="type of the wrong type"),
        pytest.param({"jobOwner": ""}, "A1-RANGE", "jobOwner", id="no owner"),
        pytest.param({"jobResultUri": "ftp://h/"}, "A1-RANGE", "jobResultUri", id="scheme"),
        pytest.param({"jobDefinition": {"columns": ["x"]}}, "A1-RANGE", "jobDefinition.columns[0]", id="column"),
        pytest.param({"jobDefinition": {"node": "n1"}}, "A1-UNKNOWN-FIELD", "jobDefinition.node", id="definition"),
        pytest.param({"jobStatusUri": "x"}, "A1-UNKNOWN-FIELD", "jobStatusUri", id="member"),
    ],
)
def test_bad_job_is_refused_by_field(changes: dict[str, Any], code: str, field: str):
    body = {"eiTypeId": QUARTERS, "jobOwner": "x", "jobDefinition": {}, "jobResultUri": "bus:", **changes}
    with pytest.raises(TwinRicError) as refused:
        EiJob.of("j1", body)
    assert (refused.value.code, refused.value.faults[0].field) == (code, field)


def test_job_keeps_its_type():
    book = EiBook()
    book.put(job("j1"), 0)
    with pytest.raises(TwinRicError, match="A1-CONFLICT"):
        book.check(job("j1", PRICES))
    book.delete("j1")
    book.delete("j1")
    book.check(job("j1", PRICES))
