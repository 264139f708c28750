"""The allow-list of hosts that the RIC may post to."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ric.a1.destinations import AllowedHosts, check_hosts
from ric.errors import TwinRicError

HOSTS = AllowedHosts(("pms.smo.svc", "*.example.org", "10.1.0.0/16", "2001:db8::/32", "192.0.2.7"))


@pytest.mark.parametrize(
    "url",
    [
        "http://pms.smo.svc/status", "https://PMS.smo.svc:8443/", "http://a.example.org", "http://b.a.example.org./x",
        "http://10.1.255.3:80/", "http://[2001:db8::5]/", "http://192.0.2.7", "http://[::ffff:10.1.0.9]/",
    ],
)  # fmt: skip
def test_listed_host_is_allowed(url):
    assert HOSTS.allows(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data", "http://127.0.0.1/", "http://[::1]/", "http://localhost/",
        "http://example.org/", "http://evil-example.org/", "http://pms.smo.svc.evil.net/", "http://10.2.0.1/",
        "http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/", "http://127.1/", "http://[::ffff:127.0.0.1]/",
        "http://pms.smo.svc@169.254.169.254/", "http://", "http://[", "not a url",
    ],
)  # fmt: skip
def test_other_host_is_refused_in_whatever_notation(url):
    assert not HOSTS.allows(url)
    with pytest.raises(TwinRicError, match="A1-DESTINATION query"):
        HOSTS.check("query.notificationDestination", url)


@given(st.ip_addresses(v=4))
def test_default_allows_loopback_only(address: ipaddress.IPv4Address):
    assert AllowedHosts().allows(f"http://{address}:9/") == address.is_loopback


@pytest.mark.parametrize("entry", ["", "*", "10.1.0.0/99", "10.1.0.1/16", "host/path", "999.1.1.1", "a b", "*.*.org"])
def test_entry_that_is_no_host_is_refused(entry):
    with pytest.raises(TwinRicError, match="CONFIG-RANGE notification_hosts"):
        AllowedHosts((entry,))
    with pytest.raises(ValueError, match="host name"):
        check_hosts(("localhost", entry))
