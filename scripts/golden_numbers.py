"""Numbers that a test makes again instead of reading them (`uniform` in crates/trainer/src/test_support.rs)."""

import numpy as np


def uniform(name, shape):
    """Seeded by a name, in [-0.5, 0.5), each of which f32 holds exactly."""
    state = 0xCBF29CE484222325  # FNV-1a
    for byte in name.encode():
        state = ((state ^ byte) * 0x100000001B3) % 2**64
    values = np.empty(shape)
    for i in range(values.size):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        values.flat[i] = (state >> 40) / 2**24 - 0.5
    return values
