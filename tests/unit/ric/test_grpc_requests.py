"""Octets that are no request are typed errors, one by one and on a stream."""

from collections.abc import AsyncIterator

import grpc
import pytest

from ric.errors import TwinRicError
from ric.grpc_requests import check_role, request_parser
from ric.pb.twinric.a1.v1 import policy_pb2
from ric.pb.twinric.xapp.v1 import controls_pb2

ASK = controls_pb2.ControlAsk(number=7)


async def once(*octets: bytes) -> AsyncIterator[bytes]:
    for each in octets:
        yield each


def test_request_parser_malformed_request_is_refused_by_interface() -> None:
    for path, kind, code in (
        ("/onos.e2t.e2.v1beta1.ControlService/Control", controls_pb2.ControlAsk, "E2-MALFORMED"),
        ("/twinric.a1.v1.PolicyService/Policies", policy_pb2.AppMessage, "A1-MALFORMED"),
    ):
        handler = grpc.unary_unary_rpc_method_handler(lambda *_: None, request_deserializer=kind.FromString)
        with pytest.raises(TwinRicError, match=code):
            request_parser(path, handler)(b"\xff\xff")


def test_request_parser_good_request_is_parsed_and_octets_stay_where_the_servicer_parses() -> None:
    handler = grpc.unary_unary_rpc_method_handler(
        lambda *_: None, request_deserializer=controls_pb2.ControlAsk.FromString
    )
    assert request_parser("/x/Y", handler)(ASK.SerializeToString()) == ASK
    plain = grpc.unary_unary_rpc_method_handler(lambda *_: None)
    assert request_parser("/x/Y", plain)(b"\xff") == b"\xff"


async def test_request_parser_stream_gives_what_is_good_and_then_the_error() -> None:
    handler = grpc.stream_stream_rpc_method_handler(
        lambda *_: None, request_deserializer=controls_pb2.ControlAsk.FromString
    )
    asks = request_parser("/x/Y", handler)(once(ASK.SerializeToString(), b"\xff"))
    assert await anext(asks) == ASK
    with pytest.raises(TwinRicError, match="E2-MALFORMED"):
        await anext(asks)


def peer(*names: str) -> dict[str, list[bytes]]:
    return {"x509_subject_alternative_name": [b"localhost", *(f"urn:twinric:role:{name}".encode() for name in names)]}


@pytest.mark.parametrize(
    ("roles", "path"),
    [
        (("node",), "/twinric.e2ap.v1.E2Termination/Connect"),
        (("xapp",), "/twinric.xapp.v1.ControlStream/Open"),
        (("xapp",), "/onos.e2t.admin.E2TAdminService/ListE2NodeConnections"),
        (("node", "xapp"), "/twinric.a1.v1.PolicyService/Policies"),
        (("admin",), "/onos.e2t.admin.E2TAdminService/DropE2NodeConnections"),
        ((), "/anything/AtAll"),
    ],
)
def test_check_role_that_covers_the_method_or_none_at_all_passes(roles: tuple[str, ...], path: str) -> None:
    check_role(peer(*roles), path)
    check_role({}, path)  # plain text on the loopback


@pytest.mark.parametrize(
    ("role", "path"),
    [
        ("node", "/twinric.xapp.v1.ControlStream/Open"),
        ("xapp", "/twinric.e2ap.v1.E2Termination/Connect"),
        ("xapp", "/onos.e2t.admin.E2TAdminService/DropE2NodeConnections"),
        ("admin", "/twinric.a1.v1.PolicyService/Policies"),
        ("emperor", "/twinric.e2ap.v1.E2Termination/Connect"),
    ],
)
def test_check_role_that_does_not_cover_the_method_is_refused(role: str, path: str) -> None:
    with pytest.raises(TwinRicError, match=f"AUTH-ROLE certificate = '{role}'"):
        check_role(peer(role), path)
