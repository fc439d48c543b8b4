"""The Wanted Board: table `wanted`.

Every UPDATE carries the status that the rules have just judged in its WHERE,
and rows-affected decides; the caller holds the clone's write lock.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from wasteland.commons import only, stamp_time
from wasteland.dolt.database import Database
from wasteland.errors import NotOpen
from wasteland.models import CONTENT, Wanted
from wasteland.rules.lifecycle import Transition

GET = "SELECT * FROM wanted WHERE id = :id"
IDS = "SELECT id FROM wanted WHERE LEFT(id, :size) = :prefix ORDER BY id LIMIT 4"
INSERT = """
INSERT INTO wanted (id, title, description, project, type, priority, tags, posted_by, status, effort_level,
                    created_at, updated_at)
VALUES (:id, :title, :description, :project, :type, :priority, :tags, :posted_by, 'open', :effort_level, :now, :now)
"""
COUNTS = """
SELECT (SELECT COUNT(*) FROM wanted WHERE status = 'open') AS open_wanted,
       (SELECT COUNT(*) FROM wanted) AS total_wanted,
       (SELECT COUNT(*) FROM completions) AS total_completions,
       (SELECT COUNT(*) FROM stamps) AS total_stamps
"""
LISTED = "id, title, project, type, priority, posted_by, claimed_by, status, effort_level, created_at"


def get(db: Database, wanted_id: str) -> Wanted | None:
    """The item with this id, or None."""
    found = db.row(GET, id=wanted_id)
    return Wanted.of(found) if found else None


def resolve(db: Database, text: str) -> str:
    """The id that `text` is or begins; NotFound for none, Usage for several.  No wildcards."""
    if db.row("SELECT id FROM wanted WHERE id = :id", id=text):
        return text
    found = db.rows(IDS, prefix=text, size=len(text)) if text else []
    return only([str(row["id"]) for row in found], text)


def insert(db: Database, item: dict[str, Any], now: datetime) -> None:
    """Put a new item on the board, inside a change."""
    tags = json.dumps(item["tags"], ensure_ascii=False) if item.get("tags") else None
    values = {name: item.get(name) for name in ("id", "posted_by", *CONTENT)}
    db.run(INSERT, **(values | {"tags": tags, "now": stamp_time(now)}))


def write(db: Database, wanted_id: str, step: Transition, values: dict[str, Any], now: datetime) -> None:
    """Take the step: its status, `updated_at` and `values`; NotOpen when the row has moved.

    The guard is the status that the step starts from, and the claimer where
    the claimer takes it.  Raises ValueError for a column that the step does not write.
    """
    values = {"status": step.to, "updated_at": stamp_time(now), **values}
    if unknown := values.keys() - step.writes - {"status"}:
        raise ValueError(f"{step.verb} does not write {unknown}")
    if "tags" in values:
        values["tags"] = json.dumps(values["tags"], ensure_ascii=False) if values["tags"] else None
    assignments = ", ".join(f"{name} = :{name}" for name in values)
    matched = db.run(
        f"UPDATE wanted SET {assignments} WHERE id = :wanted_id AND status = :guard",
        wanted_id=wanted_id, guard=step.frm, **values,
    )  # fmt: skip
    if matched != 1:
        raise NotOpen(f"cannot {step.verb} {wanted_id}: it is not {step.frm} any more", about=wanted_id)


def listing(db: Database, filters: dict[str, Any], limit: int, *, long: bool = False) -> list[Wanted]:
    """Items by priority, then newest; `filters` are columns and values, `search` looks in the title."""
    where, values = [], {}
    for name, value in filters.items():
        if value is None:
            continue
        where.append("INSTR(LOWER(title), LOWER(:search)) > 0" if name == "search" else f"{name} = :{name}")
        values[name] = value
    sql = f"SELECT {LISTED}{', description' if long else ''} FROM wanted"
    if where:
        sql += " WHERE " + " AND ".join(where)
    sql += f" ORDER BY priority ASC, created_at DESC, id LIMIT {int(limit)}"
    return [Wanted.of(row) for row in db.rows(sql, **values)]


def counts(db: Database) -> dict[str, int]:
    """How many items are open, and how many items, completions and stamps there are."""
    return {name: int(value) for name, value in (db.row(COUNTS) or {}).items()}
