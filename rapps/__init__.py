"""Non-RT RIC apps."""
