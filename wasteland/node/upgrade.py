"""What of upstream's schema is taken over: its own versions by the protocol's rule, and nothing that is not rows.

`_meta.schema_version` is MAJOR.MINOR.  A minor version only adds: it is taken.
A major one may change what rows mean: it is explained, and taken on request.
Triggers, procedures and the like are never taken, nor a change of the
protocol's tables that no version announces, nor one of ours (`wl_*`) that is
not as we define it.  Tables that are neither, views and documents are
upstream's own affair: nothing here reads them, and they stop nobody.

Version and tables may come in either order: what counts is the version whose
tables were taken here last, which the node's own file keeps.
"""

from __future__ import annotations

import re

from wasteland.commons import schema
from wasteland.dolt.database import Database
from wasteland.dolt.session import identifier
from wasteland.errors import Refused, WastelandError
from wasteland.models import TableDiff
from wasteland.node.node import Node
from wasteland.rules.policy.shape import objects

OURS = "wl_"
SYSTEM = "dolt_"
FRAGMENTS = "dolt_schemas"  # Dolt's table of views, triggers and events
DOCUMENTS = frozenset({"dolt_docs", "dolt_query_catalog", "dolt_tests"})  # text for people, which nothing runs
VERSION = "SELECT value FROM _meta WHERE `key` = 'schema_version'"
# A column that rows of before can do without: plain, and NULL or a constant where nothing is said.
CONSTANT = r" DEFAULT ([0-9.]+|'[^']*'|NULL|CURRENT_TIMESTAMP)"
PLAIN = re.compile(rf"`\w+` [a-z]+(\([0-9, ]+\))?( unsigned)?( NOT NULL)?({CONSTANT})?")
INDEX = re.compile(r"KEY `\w+` \([^()]*\)")
FORBIDDEN = ("FOREIGN KEY", "GENERATED", " AS (", "REFERENCES")


def check(node: Node, old: str, new: str, *, upgrade: bool = False) -> None:
    """Refused where the way from one commit of upstream to another carries what is not to be taken.

    With `upgrade` a major version is taken, and the tables that it brings.
    """
    if system := more_than_rows(node.db, old, new):
        raise _refused(node, system, "a maintainer must explain them, and remove them")
    taken, now = _taken(node, old), version(node.db.at(new))
    tables = [t for t in node.db.diff_tables(old, new) if not t.table.startswith(SYSTEM)]
    bent = [t for t in tables if objects([t]) and not _upstreams_own(node, t, new)]
    if now[0] > taken[0] and not upgrade:
        raise Refused(
            f"upstream's schema is version {_told(now)} now, and was {_told(taken)}: rows may mean something else",
            about=node.config.upstream,
            hint="read what upstream says of it, then: wl sync --upgrade",
        )
    wrong = [t for t in bent if not _ours(node, t, new) and not (now > taken and _only_adds(node, t, old, new))]
    if wrong and not upgrade:
        raise _refused(node, objects(wrong), "ask a maintainer what they are for; to take them: wl sync --upgrade")
    if bent:
        node.notice(f"upstream's schema {'grew' if not wrong else 'changed'}: {'; '.join(objects(bent))}")
    if (bent or now[0] > taken[0]) and now > taken:
        node.config.node["schema_taken"] = _told(now)
        node.config.save_node()


def more_than_rows(db: Database, old: str, new: str) -> list[str]:
    """What lies between two commits that acts by itself or that a statement could run, as sentences.

    Views and documents do neither; a view under a name of ours would pass for a table.
    """
    found = [t for t in db.diff_tables(old, new) if t.table.startswith(SYSTEM) and t.table not in DOCUMENTS]
    return objects(t for t in found if t.table != FRAGMENTS or not _only_views(db, old, new))


def _only_views(db: Database, old: str, new: str) -> bool:
    sides = [side for row in db.diff(old, new, FRAGMENTS) for side in (row.old, row.new) if side is not None]
    return all(side.get("type") == "view" and not _known(str(side.get("name"))) for side in sides)


def _known(name: str) -> bool:
    """Whether a name is one of the protocol's tables, or of ours."""
    return name.lower().startswith(OURS) or name.lower() in _defined()


def _upstreams_own(node: Node, table: TableDiff, new: str) -> bool:
    """Whether a table is neither the protocol's nor ours, and rows of those do not depend on it."""
    if _known(table.table) or _known(table.before):
        return False
    return table.kind == "dropped" or not any("FOREIGN KEY" in line for line in _lines(node.db.at(new), table.table))


def _refused(node: Node, found: list[str], what_to_do: str) -> Refused:
    return Refused(
        "upstream carries changes that are not rows: " + "; ".join(found),
        about=node.config.upstream,
        hint=f"nothing was taken over; {what_to_do}",
    )


def version(db: Database) -> tuple[int, int]:
    """The schema's version at a commit, as (major, minor); (0, 0) where it says none that can be read."""
    try:
        return _read(str(db.value(VERSION) or ""))
    except WastelandError:
        return 0, 0


def _read(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,4})\.([0-9]{1,4})", text, re.ASCII)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _taken(node: Node, old: str) -> tuple[int, int]:
    """The version whose tables we have: as noted when they were taken, else what the first commit we had said."""
    noted = node.config.node.get("schema_taken")
    if noted:
        return _read(noted)
    found = version(node.db.at(old))
    node.config.node["schema_taken"] = _told(found)
    node.config.save_node()
    return found


def _told(number: tuple[int, int]) -> str:
    return f"{number[0]}.{number[1]}"


def _ours(node: Node, table: TableDiff, new: str) -> bool:
    """A table of ours that comes as we define it; its rows are believed only as far as they are signed."""
    if not table.table.startswith(OURS) or table.kind != "added":
        return False
    lines = _lines(node.db.at(new), table.table)
    names = [match[1] for line in lines if (match := re.match(r"`(\w+)` ", line))]
    return names == _defined().get(table.table) and not any(word in line for line in lines for word in FORBIDDEN)


def _defined() -> dict[str, list[str]]:
    """The columns of each table that the protocol's schema and ours make."""
    found: dict[str, list[str]] = {}
    for statement in schema("commons.sql") + schema("attest.sql") + schema("parent.sql"):
        if made := re.match(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+) \(\n", statement):
            found[made[1]] = re.findall(r"(?m)^  ([a-z_0-9]+) [A-Z]", statement)
    return found


def _only_adds(node: Node, table: TableDiff, old: str, new: str) -> bool:
    """Whether a table is new, or keeps all that it was and gains only plain columns and indexes."""
    after = _lines(node.db.at(new), table.table)
    if any(word in line for line in after for word in FORBIDDEN):
        return False
    if table.kind == "added":
        return True
    if table.kind != "modified":
        return False
    before = _lines(node.db.at(old), table.table)
    gained = [line for line in after if line not in before]
    return all(line in after for line in before) and all(map(_harmless, gained))


def _harmless(line: str) -> bool:
    column = PLAIN.fullmatch(line)
    return bool(column and (not column[3] or column[4])) or bool(INDEX.fullmatch(line))


def _lines(db: Database, table: str) -> list[str]:
    """The columns, keys and constraints of a table, a line each."""
    made = str((db.row(f"SHOW CREATE TABLE {identifier(table)}") or {}).get("Create Table", ""))
    return [line.strip().rstrip(",") for line in made.splitlines()[1:-1]]
