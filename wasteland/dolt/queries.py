"""The rows of a commons, at a branch, tag or commit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Self

from wasteland.dolt.server import Server
from wasteland.dolt.session import Row, Session, bindable, call, checked_branch
from wasteland.errors import NotFound, WastelandError
from wasteland.text import show


class Queries:
    """Rows of one commons at one revision; what a revision is."""

    def __init__(self, server: Server, *, author: str, signing_key: str | None = None, revision: str = "main") -> None:
        self.server = server
        self.author = author
        self.signing_key = signing_key
        self.revision = revision
        self._session = Session(server)
        self._sync: Session | None = None

    def at(self, revision: str) -> Self:
        """The same tables at a branch (writable) or a commit (not); shares the session."""
        if revision == self.revision:
            return self
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.revision = self._resolved(revision)
        return other

    def _resolved(self, revision: str) -> str:
        """A remote branch is no database name; its commit is."""
        if "/" in revision and not self.is_branch(revision):
            return self.hash_of(revision)
        return checked_branch(revision)

    def rows(self, sql: str, **values: Any) -> list[Row]:
        """All rows of a query."""
        return self._session.ask(self.revision, bindable(sql), values or None)[1]

    def row(self, sql: str, **values: Any) -> Row | None:
        """The first row of a query, or None."""
        found = self.rows(sql, **values)
        return found[0] if found else None

    def value(self, sql: str, **values: Any) -> Any:
        """The first column of the first row, or None."""
        found = self.row(sql, **values)
        return next(iter(found.values())) if found else None

    def run(self, sql: str, **values: Any) -> int:
        """Change rows inside `change`; how many rows matched."""
        if not self._session.in_change:
            raise WastelandError("a statement that changes rows ran outside of a change")
        return self._session.ask(self.revision, bindable(sql), values or None)[0]

    def columns(self, table: str) -> list[str]:
        """The columns of `table` here, in order; empty where there is no such table."""
        if table not in {next(iter(row.values())) for row in self.rows("SHOW TABLES")}:
            return []
        return [str(row["Field"]) for row in self.rows(f"SHOW COLUMNS FROM `{table}`")]

    def hash_of(self, revision: str) -> str:
        """The commit that `revision` names; NotFound where it names none."""
        found = self.find(revision)
        if found is None:
            raise NotFound(f"there is no branch or commit {show(revision)!r} here", about=revision)
        return found

    def find(self, revision: str) -> str | None:
        """The commit that `revision` names, or None."""
        if re.fullmatch(r"[0-9a-v]{32}", revision):
            known = self._plain("SELECT commit_hash AS hash FROM dolt_commits WHERE commit_hash = %s", (revision,))
            return revision if known else None
        local = "SELECT 0 AS place, hash FROM dolt_branches WHERE name = %s"
        remote = "SELECT 1 AS place, hash FROM dolt_remote_branches WHERE name = %s"
        if revision.partition("/")[0] in self._session.remotes:
            found = self._plain(f"{local} UNION ALL {remote}", (revision, f"remotes/{revision}"))
        else:
            found = self._plain(local, (revision,))
            if not found and "/" in revision:
                found = self._plain(remote, (f"remotes/{revision}",))
        return str(min(found, key=lambda row: row["place"])["hash"]) if found else None

    def is_branch(self, name: str) -> bool:
        """Whether a local branch has this name."""
        return bool(self._plain("SELECT 1 FROM dolt_branches WHERE name = %s", (name,)))

    def _procedure(self, sql: str, values: Sequence[Any] | None = None) -> list[Row]:
        return self._session.ask(self.revision, sql, values)[1]

    def _call(self, procedure: str, *words: str) -> list[Row]:
        return self._session.ask(self.revision, call(procedure, words), words)[1]

    def _plain(self, sql: str, values: Sequence[Any] | None = None) -> list[Row]:
        if self._session.in_change:
            return self._session.ask(self.revision, sql, values)[1]
        return self._session.ask(None, sql, values)[1]
