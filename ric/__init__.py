"""What the RIC apps share: runtime, E2, E3 and A1 interfaces, twin bus."""
