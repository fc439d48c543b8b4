"""Make the rows of a diff somewhere else, without the history that they came with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wasteland.dolt.database import Database
from wasteland.dolt.session import identifier
from wasteland.errors import Conflict
from wasteland.models import KEYS, VOLATILE, RowDiff


def apply(db: Database, rows: Sequence[RowDiff]) -> None:
    """Inside a change: what a row diff added, changed and removed, cell by cell; of volatile times the later one.

    Raises Conflict when a row is not there to be changed, or is there already and differs.
    """
    for row in rows:
        key = KEYS.get(row.table, "id")
        found = db.row(f"SELECT * FROM {identifier(row.table)} WHERE {identifier(key)} = :key", key=row.row.get(key))
        if row.new is None:
            done = found is None or _delete(db, row.table, key, found[key])
        elif row.old is None:
            done = dict(row.new) == found if found else _insert(db, row)
        else:
            done = found is not None and _update(db, row, key, found)
        if not done:
            raise Conflict(f"{row.table} {row.key} is not as the change expects it", about=row.key)


def _insert(db: Database, row: RowDiff) -> bool:
    cells = {name: value for name, value in row.row.items() if value is not None}
    names = ", ".join(identifier(name) for name in cells)
    marks, values = _marks(cells)
    return db.run(f"INSERT INTO {identifier(row.table)} ({names}) VALUES ({', '.join(marks)})", **values) == 1


def _update(db: Database, row: RowDiff, key: str, found: dict[str, Any]) -> bool:
    cells = {name: row.row.get(name) for name in sorted(row.columns)}
    for name in VOLATILE & cells.keys():
        cells[name] = max((one for one in (cells[name], found.get(name)) if one is not None), default=None)
    marks, values = _marks(cells)
    sets = ", ".join(f"{identifier(name)} = {mark}" for name, mark in zip(cells, marks, strict=True))
    sql = f"UPDATE {identifier(row.table)} SET {sets} WHERE {identifier(key)} = :key"
    return db.run(sql, key=found[key], **values) == 1


def _delete(db: Database, table: str, key: str, value: Any) -> bool:
    return db.run(f"DELETE FROM {identifier(table)} WHERE {identifier(key)} = :key", key=value) == 1


def _marks(cells: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Named parameters for cells, by place: a column's name is no parameter's."""
    names = [f"cell_{place}" for place in range(len(cells))]
    return [f":{name}" for name in names], dict(zip(names, cells.values(), strict=True))
