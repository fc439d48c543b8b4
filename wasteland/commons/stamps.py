"""Stamps: table `stamps`."""

from __future__ import annotations

import json

from wasteland.commons import stamp_time
from wasteland.dolt.database import Database
from wasteland.models import Stamp

INSERT = """
INSERT INTO stamps (id, author, subject, valence, confidence, severity, context_id, context_type, skill_tags, message,
                    block_hash, hop_uri, created_at)
VALUES (:id, :author, :subject, :valence, :confidence, :severity, :context_id, :context_type, :skill_tags, :message,
        :block_hash, :hop_uri, :created_at)
"""


def get(db: Database, stamp_id: str) -> Stamp | None:
    """The stamp with this id, or None."""
    found = db.row("SELECT * FROM stamps WHERE id = :id", id=stamp_id)
    return Stamp.of(found) if found else None


def all_of(db: Database, subject: str | None = None) -> list[Stamp]:
    """All stamps, or those that a rig was given; oldest first."""
    if subject is None:
        found = db.rows("SELECT * FROM stamps ORDER BY created_at, id")
    else:
        found = db.rows("SELECT * FROM stamps WHERE subject = :subject ORDER BY created_at, id", subject=subject)
    return [Stamp.of(row) for row in found]


def insert(db: Database, made: Stamp) -> None:
    """Add a stamp, inside a change."""
    tags = json.dumps(made.skill_tags, ensure_ascii=False) if made.skill_tags else None
    values = {name: getattr(made, name) for name in (
        "id", "author", "subject", "confidence", "severity", "context_id", "context_type", "message", "block_hash",
        "hop_uri",
    )}  # fmt: skip
    created = stamp_time(made.created_at) if made.created_at else None
    db.run(INSERT, **values, valence=json.dumps(made.valence), skill_tags=tags, created_at=created)
