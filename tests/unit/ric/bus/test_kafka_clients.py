from __future__ import annotations

from pathlib import Path

import pytest

from ric.errors import TwinRicError
from ric.telemetry import Metrics

# kafka-python 3.0 reads its schemas with calls that Python 3.11 marks as deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated:DeprecationWarning")


def test_settings_sasl_reads_the_password_from_its_file(tmp_path: Path) -> None:
    from ric.bus.kafka import KafkaBus

    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    environ = {
        "TWINRIC_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "TWINRIC_KAFKA__SASL_USERNAME": "hems",
        "TWINRIC_KAFKA__SASL_PASSWORD_FILE": str(secret),
        "TWINRIC_KAFKA__TOPIC_PREFIX": "trial.",
        "TWINRIC_KAFKA": "ignored:1",
    }
    bus = KafkaBus.at("kafka://broker:9093", Metrics("x"), client_id="x", environ=environ)
    options = bus._options()
    assert options["security_protocol"] == "SASL_SSL"
    assert options["sasl_plain_password"] == "s3cret"
    assert options["bootstrap_servers"] == ["broker:9093"]
    assert bus._name("ric.alarms") == "trial.ric.alarms"


@pytest.mark.parametrize(
    ("environ", "field"),
    [
        ({"TWINRIC_KAFKA__SECURITY_PROTOCOL": "TLS"}, "security_protocol"),
        ({"TWINRIC_KAFKA__PARTITIONS": "0"}, "partitions"),
        ({"TWINRIC_KAFKA__PARTITION": "3"}, "partition"),
        ({"TWINRIC_KAFKA__TOPIC_PREFIX": "a b"}, "topic_prefix"),
    ],
    ids=["unknown protocol", "too few partitions", "unknown key", "prefix with a blank"],
)
def test_settings_bad_value_names_its_key(environ: dict[str, str], field: str) -> None:
    from ric.bus.kafka import KafkaBus

    with pytest.raises(TwinRicError) as caught:
        KafkaBus.at("kafka://broker:9092", Metrics("x"), client_id="x", environ=environ)
    assert field in caught.value.faults[0].field


@pytest.mark.parametrize(
    ("environ", "field"),
    [
        ({"TWINRIC_KAFKA__SECURITY_PROTOCOL": "SASL_SSL"}, "sasl_username, sasl_password_file"),
        ({"TWINRIC_KAFKA__SECURITY_PROTOCOL": "SSL", "TWINRIC_KAFKA__CA_FILE": "/nowhere/ca.pem"}, "ca_file"),
    ],
    ids=["no password", "no such file"],
)
def test_settings_what_the_protocol_lacks_is_named(environ: dict[str, str], field: str) -> None:
    from ric.bus.kafka import KafkaBus

    bus = KafkaBus.at("kafka://broker:9092", Metrics("x"), client_id="x", environ=environ)
    with pytest.raises(TwinRicError) as caught:
        bus._options()
    assert (caught.value.code, caught.value.faults[0].field) == ("CONFIG-MISSING", field)
