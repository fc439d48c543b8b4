"""Who a rig is: its key, its roles, what it has signed, and whether that holds."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from wasteland.commons import ID_LIMIT, completions, parents, rigs, signatures, stamps, wanted
from wasteland.dolt.database import Database
from wasteland.errors import BadSignature, Conflict, NotFound, Refused, Usage
from wasteland.local.steps import step
from wasteland.node.node import Node
from wasteland.text import show
from wasteland.trust.envelope import Envelope, Statement, did_key, parse, verify_envelope
from wasteland.trust.registry import read_key_log, read_roles
from wasteland.trust.statements import Link, Party, attestation_row, key_event_row, key_event_statement, roles_statement
from wasteland.trust.verification import Context, Report, Verdict, verify_completion, verify_stamp

ROLE_NAMES = ("root", "maintainer", "validator")
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
        raise Refused(f"upstream now says it is {show(said)}; it was {pinned} when this rig joined", about=said)
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
    db = db or node.db
    node.config.node["wasteland_id"] = wasteland_id(node, db)
    if signatures.supported(db) and (documents := signatures.roles(db)):
        node.config.node.setdefault("roles_sha256", documents[0].sha256)
    if older := sorted(parents.recorded(db)):
        node.config.node.setdefault("parents", older)
    node.config.save_node()


def roles_document(node: Node, db: Database | None = None) -> dict[str, Any] | None:
    """The newest roles document, verified from the pinned first one; None where there is none."""
    db = db or node.db.at("main")
    if not signatures.supported(db):
        return None
    documents = signatures.roles(db)
    found = read_roles(documents, wasteland_id(node, db), check, node.config.node.get("roles_sha256"))
    seen = int(node.config.node.get("roles_version", 0))
    if found is not None and found["version"] < seen:
        raise BadSignature(f"the roles went back from version {seen} to {found['version']}")
    if found is not None and found["version"] > seen:
        node.config.node["roles_version"] = found["version"]
        node.config.save_node()
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
    signatures.insert_key_event(db, key_event_row(_signed(node, statement), statement, now))


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


def _signed(node: Node, statement: Statement) -> Envelope:
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
        envelope = _signed(node, statement)
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
    issued = datetime.strptime(statement["predicate"]["issued_at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
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
    """Take up links that this rig signed on another machine; Refused where they and the journal part ways."""
    known = {entry.payload_sha256 for entry in node.journal.entries(urn) + node.journal.unpublished(urn)}
    views = {view.revision: view for view in (db, node.db.at("main"))}.values()
    found = {one.sha256: one for view in views for one in signatures.of_signer(view, node.handle)}
    fresh = [one for sha, one in found.items() if sha not in known and _mine(node, one, urn)]
    if not fresh:
        return
    try:
        node.journal.import_entries(fresh)
    except Conflict as error:
        raise Refused(
            f"{node.handle} signed something else on another machine at the same place of its chain",
            about=node.handle,
            hint="sign on one machine only; wl sync before you change over",
        ) from error


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


def change_roles(node: Node, role: str, handle: str, *, add: bool) -> int:
    """Sign and record the next version of the roles, inside a change; its number.

    Raises Refused for who is not root or for the last root, NotFound for a rig that has published no key.
    """
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
    signatures.insert_roles(db, version, _signed(node, statement))
    return version


def first_roles(node: Node, db: Database, now: datetime) -> None:
    """Version 1 of the roles, the creator holding all three, inside a change."""
    key = node.key
    if key is None:
        raise Refused(f"{node.handle} has no key here")
    me = Party(node.handle, key.did)
    statement = roles_statement(
        wasteland=wasteland_id(node, db), version=1, root=[me], maintainer=[me], validator=[me], issued_at=now
    )
    signatures.insert_roles(db, 1, _signed(node, statement))


def _party(node: Node, db: Database, handle: str) -> Party:
    if len(handle) > ID_LIMIT or rigs.get(db, handle) is None:
        raise NotFound(f"{show(handle)} is not a rig of this wasteland", about=handle, hint="wl merge its registration")
    log = read_key_log(signatures.key_events(db, handle), handle, wasteland_id(node, db), check)
    return Party(handle, did_key(log.keys[-1].public))


def verify(node: Node, kind: str, row_id: str, db: Database | None = None) -> Report:
    """The verdict on one stamp or completion; NotFound where there is none, Usage for another kind.

    Without a `db`, main is searched and then this rig's branches that have not landed.
    """
    if len(row_id) > ID_LIMIT:
        raise NotFound(f"there is no {show(kind)} {show(row_id)}", about=row_id)
    db = db or _holding(node, f"{kind}s", row_id)
    if kind == "stamp":
        return verify_stamp(_stamp_context(node, db, row_id), check)
    if kind == "completion":
        return verify_completion(_completion_context(node, db, row_id), check)
    raise Usage("wl verify takes: stamp ID, completion ID, --all, or --last N")


def _holding(node: Node, table: str, row_id: str) -> Database:
    views = [node.db.at("main")]
    if table in ("stamps", "completions") and not _has(views[0], table, row_id):
        views += [node.db.at(branch) for branch in node.db.branches(f"wl/{node.handle}/")]
    return next((view for view in views if _has(view, table, row_id)), views[0])


def _has(db: Database, table: str, row_id: str) -> bool:
    return table in ("stamps", "completions") and bool(db.row(f"SELECT id FROM {table} WHERE id = :id", id=row_id))


def _raw(db: Database, table: str, row_id: str) -> dict[str, Any]:
    found = db.row(f"SELECT * FROM {table} WHERE id = :id", id=row_id)
    if found is None:
        raise NotFound(f"there is no {table.removesuffix('s')} {show(row_id)}", about=row_id)
    return found


def _home(node: Node, db: Database, table: str, row: dict[str, Any]) -> tuple[str, str, str | None]:
    """The wasteland that a row was signed in, what it is called, and once more its id where it is a parent's.

    A parent is one that this commons records as such and that was pinned at
    join; what any other wasteland's id is in never counts as signed.
    """
    urn = parents.home_of(db, table, str(row.get("id")), row.get("block_hash"))
    if urn is None or urn not in node.config.node.get("parents", [urn]):
        return wasteland_id(node, db), node.config.upstream, None
    return urn, f"from {parents.recorded(db)[urn] or 'the parent'}", urn


def _loaded(db: Database, table: str, row_id: str, signer: str, parent: str | None) -> dict[str, Any]:
    if not signatures.supported(db):
        return {}
    subject, chain, keys = _readers(parent)
    return {"attestations": subject(db, table, row_id), "key_events": keys(db, signer), "chain": chain(db, signer)}


def _readers(parent: str | None) -> tuple[Callable[..., list[Envelope]], ...]:
    """The attestations of a row, those of a signer, and the keys of a handle: here, or as a parent had them."""
    if parent is None:
        return signatures.of_subject, signatures.of_signer, signatures.key_events
    found = (parents.of_subject, parents.of_signer, parents.key_events)
    return tuple(functools.partial(one, wasteland=parent) for one in found)


def _completion_context(node: Node, db: Database, row_id: str) -> Context:
    row = _raw(db, "completions", row_id)
    home, called, parent = _home(node, db, "completions", row)
    item = db.row(wanted.GET, id=row.get("wanted_id"))
    loaded = _loaded(db, "completions", row_id, str(row.get("completed_by")), parent)
    return Context(home, row, wanted=item, wasteland_name=called, **loaded)


def _stamp_context(node: Node, db: Database, row_id: str) -> Context:
    row = _raw(db, "stamps", row_id)
    home, called, parent = _home(node, db, "stamps", row)
    about = db.row("SELECT * FROM completions WHERE id = :id", id=row.get("context_id"))
    loaded = _loaded(db, "stamps", row_id, str(row.get("author")), parent)
    if about is not None and signatures.supported(db):
        subject, _, keys = _readers(parent)
        loaded["completion_attestations"] = subject(db, "completions", str(about["id"]))
        loaded["worker_key_events"] = keys(db, str(about.get("completed_by")))
    item = db.row(wanted.GET, id=about.get("wanted_id")) if about else None
    return Context(home, row, wanted=item, completion=about, wasteland_name=called, **loaded)


def verify_all(node: Node) -> list[tuple[str, Report]]:
    """The verdicts on every stamp and completion."""
    db = node.db.at("main")
    found = [("stamp", verify(node, "stamp", s.id, db)) for s in stamps.all_of(db)]
    ids = db.rows("SELECT id FROM completions ORDER BY completed_at, id")
    return found + [("completion", verify(node, "completion", str(r["id"]), db)) for r in ids]


def standing(node: Node, handle: str) -> dict[str, Any]:
    """What a rig has to show: completions, stamps by verdict, and the means of its verified scores.

    Unsigned stamps are counted as legacy and weigh nothing; so do invalid ones.
    """
    db = node.db.at("main")
    counts = {verdict.name.lower(): 0 for verdict in Verdict}
    totals: dict[str, list[float]] = {}
    for stamp in stamps.all_of(db, handle):
        verdict = verify(node, "stamp", stamp.id, db).verdict
        counts[verdict.name.lower()] += 1
        if verdict is Verdict.VERIFIED:
            for dim in ("quality", "reliability", "creativity"):
                if dim in stamp.valence:
                    sure = float(stamp.valence.get(f"{dim}_confidence", 1))
                    weighed = totals.setdefault(dim, [0.0, 0.0])
                    weighed[0] += sure * float(stamp.valence[dim])
                    weighed[1] += sure
    scores = {dim: round(total / weight, 2) for dim, (total, weight) in totals.items() if weight}
    return {
        "handle": handle,
        "completions": len(completions.by_rig(db, handle, 10_000)),
        "stamps": counts,
        "scores": scores,
    }


def leaderboard(node: Node) -> list[dict[str, Any]]:
    """The standing of every rig that completed something: most verified stamps first, then quality, then name."""
    db = node.db.at("main")
    rows = db.rows("SELECT DISTINCT completed_by AS handle FROM completions WHERE completed_by IS NOT NULL")
    found = [standing(node, str(row["handle"])) for row in rows]
    return sorted(found, key=lambda s: (-s["stamps"]["verified"], -s["scores"].get("quality", 0), s["handle"]))


def signed_payload(db: Database, completion_id: str, block_hash: str | None) -> dict[str, Any] | None:
    """The statement that a completion's block_hash names, or None where it is not here."""
    if block_hash is None or not signatures.supported(db):
        return None
    found = [e for e in signatures.of_subject(db, "completions", completion_id) if e.sha256 == block_hash]
    return parse(found[0].payload) if found else None
