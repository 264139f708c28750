"""`python -m rapps.storage_scheduling --config FILE`."""

from rapps.storage_scheduling.app import StorageSchedulingApp
from ric.launch import main

main(StorageSchedulingApp)
