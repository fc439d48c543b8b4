"""The shape of a pull request: how many rows it may have, and that it carries nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from wasteland.models import TableDiff

ROWS = 2000  # of one proposal, at most: nobody looks through more


def objects(tables: Iterable[TableDiff]) -> list[str]:
    """What a diff carries besides rows of ordinary tables, as sentences; empty where it is clean."""
    found = []
    for diff in tables:
        if diff.table.startswith("dolt_"):
            found.append(f"system table {diff.table} {diff.kind}")
        elif diff.schema or diff.kind in ("dropped", "renamed", "added"):
            found.append(f"the schema of {diff.table} {'changed' if diff.kind == 'modified' else 'was ' + diff.kind}")
    return found
