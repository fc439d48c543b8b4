"""The verbs of the board: where the rules of `lifecycle` meet the database.

Each verb judges, writes and signs inside one Dolt commit; `offer` lands that
commit or offers it.  Either way a verb that returns has done what it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from wasteland.commons import completions, leases, new_id, stamps, wanted
from wasteland.dolt.changes import NothingChanged
from wasteland.dolt.database import Database
from wasteland.errors import BadSignature, NotFound, NotOpen, Refused, Usage
from wasteland.market.propose import Outcome, as_it_is, land, on_item, permitted
from wasteland.models import CONTENT, Completion, Stamp
from wasteland.node.node import Node
from wasteland.rules.lease import duration
from wasteland.rules.lifecycle import Item
from wasteland.text import checked
from wasteland.values import dataclass

if TYPE_CHECKING:
    from wasteland.trust.statements import Link, Party

TYPES = ("feature", "bug", "design", "rfc", "docs", "inference")
EFFORTS = ("trivial", "small", "medium", "large", "epic")
SEVERITIES = ("leaf", "branch", "root")
DIMENSIONS = ("quality", "reliability", "creativity")
TAGS_LIMIT = 50
UNKNOWN_BOX = ("L0", "host")


def post(node: Node, fields: dict[str, Any], *, push: bool = True) -> Outcome:
    """Put a new item on the board.  Usage where a field is not one that the board takes."""
    checked_fields(fields, new=True)
    item_id = new_id("w-", 10, fields["title"])
    now = node.clock()
    row = {"priority": 2, "effort_level": "medium", **fields, "id": item_id, "posted_by": node.handle}

    def act(db: Database) -> None:
        wanted.insert(db, row, now)

    return land(node, "post", item_id, f"wl post: {item_id}", act, push=push)


def checked_fields(fields: dict[str, Any], *, new: bool) -> None:
    """Refuse what may not be on the board, with a sentence (Usage); texts stay in `fields` as they may be stored."""
    if new and not (fields.get("title") or "").strip():
        raise Usage("the title must not be empty")
    for name in ("title", "description", "project"):
        if fields.get(name) is not None:
            fields[name] = checked(fields[name], name)
    _tags(fields.get("tags") or [], "tags")
    _one_of(fields.get("type"), TYPES, "type")
    _one_of(fields.get("effort_level"), EFFORTS, "effort")
    priority = fields.get("priority")
    if priority is not None and not 0 <= priority <= 4:
        raise Usage(f"invalid priority {priority}: must be 0-4")


def _tags(words: Sequence[str], what: str) -> None:
    if len(words) > TAGS_LIMIT:
        raise Usage(f"there are {len(words)} {what}; at most {TAGS_LIMIT} are allowed")
    for word in words:
        checked(word, "tag")


def _one_of(value: str | None, known: Sequence[str], what: str) -> None:
    if value is not None and value not in known:
        raise Usage(f'invalid {what} "{value}": must be one of {", ".join(known)}')


def claim(node: Node, text: str, *, lasting: str | None = None, take_over: bool = False, push: bool = True) -> Outcome:
    """Claim an open item for this rig, or with `take_over` one whose claimer let the lease end.

    Where upstream keeps leases, the claim has one: as long as the effort of
    the item allows, or `lasting` (`5d`, `12h`).
    """
    asked = None if lasting is None else duration(lasting)
    verb = "takeover" if take_over else "claim"

    def act(db: Database, item: Item) -> None:
        _write(node, db, item, verb, {"claimed_by": node.handle}, asked)

    return on_item(node, verb, text, act, push=push)


def renew(node: Node, text: str, *, lasting: str | None = None, push: bool = True) -> Outcome:
    """Go on with a claim of this rig: its lease begins anew."""
    asked = None if lasting is None else duration(lasting)

    def act(db: Database, item: Item) -> None:
        _write(node, db, item, "renew", {}, asked)

    try:
        return on_item(node, "renew", text, act, push=push)
    except NothingChanged:
        return as_it_is(node, "renew", text)  # within the second of the claim: the lease begins now already


def unclaim(node: Node, text: str, *, push: bool = True) -> Outcome:
    """Give a claimed item back to the board."""

    def act(db: Database, item: Item) -> None:
        _write(node, db, item, "unclaim", {"claimed_by": None, "evidence_url": None})

    return on_item(node, "unclaim", text, act, push=push)


def update(node: Node, text: str, fields: dict[str, Any], *, push: bool = True) -> Outcome:
    """Change the words of an open item of one's own."""
    given = {name: value for name, value in fields.items() if value is not None}
    if not given:
        raise Usage("at least one field must be provided to update")
    checked_fields(given, new=False)
    if unknown := given.keys() - set(CONTENT):
        raise Usage(f"cannot update {', '.join(sorted(unknown))}")
    if "title" in given and not given["title"].strip():
        raise Usage("the title must not be empty")

    def act(db: Database, item: Item) -> None:
        before = db.row(wanted.GET, id=item.id) or {}
        _write(node, db, item, "update", given)
        after = db.row(wanted.GET, id=item.id) or {}
        if {k: v for k, v in before.items() if k != "updated_at"} == {
            k: v for k, v in after.items() if k != "updated_at"
        }:
            raise NothingChanged(f"{item.id} already says that; nothing was changed", about=item.id)

    return on_item(node, "update", text, act, push=push)


def delete(node: Node, text: str, *, push: bool = True) -> Outcome:
    """Withdraw an open item of one's own; it stays in history."""
    return on_item(node, "delete", text, lambda db, item: _write(node, db, item, "delete", {}), push=push)


def close(node: Node, text: str, *, push: bool = True) -> Outcome:
    """Complete an item in review without a stamp."""
    return on_item(node, "close", text, lambda db, item: _write(node, db, item, "close", {}), push=push)


def reject(node: Node, text: str, reason: str | None = None, *, push: bool = True) -> Outcome:
    """Send an item in review back to its claimer; the reason stays in its history."""
    if reason:
        reason = checked(reason, "reason")

    def act(db: Database, item: Item) -> None:
        _write(node, db, item, "reject", {"evidence_url": None})
        completions.remove(db, item.id)

    suffix = f" — {reason}" if reason else ""
    return on_item(node, "reject", text, act, push=push, suffix=suffix)


def done(
    node: Node,
    text: str,
    evidence: str,
    *,
    manifest: dict[str, Any] | None = None,
    box: tuple[str, str] = UNKNOWN_BOX,
    push: bool = True,
) -> Outcome:
    """Submit the completion of an item that this rig claimed, signed where the commons keeps signatures.

    While it is in review, another completion takes the place of the first, and
    is signed as its successor.  Refused where the evidence is the same.
    `manifest` is the typed evidence (else the text itself is the evidence);
    `box` is the sandbox level and network that the work ran in.
    """
    from wasteland.node import signing, standing
    from wasteland.trust.statements import completion_statement, text_manifest, wanted_digest

    if not evidence.strip():
        raise Usage("the evidence must not be empty")
    evidence = checked(evidence, "evidence")
    facts = manifest or text_manifest(evidence)

    def act(db: Database, item: Item) -> None:
        now = node.clock()
        _write(node, db, item, "done", {"evidence_url": evidence})
        before = completions.of_item(db, item.id)
        if before is not None:
            if before.evidence == evidence and _same_facts(db, before, facts):
                raise NotOpen(f"cannot done {item.id}: it is {item.status} with this evidence", about=item.id)
            completions.remove(db, item.id)
        made = Completion(
            new_id("c-", 16, item.id, node.handle), item.id, node.handle, evidence,
            hop_uri=node.config.hop_uri or None, completed_at=now,
        )  # fmt: skip
        row = db.row(wanted.GET, id=item.id) or {}

        def statement(chain: Link, me: Party) -> dict[str, Any]:
            return completion_statement(
                wasteland=standing.wasteland_id(node, db), completion=made.id, author=me, wanted=item.id,
                wanted_sha256=wanted_digest(row), evidence=facts, sandbox_level=box[0], sandbox_network=box[1],
                issued_at=now, chain=chain, supersedes=before.block_hash if before else None,
            )  # fmt: skip

        envelope = signing.attest(node, db, statement)
        made = Completion(**(vars(made) | {"block_hash": envelope.sha256 if envelope else None}))
        completions.insert(db, made, now)

    return on_item(node, "done", text, act, push=push)


def _same_facts(db: Database, made: Completion, facts: dict[str, Any]) -> bool:
    """Whether a completion was signed with this very evidence; one that nobody signed has only its text."""
    from wasteland.node import signing
    from wasteland.trust.statements import manifest_digest

    said = signing.signed_payload(db, made.id, made.block_hash)
    return said is None or said["subject"][0]["digest"]["sha256"] == manifest_digest(facts)


@dataclass(frozen=True)
class Judgement:
    """What an acceptor says: scores 1 to 5 with confidences per mille, by dimension."""

    scores: dict[str, tuple[int, int]]
    confidence: int = 1000
    severity: str = "leaf"
    skills: tuple[str, ...] = ()
    message: str | None = None

    def check(self) -> None:
        """Refuse what no stamp may say: Usage with one sentence."""
        for dim, (score, sure) in self.scores.items():
            if not 1 <= score <= 5:
                raise Usage(f"invalid {dim} {score}: must be 1-5")
            if not 0 <= sure <= 1000:
                raise Usage(f"invalid {dim} confidence {sure / 1000:g}: must be 0-1")
        if not 0 <= self.confidence <= 1000:
            raise Usage(f"invalid confidence {self.confidence / 1000:g}: must be 0-1")
        _one_of(self.severity, SEVERITIES, "severity")
        _tags(self.skills, "skills")
        if self.message is not None:
            checked(self.message, "message")


def accept(node: Node, text: str, said: Judgement, *, push: bool = True) -> Outcome:
    """Complete an item in review and stamp its worker, signed where the commons keeps signatures."""
    said.check()

    def act(db: Database, item: Item) -> None:
        completion = completions.of_item(db, item.id)
        if completion is None and item.status == "in_review":
            raise NotFound(f'no completion found for wanted item "{item.id}"', about=item.id)
        now = node.clock()
        _write(node, db, item, "accept", {})
        if completion is None:
            raise NotFound(f'no completion found for wanted item "{item.id}"', about=item.id)
        _refuse_akin(node, db, item, str(completion.completed_by))
        _refuse_forged(node, db, completion)
        stamp = _stamp(node, db, item, completion, said, now)
        stamps.insert(db, stamp)
        completions.validate(db, completion.id, node.handle, stamp.id, now)

    return on_item(node, "accept", text, act, push=push)


def _refuse_akin(node: Node, db: Database, item: Item, worker: str) -> None:
    """Refused where this rig and the worker are of one owner, parent and child, or have one key.

    Rigs that work on upstream's own database, without forks, all name its
    owner: that says nothing of who they are.
    """
    from wasteland.commons import signatures
    from wasteland.rules.policy.stamps import akin, one_key

    found = [db.row("SELECT handle, dolthub_org, parent_rig FROM rigs WHERE handle = :h", h=h) or {"handle": h}
             for h in (node.handle, worker)]  # fmt: skip
    if all(rig.get("dolthub_org") == node.config.org for rig in found):
        found = [rig | {"dolthub_org": None} for rig in found]
    why = akin(*found)
    if why is None and signatures.supported(db):
        same = one_key(signatures.key_events(db, node.handle), signatures.key_events(db, worker))
        why = "both rigs have one key" if same else None
    if why:
        raise Refused(f"cannot accept {item.id}: {why}, and nobody judges their own work", about=item.id)


def _refuse_forged(node: Node, db: Database, completion: Completion) -> None:
    """A completion whose signature does not hold is not stamped; an unsigned one may be."""
    from wasteland.node import verifying

    report = verifying.verify(node, "completion", completion.id, db)
    if report.verdict.name == "INVALID":
        why = next(c.detail for c in report.checks if c.decides and c.ok is False)
        raise BadSignature(
            f"completion {completion.id} is not what its worker signed: {why}",
            about=completion.id,
            hint=f"wl verify completion {completion.id}",
        )


def _stamp(node: Node, db: Database, item: Item, completion: Completion, said: Judgement, now: datetime) -> Stamp:
    from wasteland.node import signing, standing
    from wasteland.trust.statements import Party, stamp_statement, valence_of, wanted_digest

    subject = str(completion.completed_by)
    row = db.row(wanted.GET, id=item.id) or {}
    stamp = Stamp(
        new_id("s-", 16, item.id, node.handle), node.handle, subject, valence_of(said.scores),
        said.confidence / 1000, said.severity, completion.id, "completion", list(said.skills) or None, said.message,
        hop_uri=node.config.hop_uri or None, created_at=now,
    )  # fmt: skip
    about = db.row("SELECT * FROM completions WHERE id = :id", id=completion.id) or {}
    evidence_sha256, commit, worker_did, digest = _judged(db, about)

    def statement(chain: Link, me: Party) -> dict[str, Any]:
        return stamp_statement(
            wasteland=standing.wasteland_id(node, db), stamp_id=stamp.id, author=me, rig=Party(subject, worker_did),
            scores=said.scores, confidence=said.confidence, severity=said.severity, completion=completion.id,
            completion_sha256=digest, wanted=item.id, wanted_sha256=wanted_digest(row),
            evidence_sha256=evidence_sha256, commit=commit, skill_tags=list(said.skills), message=said.message,
            issued_at=now, chain=chain,
        )  # fmt: skip

    envelope = signing.attest(node, db, statement)
    return Stamp(**(vars(stamp) | {"block_hash": envelope.sha256 if envelope else None}))


def _judged(db: Database, completion: dict[str, Any]) -> tuple[str, str | None, str | None, str]:
    """Of the completion that is stamped: evidence digest, commit, the worker's did, and what the stamp binds to."""
    from wasteland.node import signing
    from wasteland.trust.statements import completion_digest, manifest_digest, text_manifest

    said = signing.signed_payload(db, str(completion["id"]), completion.get("block_hash"))
    if said is not None:
        digest = said["subject"][0]["digest"]
        return digest["sha256"], digest.get("gitCommit"), said["predicate"]["author"]["did"], completion["block_hash"]
    manifest = text_manifest(str(completion.get("evidence") or ""))
    return manifest_digest(manifest), None, None, completion_digest(completion)


def _write(
    node: Node, db: Database, item: Item, verb: str, values: dict[str, Any], asked: timedelta | None = None
) -> None:
    """Judge the verb, write its step, and do to the lease what the step does; `asked` is how long that shall hold."""
    now = node.clock()
    step = permitted(node, db, item, verb)
    if step.writes:
        wanted.write(db, item.id, step, values, now)
    leases.take_step(db, step, item.id, values.get("claimed_by", item.claimed_by), now, asked)
