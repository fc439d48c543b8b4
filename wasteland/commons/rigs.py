"""Members: table `rigs`."""

from __future__ import annotations

from datetime import datetime

from wasteland.commons import stamp_time
from wasteland.dolt.database import Database
from wasteland.models import Rig

UPSERT = """
INSERT INTO rigs (handle, display_name, dolthub_org, hop_uri, owner_email, gt_version, trust_level,
                  registered_at, last_seen)
VALUES (:handle, :display_name, :org, :hop_uri, :email, :version, 1, :now, :now)
ON DUPLICATE KEY UPDATE display_name = :display_name, hop_uri = :hop_uri, gt_version = :version, last_seen = :now
"""


def get(db: Database, handle: str) -> Rig | None:
    """The rig with this handle, or None."""
    found = db.row("SELECT * FROM rigs WHERE handle = :handle", handle=handle)
    return Rig.of(found) if found else None


def register(db: Database, rig: Rig, now: datetime) -> None:
    """Add a member, or refresh what it may say of itself; org and trust of a member stay as they are."""
    db.run(
        UPSERT, handle=rig.handle, display_name=rig.display_name, org=rig.dolthub_org, hop_uri=rig.hop_uri,
        email=rig.owner_email, version=rig.gt_version, now=stamp_time(now),
    )  # fmt: skip
