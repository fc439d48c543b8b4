"""The rows of a diff as statements of SQL, for a hub that takes text and no bound values.  Pure.

One statement a row, exact to the byte, in an order that never shows a state of
an item before what belongs to it: attestations first, `wanted` last.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from wasteland.dolt.session import identifier
from wasteland.errors import WastelandError
from wasteland.models import KEYS, RowDiff

LAST = ("wanted",)
ESCAPES = str.maketrans({"\\": "\\\\", "'": "''", "\0": "\\0", "\n": "\\n", "\r": "\\r", "\x1a": "\\Z"})


def statements(rows: Sequence[RowDiff]) -> list[str]:
    """What makes the newer side of each row out of the older one."""
    return [_statement(row) for row in sorted(rows, key=_place)]


def _place(row: RowDiff) -> tuple[bool, str, bool, str]:
    """Where in the order a row comes: in its table, what goes is gone before what comes may need its place."""
    return row.table in LAST, row.table, row.new is not None, row.key


def _statement(row: RowDiff) -> str:
    table, key = identifier(row.table), KEYS.get(row.table, "id")
    if row.old is None:
        cells = {name: value for name, value in row.row.items() if value is not None}
        names = ", ".join(identifier(name) for name in cells)
        return f"INSERT INTO {table} ({names}) VALUES ({', '.join(literal(value) for value in cells.values())})"
    place = f"WHERE {identifier(key)} = {literal(row.row[key])}"
    if row.new is None:
        return f"DELETE FROM {table} {place}"
    sets = ", ".join(f"{identifier(name)} = {literal(row.new.get(name))}" for name in sorted(row.columns))
    return f"UPDATE {table} SET {sets} {place}"


def literal(value: Any) -> str:
    """A value as Dolt gave it, as a literal that gives the same value; WastelandError for a type that has none."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int | Decimal) or (isinstance(value, float) and math.isfinite(value)):
        return repr(value) if isinstance(value, float) else str(value)
    if isinstance(value, str):
        return f"'{value.translate(ESCAPES)}'"
    if isinstance(value, bytes | bytearray):
        return f"X'{bytes(value).hex()}'"
    if isinstance(value, datetime):
        return f"'{value.replace(tzinfo=None).isoformat(sep=' ')}'"
    if isinstance(value, date):
        return f"'{value.isoformat()}'"
    if isinstance(value, timedelta):
        return _span(value)
    if isinstance(value, dict | list):
        return literal(json.dumps(value, ensure_ascii=False))
    raise WastelandError(f"a value of type {type(value).__name__} cannot be written as SQL")


def _span(value: timedelta) -> str:
    sign, whole = ("-" if value < timedelta(0) else ""), abs(value)
    minutes, seconds = divmod(whole.days * 86400 + whole.seconds, 60)
    return f"'{sign}{minutes // 60:02}:{minutes % 60:02}:{seconds:02}.{whole.microseconds:06}'"
