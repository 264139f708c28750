"""TLS material, bearer tokens with scopes, request rates, and the rule that plain text stays on the loopback.

Secrets come from files or environment variables only; they are never logged and never part of an error.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt

from ric.config import FrozenModel
from ric.errors import TwinRicError

__all__ = [
    "ROLES", "ROLE_URN", "RateLimit", "TlsFiles", "TlsMaterial", "TokenVerifier", "check_binding", "load_tls",
    "read_secret",
]  # fmt: skip

ROLE_URN, ROLES = "urn:twinric:role:", ("node", "xapp", "admin")
"""How a certificate names the role of its holder, a URI among its alternative names, and the roles that there are."""
MIN_SECRET_OCTETS = 32  # RFC 7518, 3.2: an HS256 key is at least as long as its hash
MAX_TOKEN_CHARACTERS = 8_192
MAX_CLIENTS = 10_000


class TlsFiles(FrozenModel):
    """Where the TLS material of one endpoint lies (PEM)."""

    certificate_file: Path
    """Certificate chain that this endpoint shows."""
    key_file: Path
    """Its private key."""
    ca_file: Path | None = None
    """Authorities of the peer's certificate; a server that has it demands client certificates (mTLS)."""


@dataclass(frozen=True, repr=False)
class TlsMaterial:
    """The octets of :class:`TlsFiles`, and the files, for libraries that want paths."""

    files: TlsFiles
    certificate: bytes
    key: bytes
    ca: bytes | None


def load_tls(files: TlsFiles | None) -> TlsMaterial | None:
    """The material, or None for none. Raises TwinRicError (CONFIG-MISSING) naming the file that cannot be read."""
    if files is None:
        return None
    ca = _octets("tls.ca_file", files.ca_file) if files.ca_file else None
    certificate = _octets("tls.certificate_file", files.certificate_file)
    return TlsMaterial(files, certificate, _octets("tls.key_file", files.key_file), ca)


def read_secret(field: str, *, file: Path | None, variable: str, environ: Mapping[str, str]) -> str | None:
    """A secret from `file`, else from environment variable `variable`, else None.

    Raises TwinRicError (CONFIG-MISSING) when the file cannot be read, CONFIG-RANGE when the secret is empty.
    """
    if file is not None:
        secret = _octets(field, file).decode(errors="replace").strip()
    elif variable in environ:
        secret = environ[variable].strip()
    else:
        return None
    if not secret:
        raise TwinRicError("CONFIG-RANGE", field, "(empty)", "a secret that is not empty")
    return secret


def check_binding(field: str, host: str, *, tls: bool, allow_plain_text: bool) -> None:
    """Return when an endpoint may listen on `host`: on the loopback always, elsewhere with TLS or by explicit flag.

    Raises TwinRicError (CONFIG-RANGE).
    """
    if tls or allow_plain_text or host == "localhost":
        return
    try:
        loopback = ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise TwinRicError(
            "CONFIG-RANGE", field, host, "a loopback address as long as there is no TLS",
            "Configure `tls`, or set allow_plain_text where the network itself is protected.",
        )  # fmt: skip


def _octets(field: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TwinRicError("CONFIG-MISSING", field, str(path), "a readable file") from error


class TokenVerifier:
    """Checks OAuth2 bearer tokens (JWT) against one key: a shared secret (HS256) or a public key in PEM (RS256, ES256).

    Raises TwinRicError (CONFIG-RANGE) for a shared secret that is too short to be safe.
    """

    def __init__(self, key: str, *, audience: str | None = None, issuer: str | None = None) -> None:
        self._public = key.lstrip().startswith("-----BEGIN")
        if not self._public and len(key.encode()) < MIN_SECRET_OCTETS:
            raise TwinRicError("CONFIG-RANGE", "token_key", "(secret)", f"at least {MIN_SECRET_OCTETS} octets")
        self._key = key
        self._audience = audience
        self._issuer = issuer

    def require(self, authorization: str | None, scope: str) -> str:
        """The token's subject, once the header `authorization` is a valid bearer token that grants `scope`.

        Raises TwinRicError: AUTH-MISSING (no token, or one that is not valid), AUTH-SCOPE.
        """
        claims = self._claims(authorization)
        granted = claims.get("scope", claims.get("scp", ""))
        scopes = granted.split() if isinstance(granted, str) else granted
        if not isinstance(scopes, list) or scope not in scopes:
            raise TwinRicError("AUTH-SCOPE", "Authorization", scopes, f"a token with scope {scope!r}")
        return str(claims.get("sub", ""))

    def _claims(self, authorization: str | None) -> dict[str, Any]:
        method, _, token = (authorization or "").partition(" ")
        if method.lower() != "bearer" or not token or len(token) > MAX_TOKEN_CHARACTERS:
            raise TwinRicError("AUTH-MISSING", "Authorization", "(absent)", "'Bearer' and a JSON web token")
        try:
            return dict(
                jwt.decode(
                    token.strip(), self._key, algorithms=["RS256", "ES256"] if self._public else ["HS256"],
                    audience=self._audience, issuer=self._issuer,
                    options={"require": ["exp"], "verify_aud": self._audience is not None},
                )
            )  # fmt: skip
        except jwt.PyJWTError as error:
            why = type(error).__name__
            raise TwinRicError(
                "AUTH-MISSING", "Authorization", why, "a valid, unexpired token of our issuer"
            ) from error


class RateLimit:
    """A token bucket per client: `burst` requests at once, `per_s` on average; time is an argument."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._buckets: dict[str, tuple[float, float]] = {}

    def check(self, client: str, now_s: float) -> None:
        """Count one request of `client`. Raises TwinRicError (LIMIT-RATE) when its bucket is empty."""
        left, since_s = self._buckets.pop(client, (self._burst, now_s))
        left = min(self._burst, left + max(now_s - since_s, 0.0) * self._per_s)
        granted = left >= 1.0
        if len(self._buckets) >= MAX_CLIENTS:
            self._buckets.pop(next(iter(self._buckets)))
        self._buckets[client] = (left - 1.0 if granted else left, now_s)
        if not granted:
            wait_s = (1.0 - left) / self._per_s
            raise TwinRicError(
                "LIMIT-RATE", "client", client, f"{self._per_s:g} requests per second", f"Wait {wait_s:.1f} s."
            )
