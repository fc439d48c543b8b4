"""A rig's key in its key log, and what the rig signs with it: one chain, kept in a journal before it is published."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from wasteland.commons import signatures
from wasteland.dolt.database import Database
from wasteland.errors import BadSignature, Conflict, Refused
from wasteland.local.steps import step
from wasteland.node.node import Node
from wasteland.node.standing import check, wasteland_id
from wasteland.trust.envelope import Envelope, Statement, did_key, parse, verify_envelope
from wasteland.trust.registry import read_key_log
from wasteland.trust.statements import Link, Party, attestation_row, key_event_row, key_event_statement


def inception(node: Node, db: Database, now: datetime) -> None:
    """Make this rig's key if it has none, and publish it here, inside a change."""
    if published(node, db):
        return
    key = node.key or node.keystore.make(node.handle)
    node.__dict__["key"] = key
    statement = key_event_statement(
        wasteland=wasteland_id(node, db), handle=node.handle, public=key.public, next_sha256=key.next_sha256,
        dolthub_org=node.config.fork_org or node.config.org, issued_at=now,
    )  # fmt: skip
    signatures.insert_key_event(db, key_event_row(signed(node, statement), statement, now))


def published(node: Node, db: Database) -> bool:
    """Whether this rig's key is in its key log here; Refused when the log ends with a key that this machine lacks."""
    events = signatures.key_events(db, node.handle)
    if not events:
        return False
    log = read_key_log(events, node.handle, wasteland_id(node, db), check)
    if node.key is None or did_key(log.keys[-1].public) != node.key.did:
        raise Refused(
            f"{node.handle} has published a key that is not on this machine",
            about=node.handle,
            hint=f"copy the files of {node.handle} from the keys folder of your other machine",
        )
    return True


def signed(node: Node, statement: Statement) -> Envelope:
    """The envelope of a statement, signed with this rig's key; Refused where there is none here."""
    from wasteland.local.keys import sign_statement

    if node.key is None:
        raise Refused(f"{node.handle} has no key here", hint="wl join makes one; copy yours from your other machine")
    return sign_statement(node.key, statement)


def attest(node: Node, db: Database, make: Callable[[Link, Party], Statement]) -> Envelope | None:
    """Sign what `make` says at the next place of this rig's chain, and record it here, inside a change.

    Earlier attestations of this rig that are not in this history go along, so
    that nobody finds a gap.  None, with a notice, where the commons has no
    tables for signatures or this rig no published key.
    """
    if not signatures.supported(db):
        node.notice("unsigned: this commons has no tables for signatures")
        return None
    if node.key is None:
        node.notice("unsigned: this rig has no key here")
        return None
    urn = wasteland_id(node, db)
    with node.journal.locked():
        _recover(node, db, urn)
        statement = make(node.journal.head(urn), Party(node.handle, node.key.did))
        envelope = signed(node, statement)
        row = _row(envelope)
        node.journal.append(envelope)
        step("signed")
        node.pending.append(envelope.sha256)
        present = signatures.digests(db, node.handle)
        for entry in node.journal.entries(urn):
            if entry.payload_sha256 not in present:
                signatures.insert_attestation(db, _row(entry.envelope))
        signatures.insert_attestation(db, row)
    return envelope


def _row(envelope: Envelope) -> dict[str, Any]:
    """The row of an attestation; its time is the signed one, so that it is the same row on every branch."""
    statement = parse(envelope.payload)
    issued = datetime.fromisoformat(statement["predicate"]["issued_at"])
    return attestation_row(envelope, statement, issued)


def _recover(node: Node, db: Database, urn: str) -> None:
    """Settle what a crash left open: signed and in some branch is published, else its place is free."""
    journal = node.journal
    open_entries = [entry for entry in journal.unpublished(urn) if entry.payload_sha256 not in node.pending]
    if open_entries:
        found = _everywhere(node, db)
        for entry in reversed(open_entries):
            if entry.payload_sha256 in found:
                journal.mark_published(entry.payload_sha256)
            else:
                journal.mark_void(entry.payload_sha256)
    _catch_up(node, db, urn)


def _catch_up(node: Node, db: Database, urn: str) -> None:
    """Take up links that this rig signed on another machine; Refused where they and the journal part ways.

    They are on upstream's main, or on branches of this rig: of the fork, where
    another machine pushed them, or here, where a journal came from a backup.
    """
    known = {entry.payload_sha256 for entry in node.journal.entries(urn) + node.journal.unpublished(urn)}
    found: dict[str, Envelope] = {}
    for view in _views(node, db):
        if signatures.digests(view, node.handle) - known - found.keys():
            found |= {one.sha256: one for one in signatures.of_signer(view, node.handle)}
    fresh = [one for sha, one in found.items() if sha not in known and _mine(node, one, urn)]
    if not fresh:
        return
    try:
        node.journal.import_entries(fresh)
    except Conflict as error:
        raise Refused(
            f"{node.handle} signed something else on another machine at the same place of its chain",
            about=node.handle,
            hint="what the other machine proposed must land or be withdrawn first: wl me there, then wl sync here",
        ) from error


def _views(node: Node, db: Database) -> list[Database]:
    """Where this rig's links can be: what is being changed, main, and the rig's branches here and on its fork."""
    heads = set(node.db.branches(f"wl/{node.handle}/").values()) | set(node.db.remote_branches("origin").values())
    views = {view.revision: view for view in (db, node.db.at("main"))}
    views |= {head: node.db.at(head) for head in sorted(heads)}
    return [view for view in views.values() if signatures.supported(view)]


def _mine(node: Node, envelope: Envelope, urn: str) -> bool:
    """Whether this rig's key signed a link for this wasteland; a column that says so proves nothing."""
    try:
        statement = verify_envelope(envelope, [node.key.public] if node.key else [], check)
    except BadSignature:
        return False
    said = statement["predicate"]
    return bool(said.get("wasteland") == urn and "chain" in said)


def _everywhere(node: Node, db: Database) -> set[str]:
    """The digests of this rig's attestations on any branch of the clone, local or remote."""
    found = signatures.digests(db, node.handle)
    heads = set(node.db.branches().values())
    for remote in node.db.remotes():
        heads |= set(node.db.remote_branches(remote).values())
    for head in heads:
        view = node.db.at(head)
        if signatures.supported(view):
            found |= signatures.digests(view, node.handle)
    return found


def signed_payload(db: Database, completion_id: str, block_hash: str | None) -> dict[str, Any] | None:
    """The statement that a completion's block_hash names, or None where it is not here."""
    if block_hash is None or not signatures.supported(db):
        return None
    found = [e for e in signatures.of_subject(db, "completions", completion_id) if e.sha256 == block_hash]
    return parse(found[0].payload) if found else None
