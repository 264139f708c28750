"""E3AP ranges and the waveform layout; any octets give a typed error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ric.e3.e3ap import MAX_PROTOCOL_DATA, Waveform, decode_pdu, decode_waveform, encode_pdu, encode_waveform
from ric.errors import TwinRicError
from ric.pb.libe3.e3ap.v1 import e3ap_pb2 as pb


@given(
    units=st.integers(1, 8), number=st.integers(1, 64), rate=st.sampled_from([4_000, 8_000]),
    sequence=st.integers(0, 2**32 - 1), first_ns=st.integers(0, 2**63 - 1),
)  # fmt: skip
def test_waveform_round_trip(units, number, rate, sequence, first_ns):
    samples = np.random.default_rng(0).normal(size=(units, 6, number)).astype(np.float32)
    back = decode_waveform(encode_waveform(Waveform(rate, sequence, first_ns, samples)))
    assert np.array_equal(back.samples, samples)
    assert (back.sample_rate_hz, back.sequence, back.first_sample_ns) == (rate, sequence, first_ns)


def test_waveform_end_is_one_sample_after_the_last():
    window = Waveform(4_000, 0, 1_000, np.zeros((1, 6, 20), np.float32))
    assert window.end_ns == 1_000 + 5_000_000


@given(st.binary(max_size=200))
def test_decode_waveform_any_octets_give_a_waveform_or_a_typed_error(octets):
    try:
        decode_waveform(octets)
    except TwinRicError as error:
        assert error.code in ("E3-MALFORMED", "E3-RANGE")


@given(st.binary(max_size=200))
def test_decode_pdu_any_octets_give_a_pdu_or_a_typed_error(octets):
    try:
        decode_pdu(octets)
    except TwinRicError as error:
        assert error.code in ("E3-MALFORMED", "E3-RANGE")


def test_decode_waveform_not_a_number_is_refused():
    samples = np.zeros((1, 6, 4), np.float32)
    octets = bytearray(encode_waveform(Waveform(4_000, 0, 0, samples)))
    octets[-4:] = np.float32(np.nan).tobytes()
    with pytest.raises(TwinRicError, match="samples"):
        decode_waveform(bytes(octets))


@pytest.mark.parametrize(
    ("pdu", "field"),
    [
        (pb.E3Pdu(id=0, release_message=pb.ReleaseMessage()), "id"),
        (pb.E3Pdu(id=1001, release_message=pb.ReleaseMessage()), "id"),
        (pb.E3Pdu(id=1), "msg"),
        (pb.E3Pdu(id=1, setup_request=pb.SetupRequest(dapp_version="1")), "setup_request"),
        (pb.E3Pdu(id=1, dapp_report=pb.DAppReport(report_data=b"x" * (MAX_PROTOCOL_DATA + 1))), "report_data"),
    ],
    ids=["id 0", "id 1001", "no message", "nameless dApp", "oversized report"],
)
def test_encode_pdu_out_of_range_names_the_field(pdu, field):
    with pytest.raises(TwinRicError, match=field):
        encode_pdu(pdu)


def test_decode_pdu_takes_ids_of_later_peers_but_not_zero():
    """Peers whose ids do not wrap at 1,000 must not be cut off after 1,000 messages."""
    for identifier in (1, 1_001, 2**32 - 1):
        octets = pb.E3Pdu(id=identifier, release_message=pb.ReleaseMessage(dapp_identifier=1)).SerializeToString()
        assert decode_pdu(octets).id == identifier
    with pytest.raises(TwinRicError, match="id"):
        decode_pdu(pb.E3Pdu(release_message=pb.ReleaseMessage(dapp_identifier=1)).SerializeToString())
