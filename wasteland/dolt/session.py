"""One connection to the server, and what becomes of its errors; names as SQL."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from wasteland.dolt.driver import ER, Connection, DictCursor, err
from wasteland.dolt.server import Server
from wasteland.errors import Conflict, NotFound, Unreachable, WastelandError
from wasteland.text import masked, show

if TYPE_CHECKING:
    from wasteland.models import RowDiff

Row = dict[str, Any]
LOST = (2003, 2006, 2013, 2055, 0)
SERIALIZATION = (1213, 1205)
PARAMETER = re.compile(r":([a-z_][a-z_0-9]*)")
BRANCH = re.compile(r"[A-Za-z0-9._/-]{1,200}\Z")
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")


class Session:
    """One connection to the server, opened at the first question."""

    def __init__(self, server: Server, account: str = "node") -> None:
        self.server = server
        self.account = account
        self._connection: Connection[Any] | None = None
        self._revision: str | None = ""
        self.in_change = False
        self.locked = False
        self.diffs: dict[tuple[str, str], list[RowDiff]] = {}  # of two commits, which never change
        self.remotes: dict[str, str] = {}  # as last read; where one points never changes

    def ask(self, revision: str | None, sql: str, values: Row | Sequence[Any] | None = None) -> tuple[int, list[Row]]:
        """Run one statement on the bare database (None) or at a revision; row count and rows."""
        if self._connection is None:
            self._connection = self.server.connect(self.account)
            self._revision = ""
        try:
            with self._connection.cursor(DictCursor) as cursor:
                if revision != self._revision:
                    cursor.execute(f"USE `{self.server.database}{'/' + revision if revision else ''}`")
                    self._revision = revision
                count = cursor.execute(sql, values)
                return count, list(cursor.fetchall())
        except err.Error as error:
            raise self._translated(error, revision) from error

    def _translated(self, error: err.Error, revision: str | None) -> WastelandError:
        number = error.args[0] if error.args and isinstance(error.args[0], int) else -1
        words = masked(show(error.args[1] if len(error.args) > 1 else error))[:300]
        if number in LOST or isinstance(error, err.InterfaceError):
            self.close()
            from wasteland.dolt import starting

            if panicked := starting.broke_down(self.server):
                return panicked
            return Unreachable(f"the database server went away: {words}", hint="try again")
        if number in SERIALIZATION:
            return Conflict("another change of the same row was first")
        if number in (ER.BAD_DB_ERROR, ER.DBACCESS_DENIED_ERROR) or (revision and "Access denied" in words):
            return NotFound(f"there is no branch or commit {revision!r} here", about=revision)
        return WastelandError(f"the database refused: {words}")

    def close(self) -> None:
        """End the session; an open transaction is rolled back."""
        if self._connection is not None:
            with contextlib.suppress(err.Error, OSError):
                self._connection.close()
        self._connection = None


@functools.lru_cache(maxsize=256)
def bindable(sql: str) -> str:
    """A statement with `:name` parameters in PyMySQL's own form."""
    return PARAMETER.sub(r"%(\1)s", sql.replace("%", "%%"))


def utc(value: datetime) -> datetime:
    """A time from the database, which knows no zone, as UTC."""
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def checked_branch(name: str) -> str:
    """`name` if it can be part of a database name in SQL; else NotFound."""
    if not BRANCH.match(name) or ".." in name or name.startswith(("-", "/")):
        raise NotFound(f"there is no branch {show(name)!r} here", about=name)
    return name


def identifier(name: str) -> str:
    """A table's or column's name as SQL; WastelandError for one that no commons has."""
    if not IDENTIFIER.match(name):
        raise WastelandError(f"{show(name)} is no name of a table or column", about=name)
    return f"`{name}`"


def call(procedure: str, words: Sequence[str]) -> str:
    """A stored procedure's call with a parameter for each word."""
    return f"CALL {procedure}({', '.join(['%s'] * len(words))})"
