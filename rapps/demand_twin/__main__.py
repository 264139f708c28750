"""`python -m rapps.demand_twin --config FILE`."""

from rapps.demand_twin.app import DemandTwinApp
from ric.launch import main

main(DemandTwinApp)
