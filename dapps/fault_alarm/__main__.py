"""`python -m dapps.fault_alarm --config FILE`."""

from dapps.fault_alarm.app import FaultAlarmApp
from ric.launch import main

main(FaultAlarmApp)
