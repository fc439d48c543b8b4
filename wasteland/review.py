"""Look at what a branch or pull request would change, row by row, and land what holds.

What is reviewed is a commit, never a branch: its hash is pinned, judged
against upstream's own data, landed, and the landing is proved by ancestry.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from wasteland import identity, sync
from wasteland.commons import signatures
from wasteland.dolt.database import MergeConflict, PushRejected
from wasteland.errors import Conflict, NotFound, Refused, Unreachable, Usage
from wasteland.hub import OPEN, Branch, Pull
from wasteland.models import RowDiff, jsonable
from wasteland.node import Node, need_hub
from wasteland.policy import AUTO, REVIEW, Judgement, Upstream, judge, objects
from wasteland.steps import step
from wasteland.text import name, show

HIDDEN = frozenset({"payload", "signatures"})


@dataclass(frozen=True)
class Pinned:
    """One exact commit under review: where it came from, its hash, and the merge base with upstream's main."""

    source: str
    org: str
    head: str
    base: str
    upstream: str
    pull: Pull | None = None


@dataclass
class Review:
    """A pinned commit with its net row diff and what the rules say of it."""

    pinned: Pinned
    rows: Sequence[RowDiff]
    judgement: Judgement
    conflicts: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As `wl review --json` prints it."""
        pin = self.pinned
        tables: dict[str, list[dict[str, Any]]] = {}
        for row in self.rows:
            tables.setdefault(row.table, []).append({"from_row": _plain(row.old), "to_row": _plain(row.new)})
        return {
            "schema_version": 1,
            "branch": pin.source,
            "head": pin.head,
            "base": pin.base,
            "pull": pin.pull.number if pin.pull else None,
            "verdict": self.judgement.verdict,
            "findings": [{"verdict": f.verdict, "rule": f.rule, "detail": f.detail} for f in self.judgement.findings],
            "conflicts": self.conflicts,
            "tables": [{"name": t, "data_diff": found} for t, found in tables.items()],
        }


def branches(node: Node) -> list[dict[str, Any]]:
    """What can be reviewed: this clone's `wl/` branches and the open pull requests upstream."""
    found = [{"branch": name, "head": head} for name, head in node.db.branches("wl/").items()]
    if node.hub is not None:
        try:
            pulls = node.hub.pulls(node.config.org, node.config.db)
        except Unreachable as error:
            node.notice(f"shown without pull requests: {error.message}")
            pulls = []
        for pull in pulls:
            found.append(
                {"pull": pull.number, "branch": str(pull.source), "title": pull.title, "author": pull.author}  # type: ignore[dict-item]
            )
    return found


def pinned(node: Node, what: str) -> Pinned:
    """The commit that `what` names now: a branch here, a pull request's number, or `org:branch` of a fork.

    Upstream and, where needed, the fork are fetched.  NotFound where there is no such thing.
    """
    upstream = sync.refresh(node)
    if re.fullmatch("[0-9]{1,18}", what):
        pull = need_hub(node).pull(node.config.org, node.config.db, int(what))
        if pull is None:
            raise NotFound(f"{node.config.upstream} has no pull request {what}", about=what)
        return _pinned(node, str(pull.source), pull.source.org, _fetch(node, pull.source), upstream, pull)
    org, colon, branch = what.partition(":")
    if colon:
        source = Branch(name(org, "organisation"), node.config.db, branch)
        return _pinned(node, what, org, _fetch(node, source), upstream, None)
    head = node.db.branches(what).get(what)
    if head is None:
        raise NotFound(f"there is no branch {show(what)} here", about=what, hint="wl review lists them")
    return _pinned(node, what, node.config.fork_org or node.config.org, head, upstream, sync.find_pull(node, what))


def _pinned(node: Node, source: str, org: str, head: str, upstream: str, pull: Pull | None) -> Pinned:
    base = node.db.merge_base(head, upstream)
    if base is None:
        raise Refused(f"{show(source)} has no history in common with upstream", about=source)
    return Pinned(source, org, head, base, upstream, pull)


def _fetch(node: Node, source: Branch) -> str:
    """Fetch a fork's branch under a remote of its own; the head."""
    hub = need_hub(node)
    if source.org == node.config.fork_org and source.db == node.config.fork_db:
        remote = "origin"
    elif source.org == node.config.org and source.db == node.config.db:
        remote = node.upstream_remote
    else:
        remote = f"fork-{len(source.org)}-{source.org}-{source.db}"  # the length tells a-b/c from a/b-c
        known = node.db.remotes().get(remote)
        if known not in (None, hub.url(source.org, source.db)):
            raise Refused(f"the remote {remote} points somewhere else", about=remote, hint="remove it with dolt remote")
        if known is None:
            if not hub.exists(source.org, source.db):
                raise NotFound(f"there is no fork {source.org}/{source.db}", about=f"{source.org}/{source.db}")
            node.db.add_remote(remote, hub.url(source.org, source.db))
    node.db.fetch(remote)
    head = node.db.find(f"{remote}/{source.name}")
    if head is None:
        raise NotFound(f"the branch {show(source)} is gone", about=str(source))
    return head


def review(node: Node, what: str) -> Review:
    """What a branch or pull request would change, and what the rules say of it."""
    return examine(node, pinned(node, what))


def examine(node: Node, pin: Pinned) -> Review:
    """Judge what upstream's main would become with a pinned commit, against what it is.

    Dolt merges cell by cell, so what is judged is the merged result and not
    what the fork's branch says of a base of its own.  Where the two conflict,
    the branch's own rows are shown and judged, and the conflicts with them.
    """
    db = node.db
    found = _objects(node, pin)
    conflicts = {} if found else db.conflicts(pin.upstream, pin.head)
    if found or conflicts:
        rows = db.diff_all(pin.base, pin.head)
        verdict = Judgement() if found else judge(rows, pin.org, upstream_facts(node, pin), identity.check)
        for what in found:
            verdict.add("quarantine", "G-OBJECT", what)
        return Review(pin, rows, verdict, conflicts)
    with _trial(node, pin) as merged:
        rows = db.diff_all(pin.upstream, merged)
        verdict = judge(rows, pin.org, upstream_facts(node, pin), identity.check)
        for what in objects(db.diff_tables(pin.upstream, merged)):
            verdict.add("quarantine", "G-OBJECT", what)
        _signatures_hold(node, rows, merged, verdict)
    return Review(pin, rows, verdict)


@contextlib.contextmanager
def _trial(node: Node, pin: Pinned) -> Iterator[str]:
    """What upstream's main would be with the pinned commit: a commit on a branch that goes away again."""
    db = node.db
    if db.is_ancestor(pin.upstream, pin.head):
        yield pin.head
        return
    if db.is_ancestor(pin.head, pin.upstream):
        yield pin.upstream
        return
    with db.locked():
        branch = f"trial/{pin.head[:12]}-{os.getpid()}"
        db.branch(branch, pin.upstream)
        try:
            yield db.at(branch).merge(pin.head, f"trial of {pin.head}")
        finally:
            db.delete_branch(branch)


def _signatures_hold(node: Node, rows: Sequence[RowDiff], merged: str, verdict: Judgement) -> None:
    """Reject a signed stamp or completion that `wl verify` would call invalid once it has landed."""
    view = node.db.at(merged)
    for row in rows:
        if row.table in ("stamps", "completions") and row.kind == "added" and row.row.get("block_hash"):
            report = identity.verify(node, row.table.removesuffix("s"), row.key, view)
            if report.verdict.name == "INVALID":
                why = next(one.detail for one in report.checks if one.decides and one.ok is False)
                verdict.add("reject", "SIGNED", f"{row.key} is not what was signed: {why}")


def _objects(node: Node, pin: Pinned) -> list[str]:
    """What any commit on the way, or the whole, carries besides rows: added and dropped again counts too."""
    db = node.db
    found = objects(db.diff_tables(pin.base, pin.head))
    hashes = [commit.hash for commit in db.log(pin.head, without=pin.base)]
    for commit in hashes:
        parent = db.log(f"{commit}^", limit=1)
        if parent:
            found += [one for one in objects(db.diff_tables(parent[0].hash, commit)) if one not in found]
    return found


def upstream_facts(node: Node, pin: Pinned) -> Upstream:
    """What the rules read of upstream's main, as it was when the commit was pinned."""
    db = node.db.at(pin.upstream)
    signed = signatures.supported(db)
    return Upstream(
        wasteland=identity.wasteland_id(node, db),
        rigs={str(r["handle"]): r for r in db.rows("SELECT * FROM rigs")},
        completions={str(r["id"]): r for r in db.rows("SELECT * FROM completions ORDER BY completed_at, id")},
        roles=lambda handle: identity.roles_of(node, handle, db),
        key_events=lambda handle: signatures.key_events(db, handle) if signed else [],
        role_documents=signatures.roles(db) if signed else [],
        attestations=lambda handle: signatures.of_signer(db, handle) if signed else [],
        stamp_authors={str(r["id"]): str(r["author"]) for r in db.rows("SELECT id, author FROM stamps")},
    )


@dataclass(frozen=True)
class Landed:
    """A pinned commit that is on upstream's main."""

    review: Review
    commit: str
    pushed: bool

    def to_json(self) -> dict[str, Any]:
        """As `wl merge --json` prints it."""
        return {
            "schema_version": 1, "merged": self.review.pinned.source, "head": self.review.pinned.head,
            "commit": self.commit, "pushed": self.pushed, "verdict": self.review.judgement.verdict,
        }  # fmt: skip


def merge(node: Node, what: str, *, push: bool = True, keep_branch: bool = False, head: str | None = None) -> Landed:
    """Land a reviewed commit on upstream's main, and prove that it is there.

    `head` is the hash that was reviewed, where the caller has one; Conflict
    when the branch is another by now.  Raises Refused for who is no
    maintainer or where the rules say no, Conflict where rows conflict.
    """
    _maintainer(node)
    with node.db.locked():
        pin = pinned(node, what)
        if pin.pull is not None and pin.pull.state != OPEN:
            raise Refused(f"pull request {pin.pull.number} is {pin.pull.state}", about=what)
        if head is not None and pin.head != head:
            raise Conflict(
                f"{show(what)} is at {pin.head} now, not at {show(head)}", about=what, hint="review it again"
            )
        if pin.pull is not None and push and node.db.is_ancestor(pin.head, pin.upstream):
            earlier = Landed(examine(node, pin), pin.upstream, pushed=True)  # a killed merge left its pull request open
            _after(node, earlier, keep_branch=keep_branch, push=push)
            return earlier
        for _ in range(sync.ATTEMPTS):
            landed = _land(node, pin, push=push)
            if landed is not None:
                _after(node, landed, keep_branch=keep_branch, push=push)
                return landed
            upstream = sync.integrate(node)
            pin = _pinned(node, pin.source, pin.org, pin.head, upstream, pin.pull)
    raise Conflict(f"upstream moved {sync.ATTEMPTS} times while this command tried to land {show(what)}", about=what)


def _maintainer(node: Node) -> None:
    document = identity.roles_document(node)
    if document is not None:
        if "maintainer" not in identity.roles_of(node, node.handle):
            raise Refused(f"only a maintainer may merge, and {node.handle} is not")
    elif node.config.org not in (node.config.fork_org, node.handle):
        raise Refused(f"only the owner of {node.config.upstream} may merge: it has no roles document")


def _take_back(node: Node, ours: str, upstream: str) -> None:
    """Set aside a merge that was killed before its push; Refused where main holds other commits of ours."""
    merging = node.config.node.get("merging")
    if not merging or node.db.find(merging) is None or not node.db.is_ancestor(merging, ours):
        raise Refused(
            "main has commits that upstream does not have, and they would land too", about="main",
            hint="wl sync pushes nothing; push them with dolt, or set them aside on a branch",
        )  # fmt: skip
    kept = f"aside/{node.clock():%Y%m%d-%H%M%S}-{ours[:8]}"
    node.db.branch(kept, ours)
    node.db.at("main").reset(upstream)
    node.notice(f"a merge that was interrupted before it landed was set aside as branch {kept}")


def _land(node: Node, pin: Pinned, *, push: bool) -> Landed | None:
    """One attempt; None when upstream moved under it."""
    db = node.db.at("main")
    found = examine(node, pin)
    if found.judgement.verdict not in (AUTO, REVIEW):
        reasons = [f.detail for f in found.judgement.findings if f.verdict not in (AUTO, REVIEW)]
        raise Refused(
            f"{show(pin.source)} may not land: {show('; '.join(reasons) or 'it changes nothing')}",
            about=pin.source, hint=f"wl review {show(pin.source)} shows the rows",
        )  # fmt: skip
    before = db.hash_of("main")
    if push and before != pin.upstream:
        _take_back(node, before, pin.upstream)
        before = pin.upstream
    node.config.node["merging"] = pin.head
    node.config.save_node()
    try:
        commit = db.merge(pin.head, f"wl merge: {pin.source}\n\n{sync.TRAILER}{pin.head}")
    except MergeConflict as conflict:
        raise Conflict(
            f"{show(pin.source)} conflicts with upstream in {', '.join(sorted(conflict.tables))}: "
            "another change of the same item landed first",
            about=pin.source,
        ) from conflict
    if db.diff_all(before, commit) != list(found.rows):
        db.reset(before)
        raise Conflict(f"what would land of {show(pin.source)} is not what was judged", about=pin.source)
    if push:
        try:
            db.push(node.upstream_remote, "main")
        except PushRejected:
            db.reset(before)
            return None
        except BaseException:
            db.reset(before)
            raise
        _prove(node, pin)
        step("proved")
    return Landed(found, commit, push)


def _prove(node: Node, pin: Pinned) -> None:
    node.db.fetch(node.upstream_remote)
    main = node.db.hash_of(f"{node.upstream_remote}/main")
    if not node.db.is_ancestor(pin.head, main):
        raise Conflict(f"{show(pin.source)} was pushed but upstream's main does not contain it", about=pin.source)


def _after(node: Node, landed: Landed, *, keep_branch: bool, push: bool) -> None:
    pin = landed.review.pinned
    node.config.node.pop("merging", None)
    node.config.node["seen_upstream"] = node.db.find(f"{node.upstream_remote}/main")
    node.config.save_node()
    if pin.pull is not None and push:
        hub = need_hub(node)
        hub.comment(node.config.org, node.config.db, pin.pull.number, node.handle, f"Landed {pin.head} by wl merge.")
        hub.close(node.config.org, node.config.db, pin.pull.number, landed=landed.commit)
        step("closed")
    if push and node.upstream_remote != "origin":
        try:
            node.db.push("origin", "main")
        except Conflict:
            node.notice("the fork's main has commits of its own; it was not pushed")
    if not keep_branch and node.db.is_branch(pin.source):
        sync.drop(node, pin.source, push=push)


def create_pull(node: Node, branch: str) -> Pull:
    """Open or refresh the pull request of a branch of this rig's fork."""
    from wasteland.commons import wanted

    hub = need_hub(node)
    if not node.db.is_branch(branch):
        raise NotFound(f"there is no branch {show(branch)} here", about=branch, hint="wl review lists them")
    if not branch.startswith("wl/"):
        raise Usage(f"{show(branch)} is not a wl/ branch")
    node.db.push("origin", branch)
    item = wanted.get(node.db.at(branch), branch.rpartition("/")[2])
    title = f"[wl] {item.title if item else branch}"
    return hub.open_pull(node.fork_branch(branch), node.upstream_main, title, summary(node, branch), node.handle)


def summary(node: Node, branch: str) -> str:
    """The row diff of a branch as Markdown, for a pull request's text; strangers' text is quoted as code."""
    base = node.db.merge_base(branch, "main")
    rows = node.db.diff_all(str(base), node.db.hash_of(branch))
    return markdown(branch, rows)


def markdown(title: str, rows: Sequence[RowDiff]) -> str:
    """A row diff as Markdown."""
    lines = [f"## wl review: {_code(title)}", ""]
    for row in rows:
        lines += [f"- {_code(row.table)} {row.kind}: {_code(row.key)}"]
        lines += [f"  - {_code(column)}: {_code(_cell(old))} → {_code(_cell(new))}" for column, old, new in cells(row)]
    return "\n".join(lines) + "\n"


def cells(row: RowDiff) -> list[tuple[str, Any, Any]]:
    """The cells that differ, in the table's order: column, old, new; empty ones of a new row are left out."""
    old, new = row.old or {}, row.new or {}
    found = []
    for column in row.row:
        was, now = old.get(column), new.get(column)
        if was != now:
            found.append((column, *(("…", "…") if column in HIDDEN else (was, now))))
    return found


def _cell(value: Any) -> str:
    return "NULL" if value is None else str(jsonable(value))


def _code(text: str) -> str:
    return "`" + show(text).replace("`", "'")[:400] + "`"


def _plain(row: Any) -> dict[str, Any]:
    return {k: jsonable(v) for k, v in (row or {}).items() if v is not None}
