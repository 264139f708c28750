"""mTLS on every gRPC interface of the RIC: nodes, xApps and policies get in with our certificates, nobody else does."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from ric.a1.client import PolicyFeed
from ric.bus.bus import MemoryBus
from ric.certificates import CertificateAuthority
from ric.clock import WallClock
from ric.e2.client import E2Client
from ric.e2.identities import NodeIdentity, RanFunction
from ric.e2.node import E2NodeConnection
from ric.e2.node_requests import NodeSubscription
from ric.e2sm import ccc
from ric.errors import TwinRicError
from ric.platform import BoundAddresses, RicConfig, RicPlatform
from ric.security import TlsMaterial, load_tls
from ric.telemetry import Metrics

NODE = NodeIdentity("00101", 0xE2000001)
TYPE_ID = "twinric_test_1.0.0"
WAIT_S = 5.0


class Slices:
    """A RAN function that takes every slice control."""

    definition = RanFunction(ccc.RAN_FUNCTION_ID, ccc.OID)

    async def subscribe(self, subscription: NodeSubscription) -> Sequence[int]:
        raise TwinRicError("E2-ACTION", "actions", "(any)", "none")

    async def delete(self, subscription: NodeSubscription) -> None:
        return None

    async def control(self, header: bytes, message: bytes) -> bytes:
        return ccc.encode_outcome(ccc.decode_control(header, message))


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path / "ours")


@contextlib.asynccontextmanager
async def ric(authority: CertificateAuthority, **settings: Any) -> AsyncIterator[BoundAddresses]:
    free = {"node_address": "127.0.0.1:0", "xapp_address": "127.0.0.1:0", "a1_address": "127.0.0.1:0", "a1_port": 0}
    files = authority.issue("ric")
    config = RicConfig.model_validate({**free, "tls": files.model_dump(), **settings})
    platform = RicPlatform(config, MemoryBus(), WallClock(), Metrics("ric"), environ={})
    bound = await platform.start()
    try:
        yield bound
    finally:
        await platform.stop()


async def reach_as_node(bound: BoundAddresses, tls: TlsMaterial | None) -> None:
    node = E2NodeConnection(bound.nodes, NODE, [Slices()], metrics=Metrics("node"), tls=tls, back_off_s=(0.05, 0.1))
    await node.start()
    try:
        await node.connected(WAIT_S if tls else 1.0)
    finally:
        await node.stop()


async def reach_as_xapp(bound: BoundAddresses, tls: TlsMaterial | None) -> None:
    async with E2Client(bound.xapps, app_id="test", instance_id="1", tls=tls) as client:
        await client.nodes()


async def reach_as_app(bound: BoundAddresses, tls: TlsMaterial | None) -> None:
    """Raises TimeoutError when the policies do not come: the feed waits losses of connection out."""
    feed = PolicyFeed(
        bound.a1_grpc, app_id="test", instance_id="1", policy_type_id=TYPE_ID,
        policy_type={"policySchema": {"type": "object"}}, tls=tls,
    )  # fmt: skip
    replayed = asyncio.Event()
    running = asyncio.create_task(feed.run(lambda *_: None, lambda *_: None, replayed.set))
    try:
        await asyncio.wait_for(replayed.wait(), WAIT_S if tls else 1.0)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


INTERFACES = [
    pytest.param(reach_as_node, id="E2 node"),
    pytest.param(reach_as_xapp, id="xApp"),
    pytest.param(reach_as_app, id="A1"),
]


@pytest.mark.parametrize("reach", INTERFACES)
async def test_our_certificate_gets_in(authority: CertificateAuthority, reach: Any) -> None:
    async with ric(authority) as bound:
        await reach(bound, load_tls(authority.issue("app")))


REACHED = {"node": {"node"}, "xapp": {"xapp", "A1"}, "admin": {"xapp"}}
"""What each role reaches; an administrator may list nodes as an xApp does."""


@pytest.mark.parametrize("role", REACHED)
async def test_role_of_a_certificate_decides_what_it_reaches(
    authority: CertificateAuthority, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.WAIT_S", 1.0)
    tls, reached = load_tls(authority.issue(role, roles=(role,))), set()
    async with ric(authority) as bound:
        for name, reach in (("node", reach_as_node), ("xapp", reach_as_xapp), ("A1", reach_as_app)):
            with contextlib.suppress(TwinRicError, TimeoutError):
                await reach(bound, tls)
                reached.add(name)
    assert reached == REACHED[role]


async def test_role_that_does_not_cover_a_method_is_a_typed_refusal(authority: CertificateAuthority) -> None:
    async with ric(authority) as bound:
        with pytest.raises(TwinRicError, match=r"AUTH-ROLE certificate = .*node.*: accepted role xapp or admin"):
            await reach_as_xapp(bound, load_tls(authority.issue("node", roles=("node",))))
    with pytest.raises(TwinRicError, match="CONFIG-RANGE role = 'emperor'"):
        authority.issue("emperor", roles=("emperor",))


def refused(kind: str, authority: CertificateAuthority, folder: Path) -> TlsMaterial | None:
    if kind == "plain text":
        return None
    if kind == "expired":
        return load_tls(authority.issue("late", days=-0.01))
    stranger = CertificateAuthority(folder / "theirs").issue("stranger")
    return load_tls(stranger.model_copy(update={"ca_file": authority.ca_file}))  # it trusts us; we do not trust it


@pytest.mark.parametrize("kind", ["plain text", "wrong authority", "expired"])
async def test_others_are_refused_on_every_interface(
    authority: CertificateAuthority, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.WAIT_S", 1.0)
    tls = refused(kind, authority, tmp_path)
    async with ric(authority) as bound:
        with pytest.raises(TwinRicError, match="E2-LOST"):
            await reach_as_node(bound, tls)
        with pytest.raises(TwinRicError, match="E2-LOST"):
            await reach_as_xapp(bound, tls)
        with pytest.raises(TimeoutError):
            await reach_as_app(bound, tls)
        await reach_as_xapp(bound, load_tls(authority.issue("app")))


async def test_client_without_a_certificate_is_refused(authority: CertificateAuthority) -> None:
    """TLS alone is not enough: a peer that trusts us and shows nothing."""
    async with ric(authority) as bound:
        credentials = grpc.ssl_channel_credentials(authority.ca_file.read_bytes())
        async with grpc.aio.secure_channel(bound.xapps, credentials) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await channel.unary_unary("/onos.e2t.e2.v1beta1.ControlService/Control")(b"", timeout=2)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_ric_of_another_authority_is_not_trusted(authority: CertificateAuthority, tmp_path: Path) -> None:
    impostor = CertificateAuthority(tmp_path / "theirs")
    async with ric(impostor) as bound:
        ours = authority.issue("app")
        with pytest.raises(TwinRicError, match="E2-LOST"):
            await reach_as_xapp(bound, load_tls(ours))


async def test_control_goes_the_whole_way_over_mtls(authority: CertificateAuthority) -> None:
    tls = load_tls(authority.issue("app"))
    async with ric(authority) as bound, E2Client(bound.xapps, app_id="test", instance_id="1", tls=tls) as client:
        node = E2NodeConnection(bound.nodes, NODE, [Slices()], metrics=Metrics("node"), tls=tls)
        await node.start()
        try:
            await node.connected(WAIT_S)
            ratio = ccc.SliceRatio(s_nssai="1-000001", rrm_policy_dedicated_ratio=25)
            header, payload = ccc.encode_control((ratio,))
            outcome = await client.control(NODE.e2_node_id, (ccc.NAME, ccc.VERSION), header, payload, deadline_s=5)
            assert ccc.decode_outcome(outcome) == (ratio,)
        finally:
            await node.stop()


async def test_xapp_calls_beyond_the_rate_are_typed_refusals(authority: CertificateAuthority) -> None:
    tls = load_tls(authority.issue("app"))
    async with (
        ric(authority, grpc_calls_per_s=0.5) as bound,
        E2Client(bound.xapps, app_id="test", instance_id="1", tls=tls) as client,
    ):
        codes = []
        for _ in range(5):
            try:
                await client.nodes()
            except TwinRicError as error:
                codes.append(error.code)
        assert codes == ["LIMIT-RATE"] * 3


async def test_rest_with_client_certificates(authority: CertificateAuthority) -> None:
    rest_tls = authority.issue("rest").model_dump()
    async with ric(authority, rest_tls=rest_tls) as bound:
        ours = authority.issue("smo")
        for shown in (True, False):
            trust = ssl.create_default_context(cafile=str(authority.ca_file))
            if shown:
                trust.load_cert_chain(ours.certificate_file, ours.key_file)
            async with httpx.AsyncClient(verify=trust, trust_env=False) as http:
                url = f"{bound.a1_url}/A1-P/v2/policytypes"
                if shown:
                    assert (await http.get(url)).status_code == 200
                else:
                    with pytest.raises(httpx.TransportError):
                        await http.get(url)


@pytest.mark.parametrize("field", ["node_address", "xapp_address", "a1_address", "a1_host"])
async def test_other_addresses_need_tls_or_the_flag(field: str) -> None:
    free = {"node_address": "127.0.0.1:0", "xapp_address": "127.0.0.1:0", "a1_address": "127.0.0.1:0", "a1_port": 0}
    elsewhere = "0.0.0.0" if field == "a1_host" else "0.0.0.0:0"
    config = RicConfig.model_validate({**free, field: elsewhere})
    platform = RicPlatform(config, MemoryBus(), WallClock(), Metrics("ric"), environ={})
    with pytest.raises(TwinRicError, match=f"CONFIG-RANGE {field}.*loopback"):
        await platform.start()
    allowed = RicPlatform(
        config.model_copy(update={"allow_plain_text": True}), MemoryBus(), WallClock(), Metrics("ric"), environ={}
    )
    await allowed.start()
    await allowed.stop()
