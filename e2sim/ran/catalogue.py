"""The service catalogue: what a terminal of each smart-grid service sends, with source and doubt per row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["CATALOGUE", "DEFAULT_TERMINALS", "Pattern", "Service"]

Pattern = Literal["periodic", "polling", "push", "occasional", "fault", "background"]
"""periodic: telemetry, terminals out of step unless an event synchronises them; polling: all answer one poll; push: the
quarter-hour push of meters; occasional: messages at random; fault: these, and a burst at a fault; background: eMBB."""


@dataclass(frozen=True)
class Service:
    """One row. Rates are per active terminal; shares say how many terminals are active."""

    name: str
    role: str
    """Slice that carries it: control, protection or monitoring."""
    latency_ms: float
    """End-to-end latency asked for."""
    dl_mbps: float
    ul_mbps: float
    burst_kbit: float
    """Size of one burst on the transport link, all terminals of a concentrator together."""
    quiet_share: float
    """Share of terminals that are active in normal operation."""
    fault_share: float
    """Share of terminals that are active while a feeder fault is handled."""
    source: str
    doubt: str
    pattern: Pattern = "occasional"
    period_ms: float = 0.0
    """Reporting or polling period [ms]; 0 where there is none."""
    spread_ms: float = 0.0
    """Time over which the answers to one poll arrive [ms]."""
    packet_octets: int = 1_200
    """Mean packet, for what encryption adds."""
    fault_burst_kbit: float = 0.0
    """What a terminal that a fault wakes sends at once [kbit]."""


_PAPER = "3GPP figures, distribution-automation paper, Table 1"
_OURS = "no row of the paper's table: all figures assumed"
_SHAPE = "burst and packet sizes, periods and active shares are assumed"

CATALOGUE: Mapping[str, Service] = {
    service.name: service
    for service in (
        Service("primary_frequency_control", "control", 50, 0.064, 0.064, 400, 1, 1, _PAPER,
                f"no rate given: 64 kb/s assumed; {_SHAPE}", "periodic", 100, packet_octets=200),
        Service("distributed_voltage_control", "control", 100, 0.1, 0.1, 400, 1, 1, _PAPER,
                f"no rate given: 100 kb/s assumed; {_SHAPE}", "periodic", 200, packet_octets=200),
        Service("precise_load_control", "control", 50, 0.028, 0.028, 400, 1, 1, _PAPER, _SHAPE, "periodic", 100,
                packet_octets=200),
        Service("distributed_energy_storage", "control", 10, 0.1, 0.1, 400, 1, 1, _PAPER,
                "row torn in our copy: about 100 kb/s downlink, uplink taken equal, its latency 10 ms to 1 s; "
                + _SHAPE, "periodic", 1_000, packet_octets=400),
        Service("der_microgrids", "control", 3, 5.4, 5.4, 1_200, 1, 1, _PAPER,
                f"one rate given: taken for both directions; {_SHAPE}", "periodic", 20, packet_octets=600),
        Service("differential_protection", "protection", 5, 2.5, 2.5, 800, 1, 1, _PAPER,
                f"one rate given: taken for both directions; {_SHAPE}", "periodic", 5, packet_octets=250),
        Service("fisr", "protection", 5, 10, 10, 1_200, 0.15, 0.85, _PAPER, _SHAPE, "fault", packet_octets=300,
                fault_burst_kbit=10),
        Service("dg_fault_management", "protection", 30, 1, 1, 800, 1, 1, _PAPER, _SHAPE, packet_octets=600),
        Service("advanced_metering", "monitoring", 100, 1, 2, 2_000, 1, 1, _PAPER, _SHAPE, "push", 900_000,
                packet_octets=600),
        Service("fault_location", "monitoring", 140, 100, 100, 4_000, 0.03, 0.05, _PAPER,
                f"one rate given: taken for both directions; {_SHAPE}", "fault", packet_octets=1_400,
                fault_burst_kbit=1_000),
        Service("ev_hems_polling", "monitoring", 1_000, 0.02, 0.05, 500, 1, 1, _OURS,
                "an aggregator polls all its homes and chargers at once; rate and period assumed", "polling", 1_000,
                200, 600),
        Service("background_embb", "monitoring", 300, 20, 2, 8_000, 0.2, 0.2, _OURS,
                "people's traffic that shares the slice; recordings replace it where real traffic matters",
                "background", packet_octets=1_400),
    )
}  # fmt: skip
"""Service name -> row: DESIGN section 4's catalogue, then two rows of our own."""

DEFAULT_TERMINALS: Mapping[str, Mapping[str, int]] = {
    "control": {
        "primary_frequency_control": 5_000, "distributed_voltage_control": 5_000, "precise_load_control": 40_000,
        "distributed_energy_storage": 5_000, "der_microgrids": 1_600,
    },
    "protection": {"differential_protection": 1_500, "fisr": 2_500, "dg_fault_management": 1_500},
    "monitoring": {"advanced_metering": 1_500, "fault_location": 1_500},
}  # fmt: skip
"""Terminals per slice and service of a node that says nothing else."""
