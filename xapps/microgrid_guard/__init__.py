"""Microgrid guard: finds a DoS on a microgrid's agent and lets a digital twin take over (Near-RT RIC)."""

__all__: list[str] = []
