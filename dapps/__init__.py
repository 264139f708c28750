"""RT RIC apps."""
