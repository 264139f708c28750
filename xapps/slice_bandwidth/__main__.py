"""`python -m xapps.slice_bandwidth --config FILE`."""

from ric.launch import main
from xapps.slice_bandwidth.app import SliceBandwidthApp

if __name__ == "__main__":
    main(SliceBandwidthApp)
