from __future__ import annotations

import pytest

from ric.errors import TwinRicError
from ric.telemetry import Metrics

# kafka-python 3.0 reads its schemas with calls that Python 3.11 marks as deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated:DeprecationWarning")


@pytest.mark.parametrize("url", ["kafka://", "kafka://host", "kafka://host:0", "kafka://host:99999", "kafka://:9092"])
def test_kafka_bus_bad_address_is_refused(url: str) -> None:
    from ric.bus.kafka import KafkaBus

    with pytest.raises(TwinRicError, match="CONFIG-RANGE bus_url"):
        KafkaBus.at(url, Metrics("x"), client_id="x", environ={})


async def test_kafka_bus_not_started_says_that_the_bus_is_unreachable() -> None:
    from ric.bus.kafka import KafkaBus

    bus = KafkaBus.at("kafka://broker:9092", Metrics("x"), client_id="x", environ={})
    with pytest.raises(TwinRicError, match="BUS-UNREACHABLE"):
        await bus.publish("ric.alarms", "key", b"", {})
