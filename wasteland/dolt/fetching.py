"""Fetch branches of strangers' databases, within limits of size and time.

A fetch that has begun ends with its server only: it outlives its client, and
after a KILL the server heeds no other signal.  So the server is killed, which
it survives at any moment, and what was fetched in part is removed.  A command
that writes meanwhile is let end first, for some seconds.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from wasteland.dolt import binary
from wasteland.dolt.database import Database
from wasteland.dolt.session import checked_branch
from wasteland.dolt.starting import at_rest
from wasteland.errors import Conflict, NotFound, Refused, Unreachable, WastelandError
from wasteland.text import show
from wasteland.values import dataclass

AT_A_TIME = 8
NEARLY = 0.9  # of the limit of time: who began with the slowest is not given all of it again
PATIENCE = 10.0  # seconds that a command which writes is waited for before the server is killed; the fetch goes on
GRACE = 1.0  # seconds that the threads of a server that was killed are waited for
LOOK = 0.05  # seconds between two looks at what has come
PLACES = ("temptf", "noms")  # in the clone's folder `.dolt`: where a fetch writes, and where it puts what is whole
TABLES = re.compile(r"[0-9a-v]{32}(?:\.darc)?")  # the names of files that hold data; the manifest names those in use
NO_BRANCH = re.compile(r"invalid ref spec")  # Dolt's words for a branch that the remote has not; it has no code for it


@dataclass(frozen=True)
class Limits:
    """By how many bytes a fetch may let the clone grow, and how many seconds it may take."""

    size: int = 64 << 20
    seconds: float = 120.0


class OverLimit(Refused):
    """A fetch was stopped at its limit of size; nothing of it is left."""


class TooSlow(Unreachable):
    """A fetch was stopped at its limit of time; nothing of it is left."""


def branch_name(name: str) -> str:
    """`name` if it can be fetched as a plain branch; NotFound for one that Dolt takes for something else."""
    if name.startswith("refs/"):
        raise NotFound(f"{show(name)!r} is no name of a branch", about=name)
    return checked_branch(name)


def fetch_within(db: Database, wanted: Mapping[str, Sequence[str]], limits: Limits) -> dict[str, WastelandError]:
    """Fetch these branches of each remote, several remotes at a time; what went wrong, by remote.

    A branch that its remote has no more is no error: it is forgotten here.
    Where several together meet the limit of size, those that had not ended are
    fetched again, one by one, each with the whole limit.  Those that met the
    limit of time are not; the others that had not ended then are, together.
    """
    if not wanted:
        return {}
    db.find("main")  # the server runs before several ask for it
    batch = _Batch(db, wanted)
    over = batch.run(limits)
    left = {remote: branches for remote, branches in wanted.items() if remote not in batch.ended}
    failed = {remote: error for remote, error in batch.failed.items() if remote in batch.ended}
    if over is None:
        return failed | {remote: _broke_off(remote) for remote in left}
    if isinstance(over, TooSlow):
        failed |= dict.fromkeys(batch.slow, over)
        return failed | fetch_within(db, {remote: left[remote] for remote in left if remote not in batch.slow}, limits)
    if len(wanted) == 1:
        return failed | dict.fromkeys(left, over)
    for remote, branches in left.items():
        failed |= fetch_within(db, {remote: branches}, limits)
    return failed


def _broke_off(remote: str) -> Unreachable:
    return Unreachable(f"could not fetch from {show(remote)}: the fetch broke off", about=remote, hint="try again")


class _Batch:
    """Some remotes that are fetched at once."""

    def __init__(self, db: Database, wanted: Mapping[str, Sequence[str]]) -> None:
        self.db, self.wanted = db, wanted
        self.folder = db.server.clone / ".dolt"
        self.failed: dict[str, WastelandError] = {}
        self.ended: set[str] = set()
        self.slow: set[str] = set()  # for which no time was left, or hardly any
        self._left = deque(wanted.items())
        self._began: dict[str, float] = {}
        self._stopped = False
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(min(AT_A_TIME, len(wanted)))]

    def run(self, limits: Limits) -> WastelandError | None:
        """Fetch them; which limit was met, where one was."""
        before = _files(self.folder)
        try:
            for thread in self._threads:
                thread.start()
            over = self._watched(limits, sum(before.values()))
        except BaseException:
            self._stop(before, limits)
            raise
        if over is not None:
            self._stop(before, limits)
        return over

    def _watched(self, limits: Limits, size: int) -> WastelandError | None:
        within: set[str] = set()  # had ended when the size was looked at last
        running = True
        while running:
            if alive := [one for one in self._threads if one.is_alive()]:
                alive[0].join(LOOK)
            running, ended = bool(alive), set(self.ended)
            if sum(_files(self.folder).values()) - size > limits.size:
                self.ended &= within  # as good as not ended, however quickly it came
                return OverLimit(f"it would make the clone grow by more than {limits.size >> 20} MiB")
            within = ended
            now = time.monotonic()
            took = {remote: now - began for remote, began in list(self._began.items())}
            if any(seconds > limits.seconds for seconds in took.values()):
                self.slow = {remote for remote, seconds in took.items() if seconds > NEARLY * limits.seconds}
                self.ended -= self.slow
                return TooSlow(f"it did not come within {limits.seconds:g} s")
        return None

    def _work(self) -> None:
        db = self.db.apart()
        try:
            while not self._stopped and self._left:
                with contextlib.suppress(IndexError):
                    remote, branches = self._left.popleft()
                    self._began[remote] = time.monotonic()
                    try:
                        error = _fetch(db, remote, branches)
                    finally:
                        del self._began[remote]
                    if self._stopped:
                        return
                    if error is not None:
                        self.failed[remote] = error
                    self.ended.add(remote)
        finally:
            db.hang_up()

    def _stop(self, before: Mapping[Path, int], limits: Limits) -> None:
        self._stopped = True
        with contextlib.ExitStack() as alone:
            with contextlib.suppress(Conflict):
                alone.enter_context(self.db.locked(PATIENCE))
            self._kill(before, limits)
        self.db.hang_up()

    def _kill(self, before: Mapping[Path, int], limits: Limits) -> None:
        while True:
            with at_rest(self.db.server, gently=False):
                _remove_partial(self.folder, before)
                if sum(_files(self.folder).values()) - sum(before.values()) > limits.size:
                    self._give_back()
            for thread in self._threads:
                if thread.ident is not None:
                    thread.join(GRACE)
            if not any(one.is_alive() for one in self._threads):
                return  # else one was about to ask, and has begun with a server of its own

    def _give_back(self) -> None:
        """Forget what came whole in the moment between the last look and the kill."""
        for remote in self.wanted.keys() - self.ended:
            for branch in self.wanted[remote]:
                self._dolt("branch", "-D", "-r", f"{remote}/{branch}")
        self._dolt("gc")

    def _dolt(self, *words: str) -> None:
        server = self.db.server
        binary.run(words, cwd=server.clone, env=binary.environment(server.home), timeout=600, check=False)


def _fetch(db: Database, remote: str, branches: Sequence[str]) -> WastelandError | None:
    """Fetch branches of one remote; one that is missing fails them all, so they are then asked for one by one."""
    try:
        db.fetch(remote, *branches)
    except WastelandError as error:
        if not NO_BRANCH.search(error.message):
            return error
        if len(branches) == 1:
            return _forget(db, remote, branches[0])
        errors = [found for branch in branches if (found := _fetch(db, remote, [branch]))]
        return errors[0] if errors else None
    return None


def _forget(db: Database, remote: str, branch: str) -> WastelandError | None:
    try:
        if branch in db.remote_branches(remote):
            db.forget_fetched(remote, branch)
    except WastelandError as error:
        return error
    return None


def _files(folder: Path) -> dict[Path, int]:
    """The files that a fetch may write or make, with their sizes."""
    found: dict[Path, int] = {}
    for place in PLACES:
        with contextlib.suppress(OSError):
            for file in (folder / place).iterdir():
                with contextlib.suppress(OSError):
                    found[file] = file.stat().st_size
    return found


def _remove_partial(folder: Path, before: Mapping[Path, int]) -> None:
    """Remove what a fetch that was killed has left; no server runs meanwhile."""
    with contextlib.suppress(OSError):
        used = (folder / "noms" / "manifest").read_text().split(":")
        for file in _files(folder):
            left = TABLES.fullmatch(file.name) and file not in before and file.name.partition(".")[0] not in used
            if file.parent.name == "temptf" or left:
                file.unlink(missing_ok=True)
