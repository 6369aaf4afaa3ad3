"""What presampling policies choose, as plainly as it can be written.

A stream is a list of (key, timestamp, label); `ends` says how many of its samples there are at each
trigger. Every function returns the chosen keys of each trigger, ascending. Samples of `gone[t]` are
erased behind trigger t.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.reference.permutation import draw, stream
from tests.reference.selection import fair_shares, uniform

TRIGGER, STEADY, PLACE, ENTER = 5, 20, 21, 22  # streams of a seed: csrc/base/random.h

Sample = tuple[int, int, int]
Gone = Sequence[Sequence[int]]


def seed_of(seed: int, trigger: int) -> int:
    return draw(stream(seed, TRIGGER), trigger)


def steady(seed: int) -> int:
    return draw(stream(seed, STEADY), 0)


def fraction(seed: int, number: int, key: int) -> float:
    return (draw(stream(seed, number), key) >> 11) / 2**53


def windows(
    samples: Sequence[Sample], ends: Sequence[int], tail: int | None, gone: Gone = ()
) -> list[list[list[Sample]]]:
    """The candidates of each trigger: a list for each trigger of the tail."""
    begins = [0, *ends]
    erased: set[int] = set()
    found = []
    for trigger in range(len(ends)):
        first = 0 if tail is None else max(0, trigger - tail)
        parts = [samples[begins[one] : begins[one + 1]] for one in range(first, trigger + 1)]
        found.append([[s for s in part if s[0] not in erased] for part in parts])
        erased |= set(gone[trigger]) if trigger < len(gone) else set()
    return found


def flat(parts: Sequence[Sequence[Sample]]) -> list[int]:
    return [key for part in parts for key, _, _ in part]


def random_no_replacement(candidates: Sequence[Sequence[int]], ratio: int, seed: int) -> list:
    used: set[int] = set()
    chosen = []
    for trigger, keys in enumerate(candidates):
        count, its_seed = len(keys) * ratio // 100, seed_of(seed, trigger)
        taken = uniform([key for key in keys if key not in used], count, seed=its_seed)
        used |= set(taken)
        if len(taken) < count:  # a new pass
            others = [key for key in keys if key not in taken]
            used = set(uniform(others, count - len(taken), seed=its_seed))
            taken += used
        chosen.append(sorted(taken))
    return chosen


def freshness(
    candidates: Sequence[Sequence[int]], percent: int, limit: int, seed: int
) -> list[list[int]]:
    used: set[int] = set()
    chosen = []
    for trigger, keys in enumerate(candidates):
        new, old = [k for k in keys if k not in used], [k for k in keys if k in used]
        fresh, again = counts(len(new), len(old), percent, limit)
        its_seed = seed_of(seed, trigger)
        taken = uniform(new, fresh, seed=its_seed) + uniform(old, again, seed=its_seed)
        used |= set(taken)
        chosen.append(sorted(taken))
    return chosen


def counts(unused: int, used: int, percent: int, limit: int) -> tuple[int, int]:
    """The largest numbers whose ratio is right to within a sample, tried from above."""
    most = unused + used if limit == -1 else min(limit, unused + used)
    if unused == 0 or used == 0:
        return (most, 0) if used == 0 else (0, most)
    total = min(most, 100 * unused // percent, 100 * used // (100 - percent))
    if total == limit:
        fresh = total * percent // 100
        return fresh, min(total - fresh, used)
    fresh = total * percent // 100
    if 2 * (total * percent - 100 * fresh) >= 100:  # to the nearest
        fresh += 1
    return fresh, total - fresh


def balanced(
    groups: Sequence[Sequence[Sequence[int]]], counts: Sequence[int], seed: int, **options: bool
) -> list[list[int]]:
    """A fair share of each group that has any, drawn uniformly."""
    chosen = []
    for trigger, (some, count) in enumerate(zip(groups, counts, strict=True)):
        its_seed = seed_of(seed, trigger)
        there = [group for group in some if group]
        shares = fair_shares([len(g) for g in there], count, seed=its_seed, **options)
        drawn = [uniform(g, n, seed=its_seed) for g, n in zip(there, shares, strict=True)]
        chosen.append(sorted(key for keys in drawn for key in keys))
    return chosen


def reservoir(candidates: Sequence[Sequence[int]], size: int, seed: int) -> list[list[int]]:
    """All so far are drawn anew, by the same draws."""
    return [uniform(keys, size, seed=steady(seed)) for keys in candidates]


def gdumb(
    samples: Sequence[Sample], ends: Sequence[int], size: int, seed: int, gone: Gone = ()
) -> list[list[int]]:
    buffer: dict[int, list[int]] = {}
    chosen, seed = [], steady(seed)
    parts = [parts[-1] for parts in windows(samples, ends, 0, gone)]
    for trigger, part in enumerate(parts):
        for key, _, label in part:
            buffer.setdefault(label, [])
            if len(buffer[label]) >= size / len(buffer):
                continue
            if sum(map(len, buffer.values())) >= size:
                _evict(_largest(buffer), key, seed)
            buffer[label].append(key)
        chosen.append(sorted(key for keys in buffer.values() for key in keys))
        _erase(buffer, gone[trigger] if trigger < len(gone) else ())
    return chosen


def class_balanced_reservoir(
    samples: Sequence[Sample], ends: Sequence[int], size: int, seed: int, gone: Gone = ()
) -> list[list[int]]:
    buffer: dict[int, list[int]] = {}
    came: dict[int, int] = {}
    full: set[int] = set()
    chosen, seed = [], steady(seed)
    parts = [parts[-1] for parts in windows(samples, ends, 0, gone)]
    for trigger, part in enumerate(parts):
        for key, _, label in part:
            keys = buffer.setdefault(label, [])
            came[label] = came.get(label, 0) + 1
            if sum(map(len, buffer.values())) < size:
                keys.append(key)
            elif label not in full:
                _evict(_largest(buffer), key, seed)
                keys.append(key)
            elif fraction(seed, ENTER, key) * came[label] <= len(keys):
                keys[int(fraction(seed, PLACE, key) * len(keys))] = key
            if sum(map(len, buffer.values())) >= size:
                most = max(map(len, buffer.values()))
                full |= {one for one, keys in buffer.items() if len(keys) == most}
        chosen.append(sorted(key for keys in buffer.values() for key in keys))
        _erase(buffer, gone[trigger] if trigger < len(gone) else ())
    return chosen


def _largest(buffer: dict[int, list[int]]) -> list[int]:
    return max(buffer.values(), key=len)  # the first of several


def _evict(keys: list[int], by: int, seed: int) -> None:
    place = int(fraction(seed, PLACE, by) * len(keys))
    keys[place] = keys[-1]
    keys.pop()


def _erase(buffer: dict[int, list[int]], gone: Sequence[int]) -> None:
    for keys in buffer.values():
        keys[:] = [key for key in keys if key not in gone]


def newest(candidates: Sequence[Sample], count: int) -> list[int]:
    ordered = sorted((timestamp, key) for key, timestamp, _ in candidates)
    return sorted(key for _, key in ordered[len(ordered) - count :])


def top(
    keys: Sequence[int],
    values: dict[int, float],
    count: int,
    seed: int,
    *,
    largest: bool,
    first: bool,
) -> list[int]:
    """The best of those with a value, and a draw of the others before or behind them."""
    ranked = sorted(
        (key for key in keys if key in values),
        key=lambda key: (-values[key] if largest else values[key], key),
    )
    others = [key for key in keys if key not in values]
    fresh = min(count, len(others)) if first else max(0, count - len(ranked))
    return sorted(ranked[: count - fresh] + uniform(others, fresh, seed=seed))


def band(keys: Sequence[int], values: dict[int, float], low: float, high: float) -> list[int]:
    ranked = sorted((key for key in keys if key in values), key=lambda key: (values[key], key))
    n = len(ranked)
    return sorted(ranked[int(n * low) : int(n * high)])
