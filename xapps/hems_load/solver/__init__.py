"""Plans for a fleet of homes at once: batched interior point, chosen runs, one price for a cap on all."""

from xapps.hems_load.solver.coordination import coordinate_fleet
from xapps.hems_load.solver.fleet import Effort, WarmStart, project_plan, solve_fleet
from xapps.hems_load.solver.warm_up import warm_up

__all__ = ["Effort", "WarmStart", "coordinate_fleet", "project_plan", "solve_fleet", "warm_up"]
