"""Counter-based random numbers: the draw at step ``t`` of a stream is a hash of (key, t).

A generator with internal state ties a number to the order in which everybody drew. Here the order
does not matter: environment ``i`` of a batch of any width gets the same numbers as the environment
alone, and a batch is one vectorised expression. The hash is SplitMix64's output function (Steele,
Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014) at position
``t + 1`` of the sequence that starts at ``key``. Keys should be random 64-bit numbers: keys that
differ by a multiple of the sequence's increment share a shifted sequence.
"""

from __future__ import annotations

import numpy as np

_INCREMENT = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))
_UNIFORM_SHIFT = np.uint64(11)
_UNIFORM_SCALE = 2.0**-53


def counter_bits(keys: np.ndarray, counters: np.ndarray) -> np.ndarray:
    """Returns 64 random bits for each pair of key and counter.

    Args:
        keys: (n,) uint64, one per stream.
        counters: (n,) non-negative integers below 2**64 - 1. Other shapes broadcast.

    Returns:
        uint64 array of the broadcast shape.
    """
    bits = keys + (counters.astype(np.uint64) + np.uint64(1)) * _INCREMENT
    bits ^= bits >> _SHIFTS[0]
    bits *= _MULTIPLIERS[0]
    bits ^= bits >> _SHIFTS[1]
    bits *= _MULTIPLIERS[1]
    bits ^= bits >> _SHIFTS[2]
    return bits


def counter_uniforms(keys: np.ndarray, counters: np.ndarray) -> np.ndarray:
    """Returns a uniform float64 in [0, 1), a multiple of 2**-53, for each key and counter.

    Args:
        keys: (n,) uint64, one per stream.
        counters: (n,) non-negative integers below 2**64 - 1. Other shapes broadcast.

    Returns:
        float64 array of the broadcast shape.
    """
    return (counter_bits(keys, counters) >> _UNIFORM_SHIFT) * _UNIFORM_SCALE


def draw_key(rng: np.random.Generator) -> np.uint64:
    """Draws the key of a new stream."""
    return rng.integers(0, 2**64, dtype=np.uint64)
