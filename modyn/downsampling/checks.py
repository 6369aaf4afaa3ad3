"""Does a downsampler keep its promises?  A check for your own, and pools to try it on.

    from modyn.downsampling.checks import check_downsampler

    check_downsampler(MyDownsampler(ratio=50))

`modyn.policies.checks.check_selection` does the same when it is given a downsampler.
"""

from collections.abc import Callable

import numpy as np

from modyn.downsampling.answers import chosen, scored
from modyn.downsampling.base import Chosen, Context, Downsampler, has_score
from modyn.downsampling.pool import ArrayPool
from modyn.policies.checks.common import (
    CheckError,
    check_public_attributes,
    check_repeats,
    fail,
    no_input_or_output,
    parameters_of,
)

__all__ = ["ArrayPool", "check_downsampler", "example_pool"]

Answers = list[tuple[list[int], list[float] | None]]


def example_pool(count: int = 60, *, classes: int = 4, width: int = 5, seed: int = 0) -> ArrayPool:
    """Return made-up samples with all that a pool can have, of a model with cross entropy.

    The keys are mixed, one sample is there twice but for its key, and one has no loss to speak of.

    Examples
    --------
    >>> pool = example_pool(10)
    >>> len(pool), tuple(pool.gradients.shape), tuple(pool.embeddings.shape)
    (10, (10, 4), (10, 5))
    """
    import torch

    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.integers(0, classes, count))
    outputs = torch.from_numpy(rng.normal(size=(count, classes)).astype(np.float32))
    embeddings = torch.from_numpy(rng.normal(size=(count, width)).astype(np.float32))
    if count > 2:
        outputs[0, labels[0]] += 40.0
        labels[2], outputs[2], embeddings[2] = labels[1], outputs[1], embeddings[1]
    losses = torch.nn.functional.cross_entropy(outputs, labels, reduction="none")
    gradients = torch.softmax(outputs, dim=1)
    gradients[torch.arange(count), labels] -= 1.0
    seen = np.where(rng.random(count) < 0.9, losses.numpy(), np.float32(np.nan))
    return ArrayPool(
        keys=100 + rng.permutation(count),
        labels=labels,
        outputs=outputs,
        losses=losses,
        gradients=gradients,
        embeddings=embeddings,
        irreducible_losses=torch.from_numpy(rng.exponential(size=count).astype(np.float32)),
        history={
            "losses": seen.astype(np.float32),
            "forgetting": rng.integers(0, 4, count).astype(np.int32),
        },
    )


def check_downsampler(
    downsampler: Downsampler | Callable[[], Downsampler], *, pool: ArrayPool | None = None
) -> None:
    """Raise `CheckError` unless a downsampler keeps its promises.

    Its constructor keeps its parameters and touches no data; it looks at what it needs alone, and
    changes nothing of it; a score follows from its sample alone; it chooses as many as asked for,
    with finite weights of at least 0; and its choices are the same in every run.

    Parameters
    ----------
    downsampler : Downsampler or callable
        A downsampler, or what makes one when called without arguments.
    pool : ArrayPool, optional
        From what to choose; by default from `example_pool`.

    Raises
    ------
    CheckError
        Saying what was seen and what to do about it.

    Examples
    --------
    >>> class Upside(Downsampler):
    ...     def choose(self, pool, count, context):
    ...         return Chosen(range(count + 1))
    >>> check_downsampler(Upside)
    Traceback (most recent call last):
    ...
    modyn.policies.checks.common.CheckError: Upside chose 2 of 60 samples, and was asked for 1
    """
    made = not isinstance(downsampler, Downsampler) and callable(downsampler)
    given: object = downsampler() if made else downsampler  # type: ignore[operator]
    if not isinstance(given, Downsampler):
        fail(given, "it is no Downsampler", "derive its class from modyn.downsampling.Downsampler")
    make = _factory(given)
    if not has_score(given) and type(given).choose is Downsampler.choose:
        fail(given, "it defines neither score() nor choose()", "write one of them, or both")
    pool = example_pool() if pool is None else pool

    def run(fresh: Callable[[], Downsampler]) -> Answers:
        return _choose_all(fresh(), pool)

    _check_generator(make, run)
    expected = run(make)
    check_public_attributes(make, run)
    check_repeats(make, run, expected)
    if has_score(given):
        _check_scores(make(), pool)


def _factory(given: Downsampler) -> Callable[[], Downsampler]:
    """Return what makes it again from its parameters, and check that its constructor is right."""
    parameters = parameters_of(given)

    def make() -> Downsampler:
        return type(given)(**parameters)

    with no_input_or_output(given):
        make()
    return make


def _check_generator(
    make: Callable[[], Downsampler], run: Callable[[Callable[[], Downsampler]], Answers]
) -> None:
    """Check that torch's generator, from which dropout draws, is left alone."""
    import torch

    before = torch.get_rng_state()
    run(make)
    if not torch.equal(torch.get_rng_state(), before):
        fail(
            make(),
            "it drew from torch's own generator, as dropout does",
            "draw from context.random()",
        )


def _choose_all(downsampler: Downsampler, pool: ArrayPool) -> Answers:
    """Return the answers of two epochs of several steps, each for one, half and all samples."""
    answers: Answers = []
    step = 0
    for epoch in range(2):
        for part in (pool, pool.part(0, 1), pool.part(0, len(pool) // 2)):
            for count in sorted({1, max(len(part) // 2, 1), len(part)}):
                context = Context(epoch=epoch, epochs=2, step=step, seed=17)
                answer = _choose(downsampler, part, count, context)
                weights = None if answer.weights is None else answer.weights.tolist()
                answers.append((answer.rows.tolist(), weights))
                step += 1
    return answers


def _choose(downsampler: Downsampler, part: ArrayPool, count: int, context: Context) -> Chosen:
    """Return an answer, from copies of what is needed, and of nothing else."""
    pool = part.only(downsampler.needs).copy()
    try:
        if has_score(downsampler):
            scores = scored(downsampler, downsampler.score(pool), len(pool))
            seen = pool.scored(scores)
        else:
            seen = pool
        answer = chosen(downsampler, downsampler.choose(seen, count, context), len(pool), count)
    except (TypeError, ValueError) as error:
        raise CheckError(str(error)) from error
    if not pool.same(part):
        fail(downsampler, "it changed the pool", "work on copies, such as pool.losses.clone()")
    return answer


def _check_scores(downsampler: Downsampler, pool: ArrayPool) -> None:
    """Check that a score follows from its sample alone."""
    import torch

    pool = pool.only(downsampler.needs)
    whole = downsampler.score(pool)
    starts = range(0, len(pool), 7)
    pieces = [downsampler.score(pool.part(i, min(i + 7, len(pool)))) for i in starts]
    if not torch.allclose(torch.cat(pieces), whole, rtol=1e-4, atol=1e-5, equal_nan=True):
        fail(
            downsampler,
            "its scores of seven samples at a time are not those of all of them at once",
            "let a score follow from its sample alone; what needs the others belongs in choose()",
        )
