"""Which wasteland this is, as it was pinned at join; the one look at a signature."""

from __future__ import annotations

import functools
import re

from wasteland.dolt.database import Database
from wasteland.errors import Refused
from wasteland.node.node import Node
from wasteland.text import show

ANEW = "if its maintainers have made it anew: wl sync --anew, or where this rig is joining: wl join … --anew"
ROOT = "urn:dolt-root:"
WASTELAND_ID = "SELECT value FROM _meta WHERE `key` = 'wasteland_id'"
UUID = re.compile(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


@functools.lru_cache(maxsize=1 << 16)
def check(public: bytes, message: bytes, signature: bytes) -> bool:
    """Ed25519, imported only where a signature is looked at."""
    from wasteland.local.keys import verify_signature

    return verify_signature(public, message, signature)


def wasteland_id(node: Node, db: Database | None = None) -> str:
    """The URN that signatures name; as pinned at join, or that of the first commit where there is none.

    Raises Refused when the commons says another one than was pinned.
    """
    db = db or node.db
    pinned = node.config.node.get("wasteland_id")
    said = id_of(db, known=pinned)
    if pinned and pinned != said:
        raise Refused(
            f"upstream now says it is {show(said)}; it was {pinned} when this rig joined", about=said, hint=ANEW
        )
    return said


def id_of(db: Database, *, known: str | None = None) -> str:
    """The URN that a commons says it is; that of its first commit where it says nothing.

    The first commit never changes: `known` is believed where it is that of one.
    Inside a change on a branch, history cannot be asked.
    """
    found = db.value(WASTELAND_ID)
    if found and UUID.match(str(found)):
        return str(found)
    return known if known and known.startswith(ROOT) else f"{ROOT}{db.log(db.revision)[-1].hash}"


def pin(node: Node, db: Database | None = None) -> None:
    """Remember the wasteland's id, its parents' and the fingerprint of the first roles document, as seen now."""
    from wasteland.commons import parents, signatures

    db = db or node.db
    node.config.node["wasteland_id"] = wasteland_id(node, db)
    if signatures.supported(db) and (documents := signatures.roles(db)):
        node.config.node.setdefault("roles_sha256", documents[0].sha256)
    if older := sorted(parents.recorded(db)):
        node.config.node.setdefault("parents", older)
    node.config.save_node()
