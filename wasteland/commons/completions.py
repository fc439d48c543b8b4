"""Completions with their evidence: table `completions`."""

from __future__ import annotations

from datetime import datetime

from wasteland.commons import stamp_time
from wasteland.dolt.database import Database
from wasteland.errors import Conflict
from wasteland.models import Completion

INSERT = """
INSERT INTO completions (id, wanted_id, completed_by, evidence, block_hash, hop_uri, completed_at)
SELECT :id, :wanted_id, :rig, :evidence, :block_hash, :hop_uri, :now FROM wanted
 WHERE id = :wanted_id AND status = 'in_review' AND claimed_by = :rig
   AND NOT EXISTS (SELECT 1 FROM completions WHERE wanted_id = :wanted_id)
"""
VALIDATE = """
UPDATE completions SET validated_by = :rig, stamp_id = :stamp_id, validated_at = :now
 WHERE id = :id AND stamp_id IS NULL AND validated_by IS NULL
"""


def of_item(db: Database, wanted_id: str) -> Completion | None:
    """The newest completion of an item, or None."""
    found = db.row(
        "SELECT * FROM completions WHERE wanted_id = :id ORDER BY completed_at DESC, id LIMIT 1", id=wanted_id
    )
    return Completion.of(found) if found else None


def get(db: Database, completion_id: str) -> Completion | None:
    """The completion with this id, or None."""
    found = db.row("SELECT * FROM completions WHERE id = :id", id=completion_id)
    return Completion.of(found) if found else None


def by_rig(db: Database, rig: str, limit: int = 10) -> list[Completion]:
    """What a rig has completed, newest first."""
    found = db.rows(
        f"SELECT * FROM completions WHERE completed_by = :rig ORDER BY completed_at DESC, id LIMIT {int(limit)}",
        rig=rig,
    )
    return [Completion.of(row) for row in found]


def insert(db: Database, made: Completion, now: datetime) -> None:
    """Record the completion of an item that is in review by its claimer; Conflict when there is one already."""
    matched = db.run(
        INSERT, id=made.id, wanted_id=made.wanted_id, rig=made.completed_by, evidence=made.evidence,
        block_hash=made.block_hash, hop_uri=made.hop_uri, now=stamp_time(now),
    )  # fmt: skip
    if matched != 1:
        raise Conflict(f"{made.wanted_id} already has a completion", about=made.wanted_id)


def validate(db: Database, completion_id: str, rig: str, stamp_id: str, now: datetime) -> None:
    """Note who stamped a completion; Conflict when somebody already has."""
    if db.run(VALIDATE, id=completion_id, rig=rig, stamp_id=stamp_id, now=stamp_time(now)) != 1:
        raise Conflict(f"{completion_id} has already been validated", about=completion_id)


def remove(db: Database, wanted_id: str) -> None:
    """Take back the unstamped completion of a rejected item."""
    db.run("DELETE FROM completions WHERE wanted_id = :id AND stamp_id IS NULL", id=wanted_id)
