"""A1: policies from rApps and the SMO, northbound as A1-P v2, southbound towards apps as gRPC."""
