"""Converters, lines and busbars of the DC microgrids as one linear system, stepped exactly with precomputed matrices.

Averaged buck converters with the cascaded PI loops (6)-(7) of the DoS paper feed one busbar per microgrid; a line joins
each busbar to the point of common coupling (PCC). All is batched over independent runs: (B, ...) arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.linalg import expm

from ric.config import FrozenModel

__all__ = ["STEP_S", "MicrogridConfig", "Plant", "PlantConfig"]

Floats = NDArray[np.float64]

STEP_S = 0.01
"""Exact step of the linear part [s]; loads and references are held over it."""


class MicrogridConfig(FrozenModel):
    """One DC microgrid: its generators and its rated local load."""

    id: Annotated[str, Field(min_length=1, max_length=64)]
    """Name in reports and set-points."""
    generators_kw: Annotated[tuple[Annotated[float, Field(gt=0, le=1_000)], ...], Field(min_length=1, max_length=8)]
    """Rated power of each distributed generator [kW]."""
    load_kw: Annotated[float, Field(ge=0, le=1_000)]
    """Local load at level 1 [kW]."""


class PlantConfig(FrozenModel):
    """Electrical parameters: our choice, for well damped loops; DESIGN.md section 6 fixes powers and voltage only."""

    voltage_v: Annotated[float, Field(ge=100, le=10_000)] = 3_000.0
    """Nominal busbar voltage [V]."""
    supply_v: Annotated[float, Field(ge=100, le=20_000)] = 4_000.0
    """Converter input voltage [V], above the busbar's."""
    busbar_f: Annotated[float, Field(gt=0, le=1)] = 2e-3
    """Capacitance of a microgrid's busbar [F]."""
    pcc_f: Annotated[float, Field(gt=0, le=1)] = 1e-3
    """Capacitance at the PCC [F]."""
    line_ohm: Annotated[float, Field(gt=0, le=100)] = 2.0
    """Resistance of the line from a busbar to the PCC [ohm]."""
    line_h: Annotated[float, Field(gt=0, le=1)] = 5e-3
    """Inductance of that line [H]."""
    filter_h: Annotated[float, Field(gt=0, le=1)] = 50e-3
    """Converter inductance [H]."""
    kpv_a_per_v_kw: Annotated[float, Field(gt=0, le=1)] = 0.02
    """K_pv of (6) per rated kW [A/(V kW)]."""
    kiv_a_per_vs_kw: Annotated[float, Field(gt=0, le=1)] = 0.005
    """K_iv of (6) per rated kW [A/(V s kW)]; K_iv/K_ip is the droop [W/V]."""
    kpp_a_per_w: Annotated[float, Field(ge=0, le=1e-3)] = 1e-4
    """K_pp of (6) [A/W]."""
    kip_a_per_ws: Annotated[float, Field(gt=0, le=1e-1)] = 1e-3
    """K_ip of (6) [A/(W s)]."""
    current_loop_rad_s: Annotated[float, Field(gt=10, le=5_000)] = 600.0
    """Bandwidth that K_pc of (7) gives the current loop [rad/s]."""
    current_corner_rad_s: Annotated[float, Field(gt=0, le=1_000)] = 60.0
    """K_ic / K_pc of (7) [rad/s]."""


@dataclass
class PlantFlows:
    """What flows at one instant, batched: voltages (B, M+1) with the PCC last, powers (B, M) and (B,) [W]."""

    voltage_v: Floats
    generated_w: Floats
    delivered_w: Floats
    arriving_w: Floats


class Plant:
    """Electrical state of B runs of M microgrids with K generators in all.

    State, per run: busbar and PCC voltages (M+1), line currents (M), then per generator inductor current, integral of
    (7) and integral of (6) (3K). Input: load currents (M+1), voltage references (M), current equivalents of the power
    references (K). The products of power and voltage are the only non-linear parts; they are refreshed every STEP_S.
    """

    def __init__(self, microgrids: tuple[MicrogridConfig, ...], config: PlantConfig, batch: int = 1) -> None:
        self.config = config
        self.microgrids = len(microgrids)
        self.rated_kw = np.array([kw for mg in microgrids for kw in mg.generators_kw])
        self.home = np.array([m for m, mg in enumerate(microgrids) for _ in mg.generators_kw], dtype=np.intp)
        a, b = self._matrices()
        size, inputs = b.shape
        grown = expm(np.block([[a, b], [np.zeros((inputs, size + inputs))]]) * STEP_S)
        self._advance: Floats = np.ascontiguousarray(grown[:size].T, dtype=np.float64)
        self._steady: Floats = -np.linalg.solve(a, b).T.astype(np.float64)
        self.poles: NDArray[np.complex128] = np.linalg.eigvals(a).astype(np.complex128)
        self._membership = np.eye(self.microgrids)[self.home]
        self._state = np.zeros((batch, size))
        self._state[:, : self.microgrids + 1] = config.voltage_v
        self.settle(
            np.zeros((batch, self.microgrids + 1)),
            np.full((batch, self.microgrids), config.voltage_v),
            np.zeros((batch, self.rated_kw.size)),
        )

    def _matrices(self) -> tuple[Floats, Floats]:
        """Continuous-time A and B of the averaged converters, lines and loops."""
        c, m, k = self.config, self.microgrids, self.rated_kw.size
        pcc, lines, coils, inner, outer = m, m + 1, 2 * m + 1, 2 * m + 1 + k, 2 * m + 1 + 2 * k
        a = np.zeros((2 * m + 1 + 3 * k, 2 * m + 1 + 3 * k))
        b = np.zeros((a.shape[0], 2 * m + 1 + k))
        b[range(m), range(m)], b[pcc, pcc] = -1 / c.busbar_f, -1 / c.pcc_f
        for n in range(m):
            line = lines + n
            a[n, line], a[pcc, line] = -1 / c.busbar_f, 1 / c.pcc_f
            a[line, n], a[line, pcc], a[line, line] = 1 / c.line_h, -1 / c.line_h, -c.line_ohm / c.line_h
        # Loop gains carry the supply voltage, so that the duty cycle appears as a voltage.
        gain_c = c.current_loop_rad_s * c.filter_h
        for g, (home, rated) in enumerate(zip(self.home, self.rated_kw, strict=True)):
            coil, integral_c, integral_o = coils + g, inner + g, outer + g
            v_ref, p_ref = m + 1 + home, 2 * m + 1 + g
            a[home, coil] = 1 / c.busbar_f
            error_x, error_u = np.zeros(a.shape[0]), np.zeros(b.shape[1])
            error_x[home], error_u[v_ref] = -c.kpv_a_per_v_kw * rated, c.kpv_a_per_v_kw * rated
            error_x[coil], error_u[p_ref] = -c.kpp_a_per_w * c.voltage_v - 1, c.kpp_a_per_w * c.voltage_v
            error_x[integral_o] = 1
            a[integral_o, home], b[integral_o, v_ref] = -c.kiv_a_per_vs_kw * rated, c.kiv_a_per_vs_kw * rated
            a[integral_o, coil], b[integral_o, p_ref] = -c.kip_a_per_ws * c.voltage_v, c.kip_a_per_ws * c.voltage_v
            a[integral_c] = c.current_corner_rad_s * gain_c * error_x
            b[integral_c] = c.current_corner_rad_s * gain_c * error_u
            a[coil], b[coil] = gain_c * error_x / c.filter_h, gain_c * error_u / c.filter_h
            a[coil, integral_c] += 1 / c.filter_h
            a[coil, home] -= 1 / c.filter_h
        return a, b

    def _input(self, load_w: Floats, v_ref_v: Floats, p_ref_w: Floats) -> Floats:
        # A collapsed busbar must not divide by nothing: loads disconnect below half voltage in effect.
        voltage = np.maximum(self._state[:, : self.microgrids + 1], 0.5 * self.config.voltage_v)
        return np.concatenate((load_w / voltage, v_ref_v, p_ref_w / voltage[:, self.home]), axis=1)

    def advance(self, load_w: Floats, v_ref_v: Floats, p_ref_w: Floats) -> None:
        """Move STEP_S on: load_w (B, M+1) with the PCC last [W], v_ref_v (B, M) [V], p_ref_w (B, K) [W]."""
        self._state = np.concatenate((self._state, self._input(load_w, v_ref_v, p_ref_w)), axis=1) @ self._advance

    def settle(self, load_w: Floats, v_ref_v: Floats, p_ref_w: Floats) -> None:
        """Go to the equilibrium under constant inputs (arguments as in `advance`): what coarse steps use."""
        for _ in range(6):
            self._state = self._input(load_w, v_ref_v, p_ref_w) @ self._steady

    @property
    def state(self) -> Floats:
        """The state (B, 2M+1+3K); voltages come first, the PCC's at index M."""
        return self._state

    def flows(self) -> PlantFlows:
        """Voltages and powers now."""
        m, k = self.microgrids, self.rated_kw.size
        voltage = self._state[:, : m + 1]
        line = self._state[:, m + 1 : 2 * m + 1]
        coil = self._state[:, 2 * m + 1 : 2 * m + 1 + k]
        own = voltage[:, :m]
        arriving = (line * voltage[:, m:]).sum(axis=1)
        return PlantFlows(voltage.copy(), (coil @ self._membership) * own, line * own, arriving)
