"""What a hub does in its own time, each proved by what is there afterwards and never by the word of the operation.

fork     the database answers and its main has a head
write    the branch has another head than before
merge    the pull request is merged, and the base's main has the source's head among its ancestors
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from wasteland.errors import Conflict, NotFound, Refused, Unauthenticated, Unreachable, Usage, WastelandError
from wasteland.hub import MERGED, Branch, Operation
from wasteland.hub.rest.client import Job, Unsure
from wasteland.hub.rest.session import FIRST_PAUSE, LONGEST_PAUSE, Session
from wasteland.hub.rest.shapes import Summary
from wasteland.values import dataclass

MAIN = "main"
COMMIT = re.compile(r"[0-9a-v]{32}\Z")
TASK = re.compile(
    r"(fork|merge):(v2|v1alpha1):([\w-]{1,64})/([\w-]{1,64}):([\w-]{1,64}):([0-9a-v]*):([!-~]{0,500})", re.ASCII
)
SOON = 0.2  # seconds that a small write takes: asking earlier is a request for nothing
LOOK_EACH = 4  # polls of a running operation between two looks at what is there
Value = TypeVar("Value")


@dataclass(frozen=True)
class Proved(Generic[Value]):
    """That an operation has ended, and with what."""

    value: Value


@dataclass(frozen=True)
class Task:
    """All that is needed to follow an operation in another process; its text is the id of an `Operation`.

    `subject` is the owner of a fork or the number of a pull request, `head`
    the commit that a merge must bring, `ref` what the hub calls the operation,
    empty where its answer was lost.
    """

    kind: str
    version: str
    org: str
    db: str
    subject: str = ""
    head: str = ""
    ref: str = ""

    def __str__(self) -> str:
        return ":".join((self.kind, self.version, f"{self.org}/{self.db}", self.subject, self.head, self.ref))

    @classmethod
    def parse(cls, text: str) -> Task:
        """The task of an operation's id; Usage where it is none of ours."""
        found = TASK.fullmatch(text)
        if not found or (found[1] == "merge" and not found[5].isdecimal()):
            raise Usage("this is not the id of an operation of this hub")
        return cls(*found.groups())


class Operations:
    """Forks, writes and merges of one session."""

    def __init__(self, session: Session) -> None:
        self.session = session

    @property
    def _version(self) -> str:
        return self.session.site.versions[0]

    def head(self, org: str, db: str, branch: str) -> str | None:
        """The commit of a branch; None where there is no such branch or database."""
        sql = f"SELECT hash FROM dolt_branches WHERE name = {literal(branch)}"
        try:
            found = self.session.ask(lambda rest: rest.rows(org, db, MAIN, sql))
        except NotFound:
            return None
        head = str(found[0].get("hash")) if found else ""
        return head if COMMIT.match(head) else None

    def contains(self, org: str, db: str, commit: str) -> bool | None:
        """Whether main has the commit among its ancestors; None where SQL may not be asked."""
        sql = f"SELECT commit_hash FROM dolt_log('{MAIN}') WHERE commit_hash = {literal(commit)}"
        try:
            return bool(self.session.ask(lambda rest: rest.rows(org, db, MAIN, sql)))
        except (Refused, Unauthenticated):
            return None

    def fork(self, org: str, db: str, owner: str) -> Operation:
        """Start a fork; one that is there is taken, if it is a fork of this database."""
        if owner == org:
            if not self.head(org, db, MAIN):
                raise NotFound(f"{org}/{db} is not there, or has no main", about=f"{org}/{db}")
            return Operation(str(Task("fork", self._version, org, db, owner)), done=True)
        try:
            ref, _ = self.session.once(
                lambda: self.session.ask(lambda rest: rest.fork(org, db, owner)),
                lambda: "" if self.head(owner, db, MAIN) else None,
            )
        except (Conflict, Refused, Unauthenticated):
            if not self.head(owner, db, MAIN):
                raise
            self._need_kin(org, db, owner)
            return Operation(str(Task("fork", self._version, org, db, owner)), done=True)
        return Operation(str(Task("fork", self._version, org, db, owner, ref=ref)), done=False)

    def _need_kin(self, org: str, db: str, owner: str) -> None:
        """Conflict where the database of that name is not a fork: it has another first commit."""
        sql = f"SELECT commit_hash FROM dolt_log('{MAIN}') ORDER BY commit_order LIMIT 1"
        theirs = self.session.ask(lambda rest: rest.rows(org, db, MAIN, sql))
        ours = self.session.ask(lambda rest: rest.rows(owner, db, MAIN, sql))
        if theirs and ours and theirs[0].get("commit_hash") != ours[0].get("commit_hash"):
            raise Conflict(
                f"{owner}/{db} exists and is not a fork of {org}/{db}", about=f"{owner}/{db}",
                hint="rename it on the hub, or choose another owner with --fork-org",
            )  # fmt: skip

    def merge(self, org: str, db: str, number: int, pull: Summary) -> Operation:
        """Start the merge of an open pull request; its source's head now is what main must have afterwards."""
        source = pull.source
        head = self.head(source.org, source.db, source.name) if source else None
        try:
            ref, _ = self.session.once(
                lambda: self.session.ask(lambda rest: rest.merge(org, db, number)),
                lambda: "" if self._state(org, db, number) == MERGED else None,
            )
        except (Conflict, Refused):
            if self._state(org, db, number) != MERGED:
                raise
            ref = ""
        task = Task("merge", self._version, org, db, str(number), head or "", ref)
        return Operation(str(task), done=False)

    def _state(self, org: str, db: str, number: int) -> str:
        found = self.session.ask(lambda rest: rest.pull(org, db, number))
        return found.state if found else ""

    def wait(self, operation: Operation, timeout: float) -> None:
        """Until the operation is proved."""
        task = Task.parse(operation.id)
        if task.kind == "fork":
            self._until(task, lambda job: self._forked(task.subject, task.db), timeout)
            self.session.made(task.subject, task.db)
        else:
            self._until(task, lambda job: self._merged(task), timeout)

    def _forked(self, owner: str, db: str) -> Proved[str] | None:
        head = self.head(owner, db, MAIN)
        return Proved(head) if head else None

    def _merged(self, task: Task) -> Proved[None] | None:
        if self._state(task.org, task.db, int(task.subject)) != MERGED:
            return None
        if task.head and self.contains(task.org, task.db, task.head) is False:
            return None
        return Proved(None)

    def write(self, org: str, db: str, base: str, branch: str, sql: str, timeout: float = 120.0) -> str | None:
        """One statement as one commit on `branch`, made from `base` where it is missing; the commit, None if no change.

        What a lost answer came of is read from the branch, so nobody else should write to it meanwhile.
        """
        before = self.head(org, db, branch)
        start = before or self.head(org, db, base)
        if start is None:
            raise NotFound(f"{org}/{db} has no branch {base}", about=f"{org}/{db}")
        ref, _ = self.session.once(
            lambda: self.session.ask(lambda rest: rest.write(org, db, base, branch, sql)),
            lambda: self._written_or_busy(org, db, branch, start),
        )
        task = Task("write", self._version, org, db, ref=ref)
        return self._until(task, lambda job: self._written(job, org, db, branch, start), timeout)

    def send(self, org: str, db: str, branch: str, sql: str, start: str, timeout: float = 120.0) -> str | None:
        """One statement on a branch that is at `start`; the commit it made, None where nothing changed.

        Never sent twice: Unsure where the answer was lost and the branch does not tell what came of it.
        """
        try:
            ref = self.session.ask(lambda rest: rest.write(org, db, branch, branch, sql))
        except Unsure:
            found = self._written_or_busy(org, db, branch, start)
            if found is None:
                raise
            ref = found
        task = Task("write", self._version, org, db, ref=ref)
        time.sleep(SOON)
        return self._until(task, lambda job: self._sent(job, org, db, branch, start), timeout)

    def pulled(self, source: Branch, target: Branch, title: str, timeout: float = 120.0) -> bool:
        """Merge one branch into another by a pull request; whether the hub says so: the caller looks at what is there.

        False, too, where an answer was lost: what was opened then is left to `open_pull`, which finds it.
        """
        org, db = target.org, target.db
        try:
            number = self.session.ask(lambda rest: rest.open(source, target, title, ""))
            ref = self.session.ask(lambda rest: rest.merge(org, db, number)) if number else ""
        except (Unsure, Conflict, Refused):
            return False
        task, deadline = Task("merge", self._version, org, db, str(number), "", ref), time.monotonic() + timeout
        job, pause, polls = Job("running"), SOON, 0
        while ref and job.state == "running" and time.monotonic() < deadline:
            time.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * 1.7)
            job = self._job(task)
            polls += 1
            if job.state == "running" and polls % LOOK_EACH == 0 and self._state(org, db, int(task.subject)) == MERGED:
                return True
        return job.state == "succeeded"

    def _sent(self, job: Job, org: str, db: str, branch: str, start: str) -> Proved[str | None] | None:
        """As `_written`, less the look where the operation names its commit: who sends compares the rows himself."""
        if job.state == "succeeded" and job.after not in (None, start, job.before):
            return Proved(job.after)
        return self._written(job, org, db, branch, start)

    def _written_or_busy(self, org: str, db: str, branch: str, start: str) -> str | None:
        """A reference to nothing where the branch has moved, or may still: then the write must not be sent again."""
        deadline = time.monotonic() + self.session.patience
        while self.head(org, db, branch) in (None, start):
            try:
                if not self.session.ask(lambda rest: rest.busy(org, db)):
                    return None
            except (NotFound, Refused, Unauthenticated):
                return None
            if time.monotonic() > deadline:
                break
            time.sleep(FIRST_PAUSE * 5)
        return ""

    def _written(self, job: Job, org: str, db: str, branch: str, start: str) -> Proved[str | None] | None:
        head = self.head(org, db, branch)
        if head not in (None, start):
            return Proved(job.after or head)
        if job.state == "succeeded" and job.after in (None, start, job.before):
            return Proved(None)
        return None

    def _until(self, task: Task, proof: Callable[[Job], Proved[Value] | None], timeout: float) -> Value:
        """Poll an operation and look for its proof; what ended and is not proved in due time is an error."""
        began = time.monotonic()
        ended: float | None = None
        pause, polls = FIRST_PAUSE, 0
        while True:
            job = self._job(task)
            polls += 1
            found = proof(job) if job.state != "running" or polls % LOOK_EACH == 0 else None
            if found is not None:
                return found.value
            now = time.monotonic()
            if job.state == "failed":
                raise _failure(task, job)
            ended = (ended or now) if job.state == "succeeded" else None
            if ended and now - ended >= self.session.patience:
                raise WastelandError(f"the hub says that the {task.kind} is done, but it is not", about=_about(task))
            if now - began >= timeout:
                raise Unreachable(f"the {task.kind} did not end within {timeout:.0f} s", about=_about(task))
            time.sleep(min(pause, max(0.05, began + timeout - now)))
            pause = min(LONGEST_PAUSE, pause * 1.7)

    def _job(self, task: Task) -> Job:
        """How far the operation is; lost where that cannot be asked, for the proof does not need it."""
        if not task.ref:
            return Job("lost")
        try:
            return self.session.rest(task.version).job(task.kind, task.org, task.db, task.subject, task.ref)
        except (NotFound, Refused, Unreachable):
            return Job("lost")


def literal(text: str) -> str:
    """A text as a literal of SQL, where a hub takes statements and no values."""
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def _failure(task: Task, job: Job) -> WastelandError:
    """The error that a failed operation is."""
    said = f": {job.error}" if job.error else ""
    if task.kind == "merge":
        return Conflict(f"pull request {task.subject} of {_about(task)} does not merge{said}", about=task.subject)
    if task.kind == "write":
        return WastelandError(f"the hub did not carry out the statement{said}", about=_about(task))
    return WastelandError(f"the fork of {_about(task)} failed{said}", about=_about(task))


def _about(task: Task) -> str:
    return f"{task.org}/{task.db}"
