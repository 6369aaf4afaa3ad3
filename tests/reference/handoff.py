"""The hand-off of csrc/prefetch/prefetcher.c as a machine whose every interleaving can be tried.

A state is a tuple; a step is what one thread does from taking the lock to releasing it, or the
sending of the wake-ups that it decided on.  Sleepers wake when they are woken and at no other
time: neither by themselves nor when their time is over, so that a wake-up that was lost is a state
from which nothing goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

ROOM, WORKERS, READY, GRANTED = "room", "workers", "ready", "granted"
NOWHERE = 10**9
Thread = tuple[Any, ...]  # what it does next, and its ticket


@dataclass(frozen=True)
class Plan:
    """What is handed over, and by how many; `drop` leaves a wake-up out, as a mistake would."""

    tickets: int
    depth: int
    workers: int = 1
    consumers: int = 1
    memory: int = 0
    sizes: tuple[int, ...] = ()
    fail_at: int = NOWHERE
    drop: str = ""


@dataclass(frozen=True)
class State:
    """All that the lock guards, and where each thread is."""

    threads: tuple[Thread, ...]  # workers first
    claim: int = 0
    take: int = 0
    grant: int = 0
    full: frozenset[int] = frozenset()
    granted: tuple[int, ...] = ()  # by ticket from `take` on, what was granted
    failed: int = NOWHERE
    brief: bool = False


def start(plan: Plan) -> State:
    return State(threads=(("work",),) * plan.workers + (("take",),) * plan.consumers)


def is_over(state: State) -> bool:
    """Whether every consumer has seen the end, and every worker has ended."""
    return all(thread[0] == "done" for thread in state.threads)


def steps(plan: Plan, state: State) -> Iterator[State]:
    """Yield every state that one step of one thread leads to."""
    for i, thread in enumerate(state.threads):
        if thread[0] == "send":
            yield from _send(state, i, thread[1], thread[2])
        elif thread[0] not in ("asleep", "done"):
            for machine in _Machine.of(plan, state, i):
                yield from machine.run(thread)


def _send(state: State, sender: int, wakes: frozenset[str], then: Thread) -> Iterator[State]:
    """Wake all sleepers of each condition, or any one of those that wait for room."""
    threads = list(state.threads)
    every = {WORKERS: ROOM, READY: READY, GRANTED: GRANTED}
    for i, thread in enumerate(threads):
        if thread[0] == "asleep" and thread[1] in {every[w] for w in wakes if w in every}:
            threads[i] = thread[2]
    one = [i for i, t in enumerate(threads) if ROOM in wakes and t[:2] == ("asleep", ROOM)]
    for i in one or [sender]:
        woken = [*threads]
        woken[i] = threads[i][-1]
        woken[sender] = then
        yield replace(state, threads=tuple(woken))


class _Machine:
    """One thread with the lock."""

    def __init__(self, plan: Plan, state: State, index: int, brief: bool) -> None:
        self.plan, self.state, self.index, self.brief = plan, state, index, brief
        self.wakes: set[str] = set()

    @classmethod
    def of(cls, plan: Plan, state: State, index: int) -> Iterator[_Machine]:
        """Whether filling is brief may change whenever a fill is over."""
        publishes = state.threads[index][0] == "filled"
        for brief in (False, True) if publishes else (state.brief,):
            yield cls(plan, state, index, brief)

    def run(self, thread: Thread) -> Iterator[State]:
        """Yield where this leads; who goes to sleep sends its wake-ups with the lock still held."""
        then = getattr(self, "_" + thread[0])(*thread[1:])
        wakes = frozenset(self.wakes - {self.plan.drop})
        if wakes and then[0] == "asleep":
            yield from _send(self.state, self.index, wakes, then)
            return
        threads = list(self.state.threads)
        threads[self.index] = ("send", wakes, then) if wakes else then
        yield replace(self.state, threads=tuple(threads))

    # What the C functions of these names ask

    def room(self) -> int:
        return self.state.take + self.plan.depth - self.state.claim

    def worthwhile(self) -> int:
        return (self.plan.depth + 1) // 2 if self.state.brief else 1

    def anything_to_claim(self) -> bool:
        return self.state.failed == NOWHERE and self.state.claim < self.plan.tickets

    def is_decided(self) -> bool:
        return self.state.take == self.plan.tickets or self.state.take in self.state.full

    def asleep_on(self, condition: str) -> bool:
        return any(thread[:2] == ("asleep", condition) for thread in self.state.threads)

    def wake(self, what: str) -> None:
        if self.asleep_on(ROOM if what == WORKERS else what):
            self.wakes.add(what)

    def size(self, ticket: int) -> int:
        return self.plan.sizes[ticket % len(self.plan.sizes)]

    # Steps

    def _work(self) -> Thread:
        if not self.anything_to_claim():
            return ("done",)
        return self.claim_one("filled") if self.room() > 0 else ("asleep", ROOM, ("woken",))

    def _woken(self) -> Thread:
        if self.anything_to_claim() and self.room() < self.worthwhile():
            return ("asleep", ROOM, ("woken",))
        return self._work()

    def claim_one(self, then: str, *more: Any) -> Thread:
        ticket = self.state.claim
        self.state = replace(self.state, claim=ticket + 1)
        if ticket + 1 == self.plan.tickets:
            self.wake(WORKERS)
        helps = self.index >= self.plan.workers
        return ("ask", ticket) if self.plan.memory else ("filled", ticket, helps)

    def _ask(self, ticket: int) -> Thread:
        helps = self.index >= self.plan.workers
        if ticket > self.state.failed:
            return ("filled", ticket, helps)
        if ticket == self.plan.fail_at:  # before it asks
            return ("filled", ticket, helps)
        in_use, size = sum(self.state.granted), self.size(ticket)
        if self.state.grant != ticket or (in_use and in_use + size > self.plan.memory):
            return ("asleep", GRANTED, ("ask", ticket))
        granted = (*self.state.granted, size)
        self.state = replace(self.state, grant=ticket + 1, granted=granted)
        assert sum(granted) <= self.plan.memory or len([g for g in granted if g]) == 1
        self.wake(GRANTED)
        return ("filled", ticket, helps)

    def _filled(self, ticket: int, helps: bool) -> Thread:
        state = self.state
        assert state.take <= ticket < state.take + self.plan.depth
        failed = ticket == self.plan.fail_at or ticket > state.failed
        self.state = replace(state, full=state.full | {ticket}, brief=self.brief)
        if failed and ticket < state.failed:
            self.state = replace(self.state, failed=ticket)
            self.wake(WORKERS)
            self.wake(GRANTED)
        if ticket == state.take:
            self.wake(READY)
        return self._take() if helps else self._work()

    def is_helped(self) -> bool:
        """Whether another consumer has claimed a ticket that it has not filled yet."""
        consumers = self.state.threads[self.plan.workers :]
        then = [t[-1] if t[0] in ("send", "asleep") else t for t in consumers]
        own = self.index - self.plan.workers
        return any(t[0] in ("ask", "filled") for i, t in enumerate(then) if i != own)

    def may_help(self) -> bool:
        return (
            self.state.brief
            and not self.is_helped()
            and self.anything_to_claim()
            and self.room() > 0
            and (not self.plan.memory or self.state.claim == self.state.take)
        )

    def _take(self) -> Thread:
        if not self.is_decided():
            return self.claim_one("filled") if self.may_help() else ("asleep", READY, ("take",))
        state = self.state
        over = state.take == self.plan.tickets or state.take >= state.failed
        if not over:
            self.state = replace(
                state,
                take=state.take + 1,
                full=state.full - {state.take},
                granted=state.granted[1:],
            )
            if self.room() >= self.worthwhile():
                self.wake(ROOM)
            self.wake(GRANTED)
        if self.is_decided():
            self.wake(READY)
        return ("done",) if over else ("take",)
