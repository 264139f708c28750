"""Three networked DC microgrids, their consensus agents and the PCC agent, with DoS attacks and twin substitution.

Source: equations (6)-(15) and Table 1 of the DoS paper (DESIGN.md section 6). Our reading: the PCC agent integrates
(14) into x_0, a voltage correction that the agents track by (13) and add to their voltage reference; R of (15) is the
measured demand over the rated power of all generators; an agent's contribution factor r times the rating of its
generators is their power reference. DoS: the agent's r falls to 0 for its neighbours and for its own local control.
Loads are constant-power; current limits of the converters are not modelled, so overload shows as a share above 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from e2sim.grid.microgrid_agents import ConsensusConfig, Network
from e2sim.grid.microgrid_plant import STEP_S, MicrogridConfig, PlantConfig
from ric.clock import to_ns
from ric.columns import Table
from ric.config import FrozenModel
from ric.errors import Fault, TwinRicError, nearest
from ric.schemas import MICROGRID_SUBSTITUTION

__all__ = ["TABLE_1", "LoadStep", "Microgrids", "MicrogridsConfig", "generate_runs", "reference_config"]

Floats = NDArray[np.float64]

COARSE_S = 2.0
"""Steps longer than this [s] go straight to the equilibrium: everything settles within a few seconds."""

MAX_BIAS = 5.0

TABLE_1 = (
    MicrogridConfig(id="MG1", generators_kw=(10.0, 5.0), load_kw=7.0),
    MicrogridConfig(id="MG2", generators_kw=(8.0, 7.0), load_kw=6.0),
    MicrogridConfig(id="MG3", generators_kw=(8.0,), load_kw=6.0),
)


class LoadStep(FrozenModel):
    """A scheduled load step: from `at_s` on, a load stands at `level` of its rated value until the next step."""

    at_s: Annotated[float, Field(ge=0)]
    """Seconds after the start."""
    where: Annotated[str, Field(min_length=1, max_length=64)]
    """A microgrid's id, or "pcc"."""
    level: Annotated[float, Field(ge=0, le=2)]
    """Share of the rated load [1]."""


class MicrogridsConfig(FrozenModel):
    """The microgrids of one E2 node."""

    microgrids: Annotated[tuple[MicrogridConfig, ...], Field(min_length=2, max_length=16)] = TABLE_1
    """Microgrids that share one PCC."""
    pcc_load_kw: Annotated[float, Field(ge=0, le=1_000)] = 5.0
    """Load at the PCC at level 1 [kW]."""
    plant: PlantConfig = PlantConfig()
    """Electrical parameters."""
    consensus: ConsensusConfig = ConsensusConfig()
    """Gains of the agents."""
    load_noise: Annotated[float, Field(ge=0, le=0.2)] = 0.01
    """Standard deviation of the slow load fluctuation, share of the load [1]."""
    step_mean_s: Annotated[float, Field(ge=0)] = 60.0
    """Mean time between random load steps, per load [s]; 0 for none."""
    level_low: Annotated[float, Field(ge=0, le=2)] = 0.6
    """Lowest level that a random step reaches [1]."""
    level_high: Annotated[float, Field(ge=0, le=2)] = 1.15
    """Highest level that a random step reaches [1]."""
    first_level: Annotated[float, Field(ge=0, le=2)] = 1.0
    """Level of every load at the start [1]."""
    steps: tuple[LoadStep, ...] = ()
    """Scheduled steps, besides the random ones."""

    @model_validator(mode="after")
    def _consistent(self) -> MicrogridsConfig:
        names = [mg.id for mg in self.microgrids]
        if len(set(names)) != len(names) or "pcc" in names:
            raise ValueError("microgrids need different ids, none of them 'pcc'")
        if len(self.consensus.leader_per_s) != len(names):
            raise ValueError("consensus.leader_per_s needs one value per microgrid")
        if self.level_low > self.level_high:
            raise ValueError("level_low must not exceed level_high")
        for step in self.steps:
            if step.where not in (*names, "pcc"):
                raise ValueError(f"steps.where {step.where!r} must be a microgrid's id or 'pcc'")
        return self


def reference_config() -> MicrogridsConfig:
    """The paper's reference run: microgrid loads at 1 s, PCC load at 15 s, nothing random; DoS is up to the caller."""
    first = tuple(LoadStep(at_s=1.0, where=mg.id, level=1.0) for mg in TABLE_1)
    return MicrogridsConfig(
        load_noise=0.0, step_mean_s=0.0, first_level=0.0, steps=(*first, LoadStep(at_s=15.0, where="pcc", level=1.0))
    )


class _Loads:
    """Levels of the M microgrid loads and the PCC load of one run: scheduled and random steps, slow fluctuation."""

    CORRELATION_S = 5.0

    def __init__(self, config: MicrogridsConfig, rng: np.random.Generator) -> None:
        names = [*(mg.id for mg in config.microgrids), "pcc"]
        self._rng, self._config = rng, config
        self._rated_w = 1e3 * np.array([*(mg.load_kw for mg in config.microgrids), config.pcc_load_kw])
        self._level = np.full(len(names), config.first_level)
        self._noise = np.zeros(len(names))
        self._queue = sorted((s.at_s, names.index(s.where), s.level) for s in config.steps)
        first = rng.exponential(config.step_mean_s, len(names)) if config.step_mean_s else np.full(len(names), np.inf)
        self._next_s: Floats = first

    def until(self, elapsed_s: float, dt_s: float) -> Floats:
        """Loads (M+1,) [W] of the step that ends at `elapsed_s` after the start; call in order of time."""
        config = self._config
        while self._queue and self._queue[0][0] < elapsed_s - 1e-9:
            _, index, level = self._queue.pop(0)
            self._level[index] = level
        for index in np.flatnonzero(self._next_s < elapsed_s).tolist():
            self._level[index] = self._rng.uniform(config.level_low, config.level_high)
            # Steps that a coarse step jumps over leave no trace but the last.
            self._next_s[index] = elapsed_s + self._rng.exponential(config.step_mean_s)
        if config.load_noise:
            keep = np.exp(-dt_s / self.CORRELATION_S)
            draw = self._rng.standard_normal(self._noise.size)
            self._noise = keep * self._noise + config.load_noise * np.sqrt(1 - keep**2) * draw
        loads: Floats = self._rated_w * np.maximum(self._level * (1 + self._noise), 0.0)
        return loads


class Microgrids:
    """The microgrids of one E2 node on the simulator's clock: reports, set-points, attacks.

    Same seed and same calls, same run, bit for bit. Steps up to COARSE_S are dynamic (10 ms inside); longer ones end in
    the equilibrium under the loads of their end, at a cost that does not depend on their length.
    """

    set_point_kinds = frozenset({"microgrid_substitution"})

    def __init__(self, config: MicrogridsConfig, rng: np.random.Generator, start_s: float) -> None:
        self.config, self.ids = config, tuple(mg.id for mg in config.microgrids)
        self._network = Network(config.microgrids, config.plant, config.consensus)
        self._loads = _Loads(config, rng)
        self._start_s = self._now_s = start_s
        self._until_s = np.zeros(len(self.ids))
        self._load_w = self._loads.until(0.0, 0.0)[None, :]
        self._network.settle(self._load_w)

    def step(self, end_s: float, dt_s: float) -> list[Table]:
        """Advance from `end_s - dt_s` to `end_s` [s since the epoch]; the tables of :meth:`report` then.

        Raises TwinRicError SCENARIO-INVALID for a dynamic step that is no multiple of 10 ms.
        """
        inner = round(dt_s / STEP_S)
        if dt_s <= COARSE_S and (inner < 1 or abs(inner * STEP_S - dt_s) > 1e-6):
            raise TwinRicError("SCENARIO-INVALID", "dt_s", dt_s, f"a multiple of {STEP_S} s, or more than {COARSE_S} s")
        self._load_w = self._loads.until(end_s - self._start_s, dt_s)[None, :]
        if dt_s > COARSE_S:
            self._expire(end_s)
            self._network.settle(self._load_w)
        else:
            for index in range(inner):
                self._expire(end_s - dt_s + index * STEP_S)
                self._network.advance(self._load_w)
        self._now_s = end_s
        return self.report()

    def _expire(self, now_s: float) -> None:
        if self._until_s.any():
            over = self._until_s <= now_s
            self._network.in_local[0, over] = False
            self._network.in_consensus[0, over] = False
            self._until_s[over] = 0.0

    def report(self) -> list[Table]:
        """The `microgrid_report`, `pcc_report` and `microgrid_in_force` of the present state."""
        network, time_ns = self._network, to_ns(self._now_s)
        flows = network.plant.flows()
        m = len(self.ids)
        alive = (~network.dos[0]).astype(np.float64)
        microgrid = Table("microgrid_report", self.ids, {
            "contribution_factor": network.stated_r[0].copy(),
            "agent_alive": alive,
            "power_kw": flows.delivered_w[0] / 1e3,
            "dg_power_kw": np.maximum(flows.generated_w[0], 0.0) / 1e3,
            "load_kw": self._load_w[0, :m] / 1e3,
            "voltage_v": np.maximum(flows.voltage_v[0, :m], 0.0),
            "rated_kw": network.rated_w / 1e3,
        }, time_ns)  # fmt: skip
        in_force = Table("microgrid_in_force", self.ids, self._in_force(), time_ns)
        pcc = Table("pcc_report", ("pcc",), {
            "reference_kw": self._load_w[0, m:] / 1e3,
            "power_kw": flows.arriving_w / 1e3,
            "voltage_v": np.maximum(flows.voltage_v[0, m:], 0.0),
            "reference_r": network.reference_r[0].copy(),
        }, time_ns)  # fmt: skip
        return [microgrid, pcc, in_force]

    def _in_force(self) -> dict[str, Floats]:
        """Columns (M,) of what stands in for the agents and where."""
        network = self._network
        return {
            "contribution_factor": network.substitute[0].copy(),
            "in_local_control": network.in_local[0].astype(np.float64),
            "in_consensus": network.in_consensus[0].astype(np.float64),
        }

    def apply(self, table: Table, valid_until_s: float) -> Table:
        """Put a `microgrid_substitution` in force until `valid_until_s` [s]; returns the values in force for its ids.

        Raises TwinRicError E2-RANGE with every fault: kind, unknown id, missing column, value out of range, time past.
        """
        faults = self._faults(table, valid_until_s)
        if faults:
            raise TwinRicError.of(faults)
        rows = np.array([self.ids.index(name) for name in table.ids], dtype=np.intp)
        network = self._network
        network.substitute[0, rows] = table["contribution_factor"]
        network.in_local[0, rows] = table["in_local_control"] >= 0.5
        network.in_consensus[0, rows] = table["in_consensus"] >= 0.5
        self._until_s[rows] = valid_until_s
        in_force = {name: values[rows] for name, values in self._in_force().items()}
        return Table(table.kind, table.ids, in_force, to_ns(self._now_s))

    def _faults(self, table: Table, valid_until_s: float) -> list[Fault]:
        if table.kind not in self.set_point_kinds:
            return [Fault("E2-RANGE", "set_points.kind", table.kind, ", ".join(self.set_point_kinds))]
        unknown = [name for name in table.ids if name not in self.ids]
        faults = [Fault("E2-RANGE", "set_points.ids", n, "a microgrid's id", nearest(n, self.ids)) for n in unknown]
        if not valid_until_s > self._now_s:
            faults.append(Fault("E2-RANGE", "valid_until_s", valid_until_s, f"later than {self._now_s}"))
        for name, quantity in MICROGRID_SUBSTITUTION.columns.items():
            values = table.columns.get(name)
            field = f"set_points.{name}"
            shape = "(absent)" if values is None else np.shape(values)
            if values is None or shape != (len(table),):
                faults.append(Fault("E2-RANGE", field, shape, f"({len(table)},)"))
            elif not bool(np.all((values >= quantity.low) & (values <= quantity.high))):
                accepted = f"{quantity.low:g}..{quantity.high:g} {quantity.unit}"
                faults.append(Fault("E2-RANGE", field, values.tolist(), accepted))
        return faults

    def attack(self, agent_index: int, kind: str = "dos", on: bool = True, *, bias: float = 0.3) -> None:
        """Begin or end an attack on the agent of microgrid `agent_index`, from 0.

        "dos": its contribution factor reads 0 and its messages stop; "false_data": it states `bias` [1] too much.
        Raises TwinRicError SCENARIO-INVALID.
        """
        if not 0 <= agent_index < len(self.ids):
            raise TwinRicError("SCENARIO-INVALID", "attack.agent_index", agent_index, f"0..{len(self.ids) - 1}")
        if kind == "dos":
            attacked = self._network.dos.copy()
            attacked[0, agent_index] = on
            self._network.silence(attacked)
        elif kind == "false_data" and abs(bias) <= MAX_BIAS:
            self._network.bias[0, agent_index] = bias if on else 0.0
        else:
            accepted = f"dos, or false_data with a bias of -{MAX_BIAS:g}..{MAX_BIAS:g}"
            raise TwinRicError("SCENARIO-INVALID", "attack", (kind, bias), accepted)


def _training_config(rng: np.random.Generator, minutes: float) -> MicrogridsConfig:
    """Loads that step one by one every 20 s or so, and all at once every 2 minutes or so."""
    names = [*(mg.id for mg in TABLE_1), "pcc"]
    at_s = np.cumsum(rng.exponential(120.0, max(1, round(minutes / 2)))).tolist()
    levels = rng.uniform(0.0, 1.5, len(at_s)).tolist()
    together = zip(at_s, levels, strict=True)
    steps = tuple(LoadStep(at_s=t, where=name, level=level) for t, level in together for name in names)
    return MicrogridsConfig(step_mean_s=20.0, level_low=0.0, level_high=1.5, first_level=0.5, steps=steps)


def generate_runs(out: Path, seeds: Sequence[int] = tuple(range(15)), minutes: float = 20.0) -> Path:
    """Write healthy runs over all load conditions to `out` (.npz), 100 ms apart.

    For a command: `generate_runs(out: Path, seeds: Sequence[int], minutes: float) -> Path` returns `out`. Arrays, with
    S seeds and T instants: seeds (S,), ids (M,), rated_kw (M,), period_s (), reference_r (S, T) [1],
    contribution_factor, dg_power_kw, power_kw, load_kw, voltage_v (S, T, M), pcc_power_kw, pcc_voltage_v (S, T). A run
    depends on its own seed only. Raises TwinRicError SCENARIO-INVALID when there is nothing to run.
    """
    count, inner = round(minutes * 600), round(0.1 / STEP_S)
    if not seeds or count < 1:
        raise TwinRicError("SCENARIO-INVALID", "minutes", minutes, "at least one seed and one sample")
    configs = [_training_config(np.random.default_rng([seed, 0x4A4F]), minutes) for seed in seeds]
    config = configs[0]
    loads = [_Loads(own, np.random.default_rng([seed, 0x4D47])) for own, seed in zip(configs, seeds, strict=True)]
    network = Network(config.microgrids, config.plant, config.consensus, len(seeds))
    network.settle(np.stack([load.until(0.0, 0.0) for load in loads]))
    m = len(config.microgrids)
    per_microgrid = ("contribution_factor", "dg_power_kw", "power_kw", "load_kw", "voltage_v")
    shape = (len(seeds), count)
    record: dict[str, NDArray[Any]] = {name: np.zeros((*shape, m), dtype=np.float32) for name in per_microgrid}
    record |= {name: np.zeros(shape, dtype=np.float32) for name in ("reference_r", "pcc_power_kw", "pcc_voltage_v")}
    for index in range(count):
        load_w = np.stack([load.until((index + 1) * 0.1, 0.1) for load in loads])
        for _ in range(inner):
            network.advance(load_w)
        flows = network.plant.flows()
        record["contribution_factor"][:, index] = network.r
        record["dg_power_kw"][:, index] = flows.generated_w / 1e3
        record["power_kw"][:, index] = flows.delivered_w / 1e3
        record["load_kw"][:, index] = load_w[:, :m] / 1e3
        record["voltage_v"][:, index] = flows.voltage_v[:, :m]
        record["reference_r"][:, index] = network.reference_r[:, 0]
        record["pcc_power_kw"][:, index] = flows.arriving_w / 1e3
        record["pcc_voltage_v"][:, index] = flows.voltage_v[:, m]
    record |= {"seeds": np.array(seeds), "rated_kw": network.rated_w / 1e3, "period_s": np.array(0.1)}
    record["ids"] = np.array([mg.id for mg in config.microgrids])
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out, allow_pickle=False, **record)
    return out
