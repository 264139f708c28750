"""A test authority and its leaf certificates, for mTLS on one machine or in a laboratory.

Not a PKI: no revocation, and the authority's key lies beside what it signs. In a network, use the operator's own.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ric.errors import TwinRicError
from ric.security import ROLE_URN, ROLES, TlsFiles

__all__ = ["LOOPBACK_HOSTS", "CertificateAuthority"]

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
CA_DAYS, LEAF_DAYS = 3_650, 365
MAX_DAYS = 36_500
CLOCK_SKEW = datetime.timedelta(minutes=5)
"""A certificate is valid from a little before it was made: peers' clocks differ."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_HOST = re.compile(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")


class CertificateAuthority:
    """The authority in `folder` (`ca.pem`, `ca.key`); made there when it is not. Keys are P-256, readable by us alone.

    Raises TwinRicError (CONFIG-MISSING, CONFIG-RANGE) when the folder or what lies in it cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca_file = folder / "ca.pem"
        self._key_file = folder / "ca.key"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if self.ca_file.exists() and self._key_file.exists():
                self._certificate, self._key = self._load()
            else:
                self._certificate, self._key = self._make()
        except OSError as error:
            raise TwinRicError("CONFIG-MISSING", "out", str(folder), "a folder that can be written") from error

    def _load(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        try:
            certificate = x509.load_pem_x509_certificate(self.ca_file.read_bytes())
            key = serialization.load_pem_private_key(self._key_file.read_bytes(), None)
        except (ValueError, TypeError) as error:
            raise TwinRicError("CONFIG-RANGE", "out", str(self.folder), "ca.pem and ca.key in PEM") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise TwinRicError("CONFIG-RANGE", "out", str(self._key_file), "the elliptic-curve key of ca.pem")
        return certificate, key

    def _make(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _named("TwinRIC test authority")
        builder = _builder(name, name, key.public_key(), datetime.timedelta(days=CA_DAYS))
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write_key(self._key_file, key)
        self.ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return certificate, key

    def issue(
        self, name: str, hosts: Sequence[str] = LOOPBACK_HOSTS, *, days: float = LEAF_DAYS, roles: Sequence[str] = ()
    ) -> TlsFiles:
        """`NAME.pem` and `NAME.key` for a peer that serves at `hosts` and dials others; valid for `days` from now.
        With `roles` it may call what they cover, without any everything.

        Negative `days` make one that has expired, for tests of the refusal. Raises TwinRicError (CONFIG-RANGE).
        """
        if not _NAME.fullmatch(name) or name == "ca":
            raise TwinRicError("CONFIG-RANGE", "name", name, "a-z, 0-9, '.', '_', '-', at most 63 characters, not 'ca'")
        if not set(roles) <= set(ROLES):
            raise TwinRicError("CONFIG-RANGE", "role", ", ".join(roles), ", ".join(ROLES))
        if not -MAX_DAYS <= days <= MAX_DAYS:
            raise TwinRicError("CONFIG-RANGE", "days", days, f"at most {MAX_DAYS} days")
        names = [*map(_host, hosts), *(x509.UniformResourceIdentifier(f"{ROLE_URN}{role}") for role in roles)]
        key = ec.generate_private_key(ec.SECP256R1())
        both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            _builder(self._certificate.subject, _named(name), key.public_key(), datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(both, critical=False)
            .add_extension(authority, critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        files = TlsFiles(
            certificate_file=self.folder / f"{name}.pem", key_file=self.folder / f"{name}.key", ca_file=self.ca_file
        )
        try:
            _write_key(files.key_file, key)
            files.certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        except OSError as error:
            raise TwinRicError("CONFIG-MISSING", "out", str(self.folder), "a folder that can be written") from error
        return files


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        if not _HOST.fullmatch(host):
            raise TwinRicError("CONFIG-RANGE", "host", host, "a host name or an IP address") from None
        return x509.DNSName(host)


def _builder(
    issuer: x509.Name, subject: x509.Name, key: ec.EllipticCurvePublicKey, life: datetime.timedelta
) -> x509.CertificateBuilder:
    """Valid until `life` from now; one that has expired was valid for a day before that."""
    now = datetime.datetime.now(datetime.UTC)
    ends = now + life
    begins = min(now - CLOCK_SKEW, ends - datetime.timedelta(days=1))
    return x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number(), begins, ends)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """The key in PEM, never readable by others, not even for a moment."""
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    octets = key.private_bytes(encoding, form, serialization.NoEncryption())
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as sink:
        sink.write(octets)
