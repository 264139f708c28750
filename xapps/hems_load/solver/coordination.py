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
from xapps.hems_load.solver.teams import TEAMS, blended, by_team, form_teams, mixed_by_team

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
LEVEL = 0.3
"""How much of the difference between what a home and what all homes give is taken away at the end, in big teams [1]."""
ROUNDS = 3
"""Answers to prices, the push among them: with the last price and the last answers to start from, three do what four
do without."""
KEPT_ANSWERS = 3
"""Answers that are kept for the next time to begin at, the push first."""
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
    rounds: int = ROUNDS,
    may_go_on: Callable[[], bool] = lambda: True,
    effort: Effort | None = None,
    evenness_eur: float = EVENNESS_EUR,
) -> tuple[FleetPlan, WarmStart]:
    """Plans whose net imports together stay within `cap_kw` (T,) [kW], infinite where there is no cap.

    Solves once without a price, then at most `rounds` times at prices while `may_go_on`, the last price (that of
    `warm`) first. `miss_kw` of the plan tells what the cap still misses. Against: one programme for all homes,
    tests/unit.
    """
    shard = LocalShard(problem, warm, shift_steps=shift_steps, effort=effort or Effort())
    options: dict[str, Any] = {"rounds": rounds, "may_go_on": may_go_on, "evenness_eur": evenness_eur}
    if warm is not None and warm.fleet_price.size == cap_kw.size:
        options["last_price"] = warm.fleet_price[np.minimum(np.arange(cap_kw.size) + shift_steps, cap_kw.size - 1)]
    outcome = coordinate_shards([shard], cap_kw, problem.hours, **options)
    return replace(shard.plan, miss_kw=outcome.miss_kw, rounds=outcome.rounds), shard.warm


def coordinate_shards(
    shards: Sequence[Shard],
    cap_kw: Floats,
    hours: Floats,
    *,
    rounds: int = ROUNDS,
    may_go_on: Callable[[], bool] = lambda: True,
    evenness_eur: float = EVENNESS_EUR,
    last_price: Floats | None = None,
    each: Each = map,
) -> Outcome:
    """Agree on prices with shards that have nothing in common but `cap_kw` (T,) on all of them, in steps of `hours`.

    `last_price` (T,) [EUR/kWh] is what an earlier agreement came to; it is tried where the cap binds again. The shards
    then hold their plans. What passes to and from a shard does not grow with its homes.
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
        target = _first_price(over, last_price) if taken == 1 else np.asarray(target + TRUST * (price - target))
    agreed = target
    net = np.asarray(sum(each(lambda shard, mix: shard.finish(mix, agreed), shards, own)))
    return Outcome(agreed, _miss(net, cap_kw), taken)


class LocalShard:
    """A shard of this process. `warm` is the last solution of the same homes, begun `shift_steps` earlier.

    `teams`: most teams that its homes mix in. The master's work grows faster than all shards' teams do.
    """

    def __init__(
        self, problem: FleetProblem, warm: WarmStart | None = None, *, shift_steps: int = 0, effort: Effort,
        teams: int = TEAMS,
    ) -> None:  # fmt: skip
        self._problem, self._effort, self._teams = replace(problem, fleet_price=None), effort, teams
        self._start, self._shift = warm, shift_steps
        self._answer_starts: tuple[WarmStart, ...] = () if warm is None else warm.answers
        self._plans: list[FleetPlan] = []
        self._gifts: _Gifts | None = None
        self._mixture: Floats | None = None

    def begin(self) -> Floats:
        """As in `Shard`."""
        plan, self.warm = solve_fleet(self._problem, self._start, shift_steps=self._shift, effort=self._effort)
        self.plan, self._plans = plan, [plan]
        self._taken: list[WarmStart] = []
        return plan.fleet_net_kw

    def ask(self, call: Call, price: Floats | None, last: Mix | None) -> Answers:
        """As in `Shard`."""
        if last is not None:
            self._mixture = self._of_homes(last.weights)
        if self._gifts is None:
            assert price is not None
            fixed = _with_runs_placed(self._problem, self._plans[0])
            self._fixed = replace(fixed, fleet_curvature=np.where(call.capped, NEARNESS, 0.0))
            self._take(_pushed, self._fixed, price)
            self._gifts = _Gifts(self._problem.hours, call, *self._plans)
        elif price is not None and last is not None:
            self._answer(price, self._gifts.price(last.share_price[self._team]) if len(self._plans) > 2 else 0.0)
        # The master evens teams; where a team is many homes, these are evened inside it.
        many = price is None and self._problem.homes > 2 * self._teams
        if many and self._mixture is not None:
            self._mixture = self._gifts.levelled(self._mixture, self._plans)
        return self._answers(call, self._gifts, few=many)

    def _take(self, solve: Callable[..., tuple[FleetPlan, WarmStart]], *of: Any) -> None:
        """One more answer, begun where the same one of the last time ended, or else at the one before."""
        number = len(self._taken)
        known = number < len(self._answer_starts)
        near = self._answer_starts[number] if known else [self.warm, *self._taken][-1]
        plan, warm = solve(*of, near, shift_steps=self._shift if known else 0, effort=self._effort)
        self._plans.append(plan)
        self._taken.append(warm)

    def _answer(self, price: Floats, added: Floats | float) -> None:
        """One more answer, near the mix in force."""
        own = np.maximum(price + TRUST * added, 0.0) - self._pull()
        self._take(solve_fleet, replace(self._fixed, fleet_price=own))
        assert self._mixture is not None
        self._mixture = np.concatenate([self._mixture, np.zeros((1, self._problem.homes))])

    def _pull(self) -> Floats:
        """(N, T) what makes an import as in the mix free of the price's rise [EUR/kWh]."""
        assert self._mixture is not None
        net = blended([plan.net_kw for plan in self._plans], self._mixture)
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
        """The answers, and as the last the mix in force; with `few` only the free plans, the push and the mix."""
        plans, mixture = self._plans, self._mixture
        share = [gifts.share(plan) for plan in plans]
        given = share[-1] if mixture is None else blended(share, mixture)
        self._team, teams = form_teams(plans[0], given, gifts.able, self._teams)

        def sums(parts: list[Floats]) -> Floats:
            single = [by_team(part, self._team, teams) for part in (parts[:2] if few else parts)]
            return np.stack(single if mixture is None else [*single, mixed_by_team(parts, mixture, self._team, teams)])

        net, cost = [plan.net_kw[:, call.capped] for plan in plans], [plan.costs.total[:, None] for plan in plans]
        able = by_team(gifts.able.astype(float), self._team, teams)
        return Answers(sums(net), sums(cost)[:, :, 0], sums(share), able)

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
        self.warm = replace(self.warm, fleet_price=price, answers=tuple(self._taken[:KEPT_ANSWERS]))
        return self.plan.fleet_net_kw


def _first_price(over: Bools, last_price: Floats | None) -> Floats:
    """What is asked for after the push: the last price where the cap binds, and never less than the first guess."""
    if last_price is None:
        return np.where(over, FIRST_PRICE, 0.0)
    return np.where(over, np.maximum(last_price, FIRST_PRICE), 0.0)


def _pushed(
    problem: FleetProblem, price: Floats, warm: WarmStart, *, shift_steps: int, effort: Effort
) -> tuple[FleetPlan, WarmStart]:
    """What homes do where their imports alone cost `price` (T,) more, at its true cost.

    Exports would make it no more of a curtailment, and a mix with it less even than its weights.
    """
    meter = problem.meter
    dear = replace(problem, meter=replace(meter, buy=meter.buy + price))
    plan, warm = solve_fleet(dear, warm, shift_steps=shift_steps, effort=effort)
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
        share = blended([self.share(plan) for plan in plans], mixture)
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
        steps = np.flatnonzero(self._call.occasion >= 0)
        less = np.maximum(self._free.net_kw[:, steps], 0) - np.maximum(plan.net_kw[:, steps], 0)
        member = self._call.occasion[steps, None] == np.arange(self._call.occasions)
        return np.asarray(less @ (member * self._hours[steps, None]))


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
    names = ("battery_kw", "ev_kw", "hvac_kw", "appliance_kw", "marginal_price")
    mean: dict[str, Any] = {name: blended([getattr(plan, name) for plan in plans], weights) for name in names}
    return replace(plans[0], **mean)
