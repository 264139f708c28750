"""Rows of the arrays that the interior point works in: LANES numbers each, one per home, at the offset named here."""

from __future__ import annotations

from xapps.hems_load.solver.lanes import LANES

__all__ = [
    "ACC", "ALPHA_D", "ALPHA_P", "BALANCE", "BASE", "BOX", "BOX_DATA", "CARRY", "COST", "CURVE", "D", "DATA", "DET",
    "DISTANCE", "DK", "DKH", "DKL", "DLAMBDA", "DPI", "DQ", "DQH", "DQL", "DRIFT", "DS", "DUAL", "DV", "DZL",
    "DZU", "ENTERS", "ETA", "FLOW", "GAIN", "GYY", "GYZ", "HIGH", "INFEASIBLE", "INV_D", "INV_H", "INV_L",
    "INV_S", "KEEP", "KEPT", "L", "LAMBDA", "LANES", "LARGEST", "LARGEST_PRICE", "LEAST", "LEAST_PRICE", "LOW",
    "M", "METER", "MOST", "MU", "OWN", "PI", "PULL", "RL", "RU", "S", "SCRATCH", "SECOND", "SEGMENTS", "SETTLED",
    "SLACK", "STORE", "STORE_DATA", "TARGET", "UP", "V", "WIDE", "WIDE_METER", "YHAT", "Z", "ZL", "ZS", "ZU",
    "triangle",
]  # fmt: skip

L = LANES
SEGMENTS = 4
"""Boxes of the meter's tariff: import within the contract, beyond it, export, curtailment."""
# Rows of a step of the meter: data, then what an iteration keeps.
METER = 4
BASE, LAMBDA, BALANCE, DLAMBDA = (n * L for n in range(METER))
# Rows of a box: iterate (power, room above it, duals of both bounds), then what an iteration keeps.
BOX = 10
V, UP, ZL, ZU, RL, RU, INV_D, DV, DZL, DZU = (n * L for n in range(BOX))
# Rows of a storage: iterate (state, multiplier, four for each bound), then what an iteration keeps.
STORE = 21
(
    S, PI, LOW, _, _, _, HIGH, _, _, _,
    DUAL, ETA, FLOW, D, INV_L, INV_H, DS, DQL, DKL, DQH, DKH,
) = (n * L for n in range(STORE))  # fmt: skip
# Data of the boxes and of the storages: what an iteration reads, then what only a start does (see `Workspace`).
BOX_DATA = 3
COST, GAIN, MOST = range(BOX_DATA)
CURVE = GAIN
"""Of the import segment, which fills no storage: rise of its price with its power."""
STORE_DATA = 6
KEEP, DRIFT, LEAST, LEAST_PRICE, LARGEST, LARGEST_PRICE = range(STORE_DATA)
DATA = max(BOX_DATA, STORE_DATA)
"""Of either, in the tables of where they are."""
# What the filter carries from step to step, in double precision: of a storage ...
WIDE = 3
M, GYZ, DPI = (n * L for n in range(WIDE))
# ... and, before the storages of a step, of the meter.
WIDE_METER = 2
PULL, INV_S = (n * L for n in range(WIDE_METER))
# Rows of a bound from LOW or HIGH on: slack and its dual, distance kept (slack included) and its dual ...
SLACK, ZS, DISTANCE, Z = (n * L for n in range(4))
# ... and from DQL or DQH on: changes of dual and slack, in between what the corrector aims at.
DQ, DK = 0, L
# Rows of a storage that live only within a step.
SCRATCH = 5
OWN, GYY, DET, YHAT, CARRY = (n * L for n in range(SCRATCH))
# Rows of the block's accumulators.
ACC = 9
MU, ALPHA_P, ALPHA_D, TARGET, SECOND, INFEASIBLE, SETTLED, KEPT, ENTERS = (n * L for n in range(ACC))


def triangle(n: int) -> int:
    """Rows of a symmetric matrix of `n` storages: the lower triangle, one row of it after the other."""
    return n * (n + 1) // 2
