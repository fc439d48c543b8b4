"""What was signed: tables `wl_attestations`, `wl_key_events` and `wl_roles`.

A commons that a peer's program made does not have them; then nothing here is
found, and nothing can be added.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from wasteland.commons import in_parts, stamp_time
from wasteland.errors import BadSignature

if TYPE_CHECKING:
    from wasteland.dolt.database import Database
    from wasteland.trust.envelope import Envelope

ATTESTATION = """
INSERT INTO wl_attestations (payload_sha256, predicate_type, subject_table, subject_id, signer, key_id, chain_seq,
                             chain_prev, payload, signatures, created_at)
VALUES (:payload_sha256, :predicate_type, :subject_table, :subject_id, :signer, :key_id, :chain_seq,
        :chain_prev, :payload, :signatures, :created_at)
"""
KEY_EVENT = """
INSERT INTO wl_key_events (event_sha256, handle, seq, prev, kind, key_id, payload, signatures, created_at)
VALUES (:event_sha256, :handle, :seq, :prev, :kind, :key_id, :payload, :signatures, :created_at)
"""
ABOUT = "SELECT subject_table, subject_id, signer, payload_sha256, payload, signatures FROM wl_attestations"
ROLES = "INSERT INTO wl_roles (version, payload, signatures) VALUES (:version, :payload, :signatures)"


def supported(db: Database) -> bool:
    """Whether this commons has tables for signatures."""
    return bool(db.rows("SHOW TABLES LIKE 'wl\\_attestations'"))


def insert_attestation(db: Database, row: dict[str, Any]) -> None:
    """Add an attestation, inside a change."""
    db.run(ATTESTATION, **(row | {"created_at": stamp_time(row["created_at"])}))


def insert_key_event(db: Database, row: dict[str, Any]) -> None:
    """Add a key event, inside a change."""
    db.run(KEY_EVENT, **(row | {"created_at": stamp_time(row["created_at"])}))


def insert_roles(db: Database, version: int, envelope: Envelope) -> None:
    """Add a version of the roles document, inside a change."""
    db.run(ROLES, version=version, **envelope.to_columns())


def of_subject(db: Database, table: str, row_id: str) -> list[Envelope]:
    """The attestations about one row."""
    found = db.rows(
        "SELECT payload, signatures FROM wl_attestations WHERE subject_table = :table AND subject_id = :id "
        "ORDER BY chain_seq, payload_sha256",
        table=table, id=row_id,
    )  # fmt: skip
    return list(readable(found))


def of_signer(db: Database, handle: str) -> list[Envelope]:
    """All attestations that a handle is said to have signed, in chain order, as far as they can be read."""
    found = db.rows(
        "SELECT payload, signatures FROM wl_attestations WHERE signer = :handle ORDER BY chain_seq, payload_sha256",
        handle=handle,
    )
    return list(readable(found))


def around(db: Database, handle: str, places: Collection[int]) -> list[Envelope]:
    """What a handle is said to have signed at some places of its chain, and right before and after each."""
    near = sorted({seq + step for seq in places for step in (-1, 0, 1)})
    found = in_parts(
        db, "SELECT payload, signatures FROM wl_attestations WHERE signer = :handle", "chain_seq", near,
        "ORDER BY chain_seq, payload_sha256", handle=handle,
    )  # fmt: skip
    return list(readable(found))


def digests(db: Database, handle: str) -> set[str]:
    """The digests of what a handle signed."""
    found = db.rows("SELECT payload_sha256 AS sha FROM wl_attestations WHERE signer = :handle", handle=handle)
    return {str(row["sha"]) for row in found}


def key_events(db: Database, handle: str) -> list[Envelope]:
    """The key events of a handle, by number."""
    return envelopes(
        db.rows("SELECT payload, signatures FROM wl_key_events WHERE handle = :handle ORDER BY seq", handle=handle)
    )


def roles(db: Database) -> list[Envelope]:
    """The versions of the roles document, oldest first."""
    return envelopes(role_rows(db))


def role_rows(db: Database) -> list[dict[str, Any]]:
    """The versions of the roles document as rows of `payload` and `signatures`, oldest first."""
    return db.rows("SELECT payload, signatures FROM wl_roles ORDER BY version")


def about(db: Database, ids: Sequence[str] | None) -> list[dict[str, Any]]:
    """The attestations about the rows with these ids, or all there are: subject, signer, payload and signatures."""
    return in_parts(db, ABOUT, "subject_id", ids, "ORDER BY chain_seq, payload_sha256")


def readable(rows: Iterable[Mapping[str, Any]]) -> Iterator[Envelope]:
    """The envelopes among rows of `payload` and `signatures`; what has not even the form of one is nobody's word."""
    from wasteland.trust.envelope import Envelope

    for row in rows:
        with suppress(BadSignature):
            yield Envelope.from_columns(row["payload"], row["signatures"])


def envelopes(rows: list[dict[str, Any]]) -> list[Envelope]:
    """The signed documents that rows of `payload` and `signatures` hold."""
    from wasteland.trust.envelope import Envelope

    return [Envelope.from_columns(row["payload"], row["signatures"]) for row in rows]
