"""The queries of the commons, a module a table: functions of a Database.

Ids are those of the protocol: `w-` with 10 hex digits, `c-` and `s-` with 16,
from a SHA-256.  Those of completions and stamps also take in a random text
here, so that two in one second differ.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wasteland.errors import NotFound, Usage
from wasteland.text import show

if TYPE_CHECKING:
    from wasteland.dolt.database import Database

PART = 1000  # values in one list of a query
OLDEST_FIRST = {
    "stamps": "ORDER BY created_at, id", "completions": "ORDER BY completed_at, id", "wanted": "ORDER BY id",
}  # fmt: skip
ID_LIMIT = 255  # characters; no column of ids or handles is wider


def schema(file: str) -> list[str]:
    """The statements of a file in schema/."""
    import importlib.resources

    packaged = importlib.resources.files("wasteland") / "schema" / file
    path = packaged if packaged.is_file() else Path(__file__).parents[2] / "schema" / file
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("--")]
    return [text for part in "\n".join(lines).split(";\n") if (text := part.strip().rstrip(";"))]


def new_id(prefix: str, size: int, *parts: str) -> str:
    """`prefix` and `size` hex digits of the SHA-256 of `parts` and 8 random bytes."""
    import hashlib

    text = "|".join([*parts, os.urandom(8).hex()])
    return prefix + hashlib.sha256(text.encode()).hexdigest()[:size]


def stamp_time(now: datetime) -> str:
    """A time as the commons keeps it: UTC, whole seconds."""
    return now.strftime("%Y-%m-%d %H:%M:%S")


def only(found: list[str], text: str) -> str:
    """The one id that a prefix names; NotFound for none, Usage for several."""
    if not found:
        raise NotFound(f'no wanted item matching "{show(text)}"', about=text, hint="wl browse lists them")
    if len(found) > 1:
        names = ", ".join(show(one) for one in found[:3])
        more = ", …" if len(found) > 3 else ""
        raise Usage(f'ambiguous prefix "{show(text)}" matches: {names}{more}', about=text)
    return found[0]


def in_parts(
    db: Database, sql: str, column: str, among: Iterable[str | int] | None, tail: str, **values: Any
) -> list[dict[str, Any]]:
    """The rows of a query whose `column` is one of the values `among`, asked in several lists; all rows for None."""
    if among is None:
        return db.rows(f"{sql} {tail}", **values)
    wanted, found = list(among), []
    narrowed = f"{sql} {'AND' if ' WHERE ' in sql else 'WHERE'} {column} IN :among {tail}"
    for start in range(0, len(wanted), PART):
        found += db.rows(narrowed, **values, among=wanted[start : start + PART])
    return found


def by_ids(db: Database, table: str, ids: Iterable[str] | None) -> dict[str, dict[str, Any]]:
    """The rows of a table with these ids that there are, by id; all rows, oldest first, for None."""
    return {str(row["id"]): row for row in in_parts(db, f"SELECT * FROM {table}", "id", ids, OLDEST_FIRST[table])}
