"""Storage scheduling: charge, discharge and reserve of community storage from forecasts and prices (Non-RT RIC)."""

__all__: list[str] = []
