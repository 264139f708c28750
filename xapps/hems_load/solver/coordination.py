"""A cap on what all homes import together, kept by prices.

Each home answers a price series with its best plan. Its answers at several prices are mixed by a small master programme
(`master.py`) so that the sum respects the cap at least cost and homes give evenly; its duals are the next prices. A mix
is feasible for every home, since what a home can do is convex once its runs are placed. Homes mix in teams, each with
its own weights. After any round there is a plan.

A fleet may be cut into shards, each solved somewhere else: the prices, the teams' sums and their weights are all that
passes between them and the master.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xapps.hems_load.fleet_problem import FleetPlan, FleetProblem
from xapps.hems_load.solver.fleet import Effort, WarmStart, project_plan, solve_fleet
from xapps.hems_load.solver.master import Answers, Mix, mix_answers
from xapps.hems_load.solver.runs import run_load

__all__ = ["EVENNESS_EUR", "Call", "LocalShard", "Outcome", "Shard", "coordinate_fleet", "coordinate_shards"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

EVENNESS_EUR = 1.0
"""What evenness may cost unless told: half of this for each home that gives all it can where the others give nothing
[EUR]."""
FIRST_PRICE = 0.02
"""First guess of the shadow price where the free plans pass the cap [EUR/kWh]: what can wait waits for that."""
PUSH_PRICE = 1.0
"""A price at which a home gives what it can without harm [EUR/kWh]."""
KEPT = 1e-3
"""A cap passed by no more than this share of it counts as kept."""
TRUST = 0.15
"""Step from the last price to the master's dual, which jumps while there are few answers [1]."""
NEARNESS = 0.01
"""Rise of a home's price with its import's distance from the last mix [EUR/kWh per kW], no cost: the next answers lie
near the mix, and homes that all see the same cheap quarter of an hour share it."""
TEAMS = 192
"""Teams in which homes mix: equal homes give equally, and unlike ones need not."""
BINS = 8
"""Parts of all homes, by what they give on an occasion, that are told apart when teams are formed."""
LEVEL = 0.3
"""How much of the difference between what a home and what all homes give is taken away at the end, in big teams [1]."""
LEAST_KWH = 0.1
"""Homes that can give less than this on an occasion have no share in it."""
MOST_OCCASIONS = 3
APART_H = 1.0
"""Steps over the cap that are no further apart than this are one occasion [h]."""


@dataclass(frozen=True)
class Call:
    """Where the free plans pass the cap, and how those steps fall into occasions on which homes give."""

    capped: Bools
    """(T,) steps that have a cap."""
    occasion: Ints
    """(T,) number of the occasion that a step belongs to, -1 for none."""

    @property
    def occasions(self) -> int:
        """B."""
        return int(self.occasion.max(initial=-1)) + 1


@dataclass(frozen=True)
class Outcome:
    """What the shards agreed on."""

    price: Floats
    """(T,) the fleet's price [EUR/kWh]."""
    miss_kw: Floats
    """(T,) power beyond the cap."""
    rounds: int


class Shard(Protocol):
    """Some of the fleet's homes: asked for their free plans, then for answers to prices, then to carry out a mix."""

    def begin(self) -> Floats:
        """(T,) net import of the free plans together [kW]."""
        ...

    def ask(self, call: Call, price: Floats | None, last: Mix | None) -> Answers:
        """All answers so far and the `last` mix, by teams that are formed anew.

        The free plans are the first answer, and that to the first `price` (T,) [EUR/kWh] on imports the second: the
        push. Later ones are asked near the last mix of the last teams, with their share prices added; None asks for no
        new answer.
        """
        ...

    def finish(self, mix: Mix, price: Floats) -> Floats:
        """Carry out the mix of the last teams at the fleet's `price` (T,); (T,) net import after that [kW]."""
        ...


Each = Callable[[Callable[..., Any], Sequence[Shard], Sequence[Any]], Iterable[Any]]
"""Calls a function for each shard with its own argument, in turn as `map` does, or side by side."""


def coordinate_fleet(
    problem: FleetProblem,
    cap_kw: Floats,
    warm: WarmStart | None = None,
    *,
    shift_steps: int = 0,
    rounds: int = 4,
    may_go_on: Callable[[], bool] = lambda: True,
    effort: Effort | None = None,
    evenness_eur: float = EVENNESS_EUR,
) -> tuple[FleetPlan, WarmStart]:
    """Plans whose net imports together stay within `cap_kw` (T,) [kW], infinite where there is no cap.

    Solves once without a price, then at most `rounds` times at prices while `may_go_on`. `miss_kw` of the plan tells
    what the cap still misses. Against: one programme for all homes, tests/unit.
    """
    shard = LocalShard(problem, warm, shift_steps=shift_steps, effort=effort or Effort())
    options: dict[str, Any] = {"rounds": rounds, "may_go_on": may_go_on, "evenness_eur": evenness_eur}
    outcome = coordinate_shards([shard], cap_kw, problem.hours, **options)
    return replace(shard.plan, miss_kw=outcome.miss_kw, rounds=outcome.rounds), shard.warm


def coordinate_shards(
    shards: Sequence[Shard],
    cap_kw: Floats,
    hours: Floats,
    *,
    rounds: int = 4,
    may_go_on: Callable[[], bool] = lambda: True,
    evenness_eur: float = EVENNESS_EUR,
    each: Each = map,
) -> Outcome:
    """Agree on prices with shards that have nothing in common but `cap_kw` (T,) on all of them, in steps of `hours`.

    The shards then hold their plans. What passes to and from a shard does not grow with its homes.
    """
    nothing = [None] * len(shards)
    net = np.asarray(sum(each(lambda shard, _: shard.begin(), shards, nothing)))
    over = _over(net, cap_kw)
    if not over.any() or not rounds or not may_go_on():
        return Outcome(np.zeros(cap_kw.size), _miss(net, cap_kw), 0)
    call, price = _call(net, cap_kw, hours), np.zeros(cap_kw.size)
    target: Floats = np.where(over, PUSH_PRICE, 0.0)
    asked: Floats | None = target
    own, taken = list[Mix | None](nothing), 0
    while asked is not None:
        asked = target if taken < rounds and (not taken or may_go_on()) else None  # the last mix is of no new answer
        parts = list(each(lambda shard, mix, at=asked: shard.ask(call, at, mix), shards, own))
        mix = mix_answers(Answers.joined(parts), cap_kw[call.capped], hours[call.capped], evenness_eur)
        own = list[Mix | None](mix.split([part.able.shape[0] for part in parts]))
        price[call.capped] = mix.price
        taken += asked is not None
        # The duals of free plans and push say little, and later ones jump.
        target = np.where(over, FIRST_PRICE, 0.0) if taken == 1 else np.asarray(target + TRUST * (price - target))
    agreed = target
    net = np.asarray(sum(each(lambda shard, mix: shard.finish(mix, agreed), shards, own)))
    return Outcome(agreed, _miss(net, cap_kw), taken)


class LocalShard:
    """A shard of this process. `warm` is the last solution of the same homes, begun `shift_steps` earlier."""

    def __init__(
        self, problem: FleetProblem, warm: WarmStart | None = None, *, shift_steps: int = 0, effort: Effort
    ) -> None:
        self._problem, self._effort = replace(problem, fleet_price=None), effort
        self._start, self._shift = warm, shift_steps
        self._plans: list[FleetPlan] = []
        self._gifts: _Gifts | None = None
        self._mixture: Floats | None = None

    def begin(self) -> Floats:
        """As in `Shard`."""
        plan, self.warm = solve_fleet(self._problem, self._start, shift_steps=self._shift, effort=self._effort)
        self.plan, self._plans, self._last = plan, [plan], self.warm
        return plan.fleet_net_kw

    def ask(self, call: Call, price: Floats | None, last: Mix | None) -> Answers:
        """As in `Shard`."""
        if last is not None:
            self._mixture = self._of_homes(last.weights)
        if self._gifts is None:
            assert price is not None
            fixed = _with_runs_placed(self._problem, self._plans[0])
            self._fixed = replace(fixed, fleet_curvature=np.where(call.capped, NEARNESS, 0.0))
            pushed, self._last = _pushed(self._fixed, price, self._last, self._effort)
            self._plans.append(pushed)
            self._gifts = _Gifts(self._problem.hours, call, self._plans[0], pushed)
        elif price is not None and last is not None:
            self._answer(price, self._gifts.price(last.share_price[self._team]) if len(self._plans) > 2 else 0.0)
        # The master evens teams; where a team is many homes, these are evened inside it.
        many = price is None and self._problem.homes > 2 * TEAMS
        if many and self._mixture is not None:
            self._mixture = self._gifts.levelled(self._mixture, self._plans)
        return self._answers(call, self._gifts, few=many)

    def _answer(self, price: Floats, added: Floats | float) -> None:
        """One more answer, near the mix in force."""
        own = np.maximum(price + TRUST * added, 0.0) - self._pull()
        plan, self._last = solve_fleet(replace(self._fixed, fleet_price=own), self._last, effort=self._effort)
        self._plans.append(plan)
        assert self._mixture is not None
        self._mixture = np.concatenate([self._mixture, np.zeros((1, self._problem.homes))])

    def _pull(self) -> Floats:
        """(N, T) what makes an import as in the mix free of the price's rise [EUR/kWh]."""
        assert self._mixture is not None
        net = sum(weight[:, None] * plan.net_kw for weight, plan in zip(self._mixture, self._plans, strict=True))
        return np.asarray(self._fixed.fleet_curvature * np.maximum(net, 0.0))

    def _of_homes(self, weights: Floats) -> Floats:
        """(K, N) part of each answer in the mix of each home; the mix in force is the last of what `weights` mix."""
        own = weights[:, self._team]
        if self._mixture is None:
            return own
        result = np.asarray(own[-1] * self._mixture)
        result[: len(own) - 1] += own[:-1]
        return result

    def _answers(self, call: Call, gifts: _Gifts, *, few: bool) -> Answers:
        share = np.stack([gifts.share(plan) for plan in self._plans])
        net = np.stack([plan.net_kw[:, call.capped] for plan in self._plans])
        cost = np.stack([plan.costs.total for plan in self._plans])
        if self._mixture is not None:
            share, net, cost = (_with_mixture(values, self._mixture) for values in (share, net, cost))
        if few:
            share, net, cost = (values[[0, 1, -1]] for values in (share, net, cost))
        self._team, teams = _teams(self._plans[0], share[-1], gifts.able)
        net, cost, share = (np.stack([_by_team(part, self._team, teams) for part in of]) for of in (net, cost, share))
        return Answers(net, cost, share, _by_team(gifts.able.astype(float), self._team, teams))

    def finish(self, mix: Mix, price: Floats) -> Floats:
        """As in `Shard`."""
        free = self._plans[0]
        mixed = _mixed(self._plans, self._of_homes(mix.weights))
        nowhere = np.full(free.shiftable_start.shape, -1, dtype=np.int64)
        final = project_plan(self._fixed, replace(mixed, shiftable_start=nowhere), threads=self._effort.threads)
        self.plan = replace(
            final, shiftable_start=free.shiftable_start, shiftable_kw=free.shiftable_kw, fleet_price=price,
            marginal_price=mixed.marginal_price,
        )  # fmt: skip
        self.warm = replace(self.warm, fleet_price=price)
        return self.plan.fleet_net_kw


def _pushed(problem: FleetProblem, price: Floats, warm: WarmStart, effort: Effort) -> tuple[FleetPlan, WarmStart]:
    """What homes do where their imports alone cost `price` (T,) more, at its true cost.

    Exports would make it no more of a curtailment, and a mix with it less even than its weights.
    """
    meter = problem.meter
    dear = replace(problem, meter=replace(meter, buy=meter.buy + price))
    plan, warm = solve_fleet(dear, warm, effort=effort)
    paid = np.maximum(plan.net_kw, 0) @ (problem.hours * price)
    return replace(plan, costs=replace(plan.costs, energy=plan.costs.energy - paid)), warm


class _Gifts:
    """What homes give on each occasion, of what they could do without: the import that the push takes from them.

    Exports count for nothing here: a home that sells what it has stored is not curtailed.
    """

    def __init__(self, hours: Floats, call: Call, free: FleetPlan, pushed: FleetPlan) -> None:
        self._hours, self._call, self._free = hours, call, free
        self._potential = self._given_kwh(pushed)
        self.able = self._potential > LEAST_KWH
        """(N, B) homes that can give."""

    def share(self, plan: FleetPlan) -> Floats:
        """(N, B) what `plan` gives, over what could be given; 0 for those who can't."""
        return np.divide(self._given_kwh(plan), self._potential, out=np.zeros(self.able.shape), where=self.able)

    def levelled(self, mixture: Floats, plans: list[FleetPlan]) -> Floats:
        """(K, N) `mixture` of `plans`, part of the way to where each home's shares are nearest to those of all homes.

        What is mixed in is the free plans or the push.
        """
        share = (mixture[:, :, None] * np.stack([self.share(plan) for plan in plans])).sum(axis=0)
        able = self.able.astype(float)
        wanted = (able * share).sum(axis=0) / np.maximum(able.sum(axis=0), 1.0)
        share, rest = able * share, able * (1 - share)
        less = np.clip(1 - share @ wanted / np.maximum((share**2).sum(axis=1), 1e-9), 0, 1) * able.any(axis=1)
        missing = (rest * (able * wanted - share)).sum(axis=1)
        more = np.where(less > 0, 0.0, np.clip(missing / np.maximum((rest**2).sum(axis=1), 1e-9), 0, 1))
        less, more = LEVEL * less, LEVEL * more
        result = mixture * (1 - less - more)
        result[0] += less
        result[1] += more
        return np.asarray(result)

    def price(self, share_price: Floats) -> Floats:
        """(N, T) what each home's import costs more [EUR/kWh] where a whole share of it is worth `share_price`."""
        own = np.divide(share_price, self._potential, out=np.zeros(self.able.shape), where=self.able)
        padded = np.concatenate([own, np.zeros((own.shape[0], 1))], axis=1)
        return padded[:, self._call.occasion]

    def _given_kwh(self, plan: FleetPlan) -> Floats:
        less = np.maximum(self._free.net_kw, 0) - np.maximum(plan.net_kw, 0)
        member = self._call.occasion[:, None] == np.arange(self._call.occasions)
        return np.asarray(less @ (member * self._hours[:, None]))


def _call(net_kw: Floats, cap_kw: Floats, hours: Floats) -> Call:
    """The occasions of the free plans' `net_kw` (T,): those with most energy beyond the cap."""
    over, ends = np.flatnonzero(_over(net_kw, cap_kw)), np.cumsum(hours)
    occasion = np.full(cap_kw.size, -1, dtype=np.int64)
    if over.size:
        new = np.diff(ends[over] - hours[over], prepend=-np.inf) > APART_H + hours[over]
        run = np.cumsum(new) - 1
        energy = np.bincount(run, (hours * (net_kw - cap_kw))[over])
        rank = np.argsort(np.argsort(-energy, kind="stable"))
        occasion[over] = np.where(rank[run] < MOST_OCCASIONS, rank[run], -1)
    return Call(np.isfinite(cap_kw), occasion)


def _over(net_kw: Floats, cap_kw: Floats) -> Bools:
    return np.asarray(net_kw > cap_kw + KEPT * np.abs(cap_kw))


def _miss(net_kw: Floats, cap_kw: Floats) -> Floats:
    return np.where(_over(net_kw, cap_kw), net_kw - cap_kw, 0.0)


def _teams(free: FleetPlan, share: Floats, able: Bools) -> tuple[Ints, int]:
    """(N,) team of each home, and how many teams there are: homes that give alike, import most at the same time, and
    charge and heat alike are together. `share` (K, N, B) of the answers so far.
    """
    homes = free.net_kw.shape[0]
    kind = (np.abs(free.ev_kw).max(axis=1) > 0) + 2 * (np.abs(free.battery_kw).max(axis=1) > 0) + 4 * able.any(axis=1)
    alike = [_ranked(given) for given in share.T]
    order = np.lexsort((free.net_kw.max(axis=1), free.net_kw.argmax(axis=1), *alike, kind))
    team, teams = np.empty(homes, dtype=np.int64), min(TEAMS, homes)
    team[order] = np.arange(homes) * teams // homes
    return team, teams


def _with_mixture(values: Floats, mixture: Floats) -> Floats:
    """`values` (K, N, ...) of the answers and, as the last, those of the `mixture` (K, N) of them."""
    part = mixture.reshape(*mixture.shape, *(1,) * (values.ndim - 2))
    return np.concatenate([values, (part * values).sum(axis=0)[None]])


def _ranked(values: Floats) -> Ints:
    """(N,) which of BINS equal parts of all homes each belongs to."""
    return np.argsort(np.argsort(values, kind="stable"), kind="stable") * BINS // values.size


def _by_team(values: Floats, team: Ints, teams: int) -> Floats:
    """(teams, ...) sums of `values` (N, ...)."""
    order = np.argsort(team, kind="stable")
    return np.asarray(np.add.reduceat(values[order], np.searchsorted(team[order], np.arange(teams)), axis=0))


def _with_runs_placed(problem: FleetProblem, plan: FleetPlan) -> FleetProblem:
    """The same problem with each run's start fixed as in `plan`: what is left is convex."""
    runs = problem.shiftable
    if runs is None:
        return problem
    load = problem.meter.load_kw + run_load(runs, problem.hours, plan.shiftable_start)
    idle = replace(runs, power_kw=np.zeros(runs.power_kw.shape))
    return replace(problem, meter=replace(problem.meter, load_kw=load), shiftable=idle)


def _mixed(plans: list[FleetPlan], weights: Floats) -> FleetPlan:
    """The plan in which each home follows each of `plans` to its weight (K, N), before it is settled."""

    def mean(name: str) -> Floats:
        parts = [getattr(plan, name) for plan in plans]
        shape = (-1,) + (1,) * (parts[0].ndim - 1)
        return np.asarray(sum(weight.reshape(shape) * part for weight, part in zip(weights, parts, strict=True)))

    return replace(
        plans[0], battery_kw=mean("battery_kw"), ev_kw=mean("ev_kw"), hvac_kw=mean("hvac_kw"),
        appliance_kw=mean("appliance_kw"), marginal_price=mean("marginal_price"),
    )  # fmt: skip
