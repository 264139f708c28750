"""Near-RT RIC apps."""
