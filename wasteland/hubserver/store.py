"""What a hub remembers besides the databases themselves: one SQLite file.

Users and organisations share one space of names, because both own
repositories.  Of tokens only the SHA-256 is kept.  A repository's database on
the Dolt server is `r<id>`; `ready` is set when that database is complete, so
that a killed hub finds what it was making.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wasteland.errors import Conflict, NotFound, Usage
from wasteland.hubserver import Holder
from wasteland.text import name as checked_name
from wasteland.values import dataclass

ROLES = ("reader", "writer", "admin")
SCHEMA = """
CREATE TABLE IF NOT EXISTS owners (
    name TEXT PRIMARY KEY COLLATE NOCASE, kind TEXT NOT NULL CHECK (kind IN ('user', 'org')),
    created TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS members (
    org TEXT NOT NULL COLLATE NOCASE REFERENCES owners, user TEXT NOT NULL COLLATE NOCASE REFERENCES owners,
    role TEXT NOT NULL CHECK (role IN ('reader', 'writer', 'admin')), PRIMARY KEY (org, user)) STRICT;
CREATE TABLE IF NOT EXISTS tokens (
    id INTEGER PRIMARY KEY, sha256 TEXT NOT NULL UNIQUE, user TEXT NOT NULL REFERENCES owners,
    scope TEXT NOT NULL CHECK (scope IN ('read', 'write')), created TEXT NOT NULL, expires TEXT,
    revoked INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY, public BLOB NOT NULL, user TEXT NOT NULL REFERENCES owners, created TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS repositories (
    id INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL COLLATE NOCASE REFERENCES owners,
    name TEXT NOT NULL COLLATE NOCASE, private INTEGER NOT NULL, description TEXT NOT NULL,
    parent INTEGER REFERENCES repositories, root INTEGER, empty INTEGER NOT NULL, ready INTEGER NOT NULL DEFAULT 0,
    created TEXT NOT NULL, UNIQUE (owner, name)) STRICT;
CREATE TABLE IF NOT EXISTS pulls (
    repo INTEGER NOT NULL REFERENCES repositories, number INTEGER NOT NULL, title TEXT NOT NULL, body TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'closed', 'merged')), author TEXT NOT NULL,
    from_repo INTEGER NOT NULL REFERENCES repositories, from_branch TEXT NOT NULL, to_branch TEXT NOT NULL,
    created TEXT NOT NULL, closed TEXT, merged_commit TEXT, PRIMARY KEY (repo, number)) STRICT;
CREATE TABLE IF NOT EXISTS comments (
    id INTEGER PRIMARY KEY, repo INTEGER NOT NULL, number INTEGER NOT NULL, author TEXT NOT NULL, body TEXT NOT NULL,
    created TEXT NOT NULL, FOREIGN KEY (repo, number) REFERENCES pulls) STRICT;
CREATE TABLE IF NOT EXISTS operations (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, repo INTEGER NOT NULL, user TEXT NOT NULL, state TEXT NOT NULL,
    about TEXT NOT NULL, result TEXT, error TEXT, created TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS webhooks (
    id INTEGER PRIMARY KEY, repo INTEGER NOT NULL REFERENCES repositories, url TEXT NOT NULL,
    secret TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS heads (
    repo INTEGER NOT NULL, branch TEXT NOT NULL, hash TEXT NOT NULL, PRIMARY KEY (repo, branch)) STRICT;
"""


@dataclass(frozen=True)
class Repository:
    """A database of an owner; `root` is the repository that all its forks descend from."""

    id: int
    owner: str
    name: str
    private: bool
    description: str
    parent: int | None
    root: int
    empty: bool
    created: str

    @property
    def database(self) -> str:
        """Its name on the Dolt server."""
        return f"r{self.id}"

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}"


def now() -> str:
    """The time as it is stored and shown."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Store:
    """The file `hub.sqlite` of one hub; safe to use from many threads and from a second process."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._db = sqlite3.connect(folder / "hub.sqlite", timeout=30, isolation_level=None, check_same_thread=False)
        (folder / "hub.sqlite").chmod(0o600)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextlib.contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """One transaction that nobody else's comes into."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """The rows of one query."""
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def row(self, query: str, *values: Any) -> sqlite3.Row | None:
        """The first row of one query."""
        found = self.rows(query, *values)
        return found[0] if found else None

    def add_owner(self, name: str, kind: str) -> None:
        """Add a user or an organisation; Conflict where the name is taken."""
        checked_name(name, "user" if kind == "user" else "organisation")
        with self.change() as db:
            if db.execute("SELECT 1 FROM owners WHERE name = ?", (name,)).fetchone():
                raise Conflict(f"the name {name} is taken", about=name)
            db.execute("INSERT INTO owners VALUES (?, ?, ?)", (name, kind, now()))

    def kind(self, name: str) -> str | None:
        """'user', 'org', or None for a name that nobody has."""
        found = self.row("SELECT kind FROM owners WHERE name = ?", name)
        return str(found["kind"]) if found else None

    def need(self, name: str, kind: str) -> str:
        """The name as it is written here; NotFound where there is no such user or organisation."""
        found = self.row("SELECT name FROM owners WHERE name = ? AND kind = ?", name, kind)
        if found is None:
            raise NotFound(f"there is no {'user' if kind == 'user' else 'organisation'} of that name", about=name)
        return str(found["name"])

    def add_member(self, org: str, user: str, role: str) -> None:
        """Make a user a member, or change the role of one."""
        if role not in ROLES:
            raise Usage(f"a role is one of {', '.join(ROLES)}", about="role")
        org, user = self.need(org, "org"), self.need(user, "user")
        with self.change() as db:
            db.execute("INSERT INTO members VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET role = excluded.role",
                       (org, user, role))  # fmt: skip

    def remove_member(self, org: str, user: str) -> None:
        """End a membership; NotFound where there is none."""
        with self.change() as db:
            if not db.execute("DELETE FROM members WHERE org = ? AND user = ?", (org, user)).rowcount:
                raise NotFound(f"{user} is no member of {org}", about=user)

    def role(self, user: str, owner: str) -> str | None:
        """What a user is to an owner: 'admin' to himself, his role to an organisation, or None."""
        if user.lower() == owner.lower():
            return "admin"
        found = self.row("SELECT role FROM members WHERE org = ? AND user = ?", owner, user)
        return str(found["role"]) if found else None

    def add_token(self, user: str, scope: str = "write", expires: str | None = None) -> tuple[int, str]:
        """A new token and its number; the token is not kept and cannot be shown again."""
        user = self.need(user, "user")
        token = f"wlh_{secrets.token_urlsafe(32)}"
        with self.change() as db:
            made = db.execute("INSERT INTO tokens (sha256, user, scope, created, expires) VALUES (?, ?, ?, ?, ?)",
                              (_digest(token), user, scope, now(), expires))  # fmt: skip
        return int(made.lastrowid or 0), token

    def revoke_token(self, number: int) -> None:
        """Make a token invalid; NotFound where there is none of that number."""
        with self.change() as db:
            if not db.execute("UPDATE tokens SET revoked = 1 WHERE id = ?", (number,)).rowcount:
                raise NotFound(f"there is no token {number}", about=str(number))

    def whose_token(self, token: str) -> Holder | None:
        """The holder of a token that is neither revoked nor expired."""
        found = self.row(
            "SELECT user, scope FROM tokens WHERE sha256 = ? AND NOT revoked AND (expires IS NULL OR expires > ?)",
            _digest(token), now(),
        )  # fmt: skip
        return Holder(found["user"], found["scope"] == "write") if found else None

    def add_key(self, user: str, key_id: str, public: bytes) -> None:
        """Register a user's public key; Conflict where it is another user's."""
        with self.change() as db:
            found = db.execute("SELECT user FROM keys WHERE id = ?", (key_id,)).fetchone()
            if found and found["user"] != user:
                raise Conflict("this key belongs to another user", about=key_id)
            db.execute("INSERT OR IGNORE INTO keys VALUES (?, ?, ?, ?)", (key_id, public, user, now()))

    def remove_key(self, user: str, key_id: str) -> None:
        """Forget a user's key; NotFound where he has no such key."""
        with self.change() as db:
            if not db.execute("DELETE FROM keys WHERE id = ? AND user = ?", (key_id, user)).rowcount:
                raise NotFound("there is no such key", about=key_id)

    def whose_key(self, key_id: str) -> tuple[str, bytes] | None:
        """The user and the public key of a key id."""
        found = self.row("SELECT user, public FROM keys WHERE id = ?", key_id)
        return (found["user"], bytes(found["public"])) if found else None

    def add_repository(
        self, owner: str, name: str, *, private: bool, description: str, parent: Repository | None = None
    ) -> Repository:
        """The row of a repository whose database is about to be made; Conflict where the name is taken."""
        checked_name(owner, "organisation")
        checked_name(name, "database")
        with self.change() as db:
            if db.execute("SELECT 1 FROM repositories WHERE owner = ? AND name = ?", (owner, name)).fetchone():
                raise Conflict(f"{owner}/{name} already exists", about=f"{owner}/{name}")
            made = db.execute(
                "INSERT INTO repositories (owner, name, private, description, parent, root, empty, created) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (owner, name, private, description, parent.id if parent else None, parent.root if parent else None,
                 parent is None, now()),
            ).lastrowid  # fmt: skip
            found = db.execute("SELECT * FROM repositories WHERE id = ?", (made,)).fetchone()
        return _repository(found)

    def made(self, repo: Repository) -> None:
        """The repository's database is complete."""
        with self.change() as db:
            db.execute("UPDATE repositories SET ready = 1 WHERE id = ?", (repo.id,))

    def filled(self, repo: Repository) -> None:
        """The repository has had its first push."""
        with self.change() as db:
            db.execute("UPDATE repositories SET empty = 0 WHERE id = ?", (repo.id,))

    def drop_repository(self, repo: Repository) -> None:
        """Forget a repository whose making failed."""
        with self.change() as db:
            db.execute("DELETE FROM heads WHERE repo = ?", (repo.id,))
            db.execute("DELETE FROM repositories WHERE id = ? AND NOT ready", (repo.id,))

    def repository(self, owner: str, name: str) -> Repository | None:
        """A complete repository, or None."""
        found = self.row("SELECT * FROM repositories WHERE owner = ? AND name = ? AND ready", owner, name)
        return _repository(found) if found else None

    def repository_of(self, number: int) -> Repository:
        """The repository of an id that a row refers to."""
        found = self.row("SELECT * FROM repositories WHERE id = ?", number)
        if found is None:
            raise NotFound("no such repository", about=str(number))
        return _repository(found)

    def repositories(self, *, ready: bool = True) -> list[Repository]:
        """All repositories that are complete, or all that are not."""
        return [_repository(row) for row in self.rows("SELECT * FROM repositories WHERE ready = ? ORDER BY id", ready)]

    def forks(self, repo: Repository) -> list[Repository]:
        """The direct forks of a repository."""
        found = self.rows("SELECT * FROM repositories WHERE parent = ? AND ready ORDER BY id", repo.id)
        return [_repository(row) for row in found]

    def family(self, repo: Repository) -> int:
        """How many repositories share this one's root, the root included."""
        found = self.row("SELECT COUNT(*) AS n FROM repositories WHERE ready AND (root = ? OR id = ?)",
                         repo.root, repo.root)  # fmt: skip
        return int(found["n"]) if found else 0


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _repository(row: sqlite3.Row) -> Repository:
    return Repository(
        id=row["id"], owner=row["owner"], name=row["name"], private=bool(row["private"]),
        description=row["description"], parent=row["parent"], root=row["root"] or row["id"],
        empty=bool(row["empty"]), created=row["created"],
    )  # fmt: skip
