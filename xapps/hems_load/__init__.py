"""Home energy management: set-points of every device in every home, least cost and discomfort (Near-RT RIC)."""

__all__: list[str] = []
