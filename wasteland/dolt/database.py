"""One Dolt database: rows, and the history they live in.

    db.rows("SELECT * FROM wanted WHERE status = :status", status="open")
    with db.change("wl claim: w-1"):          # one Dolt commit, or nothing
        db.run("UPDATE wanted SET … WHERE id = :id", id="w-1")
    db.at("upstream/main").rows(…)            # the same tables, elsewhere

Values are always bound.  `dolt_*` functions and procedures, and `AS OF`, are
written here and nowhere else.  What is measured and relied upon:

* PyMySQL's autocommit=False sends nothing to Dolt, so sessions run with
  autocommit on and `change` sends START TRANSACTION itself.
* DOLT_COMMIT inside a transaction does not end it: COMMIT follows it.
* Table functions (`dolt_diff`, …) are denied to a plain account while the
  session is on `db/branch`, so they run on the bare database.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pymysql
from pymysql.constants import ER
from pymysql.cursors import DictCursor

from wasteland.dolt.server import Server
from wasteland.errors import Conflict, NotFound, Refused, Unauthenticated, Unreachable, WastelandError
from wasteland.local.steps import step
from wasteland.models import KEYS, RowConflict, RowDiff, TableDiff
from wasteland.text import masked, show

Row = dict[str, Any]
LOST = (2003, 2006, 2013, 2055, 0)
SERIALIZATION = (1213, 1205)
PARAMETER = re.compile(r":([a-z_][a-z_0-9]*)")
BRANCH = re.compile(r"[A-Za-z0-9._/-]{1,200}\Z")
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")
SYSTEM = "dolt_"
DENIED = re.compile(r"code = (Unauthenticated|PermissionDenied)\b")  # gRPC's own words for its status codes
GONE = re.compile(r"code = NotFound\b")
FETCHES = 8  # remotes that are fetched at a time


class MergeConflict(Conflict):
    """Two histories changed the same cells; `rows` are those, as far as rows are what conflicts."""

    def __init__(self, tables: Iterable[str], rows: Sequence[RowConflict] = ()) -> None:
        super().__init__("both sides changed the same rows: " + (told(rows) or ", ".join(sorted(tables))))
        self.tables = sorted(tables)
        self.rows = rows


class NothingChanged(Conflict):
    """A change left every row as it was, so there is no commit."""


class PushRejected(Conflict):
    """The remote's branch holds commits that ours does not."""


@dataclass(frozen=True)
class Commit:
    """One Dolt commit."""

    hash: str
    author: str
    email: str
    date: datetime
    message: str


@functools.lru_cache(maxsize=256)
def _bindable(sql: str) -> str:
    return PARAMETER.sub(r"%(\1)s", sql.replace("%", "%%"))


class Session:
    """One connection to the server, opened at the first question."""

    def __init__(self, server: Server, account: str = "node") -> None:
        self.server = server
        self.account = account
        self._connection: pymysql.Connection[Any] | None = None
        self._revision: str | None = ""
        self.in_change = False
        self.locked = False

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
        except pymysql.err.Error as error:
            raise self._translated(error, revision) from error

    def _translated(self, error: pymysql.err.Error, revision: str | None) -> WastelandError:
        number = error.args[0] if error.args and isinstance(error.args[0], int) else -1
        words = masked(show(error.args[1] if len(error.args) > 1 else error))[:300]
        if number in LOST or isinstance(error, pymysql.err.InterfaceError):
            self.close()
            return Unreachable(f"the database server went away: {words}", hint="try again")
        if number in SERIALIZATION:
            return Conflict("another change of the same row was first")
        if number in (ER.BAD_DB_ERROR, ER.DBACCESS_DENIED_ERROR) or (revision and "Access denied" in words):
            return NotFound(f"there is no branch or commit {revision!r} here", about=revision)
        return WastelandError(f"the database refused: {words}")

    def close(self) -> None:
        """End the session; an open transaction is rolled back."""
        if self._connection is not None:
            with contextlib.suppress(pymysql.err.Error, OSError):
                self._connection.close()
        self._connection = None


class Database:
    """One commons, seen at its `main` or at another branch, tag or commit."""

    def __init__(self, server: Server, *, author: str, signing_key: str | None = None, revision: str = "main") -> None:
        self.server = server
        self.author = author
        self.signing_key = signing_key
        self.revision = revision
        self._session = Session(server)
        self._sync: Session | None = None

    def at(self, revision: str) -> Database:
        """The same tables at a branch (writable) or a commit (not); shares the session."""
        if revision == self.revision:
            return self
        other = Database.__new__(Database)
        other.__dict__.update(self.__dict__)
        other.revision = self._resolved(revision)
        return other

    def _resolved(self, revision: str) -> str:
        """A remote branch is no database name; its commit is."""
        if "/" in revision and not self.is_branch(revision):
            return self.hash_of(revision)
        return checked_branch(revision)

    # rows

    def rows(self, sql: str, **values: Any) -> list[Row]:
        """All rows of a query."""
        return self._session.ask(self.revision, _bindable(sql), values or None)[1]

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
        return self._session.ask(self.revision, _bindable(sql), values or None)[0]

    def columns(self, table: str) -> list[str]:
        """The columns of `table` here, in order; empty where there is no such table."""
        if table not in {next(iter(row.values())) for row in self.rows("SHOW TABLES")}:
            return []
        return [str(row["Field"]) for row in self.rows(f"SHOW COLUMNS FROM `{table}`")]

    # changes

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """The only writer of this clone, for the whole of a verb; may be nested."""
        if self._session.locked:
            yield
            return
        with self.server.lock("write"):
            self._session.locked = True
            try:
                step("locked")
                yield
            finally:
                self._session.locked = False

    @contextlib.contextmanager
    def change(self, message: str, *, author: str | None = None) -> Iterator[Database]:
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
    def founding(self, message: str) -> Iterator[Database]:
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
            _, made = self._session.ask(self.revision, _call("DOLT_COMMIT", words), words)
        except WastelandError as error:
            if self.signing_key is not None and type(error) is WastelandError:
                error.message = f"the commit was not made, with GPG signing on: {error.message}"
                error.hint = "wl config set signing false, or set Dolt's sqlserver.global.signingkey"
            raise
        if not made or not next(iter(made[0].values())):
            raise NothingChanged("nothing changed")

    def _procedure(self, sql: str, values: Sequence[Any] | None = None) -> list[Row]:
        return self._session.ask(self.revision, sql, values)[1]

    def refuse_dirty(self) -> None:
        """Refused when uncommitted rows lie in the working set of this branch."""
        dirty = self._session.ask(self.revision, "SELECT table_name AS name FROM dolt_status")[1]
        if dirty:
            names = ", ".join(sorted({show(row["name"]) for row in dirty}))
            raise Refused(
                f"the clone has changes that were never committed (tables: {names})",
                about=str(self.server.clone),
                hint="wl doctor --fix keeps them on a branch of their own and cleans up",
            )

    # history

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
        local = self._plain("SELECT hash FROM dolt_branches WHERE name = %s", (revision,))
        if local:
            return str(local[0]["hash"])
        remote = self._plain("SELECT hash FROM dolt_remote_branches WHERE name = %s", (f"remotes/{revision}",))
        return str(remote[0]["hash"]) if remote else None

    def is_branch(self, name: str) -> bool:
        """Whether a local branch has this name."""
        return bool(self._plain("SELECT 1 FROM dolt_branches WHERE name = %s", (name,)))

    def branches(self, prefix: str = "") -> dict[str, str]:
        """Local branches whose name starts with `prefix`, with their commits, by name."""
        found = self._plain(
            "SELECT name, hash FROM dolt_branches WHERE LEFT(name, %s) = %s ORDER BY name", (len(prefix), prefix)
        )
        return {str(row["name"]): str(row["hash"]) for row in found}

    def remote_branches(self, remote: str) -> dict[str, str]:
        """Branches of `remote` as last fetched, with their commits, by name."""
        start = f"remotes/{remote}/"
        found = self._plain(
            "SELECT name, hash FROM dolt_remote_branches WHERE LEFT(name, %s) = %s ORDER BY name", (len(start), start)
        )
        return {str(row["name"])[len(start) :]: str(row["hash"]) for row in found}

    def remotes(self) -> dict[str, str]:
        """The clone's remotes and their URLs."""
        return {str(row["name"]): str(row["url"]) for row in self._plain("SELECT name, url FROM dolt_remotes")}

    def is_ancestor(self, old: str, new: str) -> bool:
        """Whether the commit `old` is `new` or one of its ancestors."""
        return old == new or bool(self._plain("SELECT has_ancestor(%s, %s) AS answer", (new, old))[0]["answer"])

    def merge_base(self, one: str, other: str) -> str | None:
        """The newest commit that both have; None for unrelated histories."""
        try:
            found = self._plain("SELECT dolt_merge_base(%s, %s) AS hash", (one, other))[0]["hash"]
        except WastelandError:
            if self.log(one)[-1].hash != self.log(other)[-1].hash:
                return None  # Dolt takes two histories that begin differently for an error
            raise
        return str(found) if found else None

    def log(self, revision: str, *, without: str | None = None, limit: int = 0) -> list[Commit]:
        """The commits of `revision` (less those of `without`), newest first; 0 is no limit."""
        words = (revision,) if without is None else (revision, "--not", without)
        marks = ", ".join(["%s"] * len(words))
        tail = f" LIMIT {int(limit)}" if limit else ""
        found = self._plain(f"SELECT commit_hash, committer, email, date, message FROM dolt_log({marks}){tail}", words)
        return [
            Commit(str(r["commit_hash"]), str(r["committer"]), str(r["email"]), utc(r["date"]), str(r["message"]))
            for r in found
        ]

    def mainline(self, revision: str, *, without: str | None = None, limit: int = 1000) -> list[Commit]:
        """The commits that `revision` itself went through, newest first: first parents only, not what was merged in.

        Ends before a commit that `without` contains.
        """
        words = (revision, "--parents") if without is None else (revision, "--not", without, "--parents")
        marks = ", ".join(["%s"] * len(words))
        sql = f"SELECT commit_hash, committer, email, date, message, parents FROM dolt_log({marks})"
        rows = self._plain(f"{sql} LIMIT {int(limit) * 20}", words)
        known = {str(row["commit_hash"]): row for row in rows}
        found: list[Commit] = []
        at = next(iter(known), "")
        while at in known and len(found) < limit:
            row = known[at]
            found.append(Commit(at, str(row["committer"]), str(row["email"]), utc(row["date"]), str(row["message"])))
            at = str(row["parents"] or "").partition(",")[0].strip()
        return found

    def parents(self, commit: str) -> list[str]:
        """The parents of a commit, the one it went on from first."""
        found = self._plain("SELECT parents FROM dolt_log(%s, '--parents') LIMIT 1", (commit,))
        return [one.strip() for one in str(found[0]["parents"] or "").split(",") if one.strip()] if found else []

    def touches(self, commit: str, table: str, column: str, value: str) -> bool:
        """Whether a commit changed a row of `table` whose `column` is `value`, against its first parent."""
        after, before = identifier(f"to_{column}"), identifier(f"from_{column}")
        sql = f"SELECT 1 FROM dolt_diff(%s, %s, %s) WHERE {after} = %s OR {before} = %s LIMIT 1"
        try:
            return bool(self._plain(sql, (f"{commit}^", commit, table, value, value)))
        except WastelandError:
            return False  # no such table there, or no parent

    def commit_signatures(self, revision: str, limit: int) -> list[tuple[Commit, str | None]]:
        """The last commits with what GPG says of each: None unsigned, "" where it cannot be checked here."""
        found: list[tuple[Commit, str | None]] = []
        for commit in self.log(revision, limit=limit):
            try:
                said = self._plain("SELECT signature FROM dolt_log(%s, '--show-signature') LIMIT 1", (commit.hash,))
                found.append((commit, str(said[0]["signature"]) if said and said[0]["signature"] else None))
            except WastelandError:
                found.append((commit, ""))
        return found

    def diff_tables(self, old: str, new: str) -> list[TableDiff]:
        """The tables that differ between two commits, system tables included."""
        found = self._plain(
            "SELECT from_table_name AS old_name, to_table_name AS new_name, diff_type, data_change, schema_change "
            "FROM dolt_diff_summary(%s, %s)",
            (old, new),
        )
        return [
            TableDiff(
                str(r["new_name"] or r["old_name"]),
                str(r["diff_type"]),
                bool(r["data_change"]),
                bool(r["schema_change"]),
            )
            for r in found
        ]

    def diff(self, old: str, new: str, table: str) -> list[RowDiff]:
        """The rows of `table` that differ between two commits."""
        found = self._plain("SELECT * FROM dolt_diff(%s, %s, %s)", (old, new, table))
        return [
            RowDiff(
                table,
                None if row["diff_type"] == "added" else _side(row, "from_"),
                None if row["diff_type"] == "removed" else _side(row, "to_"),
            )
            for row in found
        ]

    def diff_all(self, old: str, new: str) -> list[RowDiff]:
        """The rows of all ordinary tables that differ between two commits, by table."""
        tables = sorted(t.table for t in self.diff_tables(old, new) if t.data and not t.table.startswith(SYSTEM))
        return [row for table in tables for row in self.diff(old, new, table)]

    def count_diff(self, old: str, new: str) -> int:
        """How many rows of ordinary tables differ between two commits."""
        sql = "SELECT table_name AS name, rows_added + rows_deleted + rows_modified AS n FROM dolt_diff_stat(%s, %s)"
        found = self._plain(sql, (old, new))
        return sum(int(row["n"] or 0) for row in found if not str(row["name"]).startswith(SYSTEM))

    def overlaps(self, base: str, other: str) -> list[RowConflict]:
        """The rows that both sides changed, if `other` were merged into `base`.

        Raises MergeConflict where it is the schema that conflicts.
        """
        found = self._plain("SELECT * FROM dolt_preview_merge_conflicts_summary(%s, %s)", (base, other))
        if bent := [str(r["table"]) for r in found if r["num_schema_conflicts"]]:
            raise MergeConflict(bent)
        return [
            RowConflict(
                table,
                None if row.get("base_" + mark) is None else _side(row, "base_"),
                None if row["our_diff_type"] == "removed" else _side(row, "our_"),
                None if row["their_diff_type"] == "removed" else _side(row, "their_"),
            )
            for table in sorted(str(r["table"]) for r in found if r["num_data_conflicts"])
            for mark in [KEYS.get(table, "id")]
            for row in self._plain("SELECT * FROM dolt_preview_merge_conflicts(%s, %s, %s)", (base, other, table))
        ]

    def conflicts(self, base: str, other: str) -> list[RowConflict]:
        """The rows that would really conflict: what a merge can decide by itself is left out."""
        return [row for row in self.overlaps(base, other) if row.columns]

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
                self._session.ask(self.revision, _call("DOLT_MERGE", words), words)
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

    # remotes

    def fetch(self, remote: str, *refs: str) -> None:
        """Bring the branches of `remote` here; Unreachable when it does not answer."""
        # A server that has a remote in a folder open goes on answering from memory when the folder is gone.
        folder = self.remotes().get(remote, "").partition("file://")[2]
        if folder and not Path(folder).is_dir():
            raise Unreachable(f"could not fetch from {remote}: {folder} is not there", about=remote)
        self._remote("DOLT_FETCH", "--prune", remote) if not refs else self._remote("DOLT_FETCH", remote, *refs)

    def fetch_all(self, remotes: Sequence[str]) -> dict[str, WastelandError]:
        """Fetch several remotes at once, each in a session of its own; what went wrong, by remote."""
        from concurrent.futures import ThreadPoolExecutor

        if not remotes:
            return {}
        self._plain("SELECT 1")  # the server runs before several ask for it
        with ThreadPoolExecutor(FETCHES) as pool:
            failed = list(pool.map(self._fetch_apart, remotes))
        return {remote: error for remote, error in zip(remotes, failed, strict=True) if error is not None}

    def _fetch_apart(self, remote: str) -> WastelandError | None:
        other = self._apart()
        try:
            other.fetch(remote)
        except WastelandError as error:
            return error
        finally:
            other.hang_up()
        return None

    def _apart(self) -> Database:
        """The same database with sessions of its own, for another thread."""
        other = Database.__new__(Database)
        other.__dict__.update(self.__dict__)
        other._session, other._sync = Session(self.server), None
        return other

    def push(self, remote: str, branch: str, *, force: bool = False) -> None:
        """Push `branch` (or `:branch`, to delete) and be sure of the outcome.

        Whether it happened is decided by what the remote holds afterwards, never
        by a message.  Raises PushRejected when the remote's branch holds
        commits that ours does not, Unreachable otherwise.
        """
        words = ["--force", remote, branch] if force else [remote, branch]
        step("pushing")
        try:
            self._remote("DOLT_PUSH", *words)
            step("pushed")
        except Unreachable as failed:
            with contextlib.suppress(Unreachable):
                self._plain("SELECT 1")  # where our server died, this session did too: the next question starts both
            self.fetch(remote)
            name = branch.removeprefix(":")
            theirs = self.find(f"{remote}/{name}")
            if branch.startswith(":"):
                if theirs is None:
                    return
                raise
            ours = self.hash_of(name)
            if theirs is not None and self.is_ancestor(ours, theirs):
                return  # it arrived, and somebody may have gone on from there
            if theirs is not None and not self.is_ancestor(theirs, ours):
                raise PushRejected(
                    f"{remote} already has other commits on {name}", about=name, hint="wl sync, then try again"
                ) from failed
            raise

    def _remote(self, procedure: str, *words: str) -> None:
        if self._sync is None:
            self._sync = Session(self.server, "sync")
        try:
            self._sync.ask(None, _call(procedure, words), words)
        except Unreachable:
            raise
        except WastelandError as error:
            verb = "fetch from" if procedure == "DOLT_FETCH" else "push to"
            remote = next(word for word in words if not word.startswith("-"))
            said = f"could not {verb} {remote}: {error.message.removeprefix('the database refused: ')}"
            if DENIED.search(error.message):
                raise Unauthenticated(said, about=remote, hint="wl doctor says which right is missing") from error
            if GONE.search(error.message):
                url = masked(show(self.remotes().get(remote, remote)))
                raise NotFound(
                    f"could not {verb} {remote}: there is no database at {url}, or it is not shown to this rig",
                    about=remote, hint="wl doctor says what is missing, and what to do",
                ) from error  # fmt: skip
            raise Unreachable(said, about=remote, hint="wl doctor looks for the cause") from error

    def as_root(self, statements: Sequence[str]) -> None:
        """Run statements that only the owner of the database may: tables of ours, remotes."""
        session = Session(self.server, "root")
        try:
            for statement in statements:
                session.ask(self.revision, statement)
        finally:
            session.close()

    def add_remote(self, name: str, url: str) -> None:
        """Name a remote."""
        session = Session(self.server, "root")
        try:
            session.ask(None, "CALL DOLT_REMOTE('add', %s, %s)", (name, url))
        finally:
            session.close()

    def close(self) -> None:
        """End the sessions and let the server become idle."""
        self.hang_up()
        self.server.leave()

    def hang_up(self) -> None:
        """End the sessions."""
        self._session.close()
        if self._sync is not None:
            self._sync.close()

    def _call(self, procedure: str, *words: str) -> list[Row]:
        return self._session.ask(self.revision, _call(procedure, words), words)[1]

    def _plain(self, sql: str, values: Sequence[Any] | None = None) -> list[Row]:
        if self._session.in_change:
            return self._session.ask(self.revision, sql, values)[1]
        return self._session.ask(None, sql, values)[1]


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


def told(rows: Sequence[RowConflict]) -> str:
    """Rows that conflict, in words: `wanted w-1 (claimed_by, status)`."""
    return "; ".join(f"{show(row.table)} {show(row.key)} ({show(', '.join(row.columns))})" for row in rows)


def _call(procedure: str, words: Sequence[str]) -> str:
    return f"CALL {procedure}({', '.join(['%s'] * len(words))})"


def _side(row: Row, prefix: str) -> Row:
    skip = (f"{prefix}commit", f"{prefix}commit_date", f"{prefix}diff_type")
    return {name[len(prefix) :]: value for name, value in row.items() if name.startswith(prefix) and name not in skip}
