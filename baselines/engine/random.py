"""Random numbers that depend on a member's seed and nothing else.

A counter-based generator: draw number ``c`` of a member with key ``k`` is ``mix(k + c * golden)``,
where ``mix`` is the finaliser of splitmix64 (Steele, Lea and Flood, OOPSLA 2014). There is no state
besides the counter, so

- a member's numbers are the same whatever its neighbours are and however many there are,
- integers and uniforms are the same bits on a CPU and on a GPU,
- a draw is a handful of elementwise kernels without host synchronisation, so a captured training
  step may contain it, and
- saving the counter saves the generator.

Each use has a stream of its own, named when it is made: drawing more in one place does not shift
the numbers of another.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def _signed(word: int) -> int:
    """Returns the int64 with the bits of an unsigned word: torch has no uint64 arithmetic."""
    return word - (1 << 64) if word >> 63 else word


GOLDEN = _signed(0x9E3779B97F4A7C15)
_MULTIPLIERS = (_signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB))
_UNIFORM_BITS = 23  # k + 1/2 is then exact in float32, and the result is never 0 or 1


def member_keys(seeds: Sequence[int], stream: str) -> np.ndarray:
    """Returns (P,) uint64 keys of a named stream, one per seed.

    Args:
        seeds: Non-negative member seeds.
        stream: The stream's name; streams of other names are independent.

    Raises:
        ValueError: If a seed is negative.
    """
    name = zlib.crc32(stream.encode())
    sequences = [np.random.SeedSequence(int(seed), spawn_key=(name,)) for seed in seeds]
    return np.array([each.generate_state(1, np.uint64)[0] for each in sequences], np.uint64)


class MemberRandom:
    """One named stream of random numbers per member.

    Args:
        seeds: (P,) member seeds; equal seeds give equal numbers.
        stream: The stream's name, for example ``"batches"``.
        device: Where numbers are made.
    """

    def __init__(self, seeds: Sequence[int], stream: str, device: torch.device | str = "cpu"):
        keys = member_keys(seeds, stream).view(np.int64)
        self.keys = torch.from_numpy(keys).to(device)
        self.counter = torch.zeros((), dtype=torch.int64, device=device)

    def bits(self, *shape: int) -> Tensor:
        """Returns (P, *shape) int64 words of 64 random bits."""
        count = math.prod(shape)
        words = torch.arange(1, count + 1, device=self.keys.device).add_(self.counter)
        self.counter.add_(count)
        words = words.mul_(GOLDEN) + self.keys.unsqueeze(-1)
        for shift, multiplier in zip((30, 27), _MULTIPLIERS, strict=True):
            words = words.bitwise_xor_(_shift_right(words, shift)).mul_(multiplier)
        words = words.bitwise_xor_(_shift_right(words, 31))
        return words.view(len(self.keys), *shape)

    def uniform(self, *shape: int) -> Tensor:
        """Returns (P, *shape) float32 uniforms on the open interval (0, 1)."""
        numbers = _shift_right(self.bits(*shape), 64 - _UNIFORM_BITS).float()
        return numbers.add_(0.5).mul_(2.0**-_UNIFORM_BITS)

    def integers(self, high: Tensor | int, *shape: int) -> Tensor:
        """Returns (P, *shape) int64 integers uniform on ``{0, ..., high - 1}``.

        By multiply-and-shift of 32 random bits; no integer's probability is off by more than a
        relative ``high * 2**-32``.

        Args:
            high: Exclusive bound below 2**31, one for all or (P,) one per member.
            shape: Shape of each member's draw.
        """
        if isinstance(high, Tensor):
            high = high.view(-1, *(1 for _ in shape))
        return _shift_right(self.bits(*shape), 32).mul_(high).bitwise_right_shift_(32)

    def bernoulli(self, probability: float, *shape: int) -> Tensor:
        """Returns (P, *shape) bool that are true with a probability, to 16 bits.

        Args:
            probability: In [0, 1].
            shape: Shape of each member's draw. Four numbers are made of one word.
        """
        count = math.prod(shape)
        lanes = self.bits(-(-count // 4)).view(torch.int16)[:, :count]
        return (lanes < round(probability * 2**16) - 2**15).view(-1, *shape)

    def normal(self, *shape: int) -> Tensor:
        """Returns (P, *shape) float32 standard normals (Box and Muller's transform)."""
        radius, angle = self.uniform(2, *shape).unbind(1)
        return radius.log_().mul_(-2.0).sqrt_() * angle.mul_(2.0 * math.pi).cos_()

    def state_dict(self) -> dict[str, Tensor]:
        """Returns the live tensors that determine all further draws."""
        return {"keys": self.keys, "counter": self.counter}


def _shift_right(words: Tensor, bits: int) -> Tensor:
    """Shifts as unsigned words do: zeros come in from the left."""
    return words.bitwise_right_shift(bits).bitwise_and_((1 << (64 - bits)) - 1)
