"""Demand twin: probabilistic demand forecasts per home and feeder, at 1 min and 15 min (Non-RT RIC)."""

__all__: list[str] = []
