"""The history of a commons: branches, commits, what differs between two of them, what would conflict."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby

from wasteland.dolt.queries import Queries
from wasteland.dolt.session import Row, identifier, utc
from wasteland.errors import Conflict, Unreachable, WastelandError
from wasteland.models import KEYS, RowConflict, RowDiff, TableDiff
from wasteland.text import show
from wasteland.values import dataclass

SYSTEM = "dolt_"
HASH = re.compile(r"[0-9a-v]{32}\Z")
KINDS = ("added", "modified", "removed")
STEPS_BACK = 200  # commits that are looked through for what another one changed
FEW = 100  # rows of a difference that is remembered, and differences


class MergeConflict(Conflict):
    """Two histories changed the same cells; `rows` are those, as far as rows are what conflicts."""

    def __init__(self, tables: Iterable[str], rows: Sequence[RowConflict] = ()) -> None:
        super().__init__("both sides changed the same rows: " + (told(rows) or ", ".join(sorted(tables))))
        self.tables = sorted(tables)
        self.rows = rows


@dataclass(frozen=True)
class Commit:
    """One Dolt commit."""

    hash: str
    author: str
    email: str
    date: datetime
    message: str


class History(Queries):
    """What was, and how it differs."""

    def branches(self, prefix: str = "") -> dict[str, str]:
        """Local branches whose name starts with `prefix`, with their commits, by name."""
        found = self._plain(
            "SELECT name, hash FROM dolt_branches WHERE LEFT(name, %s) = %s ORDER BY name", (len(prefix), prefix)
        )
        return {str(row["name"]): str(row["hash"]) for row in found}

    def dirty_branches(self) -> list[str]:
        """Local branches with uncommitted rows in their working set, by name; tables that Dolt ignores do not count."""
        found = self._plain("SELECT name FROM dolt_branches WHERE dirty ORDER BY name")
        return [branch for branch in (str(row["name"]) for row in found) if self._differs(branch)]

    def _differs(self, branch: str) -> bool:
        """Whether Dolt names tables with uncommitted rows on a branch of any name, or does not say."""
        try:
            return bool(self._session.ask(branch.replace("`", "``"), "SELECT table_name FROM dolt_status LIMIT 1")[1])
        except Unreachable:
            raise
        except WastelandError:
            return True

    def remote_branches(self, remote: str) -> dict[str, str]:
        """Branches of `remote` as last fetched, with their commits, by name."""
        start = f"remotes/{remote}/"
        found = self._plain(
            "SELECT name, hash FROM dolt_remote_branches WHERE LEFT(name, %s) = %s ORDER BY name", (len(start), start)
        )
        return {str(row["name"])[len(start) :]: str(row["hash"]) for row in found}

    def remotes(self) -> dict[str, str]:
        """The clone's remotes and their URLs."""
        found = {str(row["name"]): str(row["url"]) for row in self._plain("SELECT name, url FROM dolt_remotes")}
        self._session.remotes = found
        return found

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

    def holding(self, base: str, head: str, commits: Iterable[str]) -> str | None:
        """The first of some commits that has every cell that `head` changed since `base`, whatever the times say."""
        ours = self.diff_all(base, head)
        return next((commit for commit in commits if self.holds(commit, ours)), None)

    def holds(self, commit: str, rows: Iterable[RowDiff]) -> bool:
        """Whether `commit` has each cell that a row diff, by table, changed, whatever the times say; also for none.

        Rows of a table whose key we do not know, or that is not there, are not held.
        """
        view = self.at(commit)
        for table, found in groupby(rows, key=lambda row: row.table):
            ours, key = [row for row in found if row.more_than_times], KEYS.get(table, "id")
            if any(key not in row.row for row in ours):
                return False
            for place in range(0, len(ours), FEW):
                asked = {f"key_{n}": row.row[key] for n, row in enumerate(ours[place : place + FEW])}
                marks = ", ".join(f":{name}" for name in asked)
                sql = f"SELECT * FROM {identifier(table)} WHERE {identifier(key)} IN ({marks})"
                try:
                    there = {str(row[key]): row for row in view.rows(sql, **asked)}
                except Unreachable:
                    raise
                except WastelandError:
                    return False
                if not all(row.held_by(there.get(row.key)) for row in ours[place : place + FEW]):
                    return False
        return True

    def went_through(self, main: str, head: str) -> bool:
        """Whether `main` once held all that `head` changed, whoever brought it there and under what name.

        What a maintainer lands by a token has neither that commit among its
        ancestors nor a trailer, and may be written over by the next step
        before anybody looks.
        """
        base = self.merge_base(head, main)
        rows = [(row.table, KEYS.get(row.table, "id"), row.key) for row in self.diff_all(base, head)] if base else []
        if base is None or not 0 < len(rows) <= FEW:
            return False
        line = [commit.hash for commit in reversed(self.mainline(main, without=base, limit=STEPS_BACK))]
        return self.holding(base, head, (c for c in line if any(self.touches(c, *row) for row in rows))) is not None

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
                str(r["old_name"] or "") if r["diff_type"] == "renamed" else "",
            )
            for r in found
        ]

    def diff(self, old: str, new: str, table: str, *, limit: int = 0) -> list[RowDiff]:
        """The rows of `table` that differ between two commits; 0 is no limit."""
        tail = f" LIMIT {int(limit)}" if limit else ""
        found = self._plain(f"SELECT * FROM dolt_diff(%s, %s, %s){tail}", (old, new, table))
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
        known = self._session.diffs
        if (old, new) in known:
            return list(known[old, new])
        tables = sorted(t.table for t in self.diff_tables(old, new) if t.data and not t.table.startswith(SYSTEM))
        found = [row for table in tables for row in self.diff(old, new, table)]
        if HASH.match(old) and HASH.match(new) and len(found) <= FEW and len(known) < FEW:
            known[old, new] = found
        return list(found)

    def tally(self, old: str, new: str) -> dict[str, dict[str, int]]:
        """How many rows of each ordinary table differ between two commits, by what became of them; none is read."""
        sql = (
            "SELECT table_name AS name, rows_added AS added, rows_modified AS modified, rows_deleted AS removed "
            "FROM dolt_diff_stat(%s, %s)"
        )
        found = {
            str(row["name"]): {kind: int(row[kind] or 0) for kind in KINDS} for row in self._plain(sql, (old, new))
        }
        return {name: n for name, n in sorted(found.items()) if any(n.values()) and not name.startswith(SYSTEM)}

    def count_diff(self, old: str, new: str) -> int:
        """How many rows of ordinary tables differ between two commits."""
        return sum(sum(kinds.values()) for kinds in self.tally(old, new).values())

    def mentioned(self, old: str, new: str, places: Mapping[str, str], values: Iterable[str]) -> set[str]:
        """Which of `values` the rows that differ between two commits name, in the column of each table of `places`."""
        asked = sorted(values)
        if not asked:
            return set()
        differ = {table.table for table in self.diff_tables(old, new) if table.data}
        marks = ", ".join(["%s"] * len(asked))
        found: set[str] = set()
        for table in sorted(differ & places.keys()):
            for side in (f"to_{places[table]}", f"from_{places[table]}"):
                column = identifier(side)
                sql = f"SELECT DISTINCT {column} AS name FROM dolt_diff(%s, %s, %s) WHERE {column} IN ({marks})"
                found |= {str(row["name"]) for row in self._plain(sql, (old, new, table, *asked))}
        return found

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


def told(rows: Sequence[RowConflict]) -> str:
    """Rows that conflict, in words: `wanted w-1 (claimed_by, status)`."""
    return "; ".join(f"{show(row.table)} {show(row.key)} ({show(', '.join(row.columns))})" for row in rows)


def _side(row: Row, prefix: str) -> Row:
    skip = (f"{prefix}commit", f"{prefix}commit_date", f"{prefix}diff_type")
    return {name[len(prefix) :]: value for name, value in row.items() if name.startswith(prefix) and name not in skip}
