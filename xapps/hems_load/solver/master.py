"""The master programme of a capped fleet: how teams of homes mix their answers to prices, and what the prices are next.

Teams mix their homes' answers so that the cap is kept at the least cost, and so that what they give is even: where a
team's curtailed share differs from the one that all have in common, half the square of the difference costs its homes
`evenness_eur` each, in straight pieces. The duals are the fleet's price in each step and the price of each team's share
(Dantzig-Wolfe decomposition).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import highspy
import numpy as np
from numpy.typing import NDArray

__all__ = ["MISS_EUR_PER_KWH", "Answers", "Mix", "mix_answers"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MISS_EUR_PER_KWH = 2.0
"""Price of each kWh beyond the cap: above any tariff, below a stranded EV, about that of 3 K of discomfort."""
PIECES = np.array([0.02, 0.06, 0.15, 0.4])
"""Widths of the pieces that stand for the square of a difference [1]; the last goes on."""
_SLOPES = np.cumsum(PIECES) - PIECES / 2
_INF = highspy.kHighsInf
_OPTIONS: dict[str, Any] = {"threads": 1, "presolve": "off", "simplex_dual_edge_weight_strategy": 1}
"""Presolve and steepest edges cost more than they save here: 16 ms instead of 20."""


@dataclass(frozen=True)
class Answers:
    """K answers of the homes, by team; B occasions on which homes give."""

    net_kw: Floats
    """(K, teams, caps) net import in the capped steps."""
    cost_eur: Floats
    """(K, teams)."""
    share: Floats
    """(K, teams, B) curtailed shares of those homes that can give, summed."""
    able: Floats
    """(teams, B) how many these are."""

    @classmethod
    def joined(cls, parts: list[Answers]) -> Answers:
        """The teams of all `parts` side by side."""
        names = ("net_kw", "cost_eur", "share")
        joined = {name: np.concatenate([getattr(part, name) for part in parts], axis=1) for name in names}
        return cls(**joined, able=np.concatenate([part.able for part in parts]))


@dataclass(frozen=True)
class Mix:
    """The master's solution."""

    weights: Floats
    """(K, teams), each team's sum 1."""
    price: Floats
    """(caps,) shadow price of the cap [EUR/kWh]."""
    share_price: Floats
    """(teams, B) what a whole share more of one home of the team is worth [EUR]; negative where the team gives much."""
    cost_eur: float
    """Cost of the mix, evenness and what is beyond the cap included."""

    def split(self, teams: list[int]) -> list[Mix]:
        """The mix of the first `teams[0]` teams, of the next `teams[1]`, and so on."""
        ends = np.cumsum(teams)[:-1]
        own = zip(np.split(self.weights, ends, axis=1), np.split(self.share_price, ends), strict=True)
        return [replace(self, weights=weights, share_price=share_price) for weights, share_price in own]


class _Programme:
    """Columns and entries of a linear programme, gathered kind by kind."""

    def __init__(self) -> None:
        self._costs: list[Floats] = []
        self._lows: list[Floats] = []
        self._highs: list[Floats] = []
        self._entries: list[tuple[Any, Any, Any]] = []
        self._size = 0

    def column(self, cost: Floats, high: Floats | float = _INF, low: float = 0.0) -> Ints:
        """New columns, one for each of `cost`; their numbers in its shape."""
        at = self._size + np.arange(cost.size)
        self._size += cost.size
        self._costs.append(cost.ravel())
        self._highs.append(np.broadcast_to(high, cost.shape).ravel().astype(float))
        self._lows.append(np.full(cost.size, low))
        return at.reshape(cost.shape)

    def put(self, rows: Any, columns: Any, values: Any) -> None:
        """Entries, as they broadcast."""
        self._entries.append(tuple(part.ravel() for part in np.broadcast_arrays(rows, columns, values)))  # type: ignore[arg-type]

    def solve(self, row_low: Floats, row_high: Floats) -> tuple[Floats, Floats, float]:
        """Values of the columns, duals of the rows, and the least cost."""
        row, column, value = (np.concatenate([entry[n] for entry in self._entries]) for n in range(3))
        order = np.argsort(column, kind="stable")
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = self._size, row_low.size
        model.col_cost_ = np.concatenate(self._costs)
        model.col_lower_, model.col_upper_ = np.concatenate(self._lows), np.concatenate(self._highs)
        model.row_lower_, model.row_upper_ = row_low, row_high
        matrix = model.a_matrix_
        matrix.format_ = highspy.MatrixFormat.kColwise
        matrix.num_col_, matrix.num_row_ = self._size, row_low.size
        matrix.start_ = np.searchsorted(column[order], np.arange(self._size + 1)).astype(np.int32)
        matrix.index_, matrix.value_ = row[order].astype(np.int32), value[order]
        solver = highspy.Highs()
        solver.silent()
        for name, setting in _OPTIONS.items():
            solver.setOptionValue(name, setting)
        solver.passModel(model)
        solver.run()
        solution = solver.getSolution()
        cost = float(solver.getInfo().objective_function_value)
        return np.array(solution.col_value), np.array(solution.row_dual), cost


def mix_answers(answers: Answers, cap_kw: Floats, hours: Floats, evenness_eur: float) -> Mix:
    """The cheapest mix that keeps `cap_kw` (caps,) [kW] in steps of `hours` (caps,), and the prices it gives.

    minimise  sum w cost + MISS miss + evenness_eur sum able (share - common)^2 / 2
    subject to  sum w = 1 for each team, sum w net - miss <= cap, share = sum w share_k.

    A step that even the teams' greatest imports together do not bring to its cap has no row, and no price.
    """
    number, teams, _ = answers.net_kw.shape
    near = np.flatnonzero(answers.net_kw.max(axis=0).sum(axis=0) > cap_kw)
    price, caps = np.zeros(cap_kw.size), near.size
    cap_kw, hours = cap_kw[near], hours[near]
    occasions = answers.able.shape[1]
    scale = max(float(np.abs(cap_kw).max(initial=0.0)), 1.0)
    programme = _Programme()
    # Rows: each team's sum, the caps, each team's share on each occasion.
    cap_rows, share_rows = teams + np.arange(caps), teams + caps + np.arange(teams * occasions).reshape(teams, -1)
    weight = programme.column(answers.cost_eur / scale)
    programme.put(np.arange(teams), weight, 1.0)
    programme.put(cap_rows, weight[:, :, None], answers.net_kw[:, :, near] / scale)
    programme.put(cap_rows, programme.column(hours * MISS_EUR_PER_KWH), -1.0)
    if occasions and evenness_eur > 0:
        _put_evenness(programme, answers, weight, share_rows, evenness_eur / scale)
    else:
        share_rows = share_rows[:0]
    ends = np.zeros(share_rows.size)
    low = np.concatenate([np.ones(teams), np.full(caps, -_INF), ends])
    values, duals, cost = programme.solve(low, np.concatenate([np.ones(teams), cap_kw / scale, ends]))
    share_price = np.zeros((teams, occasions))
    if share_rows.size:
        share_price = scale * duals[share_rows] / np.maximum(answers.able, 1.0)
    weights = np.maximum(values[: number * teams].reshape(number, teams), 0.0)
    price[near] = np.maximum(-duals[cap_rows], 0.0) / hours
    return Mix(weights / weights.sum(axis=0), price, share_price, scale * cost)


def _put_evenness(programme: _Programme, answers: Answers, weight: Ints, rows: Ints, evenness_eur: float) -> None:
    """The rows that say how far each team's mean share is from the common one, and what that costs."""
    able = np.maximum(answers.able, 1.0)
    programme.put(rows, weight[:, :, None], answers.share / able)
    common = programme.column(np.zeros(rows.shape[1]))
    programme.put(rows, common, -(answers.able > 0).astype(float))
    slopes = evenness_eur * answers.able[:, :, None] * _SLOPES
    widths = np.concatenate([PIECES[:-1], [_INF]])
    for sign in (1.0, -1.0):
        programme.put(rows[:, :, None], programme.column(slopes, widths), sign)
