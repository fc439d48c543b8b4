"""Until when claims hold: table `wl_leases`.

A commons that a peer's program made does not have it; then claims hold until
they are given back, and nothing is written here.  A peer that knows no leases
may leave a row behind: it counts only while the item is claimed by its rig.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from wasteland.commons import stamp_time
from wasteland.dolt.database import Database
from wasteland.errors import Refused
from wasteland.rules import lease as terms
from wasteland.rules.lease import Lease
from wasteland.rules.lifecycle import LEASE_ENDS, LEASE_GIVEN, Transition

OF_ITEM = "SELECT * FROM wl_leases WHERE wanted_id = :id"
EFFORT = "SELECT effort_level AS effort FROM wanted WHERE id = :id"
LEASED = "SELECT w.* FROM wanted w JOIN wl_leases l ON l.wanted_id = w.id"
WRITE = """
REPLACE INTO wl_leases (wanted_id, rig, claimed_at, renewed_at, expires_at)
VALUES (:wanted_id, :rig, :claimed_at, :renewed_at, :expires_at)
"""


def supported(db: Database) -> bool:
    """Whether this commons has the table of leases."""
    return bool(db.rows("SHOW TABLES LIKE 'wl\\_leases'"))


def of_item(db: Database, wanted_id: str) -> Lease | None:
    """The lease of an item, whoever claims it, or None."""
    return Lease.of(db.row(OF_ITEM, id=wanted_id)) if supported(db) else None


def of_all(db: Database) -> dict[str, Lease]:
    """All leases, by item."""
    found = [Lease.of(row) for row in rows(db).values()]
    return {one.wanted_id: one for one in found if one is not None}


def rows(db: Database, wanted_id: str | None = None) -> dict[str, dict[str, object]]:
    """The rows of all leases as they are, or of one item's, by item."""
    if not supported(db):
        return {}
    found = db.rows("SELECT * FROM wl_leases") if wanted_id is None else db.rows(OF_ITEM, id=wanted_id)
    return {str(row["wanted_id"]): row for row in found}


def items(db: Database, wanted_id: str | None = None) -> dict[str, dict[str, object]]:
    """The rows of `wanted` that have a lease, or one of them, by id."""
    if not supported(db):
        return {}
    found = db.rows(LEASED) if wanted_id is None else db.rows(f"{LEASED} WHERE w.id = :id", id=wanted_id)
    return {str(row["id"]): row for row in found}


def take_step(
    db: Database, step: Transition, wanted_id: str, rig: str | None, now: datetime, asked: timedelta | None = None
) -> None:
    """What a step of an item does to the lease of its claimer `rig`, inside a change: give, renew or end it.

    Nothing where this commons keeps no leases; Refused when a time was asked for there.
    """
    if not supported(db):
        if asked is not None:
            raise Refused("this wasteland keeps no leases: a claim holds until it is given back", about=wanted_id)
        return
    if step.rows & LEASE_ENDS:
        db.run("DELETE FROM wl_leases WHERE wanted_id = :id", id=wanted_id)
    elif step.rows & LEASE_GIVEN and rig:
        effort = (db.row(EFFORT, id=wanted_id) or {}).get("effort")
        held = of_item(db, wanted_id) if step.verb == "renew" else None
        made = terms.renewed(held, effort, now, asked) if held else terms.granted(wanted_id, rig, effort, now, asked)
        times = {name: stamp_time(getattr(made, name)) for name in terms.TIMES}
        db.run(WRITE, wanted_id=wanted_id, rig=rig, **times)
