"""What of upstream's schema is taken over: its own versions by the protocol's rule, and nothing that is not rows.

`_meta.schema_version` is MAJOR.MINOR.  A minor version only adds: it is taken.
A major one may change what rows mean: it is explained, and taken on request.
Triggers, procedures and the like are never taken, nor a change of tables that
no version announces, except for tables of ours (`wl_*`) that are added.
"""

from __future__ import annotations

from wasteland.dolt.database import Database, identifier
from wasteland.errors import Refused, WastelandError
from wasteland.models import TableDiff
from wasteland.node import Node
from wasteland.policy import objects

OURS = "wl_"
VERSION = "SELECT value FROM _meta WHERE `key` = 'schema_version'"


def check(node: Node, old: str, new: str, *, upgrade: bool = False) -> None:
    """Refused where the way from one commit of upstream to another carries what is not to be taken.

    With `upgrade` a major version is taken too.
    """
    tables = node.db.diff_tables(old, new)
    if not objects(tables):
        return
    system = [t for t in tables if t.table.startswith("dolt_")]
    if system:
        raise _refused(node, objects(system))
    was, now = version(node.db.at(old)), version(node.db.at(new))
    bent = [t for t in tables if objects([t])]
    if now[0] > was[0]:
        if not upgrade:
            raise Refused(
                f"upstream's schema is version {_told(now)} now, and was {_told(was)}: rows may mean something else",
                about=node.config.upstream,
                hint="read what upstream says of it, then: wl sync --upgrade",
            )
        node.notice(f"upstream's schema {_told(now)} was taken over: {'; '.join(objects(bent))}")
        return
    wrong = [t for t in bent if not (now > was and _only_adds(node, t, old, new)) and not _ours(t)]
    if wrong:
        raise _refused(node, objects(wrong))
    node.notice(f"upstream's schema grew: {'; '.join(objects(bent))}")


def _refused(node: Node, found: list[str]) -> Refused:
    return Refused(
        "upstream carries changes that are not rows: " + "; ".join(found),
        about=node.config.upstream,
        hint="nothing was taken over; a maintainer must explain them",
    )


def version(db: Database) -> tuple[int, int]:
    """The schema's version at a commit, as (major, minor); (0, 0) where it says none that can be read."""
    try:
        found = str(db.value(VERSION) or "")
    except WastelandError:
        return 0, 0
    major, _, minor = found.partition(".")
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() and len(found) < 12 else (0, 0)


def _told(number: tuple[int, int]) -> str:
    return f"{number[0]}.{number[1]}"


def _ours(table: TableDiff) -> bool:
    """A table of ours that comes; its rows are believed only as far as they are signed."""
    return table.table.startswith(OURS) and table.kind == "added"


def _only_adds(node: Node, table: TableDiff, old: str, new: str) -> bool:
    """Whether a table is new, or keeps every column as it was and adds only such as may be empty."""
    if table.kind == "added":
        return True
    if table.kind != "modified":
        return False
    before, after = (_columns(node.db.at(revision), table.table) for revision in (old, new))
    kept = all(after.get(name) == how for name, how in before.items())
    return kept and all(how[1] == "YES" or how[2] is not None for name, how in after.items() if name not in before)


def _columns(db: Database, table: str) -> dict[str, tuple[str, str, str | None]]:
    """Type, whether it may be NULL, and default of each column."""
    found = db.rows(f"SHOW COLUMNS FROM {identifier(table)}")
    return {str(row["Field"]): (str(row["Type"]), str(row["Null"]), row["Default"]) for row in found}
