"""One seed -> random generators by component path, so that adding a home or a node shifts no other draw."""

from __future__ import annotations

import hashlib

import numpy as np

from ric.errors import TwinRicError

__all__ = ["Streams"]

WORDS = 4
SEED_LIMIT = 2**63


class Streams:
    """Named generators of one seed; equal seed and path give equal draws in every run and on every machine."""

    def __init__(self, seed: int) -> None:
        """Raises TwinRicError (SCENARIO-INVALID) for a seed outside 0..2**63-1."""
        if not 0 <= seed < SEED_LIMIT:
            raise TwinRicError("SCENARIO-INVALID", "seed", seed, f"0..{SEED_LIMIT - 1}")
        self.seed = seed

    def generator(self, path: str) -> np.random.Generator:
        """A fresh PCG64 generator for `path`, for example "node/00101-e2000001/traffic"; equal calls start alike."""
        digest = hashlib.sha256(path.encode()).digest()
        key = tuple(int.from_bytes(digest[4 * i : 4 * i + 4], "little") for i in range(WORDS))
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(self.seed, spawn_key=key)))

    def seed_of(self, path: str) -> int:
        """A 32-bit seed for `path`, for libraries that take a number."""
        return int(self.generator(path).integers(0, 2**32))
