"""`python -m xapps.hems_load --config FILE`."""

from ric.launch import main
from xapps.hems_load.app import HemsLoadApp

main(HemsLoadApp)
