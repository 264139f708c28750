"""One module per claim: `python -m benchmarks.NAME [--json F]`."""
