from __future__ import annotations

import numpy as np
import pytest

from hetero_bench.counter_random import counter_bits, counter_uniforms, draw_key

STREAMS, STEPS = 2000, 300


@pytest.fixture(scope="module")
def uniforms():
    keys = np.random.default_rng(0).integers(0, 2**64, STREAMS, dtype=np.uint64)
    return counter_uniforms(keys[:, None], np.arange(STEPS))


def test_bits_are_splitmix64s_published_output():
    """The first outputs of SplitMix64 with seed 0, computed here in Python's big integers too."""
    bits = counter_bits(np.zeros(3, dtype=np.uint64), np.arange(3))
    assert bits.tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_bits_match_big_integer_arithmetic():
    mask = 2**64 - 1
    for key, counter in [(0, 0), (2**64 - 1, 5), (123456789, 2**40), (2**63, 299)]:
        z = (key + (counter + 1) * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        expected = z ^ (z >> 31)
        bits = counter_bits(np.array([key], dtype=np.uint64), np.array([counter]))
        assert int(bits[0]) == expected


def test_each_draw_depends_only_on_its_own_key_and_counter(uniforms):
    keys = np.random.default_rng(0).integers(0, 2**64, STREAMS, dtype=np.uint64)
    alone = counter_uniforms(keys[17:18], np.array([123]))
    assert alone[0] == uniforms[17, 123]
    assert np.array_equal(
        counter_uniforms(keys[:5], np.array([3, 1, 4, 1, 5])), uniforms[range(5), [3, 1, 4, 1, 5]]
    )


def test_uniforms_are_uniform(uniforms):
    """Chi-squared over 100 bins; 99 degrees of freedom have mean 99 and deviation 14."""
    assert uniforms.min() >= 0.0
    assert uniforms.max() < 1.0
    counts, _ = np.histogram(uniforms, bins=100, range=(0.0, 1.0))
    expected = uniforms.size / 100
    assert ((counts - expected) ** 2 / expected).sum() < 99 + 5 * 14
    assert abs(uniforms.mean() - 0.5) < 5 * np.sqrt(1 / 12 / uniforms.size)


def test_consecutive_steps_and_streams_are_uncorrelated(uniforms):
    centred = uniforms - 0.5
    bound = 5 / np.sqrt(uniforms.size)
    for lag in (1, 2, 7):
        assert abs(12 * (centred[:, lag:] * centred[:, :-lag]).mean()) < bound * 1.1
        assert abs(12 * (centred[lag:] * centred[:-lag]).mean()) < bound * 1.1


def test_neighbouring_keys_give_unrelated_numbers():
    keys = np.arange(20_000, dtype=np.uint64)
    uniforms = counter_uniforms(keys, np.zeros(len(keys), dtype=np.int64))
    assert abs(np.corrcoef(uniforms[1:], uniforms[:-1])[0, 1]) < 0.03


def test_every_bit_is_balanced():
    keys = np.random.default_rng(1).integers(0, 2**64, 50_000, dtype=np.uint64)
    bits = counter_bits(keys, np.arange(len(keys)))
    ones = [(bits >> np.uint64(i) & np.uint64(1)).mean() for i in range(64)]
    assert np.abs(np.array(ones) - 0.5).max() < 5 * 0.5 / np.sqrt(len(keys))


def test_no_warning_is_raised_by_overflow(recwarn):
    counter_uniforms(np.array([2**64 - 1], dtype=np.uint64), np.array([2**63]))
    assert not recwarn


def test_keys_come_from_the_generator():
    assert draw_key(np.random.default_rng(3)) == draw_key(np.random.default_rng(3))
    assert draw_key(np.random.default_rng(3)).dtype == np.uint64
