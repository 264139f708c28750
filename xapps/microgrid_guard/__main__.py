"""`python -m xapps.microgrid_guard --config FILE`."""

from ric.launch import main
from xapps.microgrid_guard.app import MicrogridGuardApp

main(MicrogridGuardApp)
