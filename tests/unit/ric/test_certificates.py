"""The test authority: what it issues chains to it, names its hosts, and its keys are readable by us alone."""

from __future__ import annotations

import datetime
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509

from ric.certificates import CertificateAuthority
from ric.errors import TwinRicError


def test_leaf_chains_to_the_authority_and_names_its_hosts(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    files = authority.issue("ric", ("ric.example", "10.0.0.7", "::1"), days=2)
    leaf = x509.load_pem_x509_certificate(files.certificate_file.read_bytes())
    ca = x509.load_pem_x509_certificate(authority.ca_file.read_bytes())
    leaf.verify_directly_issued_by(ca)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["ric.example", "10.0.0.7", "::1"]
    life = leaf.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(days=1.9) < life < datetime.timedelta(days=2.1)
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    ssl.create_default_context().load_cert_chain(files.certificate_file, files.key_file)


def test_keys_are_readable_by_us_alone(tmp_path: Path) -> None:
    files = CertificateAuthority(tmp_path).issue("ric")
    for path in (tmp_path / "ca.key", files.key_file):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_authority_that_is_there_issues_more(tmp_path: Path) -> None:
    first = CertificateAuthority(tmp_path).ca_file.read_bytes()
    again = CertificateAuthority(tmp_path)
    assert again.ca_file.read_bytes() == first
    leaf = x509.load_pem_x509_certificate(again.issue("late").certificate_file.read_bytes())
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(first))


def test_expired_leaf_has_ended_after_it_began(tmp_path: Path) -> None:
    files = CertificateAuthority(tmp_path).issue("late", days=-1)
    leaf = x509.load_pem_x509_certificate(files.certificate_file.read_bytes())
    assert leaf.not_valid_before_utc < leaf.not_valid_after_utc < datetime.datetime.now(datetime.UTC)


@pytest.mark.parametrize("name", ["ca", "", "../ric", "Ric", "a" * 64, "a b"])
def test_unusable_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(TwinRicError, match="CONFIG-RANGE name"):
        CertificateAuthority(tmp_path).issue(name)


def test_unusable_hosts_and_lives_are_refused(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    with pytest.raises(TwinRicError, match="CONFIG-RANGE host"):
        authority.issue("ric", ("no host",))
    with pytest.raises(TwinRicError, match="CONFIG-RANGE days"):
        authority.issue("ric", days=1e9)


def test_damaged_authority_is_a_typed_error(tmp_path: Path) -> None:
    CertificateAuthority(tmp_path)
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(TwinRicError, match=r"CONFIG-RANGE out.*ca\.pem"):
        CertificateAuthority(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(TwinRicError, match="CONFIG-MISSING out"):
        CertificateAuthority(tmp_path / "file" / "below")


def test_key_of_another_authority_is_refused(tmp_path: Path) -> None:
    CertificateAuthority(tmp_path / "a")
    CertificateAuthority(tmp_path / "b")
    (tmp_path / "a" / "ca.key").write_bytes((tmp_path / "b" / "ca.key").read_bytes())
    with pytest.raises(TwinRicError, match="elliptic-curve key of"):
        CertificateAuthority(tmp_path / "a")
