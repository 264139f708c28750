"""The parts of a scenario: nodes with their slices and transport, and everything that happens to them.

Offsets (`at_s`, `start_s`) count seconds from the scenario's start. An event's empty `node` means the first node.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from e2sim.grid.microgrids import MicrogridsConfig
from e2sim.grid.settings import ResidentialSettings
from e2sim.ran.catalogue import DEFAULT_TERMINALS
from ric.config import FrozenModel

__all__ = [
    "AggregationSpec", "AttackSpec", "CellSpec", "FaultSpec", "ImpairmentSpec", "LinkEventSpec", "NodeSpec",
    "PolicyEventSpec",
    "RecordingSpec", "RestartSpec", "SliceSpec", "TrafficEventSpec", "TransportSpec", "WindowSpec",
]  # fmt: skip

MILLISECONDS = 1_000

Offset = Annotated[float, Field(ge=0, le=31_622_400)]
Share = Annotated[float, Field(ge=0, le=1)]
NodeId = Annotated[str, Field(pattern=r"^$|^\d{5,6}-[0-9a-f]{1,8}$")]
Role = Literal["control", "protection", "monitoring"]
FaultKind = Literal["PHASE_TO_GROUND", "PHASE_TO_PHASE", "OPEN_CONDUCTOR", "ARCING", "COMPOUND"]


class WindowSpec(FrozenModel):
    """A span in which the fast loops run at the scenario's `kpm_period_ms`."""

    name: str = ""
    """What the window shows."""
    start_s: Offset
    """Start [s from the scenario's start]."""
    duration_s: float = Field(gt=0, le=86_400)
    """Length [s]."""

    @property
    def end_s(self) -> float:
        """End [s from the scenario's start]."""
        return self.start_s + self.duration_s


class CellSpec(FrozenModel):
    """A cell of a node. The defaults are a 6G wide-band cell: four of them carry a little more than 100 Gb/s."""

    cell_id: int = Field(ge=0, lt=2**36)
    """NR cell identity."""
    prb: int = Field(default=1_600, ge=1, le=100_000)
    """Physical resource blocks."""
    mbps_per_prb: float = Field(default=16.0, gt=0, le=1_000)
    """What one block carries, all layers together [Mb/s]. Assumed: 360 kHz, 5.5 b/s/Hz, 8 layers."""
    nr_slot_us: float = Field(default=125.0, ge=15, le=1_000)
    """Length of an NR slot [us]; 125 is 120 kHz subcarrier spacing."""


class RecordingSpec(FrozenModel):
    """Recorded traffic, KPM reports or packets, in place of a slice's own mean rate; columns: `e2sim/recordings.py`."""

    file: Path
    """CSV, plain or .xz, columns as in the data set oran_tractor_kpm: its KPM file or one of its packet traces."""
    traffic_class: str = ""
    """KPM files: only rows of this class; empty means all."""
    mean_gbps: float = Field(gt=0, le=100)
    """The recording is scaled so that its mean downlink rate is this [Gb/s]."""
    rows: int = Field(default=200_000, ge=10, le=2_000_000)
    """Read at most so many rows."""


class SliceSpec(FrozenModel):
    """A slice of a node and the terminals that it serves."""

    role: Role
    """What the slice is for; events refer to it by this name."""
    s_nssai: str = Field(pattern=r"^\d{1,3}-[0-9a-f]{6}$")
    """Slice id, "<sst>-<sd>"."""
    flexe_slots: int = Field(ge=1, le=100)
    """FlexE slots at the start."""
    granularity: int = Field(default=1, ge=1, le=20)
    """Slots that the slice gains or loses at a time: 1 is 5G, 2 is 10G."""
    services: dict[str, Annotated[int, Field(ge=0, le=10_000_000)]]
    """Terminals per catalogue service."""
    buffer_mbit: float = Field(default=2_500.0, gt=0, le=1_000_000)
    """Room of the slice's queue, each direction [Mbit]; what does not fit is dropped. 2,500 is 100 ms at 25 Gb/s."""
    recording: RecordingSpec | None = None
    """Recorded traffic instead of the generator's mean rate."""


_SLICES: tuple[dict[str, Any], ...] = (
    {"role": "control", "s_nssai": "1-000001", "flexe_slots": 5, "granularity": 1},
    {"role": "protection", "s_nssai": "1-000002", "flexe_slots": 10, "granularity": 2},
    {"role": "monitoring", "s_nssai": "1-000003", "flexe_slots": 5, "granularity": 1},
)


def _default_slices() -> tuple[SliceSpec, ...]:
    return tuple(SliceSpec.model_validate({**entry, "services": DEFAULT_TERMINALS[entry["role"]]}) for entry in _SLICES)


class TransportSpec(FrozenModel):
    """FlexE group and TSN hop of a node."""

    calendar_slots: int = Field(default=20, ge=1, le=100)
    """Slots of the FlexE calendar; E2SM-CCC's 5 percent per slot fits 20."""
    slot_gbps: float = Field(default=5.0, gt=0, le=100)
    """Rate of one slot [Gb/s]."""
    switch_outage_ms: float = Field(default=2.0, ge=0, le=1_000)
    """How long slots that change hands carry nothing [ms]; assumed."""
    hops: int = Field(default=2, ge=1, le=32)
    """TSN bridges in a row."""
    window_us: float = Field(default=200.0, ge=1, le=10_000)
    """Length of a gate window, IEEE 802.1Qbv [us]."""
    gates: tuple[tuple[Role, ...], ...] = (
        ("control", "protection"), ("control", "protection", "monitoring"), ("protection", "monitoring"),
        ("control", "monitoring"), ("control", "protection"),
    )  # fmt: skip
    """Gate control list: which slices may send in each window of the cycle."""
    preemption: bool = True
    """IEEE 802.1Qbu preemption: a frame waits for a 64-octet fragment and not for a whole frame."""
    sync_error_ns: float = Field(default=500.0, ge=0, le=1_000_000)
    """Clock error between bridges [ns]."""
    encryption: Literal["none", "macsec_aes_gcm", "ipsec"] = "none"
    """Encryption of the transport: adds latency and volume."""


class NodeSpec(FrozenModel):
    """An E2 node: its radio and transport, and the grid devices that ride on it."""

    plmn_id: str = Field(default="00101", pattern=r"^\d{5,6}$")
    """PLMN id."""
    gnb_id: int = Field(ge=1, lt=2**32)
    """gNB id; hexadecimal is welcome: 0xe2000001."""
    cells: tuple[CellSpec, ...] = Field(
        default=tuple(CellSpec(cell_id=number) for number in (1, 2, 3, 4)), min_length=1, max_length=64
    )
    """NR cells."""
    slices: tuple[SliceSpec, ...] = Field(default_factory=_default_slices, min_length=1, max_length=8)
    """Network slices; the default is the static split 25/50/25 of the distribution-automation paper."""
    transport: TransportSpec = TransportSpec()
    """FlexE and TSN."""
    residential: ResidentialSettings | None = None
    """Homes, feeder and community storage of a SimBench LV grid."""
    microgrids: MicrogridsConfig | None = None
    """Networked DC microgrids."""
    desired_by_bus: bool = False
    """True: homes and appliances obey desired state on the twin bus, and refuse set-points over E2."""

    @property
    def e2_node_id(self) -> str:
        """Node id as xApps know it, "<plmn>-<gNB id hex>"."""
        return f"{self.plmn_id}-{self.gnb_id:x}"


class AggregationSpec(FrozenModel):
    """A link that several nodes share behind their own: it couples what they can carry."""

    nodes: tuple[NodeId, ...] = ()
    """Nodes on the link; empty means all of the scenario. All have the same slices in the same order."""
    capacity_gbps: float = Field(gt=0, le=10_000)
    """Rate of the link, each direction [Gb/s]; slices wait in their order."""
    buffer_mbit: float = Field(default=5_000.0, gt=0, le=1_000_000)
    """Room of its queue, each direction [Mbit]; what does not fit is lost, the last slices' first."""


class FaultSpec(FrozenModel):
    """A feeder fault. Its waveforms reach the dApp over E3; its messages burst into protection and monitoring."""

    at_s: Offset
    """Inception [s from the scenario's start]."""
    node: NodeId = ""
    """Node whose feeder it is."""
    kind: FaultKind
    """Fault kind."""
    section: int = Field(default=1, ge=1, le=4)
    """Feeder section, 1 is next to the busbar; the waveform feeder has four."""
    resistance_ohm: float = Field(default=10.0, ge=0, le=10_000)
    """Fault resistance [ohm]."""
    phase: Literal["a", "b", "c"] = "a"
    """Faulted phase, or the first of two."""
    cleared_after_s: float = Field(default=10.0, gt=0, le=3_600)
    """Time until the fault is isolated and its traffic ends [s]."""


class AttackSpec(FrozenModel):
    """An attack on a microgrid's agent, or on the node's clock."""

    at_s: Offset
    """Start [s from the scenario's start]."""
    duration_s: float = Field(gt=0, le=86_400)
    """Length [s]."""
    node: NodeId = ""
    """Node attacked."""
    kind: Literal["dos", "false_data", "clock_skew"]
    """dos: the agent's messages stop, its contribution factor reads 0; false_data: it states a false value; clock_skew:
    the node stamps its reports wrongly."""
    target: str = ""
    """Microgrid whose agent is attacked; nothing for clock_skew."""
    bias: float = Field(default=0.3, ge=-5, le=5)
    """false_data: added to the contribution factor [1]; clock_skew: added to the source time [s]."""


class TrafficEventSpec(FrozenModel):
    """A congestion, a storm, or terminals that fall into step: the slice's offered traffic changes."""

    at_s: Offset
    """Start [s from the scenario's start]."""
    duration_s: float = Field(gt=0, le=86_400)
    """Length [s]."""
    node: NodeId = ""
    """Node whose slice it is."""
    slice: str
    """Role of the slice, for example control."""
    services: tuple[str, ...] = ()
    """Only these services of the slice, for example advanced_metering for a metering storm; empty means all."""
    factor: float = Field(default=1.0, gt=0, le=100)
    """Offered traffic is multiplied by this."""
    rise_s: float = Field(default=0.5, ge=0, le=3_600)
    """The factor grows at the start, and falls before the end, over this time [s]."""
    in_step: Share = 0.0
    """Share of the terminals of periodic services that report at the same instants (wide-area synchronisation)."""
    spread_ms: float = Field(default=2.0, ge=0.2, le=1_000)
    """Time over which reports in step arrive [ms]."""

    @property
    def end_s(self) -> float:
        """End [s from the scenario's start]."""
        return self.at_s + self.duration_s


class LinkEventSpec(FrozenModel):
    """A degradation of a node's transport link, such as a microwave hop in rain or a lost lane."""

    at_s: Offset
    """Start [s from the scenario's start]."""
    duration_s: float = Field(gt=0, le=86_400)
    """Length [s]."""
    node: NodeId = ""
    """Node whose link it is."""
    capacity_share: float = Field(default=1.0, ge=0.01, le=1)
    """What is left of every FlexE slot's rate [1]."""
    extra_delay_ms: float = Field(default=0.0, ge=0, le=1_000)
    """Added to every bit's delay [ms]."""
    loss: Share = 0.0
    """Share of the volume that the link loses after the queues."""

    @property
    def end_s(self) -> float:
        """End [s from the scenario's start]."""
        return self.at_s + self.duration_s


class PolicyEventSpec(FrozenModel):
    """An A1 policy put (or deleted) while the scenario runs."""

    at_s: Offset
    """When [s from the scenario's start]."""
    policy_type_id: str = Field(min_length=1, max_length=200)
    """Policy type."""
    policy_id: str = Field(min_length=1, max_length=200)
    """Policy."""
    body: dict[str, Any] | None
    """Policy object; null deletes the policy."""


class RestartSpec(FrozenModel):
    """A node that goes down and comes back."""

    at_s: Offset
    """When it goes down [s from the scenario's start]."""
    down_s: float = Field(default=5.0, ge=0, le=86_400)
    """How long it stays away [s]."""
    node: NodeId = ""
    """Which node."""


class ImpairmentSpec(FrozenModel):
    """What happens to indications between node and RIC."""

    loss: Share = 0.0
    """Share of indications lost."""
    duplicate: Share = 0.0
    """Share of indications sent twice."""
    reorder: Share = 0.0
    """Share of indications that the next one overtakes."""
    delay_ms: float = Field(default=0.0, ge=0, le=60_000)
    """Delay of every indication, simulated time [ms]; it leaves with the first step that ends after it."""
    node_restarts: tuple[RestartSpec, ...] = ()
    """Node restarts."""
