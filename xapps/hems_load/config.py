"""Settings of the HEMS that need a restart."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, ValidationInfo, field_validator

from ric.app_spec import AppConfig

__all__ = ["HemsConfig"]


class HemsConfig(AppConfig):
    """Cadence of reports and plans, length of the horizon, effort per cycle."""

    stale_after_s: float = Field(default=180.0, gt=0, le=86_400)
    """No report for this long [s] leads to the safe action."""
    report_period_ms: int = Field(default=60_000, ge=1_000, le=900_000)
    """Period of the grid indications that the app subscribes to [ms]; between plans the set-points follow each of them,
    so 1000 tracks PV and load second by second."""
    plan_every_s: float = Field(default=900.0, ge=60, le=86_400)
    """Age at which a plan is made anew [s]; a policy change or a new forecast makes one sooner."""
    minute_steps: int = Field(default=15, ge=0, le=60)
    """First steps of a plan, 1 min each: the set-points of the coming minutes. As many as `plan_every_s` has."""
    quarter_steps: int = Field(default=95, ge=8, le=192)
    """Steps of a plan after that, 15 min each, by the clock; the first is what the minutes leave of theirs."""
    price_rounds: int = Field(default=6, ge=0, le=50)
    """Most rounds of price coordination per plan where a cap binds. 0 leaves the cap to the real-time limits."""
    expected_homes: int = Field(default=0, ge=0, le=1_000_000)
    """Homes for whose plans memory is made ready at the start, 0.1 MB each; without it the first cycles of some
    thousand homes under a cap take longer."""
    solver_threads: int = Field(default=2, ge=1, le=256)
    """Threads that share the homes while a plan is made."""
    shards: int = Field(default=0, ge=0, le=256)
    """Ray actors among which the homes of each node are dealt out, each with `solver_threads`, with the fleet's price
    as all that they share; 0 plans in the app's own process. Caps of home groups are settled there in any case."""
    ray_address: str = Field(default="", max_length=255, pattern=r"^((ray://)?[^\s:/]+:[0-9]{1,5})?$")
    """Ray cluster of the shards, host:port or ray://host:port; empty for actors on this machine."""
    shard_answer_s: float = Field(default=10.0, gt=0, le=600)
    """A shard without an answer for so long [s] is taken for lost: the last plan holds, and new shards are started."""
    valid_for_s: float = Field(default=300.0, ge=30, le=3_600)
    """Set-points expire after this long [s]; the homes then return to their local control."""
    twin_valid_for_ms: int = Field(default=600_000, ge=1_000, le=86_400_000)
    """Readers drop reported twins older than this [ms]."""
    coordination_ms: float = Field(default=1_000.0, gt=0, le=10_000)
    """A round of price coordination begins only where one as long as the last would end within this long [ms] of the
    cycle's begin; the answers so far are then mixed and settled."""
    desired_by_bus: tuple[str, ...] = ()
    """E2 nodes whose homes are told by desired state on the bus (`twin.desired`) and not by E2 controls."""
    confirm_within_s: float = Field(default=180.0, ge=1, le=86_400)
    """Homes told by desired state whose reports show something else for this long [s] raise an alarm."""
    home_groups: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    """Groups of homes that A1 policies may name in `scope.home_group`: by name, homes as NODE/HOME with * and ? allowed
    in HOME, all of one node. A home may be in several groups."""
    control_deadline_s: float = Field(default=1.0, gt=0, le=30)
    """An E2 node must have put the set-points in force after this long [s]."""

    @field_validator("home_groups")
    @classmethod
    def _of_one_node(cls, groups: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
        for name, homes in groups.items():
            if not 0 < len(name) <= 128:
                raise ValueError("names of 1 to 128 characters")
            nodes = {node if slash and home else "" for node, slash, home in (each.partition("/") for each in homes)}
            if len(nodes) != 1 or "" in nodes:
                raise ValueError(f"homes of group {name!r:.80} as NODE/HOME, at least one, all of one node")
        return groups

    @field_validator("ray_address")
    @classmethod
    def _for_shards(cls, address: str, info: ValidationInfo) -> str:
        if address and info.data.get("shards") == 0:
            raise ValueError("empty, or shards of 1 to 256 beside it")
        return address

    def members_at(self, node: str) -> dict[str, tuple[str, ...]]:
        """Patterns of home ids by group, of the groups at `node`."""
        return {
            name: tuple(home.partition("/")[2] for home in homes)
            for name, homes in self.home_groups.items()
            if homes[0].partition("/")[0] == node
        }
