"""Who holds which role, by the newest signed document that the first one leads to."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from wasteland.commons import ID_LIMIT, signatures
from wasteland.dolt.database import Database
from wasteland.errors import BadSignature, NotFound, Refused
from wasteland.local.memory import Memory
from wasteland.node.node import Node
from wasteland.node.standing import check, wasteland_id
from wasteland.text import show

if TYPE_CHECKING:
    from wasteland.trust.statements import Party

ROLE_NAMES = ("root", "maintainer", "validator")


def roles_document(node: Node, db: Database | None = None) -> dict[str, Any] | None:
    """The newest roles document, verified from the pinned first one; None where there is none."""
    db = db or node.db.at("main")
    if not signatures.supported(db):
        return None
    found = _verified(node, db, signatures.role_rows(db))
    seen = int(node.config.node.get("roles_version", 0))
    if found is not None and found["version"] < seen:
        raise BadSignature(f"the roles went back from version {seen} to {found['version']}")
    if found is not None and found["version"] > seen:
        node.config.node["roles_version"] = found["version"]
        node.config.save_node()
    return found


def _verified(node: Node, db: Database, rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The newest of the roles documents in `rows`, verified, or known from when exactly these were."""
    if not rows:
        return None
    urn, pinned = wasteland_id(node, db), node.config.node.get("roles_sha256")
    documents = [(row["payload"], row["signatures"]) for row in rows]
    memory = Memory(node.db.server.folder / "roles", node.paths.keys, repr((urn, pinned, documents)))
    known = memory.read()
    if known is not None:
        remembered: dict[str, Any] = json.loads(known)
        return remembered
    from wasteland.trust.registry import read_roles

    found = read_roles(signatures.envelopes(rows), urn, check, pinned)
    memory.write(json.dumps(found))
    return found


def roles_of(node: Node, handle: str, db: Database | None = None) -> frozenset[str]:
    """The roles that a handle holds by the signed document."""
    document = roles_document(node, db)
    if document is None:
        return frozenset()
    return frozenset(role for role, held in document["roles"].items() if any(p["handle"] == handle for p in held))


def holders(node: Node, role: str) -> frozenset[str]:
    """The handles that hold a role by the signed document."""
    document = roles_document(node)
    return frozenset(str(p["handle"]) for p in document["roles"].get(role, [])) if document else frozenset()


def change_roles(node: Node, role: str, handle: str, *, add: bool) -> int:
    """Sign and record the next version of the roles, inside a change; its number.

    Raises Refused for who is not root or for the last root, NotFound for a rig that has published no key.
    """
    from wasteland.node.signing import signed
    from wasteland.trust.statements import Party, roles_statement

    db = node.db.at("main")
    document = roles_document(node, db)
    if document is None:
        raise Refused("this commons has no roles document", hint="roles come with wl create")
    if not any(p["handle"] == node.handle for p in document["roles"]["root"]):
        raise Refused(f"only a root may change roles, and {node.handle} is not")
    held = {name: [Party(p["handle"], p["did"]) for p in document["roles"][name]] for name in ROLE_NAMES}
    party = _party(node, db, handle)
    held[role] = [p for p in held[role] if p.handle != handle] + ([party] if add else [])
    if not held["root"]:
        raise Refused("the last root cannot be removed")
    version = int(document["version"]) + 1
    newest = signatures.roles(db)[-1]
    statement = roles_statement(
        wasteland=wasteland_id(node, db), version=version, prev=newest.sha256, issued_at=node.clock(), **held
    )
    signatures.insert_roles(db, version, signed(node, statement))
    return version


def first_roles(node: Node, db: Database, now: datetime) -> None:
    """Version 1 of the roles, the creator holding all three, inside a change."""
    from wasteland.node.signing import signed
    from wasteland.trust.statements import Party, roles_statement

    key = node.key
    if key is None:
        raise Refused(f"{node.handle} has no key here")
    me = Party(node.handle, key.did)
    statement = roles_statement(
        wasteland=wasteland_id(node, db), version=1, root=[me], maintainer=[me], validator=[me], issued_at=now
    )
    signatures.insert_roles(db, 1, signed(node, statement))


def _party(node: Node, db: Database, handle: str) -> Party:
    from wasteland.commons import rigs
    from wasteland.trust.envelope import did_key
    from wasteland.trust.registry import read_key_log
    from wasteland.trust.statements import Party

    if len(handle) > ID_LIMIT or rigs.get(db, handle) is None:
        raise NotFound(f"{show(handle)} is not a rig of this wasteland", about=handle, hint="wl merge its registration")
    log = read_key_log(signatures.key_events(db, handle), handle, wasteland_id(node, db), check)
    return Party(handle, did_key(log.keys[-1].public))
