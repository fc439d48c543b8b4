"""A hub in a folder: real Dolt databases, real forks, real pull requests.

    <folder>/<org>/<db>          a Dolt remote (the layout of `--remote-base`)
    <folder>/.hub/pulls.sqlite   pull requests and their comments

For tests, for a team that shares a disk, and for a look without an account.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wasteland.dolt import binary
from wasteland.dolt.database import MOVED
from wasteland.errors import Conflict, NotFound, Refused, Unreachable
from wasteland.hub import CLOSED, MERGED, OPEN, Branch, Comment, Operation, Pull
from wasteland.text import name, show

SCHEMA = """
CREATE TABLE IF NOT EXISTS pulls (
    org TEXT NOT NULL, db TEXT NOT NULL, number INTEGER NOT NULL, title TEXT NOT NULL, body TEXT NOT NULL,
    state TEXT NOT NULL, author TEXT NOT NULL, from_org TEXT NOT NULL, from_db TEXT NOT NULL, from_branch TEXT NOT NULL,
    to_branch TEXT NOT NULL, created_at TEXT NOT NULL, landed TEXT, PRIMARY KEY (org, db, number)) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS one_open ON pulls (org, db, from_org, from_db, from_branch, to_branch)
    WHERE state = 'open';
CREATE TABLE IF NOT EXISTS comments (
    id INTEGER PRIMARY KEY, org TEXT NOT NULL, db TEXT NOT NULL, number INTEGER NOT NULL,
    author TEXT NOT NULL, body TEXT NOT NULL, created_at TEXT NOT NULL) STRICT;
"""


class LocalHub:
    """The hub of one folder."""

    kind = "file"
    takes_keys = False

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.home = home

    def url(self, org: str, db: str) -> str:
        """The `file://` remote of a database."""
        return f"file://{self._store(org, db)}"

    def _store(self, org: str, db: str) -> Path:
        return self.folder / name(org, "organisation") / name(db, "database")

    def whoami(self) -> str | None:
        """None: a folder knows no users, and what the file system allows is allowed."""
        return None

    def exists(self, org: str, db: str) -> bool:
        """Whether the folder holds the database."""
        return (self._store(org, db) / "manifest").exists()

    def create(self, org: str, db: str, *, private: bool = False, description: str = "") -> None:
        """A remote in a folder comes into being with the first push; only its place is made.

        Who may see it is the folder's affair: `private` makes its place readable to its owner alone.
        """
        if self.exists(org, db):
            raise Conflict(
                f"{org}/{db} already exists in {self.folder}", about=f"{org}/{db}",
                hint=f"if it is yours: wl join {org}/{db} --direct",
            )  # fmt: skip
        self._store(org, db).mkdir(mode=0o700 if private else 0o777, parents=True, exist_ok=True)

    def fork(self, org: str, db: str, owner: str) -> Operation:
        """Copy the database's main with its history; done when this returns."""
        if not self.exists(org, db):
            raise NotFound(f"there is no database {org}/{db} in {self.folder}", about=f"{org}/{db}")
        if owner != org and not self.exists(owner, db):
            with self._lock(), self._scratch(org, db) as clone:
                if not self.exists(owner, db):
                    binary.run(["remote", "add", "fork", self.url(owner, db)], cwd=clone, env=self._env())
                    binary.run(["push", "fork", "main"], cwd=clone, env=self._env(), timeout=300)
        return Operation(f"fork/{owner}/{db}", done=True)

    def wait(self, operation: Operation, timeout: float = 120.0) -> None:
        """Nothing to wait for: operations of a folder end before they return."""

    def open_pull(self, source: Branch, target: Branch, title: str, body: str, author: str) -> Pull:
        """Open a pull request, or refresh the text of the open one of the same branches."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with self._transaction() as store:
            found = store.execute(
                "SELECT number FROM pulls WHERE org=? AND db=? AND from_org=? AND from_db=? AND from_branch=? "
                "AND to_branch=? AND state='open'",
                (target.org, target.db, source.org, source.db, source.name, target.name),
            ).fetchone()
            if found:
                number = int(found["number"])
                store.execute(
                    "UPDATE pulls SET title=?, body=? WHERE org=? AND db=? AND number=?",
                    (title, body, target.org, target.db, number),
                )
            else:
                number = 1 + int(
                    store.execute(
                        "SELECT COALESCE(MAX(number), 0) FROM pulls WHERE org=? AND db=?", (target.org, target.db)
                    ).fetchone()[0]
                )
                store.execute(
                    "INSERT INTO pulls VALUES (?,?,?,?,?,?,?,?,?,?,?,?,NULL)",
                    (target.org, target.db, number, title, body, OPEN, author, source.org, source.db, source.name,
                     target.name, now),
                )  # fmt: skip
        made = self.pull(target.org, target.db, number)
        if made is None:
            raise NotFound(f"pull request {number} of {target} is gone", about=str(number))
        return made

    def pulls(self, org: str, db: str, *, state: str | None = OPEN) -> list[Pull]:
        """Pull requests of a base database, by number."""
        with self._transaction() as store:
            found = store.execute(
                "SELECT * FROM pulls WHERE org=? AND db=? AND (? IS NULL OR state=?) ORDER BY number",
                (org, db, state, state),
            ).fetchall()
            return [self._pull(row) for row in found]

    def pull(self, org: str, db: str, number: int) -> Pull | None:
        """One pull request, or None."""
        with self._transaction() as store:
            found = store.execute("SELECT * FROM pulls WHERE org=? AND db=? AND number=?", (org, db, number)).fetchone()
            return self._pull(found) if found else None

    def pull_from(self, source: Branch, target: Branch) -> Pull | None:
        """The open pull request of two branches, or None."""
        found = self.pulls(target.org, target.db)
        return next((pull for pull in found if (pull.source, pull.target) == (source, target)), None)

    def _pull(self, row: sqlite3.Row) -> Pull:
        return Pull(
            number=row["number"], title=row["title"], body=row["body"], state=row["state"], author=row["author"],
            source=Branch(row["from_org"], row["from_db"], row["from_branch"]),
            target=Branch(row["org"], row["db"], row["to_branch"]),
            created_at=_time(row["created_at"]),
            url=f"{self.url(row['org'], row['db'])}#{row['number']}",
        )  # fmt: skip

    def comment(self, org: str, db: str, number: int, author: str, text: str) -> None:
        """Add a comment; NotFound where there is no such pull request."""
        self._existing(org, db, number)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with self._transaction() as store:
            store.execute(
                "INSERT INTO comments (org, db, number, author, body, created_at) VALUES (?,?,?,?,?,?)",
                (org, db, number, author, text, now),
            )

    def comments(self, org: str, db: str, number: int) -> list[Comment]:
        """The comments of a pull request, oldest first."""
        with self._transaction() as store:
            found = store.execute(
                "SELECT author, body, created_at FROM comments WHERE org=? AND db=? AND number=? ORDER BY id",
                (org, db, number),
            ).fetchall()
        return [Comment(row["author"], row["body"], _time(row["created_at"])) for row in found]

    def close(self, org: str, db: str, number: int, *, landed: str | None = None) -> None:
        """Close an open pull request; one that is closed stays as it is."""
        self._existing(org, db, number)
        with self._transaction() as store:
            store.execute(
                "UPDATE pulls SET state=?, landed=? WHERE org=? AND db=? AND number=? AND state='open'",
                (MERGED if landed else CLOSED, landed, org, db, number),
            )

    def _existing(self, org: str, db: str, number: int) -> Pull:
        found = self.pull(org, db, number)
        if found is None:
            raise NotFound(f"{org}/{db} has no pull request {number}", about=str(number))
        return found

    def merge(self, org: str, db: str, number: int, author: str) -> Operation:
        """Merge the branch as it is now into the base, and push; Conflict where it does not merge."""
        pull = self._existing(org, db, number)
        if pull.state != OPEN:
            raise Refused(f"pull request {number} is {pull.state}", about=str(number))
        with self._lock(), self._scratch(org, db) as clone:
            source = pull.source
            binary.run(["remote", "add", "source", self.url(source.org, source.db)], cwd=clone, env=self._env())
            binary.run(["fetch", "source"], cwd=clone, env=self._env(), timeout=300)
            done = binary.run(
                ["merge", "--no-ff", "-m", f"Merge pull request {number} from {show(source)}",
                 "--author", author, f"source/{source.name}"],
                cwd=clone, env=self._env(), check=False,
            )  # fmt: skip
            if done.returncode:
                raise Conflict(f"pull request {number} does not merge into {pull.target}", about=str(number))
            binary.run(["push", "origin", f"main:{pull.target.name}"], cwd=clone, env=self._env(), timeout=300)
            head = self._head(clone)
        self.close(org, db, number, landed=head)
        return Operation(f"merge/{org}/{db}/{number}", done=True)

    def read(self, org: str, db: str, ref: str, sql: str) -> list[dict[str, Any]]:
        """Rows of one SELECT at a branch or commit, from a scratch clone."""
        with self._scratch(org, db) as clone:
            if ref != "main":
                binary.run(["checkout", ref], cwd=clone, env=self._env())
            found = binary.run(["sql", "-r", "json", "-q", sql], cwd=clone, env=self._env())
        rows: list[dict[str, Any]] = json.loads(found.stdout or '{"rows": []}').get("rows", [])
        return rows

    def register_key(self, public_key: str) -> bool:
        """False: a folder knows no keys."""
        return False

    def finish(self) -> None:
        """Nothing to end: each question opens the folder anew."""

    def level(self, org: str, db: str, owner: str) -> str | None:
        """Merge upstream's main into the fork's in a scratch clone, and push; the fork's head."""
        with self._lock(), self._scratch(owner, db) as clone:
            binary.run(["remote", "add", "upstream", self.url(org, db)], cwd=clone, env=self._env())
            binary.run(["fetch", "upstream", "main"], cwd=clone, env=self._env(), timeout=300)
            done = binary.run(["merge", "upstream/main"], cwd=clone, env=self._env(), check=False)
            if done.returncode:
                raise Conflict(f"the main of {owner}/{db} has commits that do not merge with {org}/{db}'s", about=owner)
            binary.run(["push", "origin", "main"], cwd=clone, env=self._env(), timeout=300)
            return self._head(clone)

    def _head(self, clone: Path) -> str:
        found = binary.run(["sql", "-r", "json", "-q", "SELECT dolt_hashof('HEAD') AS h"], cwd=clone, env=self._env())
        return str(json.loads(found.stdout)["rows"][0]["h"])

    def _env(self) -> dict[str, str]:
        return binary.environment(self.home)

    @contextlib.contextmanager
    def _scratch(self, org: str, db: str) -> Iterator[Path]:
        import shutil
        import tempfile

        folder = Path(tempfile.mkdtemp(prefix="wl-hub-"))
        try:
            binary.run(["clone", self.url(org, db), "clone"], cwd=folder, env=self._env(), timeout=300)
            yield folder / "clone"
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        (self.folder / ".hub").mkdir(parents=True, exist_ok=True)
        with (self.folder / ".hub" / "lock").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction of the pull requests; Unreachable where the folder or its file cannot be used."""
        if not self.folder.is_dir():
            raise Unreachable(f"the hub {self.folder} is not there", about=str(self.folder), hint=MOVED)
        try:
            with self._opened() as store:
                yield store
        except (sqlite3.Error, OSError) as error:
            raise Unreachable(f"the hub {self.folder} does not work: {error}", about=str(self.folder)) from error

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        (self.folder / ".hub").mkdir(exist_ok=True)
        store = sqlite3.connect(self.folder / ".hub" / "pulls.sqlite", timeout=60, isolation_level=None)
        store.row_factory = sqlite3.Row
        try:
            store.executescript(SCHEMA)
            store.execute("BEGIN IMMEDIATE")
            yield store
            store.execute("COMMIT")
        except BaseException:
            if store.in_transaction:
                store.execute("ROLLBACK")
            raise
        finally:
            store.close()


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
