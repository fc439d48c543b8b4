"""What a watch has seen and still has to tell, on disk beside the clone.

    watch.json   the commit of main and the pull requests as last seen, and the events of the last looks
    watch.told   how many of those events have been told, and which programs failed on them

The second is small, since it is written after each event.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import asdict, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from wasteland.errors import Conflict, Misconfigured
from wasteland.local.config import read_json, write_json
from wasteland.values import dataclass
from wasteland.watch.events import TIME, Event, Seen


@dataclass(frozen=True)
class Waiting:
    """An event that is still to be told; `tries` counts how often its program has failed on it."""

    event: Event
    tries: int = 0


@dataclass(frozen=True)
class Memory:
    """What one watch knows; empty before its first look.

    `pulls` is None until the hub was asked for the first time.  `warned` has
    the leases of which it was said that they end, `turn` the pull request
    whose comments were asked for last.
    """

    head: str = ""
    pulls: dict[int, Seen] | None = None
    warned: dict[str, str] = field(default_factory=dict)
    turn: int = 0
    waiting: tuple[Waiting, ...] = ()
    batch: str = ""

    def with_events(self, events: Iterable[Event], now: datetime, wasteland: str) -> Self:
        """The same with more to tell: each event gets its id and the time at which it was seen."""
        at = now.strftime(TIME)
        more = tuple(
            Waiting(replace(one, id=f"e-{secrets.token_hex(8)}", at=at, wasteland=wasteland)) for one in events
        )
        return replace(self, waiting=(*self.waiting, *more))

    def after(self, told: int, failed: dict[int, int]) -> Self:
        """The same when so many events were told; those whose programs failed come first the next time."""
        again = [replace(self.waiting[at], tries=tries) for at, tries in sorted(failed.items())]
        return replace(self, waiting=(*again, *self.waiting[told:]))


class Store:
    """The files of one watch in the folder beside the clone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "watch.json"

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only watch of this node; Conflict where there is another."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self.folder / "watch.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise Conflict(
                "another `wl watch` of this wasteland runs already: an event is told once", about=str(self.path)
            ) from None
        try:
            yield
        finally:
            os.close(handle)

    def load(self) -> Memory:
        """What was known when the last watch ended, however it ended.  Misconfigured where the file is damaged."""
        if not self.path.exists():
            return Memory()
        try:
            memory = _memory(read_json(self.path))
        except (Misconfigured, KeyError, TypeError, ValueError, AttributeError) as error:
            raise Misconfigured(
                f"{self.path} is damaged", about=str(self.path), hint="remove it; the watch then starts from now"
            ) from error
        return self._told(memory)

    def _told(self, memory: Memory) -> Memory:
        with contextlib.suppress(Misconfigured, KeyError, TypeError, ValueError, IndexError):
            found = read_json(self.folder / "watch.told")
            if memory.batch and found["batch"] == memory.batch:
                return self.save(
                    memory.after(int(found["told"]), {int(at): int(tries) for at, tries in found["failed"].items()})
                )
        return memory

    def save(self, memory: Memory) -> Memory:
        """Write all of it down; the count of what was told begins anew."""
        kept = replace(memory, batch=secrets.token_hex(8))
        pulls = None if kept.pulls is None else {str(number): asdict(seen) for number, seen in kept.pulls.items()}
        waiting = [{"event": one.event.to_json(), "tries": one.tries} for one in kept.waiting]
        write_json(self.path, {
            "version": 1, "head": kept.head, "pulls": pulls, "warned": kept.warned, "turn": kept.turn,
            "batch": kept.batch, "waiting": waiting,
        })  # fmt: skip
        return kept

    def note(self, memory: Memory, told: int, failed: dict[int, int]) -> None:
        """Write down that so many events have been told."""
        named = {str(at): tries for at, tries in failed.items()}
        write_json(self.folder / "watch.told", {"batch": memory.batch, "told": told, "failed": named})


def _memory(found: dict[str, Any]) -> Memory:
    pulls = found["pulls"]
    return Memory(
        head=str(found["head"]),
        pulls=None if pulls is None else {int(number): _seen(one) for number, one in pulls.items()},
        warned={str(item): str(end) for item, end in found["warned"].items()},
        turn=int(found["turn"]),
        waiting=tuple(Waiting(Event.of(one["event"]), int(one["tries"])) for one in found["waiting"]),
        batch=str(found["batch"]),
    )


def _seen(found: dict[str, Any]) -> Seen:
    comments = found["comments"]
    return Seen(**(found | {"comments": None if comments is None else tuple(comments)}))
