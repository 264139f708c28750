"""The newest line per device, whatever order the decisions come in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ric.bus.bus import MemoryBus
from ric.explanations import Explanations
from ric.pb.twinric.bus.v1.record_pb2 import DecisionRecord
from ric.telemetry import Metrics

WAITS = "EV_WAITS buy_eur_per_kwh=0.41 soc=0.5: Waiting because power costs 0.41 EUR/kWh now."


def record(time_ns, details):
    return DecisionRecord(app="hems_load", source_time_ns=time_ns, details=details).SerializeToString()


@pytest.fixture
def explanations():
    return Explanations(MemoryBus(), Metrics("test"))


def test_explanations_keep_the_newest_line_of_each_device(explanations):
    explanations.take(record(1, {"n/home-1/ev": WAITS, "n/home-1/battery": "BATTERY_RESTS soc=0.2: Resting."}))
    explanations.take(record(3, {"n/home-1/ev": "EV_CHARGES ev_kw=7: Charging.", "other": "text"}))
    explanations.take(record(2, {"n/home-1/ev": WAITS}))
    battery, ev = explanations.find("home-1")
    assert (battery.device, battery.code, battery.since_ns, battery.as_of_ns) == ("battery", "BATTERY_RESTS", 1, 3)
    assert (ev.code, ev.numbers, ev.text, ev.since_ns) == ("EV_CHARGES", {"ev_kw": 7.0}, "Charging.", 3)
    assert [line.device for line in explanations.find("home-1", "ev")] == ["ev"]
    assert explanations.find("home-2") == []


def test_explanations_read_numbers_and_sentence_apart(explanations):
    explanations.take(record(1, {"n/home-1/ev": WAITS}))
    (line,) = explanations.find("home-1", "ev")
    assert line.numbers == {"buy_eur_per_kwh": 0.41, "soc": 0.5}
    assert line.text.startswith("Waiting because")


@given(st.binary(max_size=60), st.text(max_size=60))
def test_explanations_take_anything(value, text):
    made = Explanations(MemoryBus(), Metrics("test"))
    made.take(value)
    made.take(record(1, {"a/b/c": text}))
    assert all(np.isfinite(line.since_ns) for line in made.find("b"))
