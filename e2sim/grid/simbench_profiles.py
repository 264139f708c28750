"""Low-voltage grids and their year of measured 15-min profiles, read from the files that the package `simbench` ships.

The tables are read as they lie in the package (importing it would import pandapower and take seconds); what one grid
needs is kept in a compressed file under `XDG_CACHE_HOME`. Powers are in kW. SimBench's year is 2016, in local time.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ric.errors import TwinRicError

__all__ = ["PROFILE_STEPS", "PROFILE_STEP_S", "Equipment", "LvGrid", "cache_directory", "load_grid"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PROFILE_STEP_S = 900
PROFILE_STEPS = 35_136
_CODE = re.compile(r"1-LV-(rural|semiurb|urban)([1-6])--([012])-sw")
_AREAS = {"1": "rural", "2": "rural", "3": "rural", "4": "semiurb", "5": "semiurb", "6": "urban"}
_FORMAT = 3


@dataclass(frozen=True)
class Equipment:
    """Loads, generators or storage units: name, node number (N,), rating (N,) [kW], [kvar], profile number (N,)."""

    names: tuple[str, ...]
    node: Ints
    p_kw: Floats
    q_kvar: Floats
    profile: Ints

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class LvGrid:
    """One LV grid behind one transformer: nodes 0 (MV side) .. node_count - 1, closed switches merged into nodes."""

    code: str
    node_count: int
    line_ends: Ints
    """(L, 2) node numbers."""
    line_ohm: Floats
    """(L, 2) resistance and reactance [ohm]."""
    line_c_f: Floats
    """(L,) capacitance [F]."""
    line_ka: Floats
    """(L,) rated current [kA]."""
    trafo: dict[str, float]
    """Rating by name: s_kva, u1_kv, u2_kv, u_k_pct, p_cu_kw, p_fe_kw, i_0_pct, tap_pct, tap_{position,min,max}."""
    trafo_node: int
    """Node of the LV busbar."""
    source_pu: float
    """Voltage of the MV side [pu]."""
    loads: Equipment
    generators: Equipment
    storage: Equipment
    storage_kwh: Floats
    """(S,) energy of `storage` [kWh]."""
    profile_names: tuple[str, ...]
    profiles: NDArray[np.float32]
    """(P, PROFILE_STEPS) active power per rating, means of 15 min from 1 January 00:00."""


def cache_directory(environ: dict[str, str] | None = None) -> Path:
    """Where extracted grids are kept: `$XDG_CACHE_HOME/twinric/simbench`, else under `~/.cache`."""
    values = os.environ if environ is None else environ
    base = values.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "twinric" / "simbench"


def load_grid(code: str, cache: Path | None = None) -> LvGrid:
    """The SimBench grid `code`, such as `1-LV-rural3--2-sw`; the first call extracts it, later ones read the cache.

    Raises TwinRicError SCENARIO-INVALID for a code that names no LV grid, CONFIG-MISSING without the package.
    """
    match = _CODE.fullmatch(code)
    if match is None or _AREAS[match[2]] != match[1]:
        known = ", ".join(f"{_AREAS[n]}{n}" for n in sorted(_AREAS))
        raise TwinRicError("SCENARIO-INVALID", "grid.code", code, f"1-LV-<{known}>--<0..2>-sw")
    spec = importlib.util.find_spec("simbench")
    if spec is None or spec.origin is None:
        raise TwinRicError(
            "CONFIG-MISSING", "simbench", "(absent)", "the package simbench", "pip install 'twinric[e2sim]'"
        )
    folder = cache_directory() if cache is None else cache
    file = folder / f"{code}.{_FORMAT}.{importlib.metadata.version('simbench')}.npz"
    if not file.exists():
        tables = Path(spec.origin).parent / "networks" / f"1-complete_data-mixed-all-{match[3]}-sw"
        _keep(_extract(code, tables, f"LV{match[2]}.{'2' if match[2] in '56' else '1'}01"), file)
    return _read(code, file)


def _keep(grid: dict[str, Any], file: Path) -> None:
    """Write next to the target and rename: two processes that start together never read half a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".tmp", delete=False) as handle:
        np.savez_compressed(handle, **grid)
    Path(handle.name).replace(file)


def _read(code: str, file: Path) -> LvGrid:
    with np.load(file, allow_pickle=False) as values:
        content = {name: values[name] for name in values.files}
    equipment = {
        kind: Equipment(
            tuple(content[f"{kind}_names"].tolist()),
            *(content[f"{kind}_{field.name}"] for field in fields(Equipment)[1:]),
        )
        for kind in ("loads", "generators", "storage")
    }
    trafo = dict(zip(content["trafo_names"].tolist(), content["trafo_values"].tolist(), strict=True))
    return LvGrid(
        code=code,
        node_count=int(content["node_count"]),
        line_ends=content["line_ends"],
        line_ohm=content["line_ohm"],
        line_c_f=content["line_c_f"],
        line_ka=content["line_ka"],
        trafo=trafo,
        trafo_node=int(content["trafo_node"]),
        source_pu=float(content["source_pu"]),
        storage_kwh=content["storage_kwh"],
        profile_names=tuple(content["profile_names"].tolist()),
        profiles=content["profiles"],
        **equipment,
    )


def _extract(code: str, tables: Path, subnet: str) -> dict[str, Any]:
    import pandas as pd  # only the extraction needs it

    def table(name: str) -> Any:
        whole = pd.read_csv(tables / f"{name}.csv", sep=";", low_memory=False)
        return whole[whole.subnet.str.split("_").map(lambda parts: subnet in parts)] if "subnet" in whole else whole

    lines, trafos = table("Line"), table("Transformer")
    lines = lines[lines.subnet == subnet]
    if len(trafos) != 1:
        raise TwinRicError("SCENARIO-INVALID", "grid.code", code, "a grid behind one transformer")
    trafo = trafos.iloc[0]
    number = _merged_nodes(table("Switch"), trafo.nodeHV, [*lines.nodeA, *lines.nodeB, trafo.nodeLV])
    loads, units = table("Load"), table("RES")
    loads = loads[loads.subnet.str.startswith(subnet)]
    units = units[units.subnet.str.startswith(subnet) & (units.type == "PV")]
    stores = table("Storage") if (tables / "Storage.csv").exists() else loads.iloc[:0].assign(pMin=0.0, eStore=0.0)
    stores = stores[stores.subnet.str.startswith(subnet)]
    names, profiles = _profiles(
        tables, sorted({*loads.profile, *_HOUSEHOLD_PROFILES}), sorted({*units.profile, "PV1", *_WIND_PROFILES})
    )
    result: dict[str, Any] = {
        "node_count": max(number.values()) + 1,
        "trafo_node": number[trafo.nodeLV],
        "source_pu": _source_voltage(table("Node"), number),
        "profile_names": np.array(names),
        "profiles": profiles,
        "storage_kwh": stores.eStore.to_numpy(float) * 1e3,
    }
    result |= _line_arrays(lines, table("LineType"), number)
    result |= _trafo_values(trafo, table("TransformerType"))
    for kind, rows, p, q in (
        ("loads", loads, loads.pLoad, loads.qLoad),
        ("generators", units, units.pRES, units.qRES),
        ("storage", stores, -stores.pMin, 0 * stores.pMin),
    ):
        result[f"{kind}_names"] = rows.id.to_numpy(str)
        result[f"{kind}_node"] = np.array([number[node] for node in rows.node], dtype=np.int64)
        result[f"{kind}_p_kw"] = p.to_numpy(float) * 1e3
        result[f"{kind}_q_kvar"] = q.to_numpy(float) * 1e3
        known = {name: index for index, name in enumerate(names)}
        result[f"{kind}_profile"] = np.array([known.get(name, -1) for name in rows.profile], dtype=np.int64)
    return result


_HOUSEHOLD_PROFILES = (
    "HLS_A_3.7", "HLS_B_3.7", "HLS_C_3.7", "HLS_A_11.0", "HLS_B_11.0", "Air_Parallel_1", "Soil_Alternative_1",
)  # fmt: skip
"""Profiles that are kept for every grid: devices added by share use them, and the weather is read from the last."""
_WIND_PROFILES = ("WP1", "WP4", "WP7", "WP10")
"""Profiles of small turbines, which no LV grid of SimBench has, but its RES table does."""


def _profiles(tables: Path, loads: Sequence[str], units: Sequence[str]) -> tuple[list[str], NDArray[np.float32]]:
    import pandas as pd

    columns = pd.read_csv(tables / "LoadProfile.csv", sep=";", nrows=0).columns
    wanted = [name for name in loads if f"{name}_pload" in columns]
    load = pd.read_csv(tables / "LoadProfile.csv", sep=";", usecols=[f"{name}_pload" for name in wanted])
    unit = pd.read_csv(tables / "RESProfile.csv", sep=";", usecols=list(units))
    series = [load[f"{name}_pload"].to_numpy(np.float32) for name in wanted] + [
        unit[name].to_numpy(np.float32) for name in units
    ]
    return [*wanted, *units], np.clip(np.stack(series), 0, None)


def _merged_nodes(switches: Any, root: str, names: Sequence[str]) -> dict[str, int]:
    """Node number by name; names joined by closed switches share one number, and the MV side has number 0."""
    parent: dict[str, str] = {}

    def top(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for name in (root, *names):
        top(name)
    for node_a, node_b, closed in zip(switches.nodeA, switches.nodeB, switches.cond, strict=True):
        if closed:
            parent[top(node_b)] = top(node_a)
    order = {top(root): 0}
    return {name: order.setdefault(top(name), len(order)) for name in list(parent)}


def _source_voltage(nodes: Any, number: dict[str, int]) -> float:
    for name, set_point in zip(nodes.id, nodes.vmSetp, strict=True):
        if number.get(name) == 0 and np.isfinite(set_point):
            return float(set_point)
    return 1.0


def _line_arrays(lines: Any, types: Any, number: dict[str, int]) -> dict[str, Any]:
    kinds = types.set_index("id").loc[lines.type]
    length = lines.length.to_numpy(float)
    return {
        "line_ends": np.array([[number[a], number[b]] for a, b in zip(lines.nodeA, lines.nodeB, strict=True)]),
        "line_ohm": np.stack([kinds.r.to_numpy(float) * length, kinds.x.to_numpy(float) * length], axis=1),
        "line_c_f": kinds.b.to_numpy(float) * 1e-6 * length / (2 * np.pi * 50),
        "line_ka": kinds.iMax.to_numpy(float) / 1e3,
    }


def _trafo_values(trafo: Any, types: Any) -> dict[str, Any]:
    kind = types.set_index("id").loc[trafo.type]
    values = {
        "s_kva": kind.sR * 1e3, "u1_kv": kind.vmHV, "u2_kv": kind.vmLV, "u_k_pct": kind.vmImp, "p_cu_kw": kind.pCu,
        "p_fe_kw": kind.pFe, "i_0_pct": kind.iNoLoad, "tap_pct": kind.dVm, "tap_position": trafo.tappos,
        "tap_min": kind.tapMin, "tap_max": kind.tapMax,
    }  # fmt: skip
    return {"trafo_names": np.array(list(values)), "trafo_values": np.array(list(values.values()), dtype=float)}
