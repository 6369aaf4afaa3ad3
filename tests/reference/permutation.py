"""Twin of csrc/base/random.h and csrc/base/permutation.c."""

from math import isqrt

MASK32 = 2**32 - 1
MASK64 = 2**64 - 1
STREAM_SHUFFLE = 3


def mix(x: int) -> int:
    """The finaliser of splitmix64."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK64
    return x ^ (x >> 31)


def stream(seed: int, number: int) -> int:
    """Where a stream of a seed starts."""
    return mix(mix(seed + 0x9E3779B97F4A7C15 & MASK64) ^ (number * 0xD1B54A32D192ED03 & MASK64))


def draw(start: int, index: int) -> int:
    """Draw number `index` of the stream that starts at `start`."""
    return mix(mix(start + index * 0x9E3779B97F4A7C15 & MASK64))


class Permutation:
    """A keyed permutation of range(count): `permutation[i]` is its i-th element."""

    def __init__(self, count: int, *, seed: int, epoch: int) -> None:
        self._key(count, draw(stream(seed, STREAM_SHUFFLE), epoch))

    @classmethod
    def by(cls, count: int, word: int) -> "Permutation":
        """The permutation that a random word chooses."""
        made = cls.__new__(cls)
        made._key(count, word)
        return made

    def _key(self, count: int, word: int) -> None:
        self.count = count
        self.side = max(32, isqrt(count - 1) + 1)
        self.keys = [draw(word, r) >> 32 for r in range(6)]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        if not 0 <= index < self.count:
            raise IndexError(index)
        index = self._once(index)
        while index >= self.count:
            index = self._once(index)
        return index

    def _once(self, index: int) -> int:
        left, right = divmod(index, self.side)
        for key in self.keys:
            left, right = right, (left + self._round(key, right)) % self.side
        return left * self.side + right

    def _round(self, key: int, right: int) -> int:
        x = (right ^ key) * 0xCC9E2D51
        x = ((x >> 32) ^ (x & MASK32)) * 0x9E3779B1
        return ((x >> 32) ^ (x & MASK32)) * self.side >> 32
