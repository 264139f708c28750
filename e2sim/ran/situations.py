"""Named traffic situations of a node, for benchmarks and evaluation: which terminals, what happens, which encryption.

Each draws its times and sizes from a seed, so that no two seeds are alike and every one repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from e2sim.ran.catalogue import DEFAULT_TERMINALS
from e2sim.ran.cells import Cell
from e2sim.ran.encryption import Encryption
from e2sim.ran.flexe import FlexeCalendar
from e2sim.ran.plant import STATIC_SLOTS, PlantSettings
from e2sim.ran.queues import STEP_MS
from e2sim.ran.traffic import OfferedTraffic, TrafficEvent
from e2sim.ran.transport import SliceTransport

__all__ = ["SITUATIONS", "START_S", "NodeTraffic", "PeriodLoad", "PlantTraffic", "Situation"]

Floats = NDArray[np.float64]

ROLES = ("control", "protection", "monitoring")
CONTROL, PROTECTION, MONITORING = range(3)
START_S = 450.0
"""First instant: between two quarter-hour pushes of the meters."""
ALARM_DELAY_S = 0.02
"""From a fault to its alarm at the RIC [s]: what detection and reporting take at most here."""
EMBB_TERMINALS, HOMES = 600, 50_000
GRANULARITY = (1, 2, 1)


@dataclass(frozen=True)
class Happenings:
    """What happens in one run of `duration_s` from `START_S` on."""

    events: tuple[TrafficEvent, ...] = ()
    fault_spans_s: tuple[tuple[float, float], ...] = ()


Draw = Callable[[np.random.Generator, float], Happenings]


@dataclass(frozen=True)
class Situation:
    """A name, what it shows, and what makes it."""

    name: str
    summary: str
    draw: Draw
    encryption: Encryption = Encryption.NONE
    terminals: Mapping[str, Mapping[str, int]] = field(default_factory=lambda: DEFAULT_TERMINALS)

    def traffic(self, seed: int, duration_s: float) -> NodeTraffic:
        """One node's traffic for `duration_s` [s]."""
        generator = np.random.default_rng(
            [seed, sum(self.draw.__name__.encode())]
        )  # equal happenings under another encryption
        happenings = self.draw(generator, duration_s)
        traffic = OfferedTraffic(
            [self.terminals[role] for role in ROLES], generator, events=happenings.events,
            fault_spans_s=happenings.fault_spans_s,
        )  # fmt: skip
        return NodeTraffic(traffic, happenings.fault_spans_s)

    def node(self, seed: int, duration_s: float) -> tuple[SliceTransport, NodeTraffic]:
        """A simulated node with that traffic from `START_S` on, at the static split, and the traffic's faults."""
        traffic, plant = self.traffic(seed, duration_s), PlantSettings()
        calendar = FlexeCalendar(STATIC_SLOTS, GRANULARITY)
        cells = [Cell("00101-1", 1_600, plant.radio_mbps / 1_600, plant.nr_slot_ms * 1e3)]
        transport = SliceTransport(
            calendar, plant.hop, cells, traffic.traffic, buffer_mbit=np.full(3, plant.buffer_mbit),
            encryption=self.encryption,
        )  # fmt: skip
        return transport, traffic


@dataclass(frozen=True)
class NodeTraffic:
    """A node's traffic and the spans of the faults in it [s]."""

    traffic: OfferedTraffic
    fault_spans_s: tuple[tuple[float, float], ...]

    def alarmed(self, time_s: float) -> bool:
        """True while the alarm of a fault is raised at the RIC."""
        return any(start + ALARM_DELAY_S <= time_s < end for start, end in self.fault_spans_s)


def _quiet(generator: np.random.Generator, duration_s: float) -> Happenings:
    del generator, duration_s
    return Happenings()


def _surges(generator: np.random.Generator, duration_s: float) -> Happenings:
    """Every 10 s or so control asks for two to three times its usual traffic, for 2 to 6 s."""
    events, at_s = [], START_S + generator.uniform(1, 4)
    while at_s < START_S + duration_s:
        length_s = generator.uniform(2, 6)
        rise_s = float(np.exp(generator.uniform(np.log(0.05), np.log(1.5))))
        events.append(TrafficEvent(at_s, at_s + length_s, CONTROL, generator.uniform(1.8, 3.0), rise_s))
        at_s += length_s + generator.uniform(3, 9)
    return Happenings(tuple(events))


def _in_step(generator: np.random.Generator, duration_s: float) -> Happenings:
    """All terminals of control and protection report at the same instants, as after a common time signal."""
    share, spread_ms = generator.uniform(0.7, 1.0), generator.uniform(0.6, 2.0)
    end_s = START_S + duration_s
    return Happenings(tuple(
        TrafficEvent(START_S - 1, end_s, index, in_step=share, spread_ms=spread_ms) for index in (CONTROL, PROTECTION)
    ))  # fmt: skip


def _faults(generator: np.random.Generator, duration_s: float) -> Happenings:
    """A feeder fault every 10 s or so, handled for 2 to 5 s; microgrids send more meanwhile."""
    events, spans, at_s = [], [], START_S + generator.uniform(2, 5)
    while at_s < START_S + duration_s:
        end_s = at_s + generator.uniform(2, 5)
        spans.append((float(at_s), float(end_s)))
        factor = generator.uniform(1.2, 1.8)
        events.append(TrafficEvent(at_s, end_s, CONTROL, factor, 0.1, services=("der_microgrids",)))
        at_s = end_s + generator.uniform(5, 10)
    return Happenings(tuple(events), tuple(spans))


def _everything(generator: np.random.Generator, duration_s: float) -> Happenings:
    """Surges, faults and metering storms at once, beside people's traffic and the polling of homes."""
    surges, faults = _surges(generator, duration_s), _faults(generator, duration_s)
    at_s = START_S + generator.uniform(0, duration_s / 2)
    storm = TrafficEvent(at_s, at_s + generator.uniform(3, 8), MONITORING, generator.uniform(2, 4), 1.0,
                         services=("advanced_metering",))  # fmt: skip
    return Happenings((*surges.events, *faults.events, storm), faults.fault_spans_s)


_MANY: Mapping[str, Mapping[str, int]] = {
    **DEFAULT_TERMINALS,
    "monitoring": {**DEFAULT_TERMINALS["monitoring"], "ev_hems_polling": HOMES, "background_embb": EMBB_TERMINALS},
}

SITUATIONS: Mapping[str, Situation] = {
    situation.name: situation
    for situation in (
        Situation("normal", "the catalogue's services, nothing happens", _quiet),
        Situation("surge", "control asks for two to three times its usual traffic", _surges),
        Situation("wide_area_sync", "terminals report at the same instants", _in_step),
        Situation("fault", "feeder faults wake protection and fault location", _faults),
        Situation("encrypted", "as normal, all traffic in IPsec", _quiet, Encryption.IPSEC),
        Situation("encrypted_surge", "as surge, all traffic in IPsec", _surges, Encryption.IPSEC),
        Situation("multi_service", "surges, faults and storms beside polling and eMBB", _everything, terminals=_MANY),
    )
}
"""Situation name -> situation."""


@dataclass(frozen=True)
class PeriodLoad:
    """One period of N nodes: arrivals (T, N, S) [Mbit per 0.2 ms], mean rate (N, S) [Mb/s], burst (N, S) [Mbit], alarm
    (N,).
    """

    arrivals_mbit: Floats
    mean_mbps: Floats
    burst_mbit: Floats
    alarm: NDArray[np.bool_]


class PlantTraffic:
    """Downlink traffic of N nodes in one situation, period by period; what is offered never depends on slots."""

    def __init__(
        self, name: str, seeds: Sequence[int], *, periods: int, period_s: float = 0.1
    ) -> None:  # fmt: skip
        """One node per seed, `periods` of `period_s` [s] ahead. Raises KeyError for a name that `SITUATIONS` lacks."""
        self.situation = SITUATIONS[name]
        self.period_s = period_s
        self._nodes = [self.situation.traffic(seed, periods * period_s) for seed in seeds]
        self._period = 0

    def next_period(self) -> PeriodLoad:
        """The coming period of all nodes."""
        start_s = START_S + self._period * self.period_s
        steps = round(self.period_s * 1e3 / STEP_MS)
        self._period += 1
        arrivals, bursts = [], []
        for node in self._nodes:
            node.traffic.wander(self.period_s)
            arrivals.append(node.traffic.arrivals_mbit(start_s, steps, STEP_MS)[:, 0])
            bursts.append(node.traffic.burst_mbit(start_s)[0])
        volumes = np.stack(arrivals, axis=1)
        alarm = np.array([node.alarmed(start_s) for node in self._nodes])
        return PeriodLoad(volumes, volumes.sum(axis=0) / self.period_s, np.stack(bursts), alarm)
