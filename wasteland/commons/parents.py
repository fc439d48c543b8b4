"""What a fork keeps of the wasteland it was made from: tables `wl_parent_*`, and who the parent is in `_meta`.

parent_wasteland   the parent's id, which the statements signed there name
parent_upstream    its org/db
parent_base        the commit of the parent that the fork was made from
ancestor:<id>      org/db of an older parent, where the parent was a fork itself
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from wasteland.commons import in_parts
from wasteland.commons.signatures import envelopes, readable
from wasteland.dolt.database import Database
from wasteland.dolt.session import identifier
from wasteland.models import JSON_COLUMNS, KEYS, jsonable, loaded
from wasteland.trust.envelope import Envelope
from wasteland.values import dataclass

META = "SELECT `key` AS name, value FROM _meta WHERE `key` LIKE 'parent\\_%' OR `key` LIKE 'ancestor:%'"
ATTESTATION_COLUMNS = (
    "payload_sha256, predicate_type, subject_table, subject_id, signer, key_id, chain_seq, chain_prev, payload, "
    "signatures, created_at"
)
ABOUT = (
    "SELECT subject_table, subject_id, signer, payload_sha256, payload, signatures FROM wl_parent_attestations"
    " WHERE wasteland = :urn"
)
EVENT_COLUMNS = "event_sha256, handle, seq, prev, kind, key_id, payload, signatures, created_at"
SIGNED = {
    "wl_attestations": ("wl_parent_attestations", "payload_sha256", ATTESTATION_COLUMNS),
    "wl_key_events": ("wl_parent_key_events", "event_sha256", EVENT_COLUMNS),
}

Row = dict[str, Any]


@dataclass(frozen=True)
class Parent:
    """The wasteland that this one was forked from, as `_meta` records it."""

    wasteland: str
    upstream: str
    base: str


def _meta(db: Database) -> dict[str, str]:
    return {str(row["name"]): str(row["value"]) for row in db.rows(META)}


def parent(db: Database) -> Parent | None:
    """The parent of this wasteland; None where it is nobody's fork."""
    found = _meta(db)
    if "parent_wasteland" not in found:
        return None
    return Parent(found["parent_wasteland"], found.get("parent_upstream", ""), found.get("parent_base", ""))


def recorded(db: Database) -> dict[str, str]:
    """The wastelands whose signatures count here as theirs: id and org/db of the parent and of its parents."""
    found = _meta(db)
    made = {name.removeprefix("ancestor:"): value for name, value in found.items() if name.startswith("ancestor:")}
    if "parent_wasteland" in found:
        made[found["parent_wasteland"]] = found.get("parent_upstream", "")
    return made


def record(db: Database, made: Parent) -> None:
    """Note the parent of a fork that is being made, inside its first change; a parent's own goes on as an ancestor."""
    older = parent(db)
    if older is not None:
        _note(db, f"ancestor:{older.wasteland}", older.upstream)
    _note(db, "parent_wasteland", made.wasteland)
    _note(db, "parent_upstream", made.upstream)
    _note(db, "parent_base", made.base)


def _note(db: Database, name: str, value: str) -> None:
    db.run("REPLACE INTO _meta (`key`, value) VALUES (:name, :value)", name=name, value=value)


def tables(db: Database) -> set[str]:
    """The names of the tables of a commons."""
    return {str(next(iter(row.values()))) for row in db.rows("SHOW TABLES")}


def columns(db: Database, table: str) -> set[str]:
    """The columns of a table that is there."""
    return {str(row["Field"]) for row in db.rows(f"SHOW COLUMNS FROM {identifier(table)}")}


def set_apart(db: Database, wasteland: str, urn: str) -> None:
    """Make the rows of `wasteland`, inside the first change of its fork, rows that do not rule here.

    Signatures and keys move aside, roles and log go (history has them), ranks
    are not held here.  Rigs stay, so that nobody can take the handle, and with
    it the stamps, of somebody in the parent.
    """
    for table, (kept, _, names) in SIGNED.items():
        db.run(f"INSERT INTO {kept} (wasteland, {names}) SELECT :urn, {names} FROM {table}", urn=wasteland)
    for table in tables(db):
        if table.startswith("wl_") and not table.startswith("wl_parent_"):
            db.run(f"DELETE FROM {identifier(table)}")
    db.run("UPDATE rigs SET trust_level = 0")
    _note(db, "wasteland_id", urn)
    db.run("DELETE FROM _meta WHERE `key` = 'wasteland_name'")


def about(db: Database, ids: Sequence[str] | None, *, wasteland: str) -> list[Row]:
    """The attestations about rows that were made in a parent, as `signatures.about` gives those made here."""
    return in_parts(db, ABOUT, "subject_id", ids, "ORDER BY chain_seq, payload_sha256", urn=wasteland)


def of_signer(db: Database, handle: str, *, wasteland: str) -> list[Envelope]:
    """All attestations that a handle is said to have signed in a parent, in chain order."""
    found = db.rows(
        "SELECT payload, signatures FROM wl_parent_attestations WHERE wasteland = :urn AND signer = :handle "
        "ORDER BY chain_seq, payload_sha256",
        urn=wasteland, handle=handle,
    )  # fmt: skip
    return list(readable(found))


def key_events(db: Database, handle: str, *, wasteland: str) -> list[Envelope]:
    """The key events of a handle in a parent, by number."""
    found = db.rows(
        "SELECT payload, signatures FROM wl_parent_key_events WHERE wasteland = :urn AND handle = :handle ORDER BY seq",
        urn=wasteland, handle=handle,
    )  # fmt: skip
    return envelopes(found)


def signed_in(db: Database) -> dict[str, list[Row]]:
    """The signatures and keys of a wasteland, by table."""
    here = tables(db)
    return {t: db.rows(f"SELECT {names} FROM {t}") if t in here else [] for t, (_, _, names) in SIGNED.items()}


def keep_signed(db: Database, wasteland: str, found: Mapping[str, list[Row]]) -> int:
    """Keep what was signed in the parent and is not here yet, inside a change; how many rows."""
    count = 0
    for table, rows in found.items():
        kept, key, names = SIGNED[table]
        here = {str(r["k"]) for r in db.rows(f"SELECT {key} AS k FROM {kept} WHERE wasteland = :urn", urn=wasteland)}
        for row in rows:
            if str(row[key]) not in here:
                insert(db, kept, {"wasteland": wasteland} | {name: row[name] for name in names.split(", ")})
                count += 1
    return count


def missing_signed(db: Database, wasteland: str, found: Mapping[str, list[Row]]) -> int:
    """How many rows `keep_signed` would keep."""
    count = 0
    for table, rows in found.items():
        kept, key, _ = SIGNED[table]
        here = {str(r["k"]) for r in db.rows(f"SELECT {key} AS k FROM {kept} WHERE wasteland = :urn", urn=wasteland)}
        count += sum(str(row[key]) not in here for row in rows)
    return count


def by_key(db: Database, table: str) -> dict[str, Row]:
    """All rows of a table, by key."""
    key = KEYS.get(table, "id")
    return {str(row[key]): row for row in db.rows(f"SELECT * FROM {table}")}


def taken(db: Database) -> dict[tuple[str, str], str]:
    """The digests of rows as they came through the valve, by table and key."""
    found = db.rows("SELECT subject_table, subject_id, row_sha256 FROM wl_parent_rows")
    return {(str(r["subject_table"]), str(r["subject_id"])): str(r["row_sha256"]) for r in found}


def take(db: Database, table: str, row: Mapping[str, Any]) -> None:
    """Write a row of the parent's over what is here, inside a change, and note how it is now."""
    key = KEYS.get(table, "id")
    there = db.row(f"SELECT * FROM {table} WHERE {key} = :id", id=row[key])
    if there is None:
        insert(db, table, row)
    else:
        names = [name for name in row if name != key]
        pairs = ", ".join(f"{identifier(name)} = :v{at}" for at, name in enumerate(names))
        values = {f"v{at}": row[name] for at, name in enumerate(names)}
        db.run(f"UPDATE {table} SET {pairs} WHERE {key} = :id", id=row[key], **values)
    written = db.row(f"SELECT * FROM {table} WHERE {key} = :id", id=row[key]) or {}
    db.run(
        "REPLACE INTO wl_parent_rows (subject_table, subject_id, row_sha256) VALUES (:t, :id, :sha)",
        t=table, id=row[key], sha=digest(written),
    )  # fmt: skip


def insert(db: Database, table: str, row: Mapping[str, Any]) -> None:
    """Add a row, inside a change; the names of its columns are checked, its values bound."""
    names = ", ".join(identifier(name) for name in row)
    marks = ", ".join(f":v{at}" for at in range(len(row)))
    db.run(f"INSERT INTO {table} ({names}) VALUES ({marks})", **{f"v{at}": v for at, v in enumerate(row.values())})


def digest(row: Mapping[str, Any]) -> str:
    """What tells one state of a row from another, whatever the order of its columns."""
    plain = {name: jsonable(loaded(value) if name in JSON_COLUMNS else value) for name, value in row.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()
