"""The verbs of the board: where the rules of `lifecycle` meet the database.

Each verb judges, writes and signs inside one Dolt commit.  In wild-west mode
that commit is on `main` and is pushed; in PR mode it is on this rig's branch
for the item, `wl/<rig>/<item>`, which is pushed to the fork and carries one
pull request.  Either way a verb that returns has done what it says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from wasteland import identity, sync
from wasteland.commons import completions, new_id, signatures, stamps, wanted
from wasteland.dolt.database import Database, NothingChanged, PushRejected
from wasteland.errors import BadSignature, Conflict, NotFound, NotOpen, Refused, Unreachable, Usage, WastelandError
from wasteland.hub import Branch, Pull
from wasteland.lifecycle import BY_VERB, VALIDATOR, Item, allowed, judge
from wasteland.models import CONTENT, Completion, Stamp, Wanted
from wasteland.node import Node
from wasteland.statements import (
    Link,
    Party,
    completion_digest,
    completion_statement,
    manifest_digest,
    stamp_statement,
    text_manifest,
    valence_of,
    wanted_digest,
)
from wasteland.steps import step
from wasteland.text import checked

TYPES = ("feature", "bug", "design", "rfc", "docs", "inference")
EFFORTS = ("trivial", "small", "medium", "large", "epic")
SEVERITIES = ("leaf", "branch", "root")
DIMENSIONS = ("quality", "reliability", "creativity")
TAGS_LIMIT = 50
UNKNOWN_BOX = ("L0", "host")


@dataclass
class Outcome:
    """What a verb did."""

    verb: str
    item: Wanted
    branch: str | None = None
    pull: Pull | None = None
    reverted: bool = False
    pushed: bool = True
    completion: Completion | None = None
    stamp: Stamp | None = None

    def to_json(self) -> dict[str, Any]:
        """The outcome as `--json` prints it."""
        found: dict[str, Any] = {"schema_version": 1, "verb": self.verb, "item": self.item.to_json()}
        if self.branch:
            found["branch"] = self.branch
        if self.pull:
            found["pull"] = {"number": self.pull.number, "url": self.pull.url}
        if self.completion:
            found["completion"] = self.completion.to_json()
        if self.stamp:
            found["stamp"] = self.stamp.to_json()
        return found | {"reverted": self.reverted, "pushed": self.pushed}


Act = Callable[[Database, Item], None]


def post(node: Node, fields: dict[str, Any], *, push: bool = True) -> Outcome:
    """Put a new item on the board.  Usage where a field is not one that the board takes."""
    checked_fields(fields, new=True)
    item_id = new_id("w-", 10, fields["title"])
    now = node.clock()
    row = {"priority": 2, "effort_level": "medium", **fields, "id": item_id, "posted_by": node.handle}

    def act(db: Database) -> None:
        wanted.insert(db, row, now)

    return _land(node, "post", item_id, f"wl post: {item_id}", act, push=push)


def checked_fields(fields: dict[str, Any], *, new: bool) -> None:
    """Refuse what may not be on the board: Usage with one sentence."""
    if new and not (fields.get("title") or "").strip():
        raise Usage("the title must not be empty")
    for name in ("title", "description", "project"):
        if fields.get(name) is not None:
            checked(fields[name], name)
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


def claim(node: Node, text: str, *, push: bool = True) -> Outcome:
    """Claim an open item for this rig."""

    def act(db: Database, item: Item) -> None:
        _write(node, db, item, "claim", {"claimed_by": node.handle})

    return _step(node, "claim", text, act, push=push)


def unclaim(node: Node, text: str, *, push: bool = True) -> Outcome:
    """Give a claimed item back to the board."""

    def act(db: Database, item: Item) -> None:
        _write(node, db, item, "unclaim", {"claimed_by": None, "evidence_url": None})

    return _step(node, "unclaim", text, act, push=push)


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

    return _step(node, "update", text, act, push=push)


def delete(node: Node, text: str, *, push: bool = True) -> Outcome:
    """Withdraw an open item of one's own; it stays in history."""
    return _step(node, "delete", text, lambda db, item: _write(node, db, item, "delete", {}), push=push)


def close(node: Node, text: str, *, push: bool = True) -> Outcome:
    """Complete an item in review without a stamp."""
    return _step(node, "close", text, lambda db, item: _write(node, db, item, "close", {}), push=push)


def reject(node: Node, text: str, reason: str | None = None, *, push: bool = True) -> Outcome:
    """Send an item in review back to its claimer; the reason stays in its history."""
    if reason:
        checked(reason, "reason")

    def act(db: Database, item: Item) -> None:
        _write(node, db, item, "reject", {"evidence_url": None})
        completions.remove(db, item.id)

    suffix = f" — {reason}" if reason else ""
    return _step(node, "reject", text, act, push=push, suffix=suffix)


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

    `manifest` is the typed evidence (else the text itself is the evidence);
    `box` is the sandbox level and network that the work ran in.
    """
    if not evidence.strip():
        raise Usage("the evidence must not be empty")
    checked(evidence, "evidence")
    facts = manifest or text_manifest(evidence)

    def act(db: Database, item: Item) -> None:
        now = node.clock()
        _write(node, db, item, "done", {"evidence_url": evidence})
        made = Completion(
            new_id("c-", 16, item.id, node.handle), item.id, node.handle, evidence,
            hop_uri=node.config.hop_uri or None, completed_at=now,
        )  # fmt: skip
        row = db.row(wanted.GET, id=item.id) or {}

        def statement(chain: Link, me: Party) -> dict[str, Any]:
            return completion_statement(
                wasteland=identity.wasteland_id(node, db), completion=made.id, author=me, wanted=item.id,
                wanted_sha256=wanted_digest(row), evidence=facts, sandbox_level=box[0], sandbox_network=box[1],
                issued_at=now, chain=chain,
            )  # fmt: skip

        envelope = identity.attest(node, db, statement)
        made = Completion(**(vars(made) | {"block_hash": envelope.sha256 if envelope else None}))
        completions.insert(db, made, now)

    return _step(node, "done", text, act, push=push)


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
        if completion is not None:
            _refuse_forged(node, db, completion)
        _write(node, db, item, "accept", {})
        if completion is None:
            raise NotFound(f'no completion found for wanted item "{item.id}"', about=item.id)
        stamp = _stamp(node, db, item, completion, said, now)
        stamps.insert(db, stamp)
        completions.validate(db, completion.id, node.handle, stamp.id, now)

    return _step(node, "accept", text, act, push=push)


def _refuse_forged(node: Node, db: Database, completion: Completion) -> None:
    """A completion whose signature does not hold is not stamped; an unsigned one may be."""
    report = identity.verify(node, "completion", completion.id, db)
    if report.verdict.name == "INVALID":
        why = next(c.detail for c in report.checks if c.decides and c.ok is False)
        raise BadSignature(
            f"completion {completion.id} is not what its worker signed: {why}",
            about=completion.id,
            hint=f"wl verify completion {completion.id}",
        )


def _stamp(node: Node, db: Database, item: Item, completion: Completion, said: Judgement, now: datetime) -> Stamp:
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
            wasteland=identity.wasteland_id(node, db), stamp_id=stamp.id, author=me, rig=Party(subject, worker_did),
            scores=said.scores, confidence=said.confidence, severity=said.severity, completion=completion.id,
            completion_sha256=digest, wanted=item.id, wanted_sha256=wanted_digest(row),
            evidence_sha256=evidence_sha256, commit=commit, skill_tags=list(said.skills), message=said.message,
            issued_at=now, chain=chain,
        )  # fmt: skip

    envelope = identity.attest(node, db, statement)
    return Stamp(**(vars(stamp) | {"block_hash": envelope.sha256 if envelope else None}))


def _judged(db: Database, completion: dict[str, Any]) -> tuple[str, str | None, str | None, str]:
    """Of the completion that is stamped: evidence digest, commit, the worker's did, and what the stamp binds to."""
    said = _signed_payload(db, str(completion["id"]), completion.get("block_hash"))
    if said is not None:
        digest = said["subject"][0]["digest"]
        return digest["sha256"], digest.get("gitCommit"), said["predicate"]["author"]["did"], completion["block_hash"]
    manifest = text_manifest(str(completion.get("evidence") or ""))
    return manifest_digest(manifest), None, None, completion_digest(completion)


def _signed_payload(db: Database, completion_id: str, block_hash: str | None) -> dict[str, Any] | None:
    """The statement that a completion's block_hash names, or None where it is not here."""
    from wasteland.attest import parse

    if block_hash is None or not signatures.supported(db):
        return None
    found = [e for e in signatures.of_subject(db, "completions", completion_id) if e.sha256 == block_hash]
    return parse(found[0].payload) if found else None


def _write(node: Node, db: Database, item: Item, verb: str, values: dict[str, Any]) -> None:
    matter = VALIDATOR in BY_VERB[verb].who
    roles = identity.roles_of(node, node.handle) if matter else frozenset()
    step = judge(verb, node.handle, roles, item)
    wanted.write(db, item.id, step, values, node.clock())


def facts(db: Database, wanted_id: str) -> Item:
    """What the rules need to know of an item; NotFound where there is none."""
    row = db.row(wanted.GET, id=wanted_id)
    if row is None:
        raise NotFound(f'no wanted item matching "{wanted_id}"', about=wanted_id)
    completion = completions.of_item(db, wanted_id)
    return Item.of(row, completion.completed_by if completion else None)


def resolve(node: Node, text: str) -> str:
    """The id of the item that `text` is or begins, on the board or on a branch of this rig."""
    from wasteland.commons import ID_LIMIT, only

    if len(text) > ID_LIMIT:
        return only([], text)
    found = {text} if node.db.at("main").row("SELECT id FROM wanted WHERE id = :id", id=text) else set()
    if not found and text:
        rows = node.db.at("main").rows(wanted.IDS, prefix=text, size=len(text))
        start = f"wl/{node.handle}/"
        branches = [name[len(start) :] for name in node.db.branches(start)]
        found = {str(row["id"]) for row in rows} | {i for i in branches if i.startswith(text)}
    return only(sorted(found), text)


def _step(node: Node, verb: str, text: str, act: Act, *, push: bool, suffix: str = "") -> Outcome:
    with node.db.locked():
        push = push and node.has_remotes
        if node.config.mode == "pr" and push:
            sync.refresh(node)
        try:
            item_id = resolve(node, text)
        except NotFound:
            if node.config.mode == "pr" or not push:
                raise
            sync.refresh(node)
            item_id = resolve(node, text)

        def on(db: Database) -> None:
            act(db, facts(db, item_id))

        return _land(node, verb, item_id, f"wl {verb}: {item_id}{suffix}", on, push=push)


def _land(node: Node, verb: str, item_id: str, message: str, act: Callable[[Database], None], *, push: bool) -> Outcome:
    push = push and node.has_remotes
    if node.config.mode == "wild-west":
        main = node.db.at("main")
        sync.landing(node, message, lambda: act(main), push=push)
        return _outcome(node, main, verb, item_id, pushed=push)
    return _propose(node, verb, item_id, message, act, push=push)


def _outcome(node: Node, db: Database, verb: str, item_id: str, **rest: Any) -> Outcome:
    item = wanted.get(db, item_id)
    if item is None:
        raise NotFound(f"{item_id} is gone", about=item_id)
    completion = completions.of_item(db, item_id) if verb in ("done", "accept", "close") else None
    stamp = stamps.get(db, completion.stamp_id) if completion and completion.stamp_id else None
    return Outcome(verb, item, completion=completion, stamp=stamp, **rest)


def _propose(
    node: Node, verb: str, item_id: str, message: str, act: Callable[[Database], None], *, push: bool
) -> Outcome:
    """PR mode: one commit on the item's branch, pushed to the fork, and a pull request that says it."""
    db = node.db
    with db.locked():
        if push and verb == "post":
            sync.refresh(node)
        branch = sync.settle(node, item_id, push=push)
        created = branch is None
        branch = sync.item_branch(node, item_id)
        if created:
            db.branch(branch, sync.upstream_head(node))
        before = db.hash_of(branch)
        try:
            with db.at(branch).change(message):
                act(db.at(branch))
        except BaseException as error:
            node.unsettled()
            if created:
                db.delete_branch(branch)
            elif push and isinstance(error, (Refused, NothingChanged)):
                _offer_leftovers(node, branch, item_id)
            raise
        outcome = _outcome(node, db.at(branch), verb, item_id, branch=branch, pushed=push)
        if push:
            _offer(node, outcome, branch, before, created=created)
        node.settled()
        return outcome


def _offer(node: Node, outcome: Outcome, branch: str, before: str, *, created: bool) -> None:
    """Push the branch, or undo; then bring the pull request up to date, or take it back where nothing is left of it."""
    db = node.db
    try:
        _push_branch(node, branch)
    except BaseException as error:
        if not isinstance(error, Conflict):
            node.settled()
        if created:
            db.delete_branch(branch)
        else:
            db.at(branch).reset(before)
        node.void()
        raise
    if not sync.net_change(node, branch):
        sync.close_pull(node, branch, "Taken back by its author.")
        sync.drop(node, branch, push=True)
        outcome.reverted, outcome.branch = True, None
        return
    step("offering")
    outcome.pull = offer_pull(node, branch, outcome.item.title)
    step("offered")


def _offer_leftovers(node: Node, branch: str, item_id: str) -> None:
    """Offer what a killed command left on a branch, so that nothing is refused as done which nobody else can see."""
    db = node.db
    try:
        if db.find(f"origin/{branch}") == db.hash_of(branch) and (node.hub is None or sync.find_pull(node, branch)):
            return
        _push_branch(node, branch)
        item = wanted.get(db.at(branch), item_id)
        pull = offer_pull(node, branch, item.title if item else branch)
    except WastelandError as error:
        node.notice(f"what is on {branch} was not offered yet, and could not be now: {error.message}")
        return
    number = f" as pull request {pull.number}" if pull else ""
    node.notice(f"what an earlier command left on {branch} is offered now{number}")


def need_offered(node: Node, item_id: str) -> None:
    """See to it that this rig's work on an item is where others see it; Unreachable where it is not."""
    db, branch = node.db, sync.item_branch(node, item_id)
    with db.locked():
        if node.config.mode == "wild-west":
            sync.land_leftovers(node)
            there = db.is_ancestor(db.hash_of("main"), sync.upstream_head(node))
        elif not db.is_branch(branch):
            return
        else:
            _offer_leftovers(node, branch, item_id)
            there = sync.landed(node, branch) or db.find(f"origin/{branch}") == db.hash_of(branch)
    if not there:
        raise Unreachable(
            f"the completion of {item_id} is on this machine only, so far", about=item_id, hint="try again"
        )


def _push_branch(node: Node, branch: str) -> None:
    """Push; a leftover of the same name on the fork is replaced only when everything in it is upstream or ours."""
    db = node.db
    try:
        db.push("origin", branch)
    except PushRejected:
        theirs = db.find(f"origin/{branch}")
        upstream = db.hash_of(f"{node.upstream_remote}/main")
        if theirs is not None and db.is_ancestor(theirs, upstream):
            db.push("origin", branch, force=True)
            return
        raise Conflict(
            f"the fork's {branch} holds commits that this clone does not have",
            about=branch, hint="wl sync, or finish on the machine that made them",
        ) from None  # fmt: skip


def offer_pull(node: Node, branch: str, title: str) -> Pull | None:
    """Open or refresh the pull request of a branch; a notice where that is not possible, since the work is pushed."""
    from wasteland.review import summary

    if node.hub is None:
        node.notice(f"no pull request: provider {node.config.provider_type!r} has none that this version can open")
        return None
    config = node.config
    source = Branch(config.fork_org, config.fork_db, branch)
    target = Branch(config.org, config.db, "main")
    text = summary(node, branch)  # not in the `try`: that our own database is gone is no reason to go without
    try:
        return node.hub.open_pull(source, target, f"[wl] {title}", text, node.handle)
    except (Refused, NotFound, Conflict, Unreachable) as error:
        node.notice(f"no pull request was opened: {error.message}")
        return None


@dataclass(frozen=True)
class Listed:
    """An item as the board shows it: on main, or as this rig's branch has it."""

    item: Wanted
    branch: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As `wl browse --json` prints it: the fields of peers, and our branch."""
        row = self.item.to_json()
        names = ("id", "title", "description", "project", "type", "priority", "posted_by", "claimed_by", "status",
                 "effort_level")  # fmt: skip
        found = {name: row[name] for name in names if name in row}
        return found | ({"branch": self.branch} if self.branch else {})


def browse(
    node: Node, filters: dict[str, Any], *, limit: int = 50, long: bool = False, view: str = "all"
) -> list[Listed]:
    """The board, with this rig's unlanded branches laid over it (`view` upstream: without)."""
    main = node.db.at("main")
    found = {item.id: Listed(item) for item in wanted.listing(main, filters, limit, long=long)}
    if view == "upstream" or node.config.mode != "pr":
        return list(found.values())
    for branch in node.db.branches(f"wl/{node.handle}/"):
        if branch.startswith("wl/register/") or sync.landed(node, branch):
            continue
        item = wanted.get(node.db.at(branch), branch.rpartition("/")[2])
        if item is None:
            continue
        main_item = wanted.get(main, item.id)
        if main_item is not None and vars(main_item) == vars(item):
            continue
        found.pop(item.id, None)
        if _matches(item, filters):
            found[item.id] = Listed(item, branch)
    return sorted(found.values(), key=_order)[:limit]


def _order(listed: Listed) -> tuple[int, float, str]:
    created = listed.item.created_at
    priority = listed.item.priority
    return (2 if priority is None else priority, -(created.timestamp() if created else 0), listed.item.id)


def _matches(item: Wanted, filters: dict[str, Any]) -> bool:
    for name, value in filters.items():
        if value is None:
            continue
        if name == "search":
            if str(value).lower() not in item.title.lower():
                return False
        elif getattr(item, name) != value:
            return False
    return True


@dataclass
class Card:
    """All that is known of an item."""

    item: Wanted
    branch: str | None
    main_status: str | None
    completion: Completion | None
    stamp: Stamp | None
    pull: Pull | None
    evidence: dict[str, Any] | None
    actions: list[str]
    history: list[dict[str, str]]

    def to_json(self) -> dict[str, Any]:
        """As `wl status --json` prints it."""
        found: dict[str, Any] = {"schema_version": 1, "item": self.item.to_json(), "actions": self.actions}
        for name in ("completion", "stamp"):
            if value := getattr(self, name):
                found[name] = value.to_json()
        if self.evidence:
            found["evidence"] = self.evidence
        if self.branch:
            found |= {"branch": self.branch, "main_status": self.main_status}
        if self.pull:
            found["pull"] = {"number": self.pull.number, "url": self.pull.url, "title": self.pull.title}
        return found | {"history": self.history}


def status(node: Node, text: str) -> Card:
    """One item: as this rig's branch has it while that has not landed, else as main has it."""
    item_id = resolve(node, text)
    main = node.db.at("main")
    branch: str | None = sync.item_branch(node, item_id)
    if not node.db.is_branch(str(branch)) or sync.landed(node, str(branch)):
        branch = None
    db = node.db.at(branch) if branch else main
    item = wanted.get(db, item_id)
    if item is None:
        raise NotFound(f'no wanted item matching "{text}"', about=text)
    on_main = wanted.get(main, item_id)
    completion = completions.of_item(db, item_id)
    stamp = stamps.get(db, completion.stamp_id) if completion and completion.stamp_id else None
    actions = allowed(node.handle, identity.roles_of(node, node.handle), facts(db, item_id))
    return Card(
        item,
        branch,
        on_main.status if on_main else None,
        completion,
        stamp,
        _pull(node, branch) if branch else None,
        _manifest(db, completion),
        actions,
        _history(node, branch or "main", item_id),
    )


def _manifest(db: Database, completion: Completion | None) -> dict[str, Any] | None:
    """The evidence manifest that the worker signed for a completion, where there is one."""
    said = _signed_payload(db, completion.id, completion.block_hash) if completion else None
    return dict(said["predicate"]["evidence"]) if said else None


def _pull(node: Node, branch: str) -> Pull | None:
    """The open pull request of a branch; None, with a notice, where the hub does not answer."""
    try:
        found: Pull | None = sync.find_pull(node, branch)
    except Unreachable as error:
        node.notice(f"shown without its pull request: {error.message}")
        return None
    return found


def _history(node: Node, revision: str, item_id: str) -> list[dict[str, str]]:
    """The commits that name an item, oldest first: who did what, when, and with which words."""
    named = re.compile(rf"wl [a-z-]+: {re.escape(item_id)}( —.*)?\s*\Z", re.DOTALL)
    found = [c for c in node.db.log(revision) if named.match(c.message)]
    return [
        {"at": c.date.strftime("%Y-%m-%dT%H:%M:%SZ"), "by": c.author, "what": c.message, "commit": c.hash}
        for c in reversed(found)
    ]


def mine(node: Node) -> dict[str, Any]:
    """What concerns this rig: claimed, on branches, to review, lately completed."""
    main, me = node.db.at("main"), node.handle
    claimed = wanted.listing(main, {"claimed_by": me}, 200)
    posted = wanted.listing(main, {"posted_by": me}, 200)
    return {
        "schema_version": 1,
        "handle": me,
        "roles": sorted(identity.roles_of(node, me)),
        "claimed": [i.to_json() for i in claimed if i.status in ("claimed", "in_review")],
        "branches": [listed.to_json() for listed in browse(node, {}, limit=500) if listed.branch],
        "to_review": [i.to_json() for i in posted if i.status == "in_review" and i.claimed_by != me],
        "completed": [c.to_json() for c in completions.by_rig(main, me)],
        "standing": identity.standing(node, me),
    }


def order(node: Node, wanted_id: str | None) -> list[dict[str, Any]]:
    """Work orders for the items that this rig has claimed, or for one of them.  NotOpen where it is not this rig's."""
    from wasteland.orders import WorkOrder

    if wanted_id is not None:
        item = status(node, wanted_id).item
        if item.status != "claimed" or item.claimed_by != node.handle:
            raise NotOpen(f"{item.id} is not claimed by {node.handle}", about=item.id, hint=f"wl claim {item.id}")
        items = [item]
    else:
        items = [x.item for x in browse(node, {"claimed_by": node.handle, "status": "claimed"}, long=True)]
    return [
        WorkOrder(
            i.id,
            i.title,
            i.description or "",
            node.handle,
            str(i.posted_by or ""),
            i.project,
            effort_level=i.effort_level or "medium",
            sandbox_required=bool(i.sandbox_required),
        ).to_json()
        for i in items
    ]
