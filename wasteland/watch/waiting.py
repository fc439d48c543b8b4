"""Look again and again, less often while nothing happens, and tell what has happened."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import field

from wasteland.errors import NotFound, WastelandError
from wasteland.local.steps import step
from wasteland.node.node import Node
from wasteland.values import dataclass
from wasteland.watch import looking
from wasteland.watch.events import Event
from wasteland.watch.looking import Eyes
from wasteland.watch.memory import Memory, Store
from wasteland.watch.telling import Program

LONGEST = 300.0  # seconds between two looks, at most
BREATH = 2.0  # seconds between two looks at least, however often we are woken
DEEP = 4  # looks of the usual pause after which all forks are fetched again
TRIES = 3  # times that a program gets for one event

PARTS = (looking.board, looking.pulls)


class Stop(BaseException):
    """The user ended the watch."""


@dataclass
class Wake:
    """How another thread, or a signal, speaks to the watch."""

    event: threading.Event = field(default_factory=threading.Event)
    stopping: bool = False
    telling: bool = False

    def stop(self) -> None:
        """End the watch, from a signal: at once, or when the event that is being told has been told."""
        again, self.stopping = self.stopping, True
        self.event.set()
        if again or not self.telling:
            raise Stop


@dataclass(frozen=True)
class Plan:
    """How often to look, and when to end: after one look, after so many seconds, after so many events."""

    eyes: Eyes
    every: float = 30.0
    once: bool = False
    lasting: float | None = None
    count: int | None = None


def paused(before: float, every: float, *, quiet: bool) -> float:
    """How long to wait after a look: twice as long as before while nothing happens, five minutes at most."""
    return min(before * 2, max(LONGEST, every)) if quiet else every


def _passing(error: WastelandError, *, first: bool) -> bool:
    """Whether an error may pass by itself; at the first look, what is not there will hardly come."""
    return error.retryable or (not first and (type(error) is WastelandError or isinstance(error, NotFound)))


class Watch:
    """One watch of one wasteland; `opened` gives its node as its files are now, `tell` prints an event and flushes."""

    def __init__(
        self, opened: Callable[[], Node], store: Store, plan: Plan, tell: Callable[[Event], None],
        program: Program | None, say: Callable[[str], None], wake: Wake,
    ) -> None:  # fmt: skip
        self.opened = opened
        self.store = store
        self.plan = plan
        self.tell = tell
        self.program = program
        self.say = say
        self.wake = wake
        self.told = 0
        self._said: set[str] = set()
        self._silent = False
        self._memory = Memory()
        self._fetched = float("-inf")

    def run(self) -> None:
        """Until the plan ends it or the user stops it.  Conflict where another watch of this node runs.

        The first look must succeed as far as trying again would not help, and
        with `once` in any case.  Later, what may pass is said once and waited out.
        """
        with self.store.alone():
            self._memory = self.store.load()
            try:
                self._run()
            except Stop:
                return

    def _run(self) -> None:
        deadline = time.monotonic() + self.plan.lasting if self.plan.lasting is not None else float("inf")
        pause, woken, first = self.plan.every, False, True
        while not self._over():
            before = self.told
            try:
                self._look(deep=woken or first)
                quiet = self.told == before
                self._greet(first=first)
            except WastelandError as error:
                if self.plan.once or not _passing(error, first=first):
                    raise
                if not self._silent:
                    self.say(f"waiting until this passes: {error.message}")
                self._silent = quiet = True
            if self.plan.once or self._over() or time.monotonic() >= deadline:
                return
            pause = paused(pause, self.plan.every, quiet=quiet and not first)
            woken, first = self._wait(pause, deadline), False
            if time.monotonic() >= deadline:
                return

    def _greet(self, *, first: bool) -> None:
        if self._silent or (first and not self.plan.once):
            self.say("it has passed" if self._silent else "watching; SIGINT or SIGTERM ends it")
        self._silent = False

    def _over(self) -> bool:
        return self.wake.stopping or (self.plan.count is not None and self.told >= self.plan.count)

    def _wait(self, pause: float, deadline: float) -> bool:
        """Wait, a little more or less than told so that many watches do not come at once; whether we were woken."""
        breath = min(BREATH, self.plan.every)
        time.sleep(max(0.0, min(breath, deadline - time.monotonic())))
        left = min(pause * random.uniform(0.9, 1.1) - breath, deadline - time.monotonic())  # noqa: S311
        woken = self.wake.event.wait(max(0.0, left))
        self.wake.event.clear()
        return woken

    def _look(self, *, deep: bool) -> None:
        """One look; what it found is kept before any of it is told."""
        deep = deep or time.monotonic() - self._fetched >= min(LONGEST, DEEP * self.plan.every)
        node = self.opened()
        node.say = self.say
        eyes = Eyes(self.plan.eyes.search, self.plan.eyes.everything, deep)
        try:
            self._tell(again=True)
            for part in PARTS:
                if self._over():
                    return
                seen, events = part(node, self._memory, eyes)
                seen = seen.with_events(events, node.clock(), node.config.upstream)
                if seen != self._memory:
                    self._memory = self.store.save(seen)
                self._tell()
            if deep:
                self._fetched = time.monotonic()
            self._once(set(node.notices))
        finally:
            node.close()

    def _once(self, notices: set[str]) -> None:
        """Say what was not said after the last look already."""
        for text in sorted(notices - self._said):
            self.say(text)
        self._said = notices

    def _tell(self, *, again: bool = False) -> None:
        """Tell what waits, each event crossed out when it was told; with `again` also what programs failed on."""
        memory, failed, told = self._memory, {}, 0
        try:
            for told, one in enumerate(memory.waiting, start=1):
                if self._over():
                    told -= 1
                    break
                if one.tries and not again:
                    failed[told - 1] = one.tries
                    continue
                self.wake.telling = True
                if one.tries == 0:
                    self.tell(one.event)
                if not self._ran(one.event, one.tries):
                    failed[told - 1] = one.tries + 1
                step("acknowledged")
                self.store.note(memory, told, failed)
                step("durable")
                self.told += one.tries == 0
                self.wake.telling = False
        finally:
            self.wake.telling = False
        after = memory.after(told, failed)
        if after != memory:
            self._memory = self.store.save(after)

    def _ran(self, event: Event, tries: int) -> bool:
        """Give an event to the program, where there is one; whether that is settled."""
        trouble = self.program.run(event) if self.program else None
        if trouble is None:
            return True
        last = tries + 1 >= TRIES
        self.say(f"{trouble} on {event.id}{', given up' if last else ''}")
        return last
