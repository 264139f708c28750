"""Encryption of the transport: what it adds to every packet, in octets and in time."""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Encryption"]

Octets = TypeVar("Octets", float, NDArray[np.float64])


class Encryption(Enum):
    """none, MACsec with AES-GCM in the ports, or IPsec ESP tunnels of AES-GCM in gateways.

    Octets per packet follow the standards: MACsec (IEEE 802.1AE) SecTAG with SCI 16 and ICV 16; ESP in tunnel mode (RFC
    4303, RFC 4106) outer IPv4 header 20, SPI and sequence number 8, IV 8, trailer 4 on average, ICV 16. Times are
    assumed: a port enciphers at line rate behind a fixed pipeline, a gateway spends per packet and per octet
    (AES-GCM at about 2 GB/s on one core).
    """

    NONE = "none"
    MACSEC = "macsec_aes_gcm"
    IPSEC = "ipsec"

    @property
    def octets_per_packet(self) -> int:
        """What a packet grows by [octets]."""
        return {"none": 0, "macsec_aes_gcm": 32, "ipsec": 56}[self.value]

    def latency_ms(self, packet_octets: Octets) -> Octets:
        """Time to encipher and decipher one packet of `packet_octets` [ms]."""
        pass_us, octet_ns = {"none": (0.0, 0.0), "macsec_aes_gcm": (2.0, 0.08), "ipsec": (40.0, 0.5)}[self.value]
        return 2 * (pass_us + octet_ns * packet_octets / 1e3) / 1e3

    def growth(self, packet_octets: Octets) -> Octets:
        """Volume on the link over volume offered, for packets of `packet_octets` [1]."""
        return 1.0 + self.octets_per_packet / packet_octets
