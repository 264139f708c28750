"""A cap on what all homes import together, kept by prices.

Each home answers a price series with its best plan. Its answers at several prices are mixed by a small master programme
(`master.py`) so that the sum respects the cap at least cost and homes give evenly. A mix is feasible for every home,
since what a home can do is convex once its runs are placed. Homes mix in teams, each with its own weights. After any
round there is a plan.

Three answers are enough where the third is nearly the plan wanted: the free plans, what homes do at a price that takes
all they can give (the push), and the answer at the last cycle's price, asked near an import of which all homes that can
give have given the same part. That price follows how far the answers themselves pass the cap or fall short of it.

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
from xapps.hems_load.solver.fleet import Effort, WarmStart, project_mix, solve_fleet
from xapps.hems_load.solver.held import Held
from xapps.hems_load.solver.master import MISS_EUR_PER_KWH, Answers, Mix, mix_answers
from xapps.hems_load.solver.occasions import Call, Gifts, call_of, miss_of, over_of
from xapps.hems_load.solver.teams import TEAMS, Habits, blended, by_team, form_teams, mixed_by_team

__all__ = ["EVENNESS_EUR", "LocalShard", "Outcome", "Shard", "coordinate_fleet", "coordinate_shards"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

EVENNESS_EUR = 1.0
"""What evenness may cost unless told: half of this for each home that gives all it can where the others give nothing
[EUR]."""
FIRST_PRICE = 0.005
"""Least price that is asked for where the free plans pass the cap [EUR/kWh]: what can wait waits for that."""
PUSH_PRICE = 1.0
"""A price at which a home gives what it can without harm [EUR/kWh]."""
PRICE_STEP = 0.1
"""Change of the price where the last answers together are beyond their cap by all of it [EUR/kWh] ..."""
MOST_OFF = 0.5
"""... or by no more than this part of it [1]."""
URGENCY = 0.3
"""Step from the price to what a miss costs, where even the mix misses the cap [1]."""
OWN_STEP = 0.1
"""Step from a home's own price to what its team's share is worth to the master [1]."""
NEARNESS = 0.01
"""Rise of a home's price with its import's distance from where the answer is asked [EUR/kWh per kW], no cost: homes
that all see the same cheap quarter of an hour share it."""
NEARNESS_GIVING = 0.3
"""The same on the occasions for which homes give: it keeps the answer even."""
PUSH_LOOSER, PUSH_KEPT_LOOSER = 10.0, 2.0
"""Times as large a duality gap as that of plans is enough for the push, and for the iterate kept of it [1]."""
COLD_PUSH = 0.7
"""Length of a push against that of free plans that began from nothing, at most [1]: 0.6 for 10,000 homes."""
FEW_TO_LEVEL = 4
"""Homes of a team beyond which they are evened inside it; with fewer it costs more than it gives."""
ROUNDS = 2
"""Answers to prices, the push among them."""
ANSWER_MU = 2e-4
"""Complementarity at which an answer begins, near the free plans or the answer before [EUR per bound]."""


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

    def push(self, call: Call, price: Floats) -> Floats:
        """Answer `price` (T,) [EUR/kWh] on imports alone; (T,) how much less is then imported on the occasions [kW]."""
        ...

    def ask(self, part: Floats, price: Floats | None, last: Mix | None) -> Answers:
        """All answers so far and the `last` mix, by teams that are formed anew.

        The free plans are the first answer, the push is the second. The one to `price` (T,) [EUR/kWh] and the homes'
        own prices is asked near the last mix of the last teams, or where there is none yet, near imports of which all
        homes have given `part` (T,) of what they can. None asks for no new answer: the next mix is carried out.
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
    may_go_on: Callable[[float], bool] = lambda _: True,
    effort: Effort | None = None,
    evenness_eur: float = EVENNESS_EUR,
) -> tuple[FleetPlan, WarmStart]:
    """Plans whose net imports together stay within `cap_kw` (T,) [kW], infinite where there is no cap.

    Solves once without a price, then at most `rounds` times at prices while `may_go_on`: it is asked before each of
    these whether there is time for one so many times as long as what was done since it was asked last. `miss_kw` of the
    plan tells what the cap still misses. Against: one programme for all homes, tests/unit.
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
    may_go_on: Callable[[float], bool] = lambda _: True,
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
    over = over_of(net, cap_kw)
    if not over.any() or not rounds or not may_go_on(COLD_PUSH if last_price is None else 1.0):
        return Outcome(np.zeros(cap_kw.size), miss_of(net, cap_kw), 0)
    call, dear = call_of(net, cap_kw, hours, evenness_eur / EVENNESS_EUR), np.where(over, PUSH_PRICE, 0.0)
    most_kw = np.asarray(sum(each(lambda shard, _: shard.push(call, dear), shards, nothing)))
    part = np.clip(np.where(over, net - cap_kw, 0.0) / np.maximum(most_kw, 1e-9), 0.0, 1.0)
    price, own, taken = _first_price(over, last_price), list[Mix | None](nothing), 1
    asked = price if rounds > 1 and may_go_on(1.0) else None
    goes_on = True
    while goes_on:
        parts = list(each(lambda shard, mix, at=asked: shard.ask(part, at, mix), shards, own))
        mix = mix_answers(Answers.joined(parts), cap_kw[call.capped], hours[call.capped], evenness_eur)
        own = list[Mix | None](mix.split([answers.able.shape[0] for answers in parts]))
        goes_on = asked is not None
        if goes_on:
            taken += 1
            net_kw = sum(answers.net_kw[taken].sum(axis=0) for answers in parts)
            price = _next_price(price, call, net_kw, cap_kw, mix)
            asked = price if taken < rounds and may_go_on(1.0) else None  # the last mix is of no new answer
    agreed = price
    net = np.asarray(sum(each(lambda shard, mix: shard.finish(mix, agreed), shards, own)))
    return Outcome(agreed, miss_of(net, cap_kw), taken)


def _first_price(over: Bools, last_price: Floats | None) -> Floats:
    """What is asked for after the push: the last price, and where the cap binds never less than the least."""
    return np.where(over, FIRST_PRICE, 0.0) if last_price is None else np.maximum(last_price, FIRST_PRICE * over)


def _next_price(price: Floats, call: Call, net_kw: Any, cap_kw: Floats, mix: Mix) -> Floats:
    """`price` (T,) after answers that import `net_kw` (caps,) together: dearer where they are beyond the cap.

    Where even the mix misses it, what a miss costs is approached.
    """
    result, cap = price.copy(), cap_kw[call.capped]
    off = np.clip((np.asarray(net_kw) - cap) / np.maximum(np.abs(cap), 1.0), -MOST_OFF, MOST_OFF)
    own = np.maximum(price[call.capped] + PRICE_STEP * off, 0.0)
    missed = mix.price > MISS_EUR_PER_KWH * (1 - 1e-6)
    result[call.capped] = np.where(missed, own + URGENCY * np.maximum(mix.price - own, 0.0), own)
    return result


class LocalShard:
    """A shard of this process. `warm` is the last solution of the same homes, begun `shift_steps` earlier.

    `teams`: most teams that its homes mix in. The master's work grows faster than all shards' teams do. `homes`: those
    of the largest shard; all shards or none even their teams inside.
    """

    def __init__(
        self, problem: FleetProblem, warm: WarmStart | None = None, *, shift_steps: int = 0, effort: Effort,
        teams: int = TEAMS, homes: int = 0,
    ) -> None:  # fmt: skip
        self._levels = max(problem.homes, homes) > FEW_TO_LEVEL * teams
        self._problem, self._effort, self._teams = replace(problem, fleet_price=None), effort.alike, teams
        self._start, self._shift = warm, shift_steps
        self._last_push, held = (None, None) if warm is None else (warm.push, warm.held)
        self._held = Held.later(held, (problem.homes, problem.steps), shift_steps)
        self._plans: list[FleetPlan] = []
        self._taken: list[WarmStart] = []
        self._mixture: Floats | None = None

    def begin(self) -> Floats:
        """As in `Shard`."""
        plan, self.warm = solve_fleet(self._problem, self._start, shift_steps=self._shift, effort=self._effort)
        self.plan, self._plans = plan, [plan]
        return plan.fleet_net_kw

    def push(self, call: Call, price: Floats) -> Floats:
        """As in `Shard`."""
        fixed = _with_runs_placed(self._problem, self._plans[0])
        giving = NEARNESS + call.evenness * (NEARNESS_GIVING - NEARNESS)
        curvature = np.where(call.occasion >= 0, giving, np.where(call.capped, NEARNESS, 0.0))
        self._fixed, self._call = replace(fixed, fleet_curvature=curvature), call
        meter = self._fixed.meter
        gap, kept = PUSH_LOOSER * self._effort.gap_eur, PUSH_KEPT_LOOSER * self._effort.kept_gap_eur
        rough = replace(self._effort, gap_eur=gap, kept_gap_eur=kept)
        # It is far from the free plans, and near the last push.
        last, shift = (self.warm, 0) if self._last_push is None else (self._last_push, self._shift)
        self._take(replace(self._fixed, meter=replace(meter, buy=meter.buy + price)), rough, last, shift)
        pushed = self._plans[1]
        # At its true cost. Exports would make it no more of a curtailment, and a mix with it less even than its
        # weights: they do not pay the price.
        paid = np.maximum(pushed.net_kw, 0) @ (self._problem.hours * price)
        self._plans[1] = replace(pushed, costs=replace(pushed.costs, energy=pushed.costs.energy - paid))
        self._gifts = Gifts(self._problem.hours, call, *self._plans)
        self._habits = Habits.of(self._plans[0])
        self._shares = [self._gifts.share(plan) for plan in self._plans]
        return self._gifts.most_kw

    def ask(self, part: Floats, price: Floats | None, last: Mix | None) -> Answers:
        """As in `Shard`."""
        if last is not None:
            self._use(last)
        if price is not None:
            self._answer(part, price)
        # The master evens teams; where a team is many homes, these are evened inside it.
        many = price is None and self._levels and self._mixture is not None
        if many and self._mixture is not None:
            self._mixture = self._gifts.levelled(self._mixture, self._shares)
        return self._answers(few=many)

    def _use(self, mix: Mix) -> None:
        """Take on the mix of the last teams, and what it says of the homes' own prices."""
        self._mixture = self._of_homes(mix.weights)
        if len(self._plans) > 2:
            self._held.follow(self._gifts.price(mix.share_price[self._team]), self._call.occasion, OWN_STEP)

    def _take(self, problem: FleetProblem, effort: Effort, near: WarmStart, shift_steps: int = 0) -> None:
        """One more answer, begun at `near`."""
        plan, warm = solve_fleet(problem, near, shift_steps=shift_steps, effort=effort)
        self._plans.append(plan)
        self._taken.append(warm)

    def _answer(self, part: Floats, price: Floats) -> None:
        """One more answer, near the mix in force or the even one: an import as there is free of the price's rise."""
        curvature, net_kw = self._fixed.fleet_curvature, [plan.net_kw for plan in self._plans]
        assert curvature is not None
        if self._mixture is None:
            given = np.where(self._call.occasion >= 0, part, -1.0)
            own = self._held.even_prices(price, curvature, net_kw[0], net_kw[1], given)
        else:
            own = self._held.prices(price, curvature, blended(net_kw, self._mixture))
            self._mixture = np.concatenate([self._mixture, np.zeros((1, self._problem.homes))])
        dear = replace(self._fixed, fleet_price=own)
        begin = self._taken[-1] if len(self._taken) > 1 else self.warm
        self._take(dear, replace(self._effort, warm_mu=ANSWER_MU), begin)
        self._shares.append(self._gifts.share(self._plans[-1]))

    def _of_homes(self, weights: Floats) -> Floats:
        """(K, N) part of each answer in the mix of each home; the mix in force is the last of what `weights` mix."""
        own = weights[:, self._team]
        if self._mixture is None:
            return own
        result = np.asarray(own[-1] * self._mixture)
        result[: len(own) - 1] += own[:-1]
        return result

    def _answers(self, *, few: bool) -> Answers:
        """The answers, and as the last the mix in force; with `few` only the free plans, the push and the mix."""
        plans, mixture, share, capped = self._plans, self._mixture, self._shares, self._call.capped
        given = share[-1] if mixture is None else blended(share, mixture)
        self._team, teams = form_teams(self._habits, given, self._gifts.able, self._teams)

        def sums(parts: list[Floats]) -> Floats:
            single = [by_team(part, self._team, teams) for part in (parts[:2] if few else parts)]
            return np.stack(single if mixture is None else [*single, mixed_by_team(parts, mixture, self._team, teams)])

        net, cost = [plan.net_kw for plan in plans], [plan.costs.total[:, None] for plan in plans]
        able = by_team(self._gifts.able.astype(float), self._team, teams)
        return Answers(sums(net)[:, :, capped], sums(cost)[:, :, 0], sums(share), able)

    def finish(self, mix: Mix, price: Floats) -> Floats:
        """As in `Shard`."""
        self._use(mix)
        assert self._mixture is not None
        free, plans, self._plans = self._plans[0], self._plans, []
        final = project_mix(self._fixed, plans, self._mixture, threads=self._effort.threads)
        final.shiftable_kw[:] = free.shiftable_kw
        self.plan = replace(final, shiftable_start=free.shiftable_start, fleet_price=price)
        self._held.note(free.net_kw, final.net_kw)
        self.warm = replace(self.warm, fleet_price=price, push=self._taken[0], held=self._held)
        return self.plan.fleet_net_kw


def _with_runs_placed(problem: FleetProblem, plan: FleetPlan) -> FleetProblem:
    """The same problem with each run's start fixed as in `plan`: what is left is convex."""
    runs = problem.shiftable
    if runs is None:
        return problem
    idle = replace(runs, power_kw=np.zeros(runs.power_kw.shape))
    load = problem.meter.load_kw + plan.shiftable_kw
    return replace(problem, meter=replace(problem.meter, load_kw=load), shiftable=idle)
