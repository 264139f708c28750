"""Binding rule, secrets, tokens and request rates."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from ric.errors import TwinRicError
from ric.security import MAX_CLIENTS, RateLimit, TlsFiles, TokenVerifier, check_binding, load_tls, read_secret

SECRET = "a-secret-of-thirty-two-octets-or-more"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_binding_to_the_loopback_needs_nothing(host: str) -> None:
    check_binding("listen", host, tls=False, allow_plain_text=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "ric.example", ""])
def test_binding_elsewhere_needs_tls_or_the_flag(host: str) -> None:
    with pytest.raises(TwinRicError, match="CONFIG-RANGE listen"):
        check_binding("listen", host, tls=False, allow_plain_text=False)
    check_binding("listen", host, tls=True, allow_plain_text=False)
    check_binding("listen", host, tls=False, allow_plain_text=True)


def test_tls_material_names_the_file_that_is_missing(tmp_path: Path) -> None:
    assert load_tls(None) is None
    (tmp_path / "c.pem").write_bytes(b"cert")
    files = TlsFiles(certificate_file=tmp_path / "c.pem", key_file=tmp_path / "k.pem")
    with pytest.raises(TwinRicError, match=r"CONFIG-MISSING tls\.key_file"):
        load_tls(files)
    (tmp_path / "k.pem").write_bytes(b"very secret")
    material = load_tls(files)
    assert material is not None
    assert (material.certificate, material.key, material.ca) == (b"cert", b"very secret", None)
    assert "very secret" not in repr(material)


def test_secret_comes_from_the_file_then_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(" from-file\n")
    environ = {"KEY": "from-env"}
    assert read_secret("key", file=file, variable="KEY", environ=environ) == "from-file"
    assert read_secret("key", file=None, variable="KEY", environ=environ) == "from-env"
    assert read_secret("key", file=None, variable="KEY", environ={}) is None
    with pytest.raises(TwinRicError, match="CONFIG-RANGE key"):
        read_secret("key", file=None, variable="KEY", environ={"KEY": " "})
    with pytest.raises(TwinRicError, match="CONFIG-MISSING key"):
        read_secret("key", file=tmp_path / "absent", variable="KEY", environ=environ)


def _bearer(claims: dict[str, Any], key: Any = SECRET, algorithm: str = "HS256") -> str:
    return "Bearer " + jwt.encode({"exp": time.time() + 60, "sub": "pms", **claims}, key, algorithm)


@pytest.mark.parametrize("claims", [{"scope": "a1:read a1:write"}, {"scp": ["a1:write"]}, {"scope": ["a1:write"]}])
def test_token_with_the_scope_gives_its_subject(claims: dict[str, Any]) -> None:
    assert TokenVerifier(SECRET).require(_bearer(claims), "a1:write") == "pms"


@pytest.mark.parametrize("claims", [{}, {"scope": "a1:read"}, {"scope": "a1:writer"}, {"scope": 7}, {"scp": {}}])
def test_token_without_the_scope_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(TwinRicError, match="AUTH-SCOPE"):
        TokenVerifier(SECRET).require(_bearer(claims), "a1:write")


def _refused_headers() -> list[Any]:
    other_key = _bearer({"scope": "a1:write"}, "another-secret-of-thirty-two-octets")
    none = jwt.encode({"scope": "a1:write", "exp": time.time() + 60}, None, "none")
    return [
        pytest.param(None, id="absent"),
        pytest.param("", id="empty"),
        pytest.param("Basic dXNlcjpwYXNz", id="another method"),
        pytest.param("Bearer ", id="no token"),
        pytest.param("Bearer x.y.z", id="no JWT"),
        pytest.param("Bearer " + "x" * 10_000, id="too long"),
        pytest.param(other_key, id="signed by another key"),
        pytest.param(f"Bearer {none}", id="unsigned"),
        pytest.param(_bearer({"scope": "a1:write", "exp": 1}), id="expired"),
    ]


@pytest.mark.parametrize("authorization", _refused_headers())
def test_token_that_is_not_valid_is_refused_without_showing_it(authorization: str | None) -> None:
    with pytest.raises(TwinRicError, match="AUTH-MISSING") as refused:
        TokenVerifier(SECRET).require(authorization, "a1:write")
    token = (authorization or "").removeprefix("Bearer ")
    assert len(token) < 4 or token not in str(refused.value)


def test_token_audience_and_issuer_are_checked_where_configured() -> None:
    verifier = TokenVerifier(SECRET, audience="ric", issuer="smo")
    good = {"scope": "a1:read", "aud": "ric", "iss": "smo"}
    assert verifier.require(_bearer(good), "a1:read") == "pms"
    for wrong in ({**good, "aud": "other"}, {**good, "iss": "other"}, {"scope": "a1:read"}):
        with pytest.raises(TwinRicError, match="AUTH-MISSING"):
            verifier.require(_bearer(wrong), "a1:read")


def test_token_checked_with_a_public_key_refuses_the_key_as_shared_secret() -> None:
    """Algorithm confusion: the public key is no secret, so a token signed with it by HS256 must not pass."""
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    verifier = TokenVerifier(pem.decode())
    assert verifier.require(_bearer({"scope": "a1:read"}, private, "ES256"), "a1:read") == "pms"
    shared = _bearer({"scope": "a1:read"})
    with pytest.raises(TwinRicError, match="AUTH-MISSING"):
        verifier.require(shared, "a1:read")


def test_short_shared_secret_is_refused_without_showing_it() -> None:
    with pytest.raises(TwinRicError, match="CONFIG-RANGE token_key") as refused:
        TokenVerifier("hunter2")
    assert "hunter2" not in str(refused.value)


def test_rate_limit_lets_the_burst_through_then_the_rate() -> None:
    limit = RateLimit(per_s=2.0, burst=3)
    for _ in range(3):
        limit.check("a", 100.0)
    with pytest.raises(TwinRicError, match=r"LIMIT-RATE client = 'a'.*Wait 0\.5 s"):
        limit.check("a", 100.0)
    limit.check("b", 100.0)
    limit.check("a", 100.5)
    with pytest.raises(TwinRicError, match="LIMIT-RATE"):
        limit.check("a", 100.5)


@given(st.lists(st.floats(0, 0.5), max_size=60), st.floats(0.5, 10), st.integers(1, 5))
def test_rate_limit_never_grants_more_than_burst_and_rate(pauses: list[float], per_s: float, burst: int) -> None:
    limit, now_s, granted = RateLimit(per_s, burst), 0.0, 0
    for pause_s in pauses:
        now_s += pause_s
        try:
            limit.check("a", now_s)
        except TwinRicError:
            continue
        granted += 1
    assert granted <= burst + per_s * now_s + 1e-6


def test_rate_limit_remembers_a_bounded_number_of_clients() -> None:
    limit = RateLimit(1.0, 1)
    for number in range(MAX_CLIENTS + 10):
        limit.check(f"c{number}", 0.0)
    assert len(limit._buckets) == MAX_CLIENTS
