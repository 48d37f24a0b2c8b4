from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines.engine.random import MemberRandom, member_keys

SEEDS = [0, 1, 2, 12345]


def splitmix64(state, count):
    """The generator as published, in Python integers."""
    words, mask = [], (1 << 64) - 1
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        words.append(z ^ (z >> 31))
    return words


def unsigned(words):
    return words.numpy().view(np.uint64)


def test_published_numbers_of_splitmix64():
    random = MemberRandom([0], "any")
    random.keys.fill_(1234567)
    assert unsigned(random.bits(5))[0].tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_bits_are_splitmix64_from_each_members_key_draw_after_draw():
    random = MemberRandom(SEEDS, "batches")
    drawn = np.concatenate(
        [unsigned(random.bits(10, 5)).reshape(4, -1), unsigned(random.bits(7))], 1
    )
    keys = member_keys(SEEDS, "batches")
    assert drawn.tolist() == [splitmix64(int(key), 57) for key in keys]


def test_uniforms_and_integers_follow_from_the_bits():
    bits = unsigned(MemberRandom(SEEDS, "s").bits(1000))
    uniforms = MemberRandom(SEEDS, "s").uniform(1000)
    assert uniforms.dtype == torch.float32
    expected = ((bits >> np.uint64(41)).astype(np.float64) + 0.5) / 2**23
    np.testing.assert_array_equal(uniforms.numpy().astype(np.float64), expected)

    highs = np.array([1, 7, 1000, 2**31 - 1], np.uint64)
    integers = MemberRandom(SEEDS, "s").integers(torch.from_numpy(highs.astype(np.int64)), 1000)
    expected = ((bits >> np.uint64(32)) * highs[:, None]) >> np.uint64(32)
    np.testing.assert_array_equal(integers.numpy(), expected.astype(np.int64))


def test_a_members_numbers_do_not_depend_on_its_neighbours():
    together = MemberRandom(SEEDS, "s")
    alone = MemberRandom([2], "s")
    for draw in ("uniform", "normal"):
        torch.testing.assert_close(
            getattr(together, draw)(3, 50)[2:3], getattr(alone, draw)(3, 50), rtol=1e-6, atol=1e-6
        )
    assert torch.equal(together.integers(10, 50)[2:3], alone.integers(10, 50))


def test_streams_and_seeds_differ_and_equal_seeds_agree():
    first, second = MemberRandom([3, 3, 4], "init"), MemberRandom([3, 3, 4], "batches")
    a, b = first.bits(100), second.bits(100)
    assert torch.equal(a[0], a[1])
    assert not (a[0] == a[2]).any()
    assert not (a == b).any()


@pytest.mark.parametrize(("word", "uniform"), [(0, 2.0**-24), (-1, 1 - 2.0**-24)])
def test_uniforms_are_never_zero_or_one(monkeypatch, word, uniform):
    random = MemberRandom([0], "s")
    monkeypatch.setattr(random, "bits", lambda *shape: torch.full((1, *shape), word))
    assert random.uniform(3).tolist() == [[uniform] * 3]
    assert random.normal(3).isfinite().all()
    assert random.integers(10, 3).tolist() == [[0 if word == 0 else 9] * 3]


def test_distributions():
    random = MemberRandom(SEEDS, "s")
    count = 200_000
    uniforms = random.uniform(count)
    for member in uniforms:
        counts = torch.histc(member, 100, 0, 1)
        chi_square = ((counts - count / 100) ** 2 / (count / 100)).sum()
        assert 50 < chi_square < 160  # 99 degrees of freedom
    lagged = torch.stack([uniforms[:, :-1].flatten(), uniforms[:, 1:].flatten()])
    assert torch.corrcoef(lagged)[0, 1].abs() < 5e-3
    neighbours = torch.corrcoef(uniforms) - torch.eye(len(SEEDS))
    assert neighbours.abs().max() < 1e-2

    normals = random.normal(count).double()
    moments = [(normals**power).mean().item() for power in (1, 2, 3, 4)]
    np.testing.assert_allclose(moments, [0, 1, 0, 3], atol=0.04)

    integers = random.integers(10, count)
    np.testing.assert_allclose(torch.bincount(integers.flatten()) / (4 * count), 0.1, atol=2e-3)


def test_restored_counter_continues_the_stream():
    random = MemberRandom(SEEDS, "s")
    random.uniform(17)
    saved = {name: tensor.clone() for name, tensor in random.state_dict().items()}
    expected = random.uniform(20)
    resumed = MemberRandom(SEEDS, "s")
    for name, tensor in resumed.state_dict().items():
        tensor.copy_(saved[name])
    assert torch.equal(resumed.uniform(20), expected)


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="non-negative"):
        MemberRandom([-1], "s")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_draws_the_same_bits():
    on_cpu, on_gpu = MemberRandom(SEEDS, "s"), MemberRandom(SEEDS, "s", "cuda")
    for draw in ("bits", "uniform"):
        assert torch.equal(getattr(on_cpu, draw)(1000), getattr(on_gpu, draw)(1000).cpu())
    assert torch.equal(on_cpu.integers(7, 1000), on_gpu.integers(7, 1000).cpu())
