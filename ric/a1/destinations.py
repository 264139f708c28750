"""Where the RIC may post to: an allow-list of hosts, so that no client can make it call inside addresses. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from ric.errors import TwinRicError

__all__ = ["DESTINATION_PATTERN", "LOOPBACK", "RESULT_PATTERN", "AllowedHosts", "check_hosts"]

_HOST = r"([A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])"
_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_URL = f"https?://{_HOST}(:{_PORT})?(/[!-~]*)?"
DESTINATION_PATTERN = f"^{_URL}$"
"""Where a status may be posted."""
RESULT_PATTERN = f"^(bus:|{_URL})$"
"""Where the data of an EI job may go; `bus:` leaves it on the twin bus."""

LOOPBACK = ("localhost", "127.0.0.0/8", "::1")
"""Hosts that are allowed unless others are configured."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class AllowedHosts:
    """Hosts by name (`smo.example.org`), by domain (`*.example.org`), by address or by network (`10.1.0.0/16`).

    A name that is listed is trusted with whatever it resolves to; an address that is not listed stays refused, in
    whatever notation. Raises TwinRicError (CONFIG-RANGE) for an entry that is none of these.
    """

    def __init__(self, entries: Iterable[str] = LOOPBACK) -> None:
        self._entries = tuple(entry.strip().lower() for entry in entries)
        self._networks: list[Network] = []
        self._names: set[str] = set()
        self._domains: list[str] = []
        for entry in self._entries:
            self._take(entry)

    def _take(self, entry: str) -> None:
        try:
            self._networks.append(ipaddress.ip_network(entry))
            return
        except ValueError:
            pass
        name = entry.removeprefix("*.")
        if not name.replace("-", "").replace(".", "").isalnum() or "/" in name or name[-1].isdigit():
            accepted = "a host name, *.domain, an IP address or a network such as 10.1.0.0/16"
            raise TwinRicError("CONFIG-RANGE", "notification_hosts", entry, accepted)
        if name == entry:
            self._names.add(name)
        else:
            self._domains.append(f".{name}")

    def allows(self, url: str) -> bool:
        """Whether the host of `url` is on the list."""
        try:
            host = (urlsplit(url).hostname or "").lower().rstrip(".")
        except ValueError:
            return False
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return host in self._names or any(host.endswith(domain) for domain in self._domains)
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in network for network in self._networks if network.version == mapped.version)

    def check(self, field: str, url: str) -> None:
        """Raises TwinRicError (A1-DESTINATION) when the host of `url` is not on the list."""
        if not self.allows(url):
            accepted = f"a host out of {', '.join(self._entries) or '(none)'}"
            remedy = "The operator lists hosts in `notification_hosts`."
            raise TwinRicError("A1-DESTINATION", field, url, accepted, remedy)


def check_hosts(entries: tuple[str, ...]) -> tuple[str, ...]:
    """`entries` as they are, for settings. Raises ValueError naming the first that :class:`AllowedHosts` refuses."""
    try:
        AllowedHosts(entries)
    except TwinRicError as error:
        raise ValueError(error.faults[0].accepted) from error
    return entries
