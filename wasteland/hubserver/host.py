"""What a hub does for its users, and what it lets whom do.

Both generations of the API and the proxy of the remote protocol come through
here, so a right is decided in one place.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from wasteland.errors import NotFound, NotOpen, Refused, Unauthenticated, Usage, WastelandError
from wasteland.hub import CLOSED, OPEN
from wasteland.hubserver import Holder, pulls
from wasteland.hubserver.databases import NO_COMMIT, UNBORN, Databases, Unchanged
from wasteland.hubserver.engine import Answer
from wasteland.hubserver.faults import Faults
from wasteland.hubserver.operations import Job, Operations
from wasteland.hubserver.pulls import PullRow
from wasteland.hubserver.store import Repository, Store
from wasteland.hubserver.webhooks import Hooks
from wasteland.text import show

NO_REPOSITORY = "no such repository"
SCOPE = "API token is not allowed to operate on this resource"
LONGEST = {"title": 500, "body": 100_000}
WRITE_SECONDS = 60.0
log = logging.getLogger(__name__)


class Host:
    """The hub of one folder; it is also the `Access` that the proxy asks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / ".hub"
        self.engine = Databases(self.folder)
        self.store = Store(self.folder)
        self.faults = Faults(self.folder)
        self.hooks = Hooks(self.store)
        self.operations = Operations(self.store)
        self._new: dict[int, float] = {}
        self._looking = threading.Lock()

    def start(self) -> None:
        """Start the databases, and settle what a hub that was killed has left half done."""
        self.engine.start()
        for repo in self.store.repositories(ready=False):
            self.engine.drop(repo.database)
            self.store.drop_repository(repo)
        for repo in self.store.repositories():
            known = pulls.heads(self.store, repo)
            if repo.empty or "main" not in known:
                self.engine.point(repo.database, UNBORN if repo.empty else min(known, default="main"))
        self.hooks.start()
        for job in self.operations.unfinished():
            if job.kind == "merge":
                # It may have landed already; merging again finds that out.
                self.operations.begin(job, partial(self._merge_pull, job))
            else:
                self.operations.fail(job, "the hub was stopped before the operation ended")

    def stop(self) -> None:
        """End the operations that run, then the databases."""
        self.operations.stop()
        self.hooks.stop()
        self.engine.stop()
        self.store.close()

    # The proxy's questions.

    def whose_token(self, token: str) -> Holder | None:
        """The holder of a token."""
        return self.store.whose_token(token)

    def whose_key(self, key_id: str) -> tuple[str, bytes] | None:
        """The user and public key of a key id."""
        return self.store.whose_key(key_id)

    def resolve(self, owner: str, repo: str, holder: Holder | None, *, write: bool) -> str:
        """The database of a repository for a clone, fetch or push."""
        found = self.repository(owner, repo, holder)
        if not write and not found.empty:
            return found.database
        try:
            self.may_write(found, holder)
        except (Refused, Unauthenticated) as error:
            if write:
                raise Refused(error.message, about=str(found)) from error
            raise NotFound(f"{found} has no data yet", about=str(found)) from error
        return found.database

    def pushed(self, owner: str, repo: str, user: str | None) -> None:
        """Note what a push has brought; after the first one, the empty branch goes."""
        found = self.store.repository(owner, repo)
        try:
            if found is not None:
                self.looked(found)
        except WastelandError as error:
            # The push has arrived all the same; the next look sees what it brought.
            log.warning("after a push to %s: %s", found, error.message)

    # Who may do what.

    def repository(self, owner: str, name: str, holder: Holder | None) -> Repository:
        """A repository that the holder may read; NotFound for all others.

        A private fork is offered to its parent: who writes there may read it too.
        """
        found = self.store.repository(owner, name)
        if found is None or (found.private and not self._reads(found, holder)) or self._lags(found):
            raise NotFound(NO_REPOSITORY, about=show(f"{owner}/{name}"))
        return found

    def _reads(self, repo: Repository, holder: Holder | None) -> bool:
        if self._role(repo, holder):
            return True
        parent = self.store.repository_of(repo.parent) if repo.parent else None
        return parent is not None and self._role(parent, holder) in ("writer", "admin")

    def _role(self, repo: Repository, holder: Holder | None) -> str | None:
        return self.store.role(holder.user, repo.owner) if holder else None

    def _lags(self, repo: Repository) -> bool:
        seconds = self.faults.number("fork_lag")
        return bool(seconds) and time.monotonic() - self._new.get(repo.id, -seconds) < seconds

    def writer(self, holder: Holder | None) -> Holder:
        """The holder, where he is known and his token may write."""
        if holder is None:
            raise Unauthenticated("you must be authenticated to do this")
        if not holder.may_write:
            raise Refused(SCOPE)
        return holder

    def may_write(self, repo: Repository, holder: Holder | None) -> Holder:
        """The holder, where he may write to the repository."""
        known = self.writer(holder)
        if self._role(repo, known) not in ("writer", "admin"):
            raise Refused(f"{known.user} has no write permission on {repo}", about=str(repo))
        return known

    def _owns(self, owner: str, holder: Holder) -> str:
        if self.store.role(holder.user, owner) != "admin" or self.store.kind(owner) is None:
            raise Refused(f"{holder.user} does not administer {show(owner)}", about=show(owner))
        found = self.store.row("SELECT name FROM owners WHERE name = ?", owner)
        return str(found["name"]) if found else owner

    # Repositories.

    def create(self, owner: str, name: str, holder: Holder | None, *, private: bool, description: str) -> Repository:
        """Make an empty repository; Conflict where it exists."""
        known = self.writer(holder)
        repo = self.store.add_repository(
            self._owns(owner, known), name, private=private, description=_short(description, "body")
        )
        try:
            self.engine.create(repo.database)
        except BaseException:
            self._undo(repo)
            raise
        self.store.made(repo)
        return repo

    def _undo(self, repo: Repository) -> None:
        with contextlib.suppress(WastelandError):
            self.engine.drop(repo.database)
        self.store.drop_repository(repo)

    def fork(self, parent: Repository, owner: str, holder: Holder | None) -> Job:
        """Start to copy a repository to an owner; Conflict where he has one of that name."""
        known = self.writer(holder)
        owner = self._owns(owner, known)
        if parent.empty:
            raise NotOpen(f"{parent} has no data yet", about=str(parent))
        repo = self.store.add_repository(
            owner, parent.name, private=parent.private, description=parent.description, parent=parent
        )
        job = self.operations.add("fork", parent, known.user, {"owner": repo.owner, "name": repo.name})

        def copy() -> dict[str, Any]:
            try:
                self.engine.clone(parent.database, repo.database)
            except BaseException:
                self._undo(repo)
                raise
            self._new[repo.id] = time.monotonic()
            self.store.made(repo)
            pulls.set_heads(self.store, repo, self.engine.branches(repo.database))
            return {"owner": repo.owner, "name": repo.name}

        return self.operations.begin(job, copy)

    def branches(self, repo: Repository) -> list[tuple[str, str, str]]:
        """Name, head and time of each branch."""
        return self.engine.branch_list(repo.database)

    def branch(self, repo: Repository, holder: Holder | None, name: str, at: str) -> None:
        """Make a branch at another one or at a commit."""
        self.may_write(repo, holder)
        self.engine.branch(repo.database, name, at)
        self.looked(repo)

    def default_branch(self, repo: Repository) -> str:
        """`main`, else the first branch."""
        names = [name for name, _, _ in self.branches(repo)]
        return "main" if "main" in names or not names else names[0]

    def looked(self, repo: Repository) -> None:
        """See which branches there are now: tell of the new heads, and keep the bare database resolvable."""
        with self._looking:
            repo = self.store.repository_of(repo.id)
            found = self._heads(repo)
            if found and repo.empty:
                self.engine.point(repo.database, "main" if "main" in found else min(found))
                self.engine.born(repo.database)
                self.store.filled(repo)
            elif found and "main" not in found and "main" in pulls.heads(self.store, repo):
                self.engine.point(repo.database, min(found))
            self.hooks.heads(repo, found)

    def _heads(self, repo: Repository) -> dict[str, str]:
        """The branches, also where the one that the bare name meant has just been deleted."""
        try:
            return self.engine.branches(repo.database)
        except WastelandError:
            for name in pulls.heads(self.store, repo):
                if self.engine.knows(repo.database, name):
                    self.engine.point(repo.database, name)
                    return self.engine.branches(repo.database)
            raise

    # Rows.

    def read(self, repo: Repository, ref: str, sql: str, *, limit: int, seconds: float) -> Answer:
        """The rows of one statement that reads."""
        return self.engine.read(repo.database, ref, sql, limit=limit, seconds=seconds)

    def write(
        self, repo: Repository, holder: Holder | None, base: str, branch: str, sql: str, *, also_merge: bool = False
    ) -> Job:
        """Start one statement as a commit on `branch`; without a statement, merge `base` into `branch`."""
        known = self.may_write(repo, holder)
        sql = sql.strip()
        job = self.operations.add("sql_write", repo, known.user, {"query": sql, "from": base, "to": branch})
        who = author(known.user)

        def work() -> dict[str, Any]:
            if not sql:
                head, new = self.engine.merge(
                    repo.database, branch, repo.database, base, message=f"Merge {base} into {branch}", author=who
                )
                if not new:
                    raise Unchanged(NO_COMMIT)
                self.looked(repo)
                return {"before": head, "after": None}
            before, after = self.engine.write(repo.database, base, branch, sql, author=who, seconds=WRITE_SECONDS)
            if also_merge and base != branch:
                after, _ = self.engine.merge(
                    repo.database, branch, repo.database, base, message=f"Merge {base} into {branch}", author=who
                )
            self.looked(repo)
            return {"before": before, "after": after}

        return self.operations.begin(job, work)

    # Pull requests.

    def open_pull(
        self, base: Repository, holder: Holder | None, *, title: str, body: str,
        source: tuple[str, str, str], to: str,
    ) -> PullRow:  # fmt: skip
        """Open a pull request from a branch of a repository of the same family."""
        known = self.writer(holder)
        origin = self.repository(source[0], source[1], holder)
        if {self._role(origin, known), self._role(base, known)}.isdisjoint({"writer", "admin"}):
            raise Refused(f"{known.user} may write neither to {origin} nor to {base}", about=str(origin))
        if origin.root != base.root:
            raise NotOpen(f"{origin} and {base} have no history in common", about=str(origin))
        if not title.strip():
            raise Usage("a pull request needs a title", about="title")
        if (origin.id, source[2]) == (base.id, to):
            raise Usage("a branch cannot be merged into itself", about=to)
        for repo, name in ((origin, source[2]), (base, to)):
            if name not in self.engine.branches(repo.database):
                raise NotFound("branch not found", about=show(name))
        pull = pulls.add(
            self.store, base, _short(title, "title"), _short(body, "body"), known.user, origin, source[2], to
        )
        self.hooks.pull(base, pull, "Opened", known.user)
        return pull

    def edit_pull(
        self, base: Repository, holder: Holder | None, number: int,
        *, title: str | None, body: str | None, state: str | None,
    ) -> PullRow:  # fmt: skip
        """Change text or state of a pull request, by its author or a writer of the base."""
        known = self.writer(holder)
        pull = pulls.load(self.store, base, number)
        if pull.author != known.user:
            self.may_write(base, known)
        if state not in (None, OPEN, CLOSED):
            raise Usage("the state of a pull request can be set to open or closed", about="state")
        if title is not None and not title.strip():
            raise Usage("a pull request needs a title", about="title")
        pulls.retitle(self.store, base, number, title and _short(title, "title"), body and _short(body, "body"))
        moved = state is not None and pulls.move(self.store, base, number, state)
        pull = pulls.load(self.store, base, number)
        if moved:
            self.hooks.pull(base, pull, "Closed" if state == CLOSED else "Opened", known.user)
        return pull

    def comment(self, base: Repository, holder: Holder | None, number: int, text: str) -> pulls.CommentRow:
        """Comment on a pull request, by anybody known who may read it."""
        known = self.writer(holder)
        if not text.strip():
            raise Usage("a comment needs some text", about="comment")
        return pulls.add_comment(self.store, base, number, known.user, _short(text, "body"))

    def merge(self, base: Repository, holder: Holder | None, number: int) -> Job:
        """Start to merge a pull request; NotOpen where it is not open."""
        known = self.may_write(base, holder)
        pull = pulls.load(self.store, base, number)
        if pull.state != OPEN:
            raise NotOpen(f"the pull request is already {pull.state}", about=str(number))
        job = self.operations.add("merge", base, known.user, {"number": number})
        return self.operations.begin(job, partial(self._merge_pull, job))

    def _merge_pull(self, job: Job) -> dict[str, Any]:
        base = self.store.repository_of(job.repo)
        number = int(job.about["number"])
        if self.faults.on("merge_lies"):
            return {"number": number, "commit": None}
        with self.engine.lock(base.database):
            pull = pulls.load(self.store, base, number)
            if pull.state != OPEN:
                raise NotOpen(f"the pull request is already {pull.state}", about=str(number))
            source = self.store.repository_of(pull.from_repo)
            head, _ = self.engine.merge(
                base.database, pull.to_branch, source.database, pull.from_branch,
                message=f"Merge pull request #{number} from {source}/{pull.from_branch}", author=author(job.user),
            )  # fmt: skip
            pulls.merged(self.store, base, number, head)
        self.looked(base)
        self.hooks.pull(base, pulls.load(self.store, base, number), "Merged", job.user)
        return {"number": number, "commit": head}

    # Operations.

    def job(self, number: str, holder: Holder | None, kind: str | None = None) -> Job:
        """An operation of the holder's, or of a repository that he may write to; NotFound for all others."""
        job = self.operations.load(number)
        mine = holder is not None and job.user == holder.user
        if not mine and holder is not None:
            mine = self._role(self.store.repository_of(job.repo), holder) in ("writer", "admin")
        if not mine or (kind and job.kind != kind) or self.faults.word("lost_poll") == "404":
            raise NotFound("no such operation", about=show(number))
        return job


def author(user: str) -> str:
    """A user as the author of a commit."""
    return f"{user} <{user}@users.wasteland.invalid>"


def _short(text: str, field: str) -> str:
    if len(text) > LONGEST[field]:
        raise Usage(f"the {'title' if field == 'title' else 'text'} is longer than {LONGEST[field]} characters")
    return text
