"""Changes of a commons: one Dolt commit or nothing; branches and merges."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Self

from wasteland.dolt.history import History, MergeConflict
from wasteland.dolt.session import call, checked_branch, identifier
from wasteland.errors import Conflict, Refused, WastelandError
from wasteland.local.steps import step
from wasteland.models import KEYS, RowConflict
from wasteland.text import show

UNCOMMITTED = "wl doctor --fix keeps them on a branch of their own and cleans up"


class NothingChanged(Conflict):
    """A change left every row as it was, so there is no commit."""


class Changes(History):
    """What makes commits, and moves branches."""

    @contextlib.contextmanager
    def locked(self, patience: float | None = None) -> Iterator[None]:
        """The only writer of this clone, for the whole of a verb; may be nested.

        Conflict where another one writes for longer than `patience` seconds; see `Server.lock`.
        """
        if self._session.locked:
            yield
            return
        with self.server.lock("write", patience):
            self._session.locked = True
            try:
                step("locked")
                yield
            finally:
                self._session.locked = False

    @contextlib.contextmanager
    def change(self, message: str, *, author: str | None = None) -> Iterator[Self]:
        """One Dolt commit of all that runs inside, or nothing at all.

        Raises NothingChanged when no row differs at the end, Conflict when
        another session changed the same rows, Refused when the clone holds
        changes that somebody else left uncommitted.
        """
        with self.locked():
            self.server.need_room()
            self.refuse_dirty()
            self._procedure("START TRANSACTION")
            self._session.in_change = True
            try:
                step("begun")
                yield self
                step("written")
                self._commit(message, author or self.author)
                step("committed")
                self._procedure("COMMIT")
                step("durable")
            except BaseException:
                self._session.in_change = False
                with contextlib.suppress(WastelandError):
                    self._procedure("ROLLBACK")
                raise
            finally:
                self._session.in_change = False

    @contextlib.contextmanager
    def founding(self, message: str) -> Iterator[Self]:
        """As `change`, for the first commit of a new commons: the tables just made go into it."""
        self._session.in_change = True
        try:
            yield self
            self._commit(message, self.author)
        finally:
            self._session.in_change = False

    def _commit(self, message: str, author: str) -> None:
        words = ["--skip-empty", "-A", "-m", message, "--author", author]
        if self.signing_key is not None:
            words += ["-S", self.signing_key] if self.signing_key else ["-S"]
        try:
            _, made = self._session.ask(self.revision, call("DOLT_COMMIT", words), words)
        except WastelandError as error:
            if self.signing_key is not None and type(error) is WastelandError:
                error.message = f"the commit was not made, with GPG signing on: {error.message}"
                error.hint = "wl config set signing false, or set Dolt's sqlserver.global.signingkey"
            raise
        if not made or not next(iter(made[0].values())):
            raise NothingChanged("nothing changed")

    def refuse_dirty(self) -> None:
        """Refused when uncommitted rows lie in the working set of this branch."""
        dirty = self._session.ask(self.revision, "SELECT table_name AS name FROM dolt_status")[1]
        if dirty:
            names = ", ".join(sorted({show(row["name"]) for row in dirty}))
            raise Refused(
                f"the clone has changes that were never committed (tables: {names})",
                about=str(self.server.clone),
                hint=UNCOMMITTED,
            )

    def branch(self, name: str, at: str) -> None:
        """Make the local branch `name` at a commit or branch."""
        self._call("DOLT_BRANCH", checked_branch(name), at)

    def rename_branch(self, name: str, to: str) -> None:
        """Give a local branch another name."""
        self._call("DOLT_BRANCH", "-m", checked_branch(name), checked_branch(to))

    def delete_branch(self, name: str) -> None:
        """Delete a local branch, merged or not; the caller knows that it is kept elsewhere."""
        self._call("DOLT_BRANCH", "-D", checked_branch(name))

    def reset(self, to: str) -> None:
        """Move this branch and its working set to the commit `to`."""
        self._call("DOLT_RESET", "--hard", to)

    def merge(self, other: str, message: str, *, no_ff: bool = False, author: str | None = None) -> str:
        """Merge `other` into this branch; the new head.

        Raises MergeConflict, with the branch as it was, when both changed the
        same cells.  Times that every change sets are no conflict: the later one stays.
        """
        rows = self.overlaps(self.revision, other)
        if clashes := [row for row in rows if row.columns]:
            raise MergeConflict({row.table for row in clashes}, clashes)
        words = [other, "-m", message, "--author", author or self.author]
        if no_ff:
            words.append("--no-ff")
        with self.locked():
            self._procedure("SET autocommit = 0" if rows else "START TRANSACTION")
            step("begun")
            try:
                self._session.ask(self.revision, call("DOLT_MERGE", words), words)
                if rows:
                    self._settle(rows, message, author or self.author)
                step("committed")
                self._procedure("COMMIT")
            except BaseException:
                with contextlib.suppress(WastelandError):
                    self._procedure("ROLLBACK")
                raise
            finally:
                if rows:
                    self._procedure("SET autocommit = 1")
        step("merged")
        return self.hash_of(self.revision)

    def _settle(self, rows: Sequence[RowConflict], message: str, author: str) -> None:
        """Inside a merge that stopped at rows which merge cell by cell: write them, and commit it."""
        for row in rows:
            key = KEYS.get(row.table, "id")
            cells = {name: value for name, value in row.merged.items() if name != key}
            sets = ", ".join(f"{identifier(name)} = %s" for name in cells)
            sql = f"UPDATE {identifier(row.table)} SET {sets} WHERE {identifier(key)} = %s"
            self._procedure(sql, [*cells.values(), row.key])
        for table in sorted({row.table for row in rows}):
            self._procedure(f"DELETE FROM {identifier('dolt_conflicts_' + table)}")
        self._commit(message, author)
