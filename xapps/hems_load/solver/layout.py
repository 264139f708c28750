"""Rows of the arrays that the interior point works in: LANES numbers each, one per home, at the offset named here."""

from __future__ import annotations

__all__ = [
    "ACC", "ALPHA_D", "ALPHA_P", "BALANCE", "BASE", "BOX", "COST", "CST", "CURVE", "D", "DKH", "DKL", "DLAMBDA",
    "DPI", "DQH", "DQL", "DRIFT", "DS", "DUAL", "DV", "DZL", "DZU", "ETA", "FLOW", "GAIN", "GYY", "GYZ", "HH",
    "HI", "HIGH", "HL", "INFEASIBLE", "INV_D", "INV_S", "KEEP", "KEPT", "KH", "KL", "LAMBDA", "LANES", "LOW",
    "M", "METER", "MU", "PI", "RATIO_D", "RATIO_P", "RESIDUAL", "RHO_H", "RHO_L", "RL", "RU", "S", "SETTLED",
    "SIGMA", "SKH", "SKL", "STORE", "SUM_A", "SUM_B", "TARGET", "V", "YHAT", "ZL", "ZQH", "ZQL", "ZU", "L",
]  # fmt: skip

LANES = 8
L = LANES
# Rows of a step of the meter: data, then what an iteration keeps.
METER = 6
BASE, LAMBDA, BALANCE, RESIDUAL, INV_S, DLAMBDA = (n * L for n in range(METER))
# Rows of a box: iterate, data, then what an iteration keeps.
BOX = 14
V, ZL, ZU, HI, COST, SIGMA, GAIN, CURVE, RL, RU, INV_D, DV, DZL, DZU = (n * L for n in range(BOX))
# Rows of a storage: iterate, data, then what an iteration keeps.
STORE = 31
(
    S, PI, SKL, ZQL, SKH, ZQH,
    LOW, HIGH, RHO_L, RHO_H, CST, KEEP, DRIFT,
    DUAL, FLOW, D, ETA, M, GYY, GYZ, YHAT, KL, KH, HL, HH, DS, DPI, DQL, DQH, DKL, DKH,
) = (n * L for n in range(STORE))  # fmt: skip
# Rows of the block's accumulators.
ACC = 11
MU, ALPHA_P, ALPHA_D, RATIO_P, RATIO_D, SUM_A, SUM_B, TARGET, INFEASIBLE, SETTLED, KEPT = (n * L for n in range(ACC))
