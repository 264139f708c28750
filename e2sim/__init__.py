"""The bundled E2 simulator: RAN x grid, seeded."""
