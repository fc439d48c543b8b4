"""Judge what a branch or pull request would change, row by row.

What is reviewed is a commit, never a branch: its hash is pinned (`forks`), and
what upstream's main would become with it is judged against upstream's own data
by `policy`, the one place of the rules.  `land` lands what holds.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any

from wasteland.commons import OLDEST_FIRST, by_ids, in_parts, leases, signatures
from wasteland.dolt.history import MergeConflict
from wasteland.dolt.rows import apply
from wasteland.errors import NotFound, Refused, Unreachable, Usage
from wasteland.models import RowConflict, RowDiff, jsonable
from wasteland.node import landing, levelling, roles, standing
from wasteland.node.node import Node, need_hub
from wasteland.rules.lease import Lease, sentence
from wasteland.rules.policy.findings import AUTO, REJECT, REVIEW, Finding, Judgement, Upstream
from wasteland.rules.policy.pull_request import judge
from wasteland.rules.policy.shape import ROWS, objects
from wasteland.text import show
from wasteland.values import dataclass

if TYPE_CHECKING:
    from wasteland.hub import Pull
    from wasteland.node.forks import Pinned

HIDDEN = frozenset({"payload", "signatures"})
MERGE, TRANSPLANT = "merge", "transplant"
NAMES = {"stamps": "context_id", "wl_attestations": "subject_id"}  # the column that names a completion or a stamp
LEASES, ITEMS = "wl_leases", "wanted"  # a claim gives a lease, and what follows it on the same branch ends it
NOT_YET = frozenset({"OWNER", "KEYS", "ATTEST", "ROLES"})  # rules about what may land before this does
COMMITS = 300  # of one proposal, at most


@dataclass
class Review:
    """A pinned commit with its net row diff and what the rules say of it.

    `how` says what landing it would be: a merge of the very commit, or the
    judged rows alone, because a commit on the way carried more than rows.
    """

    pinned: Pinned
    rows: Sequence[RowDiff]
    judgement: Judgement
    conflicts: Sequence[RowConflict] = ()
    how: str = MERGE
    evidence: Sequence[dict[str, Any]] = field(default_factory=list)
    people: Sequence[dict[str, Any]] = field(default_factory=list)

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
            "upstream": pin.upstream,
            "pull": pin.pull.number if pin.pull else None,
            "verdict": self.judgement.verdict,
            "landing": self.how,
            "findings": [{"verdict": f.verdict, "rule": f.rule, "detail": f.detail} for f in self.judgement.findings],
            "conflicts": [{"table": c.table, "key": c.key, "columns": c.columns} for c in self.conflicts],
            "tables": [{"name": t, "data_diff": found} for t, found in tables.items()],
            "evidence": list(self.evidence),
            "rigs": list(self.people),
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


def review(node: Node, what: str) -> Review:
    """What a branch or pull request would change, what the rules say of it, its evidence and who is behind it."""
    from wasteland.node.forks import book, named, pinned

    pin = pinned(node, what)
    found = examine(node, pin)
    book(node).look(named(node, pin), pin.head)
    found.evidence = _evidence(found.rows)
    found.people = _people(node, found)
    return found


def _evidence(rows: Sequence[RowDiff]) -> list[dict[str, Any]]:
    """The evidence that the rows bring: its text, and the manifest that the worker signed, where there is one."""
    from wasteland.errors import BadSignature
    from wasteland.trust.envelope import parse

    manifests: dict[str, Any] = {}
    for row in rows:
        if row.table == "wl_attestations" and row.kind == "added":
            with contextlib.suppress(BadSignature, KeyError, TypeError, UnicodeEncodeError):
                said = parse(str(row.row.get("payload")).encode())
                manifests[str(row.row.get("payload_sha256"))] = said["predicate"]["evidence"]
    return [
        {
            "completion": row.key,
            "wanted": row.row.get("wanted_id"),
            "by": row.row.get("completed_by"),
            "text": row.row.get("evidence"),
            "manifest": manifests.get(str(row.row.get("block_hash"))),
        }
        for row in rows
        if row.table == "completions" and row.kind == "added"
    ]


def _people(node: Node, found: Review) -> list[dict[str, Any]]:
    """What upstream knows of the rig that proposes, and of the posters and workers of the items it touches."""
    from wasteland.node import verifying

    handles = {found.judgement.actor: "proposes"} if found.judgement.actor else {}
    for row in found.rows:
        for column, part in (("posted_by", "posted"), ("completed_by", "worked"), ("subject", "worked")):
            if handle := row.row.get(column):
                handles.setdefault(str(handle), part)
    return [{"part": part} | verifying.standing(node, str(handle)) for handle, part in handles.items()]


def examine(node: Node, pin: Pinned) -> Review:
    """Judge what upstream's main would become with a pinned commit, against what it is.

    Dolt merges cell by cell, so what is judged is the merged result and not
    what the fork's branch says of a base of its own.  Where the two conflict,
    the branch's own rows are shown and judged, and the conflicts with them.
    Where upstream holds all of them already, none are left to judge.
    """
    db = node.db
    if (count := db.count_diff(pin.base, pin.head)) > ROWS:
        raise Refused(f"{show(pin.source)} changes {count} rows; {ROWS} are the most", about=pin.source)
    bent = objects(db.diff_tables(pin.base, pin.head))
    conflicts = [] if bent else _conflicts(node, pin, bent)
    if bent or conflicts:
        rows = db.diff_all(pin.base, pin.head)
        verdict = Judgement() if bent else judge(rows, pin.org, upstream_facts(node, pin, rows), standing.check)
        for what in bent:
            verdict.add("quarantine", "G-OBJECT", what)
        return Review(pin, rows, verdict, conflicts)
    if landing.changes_nothing(db, pin.base, pin.head, pin.upstream):
        return Review(pin, (), judge((), pin.org, upstream_facts(node, pin, ()), standing.check))
    passed, detour = _passed_through(node, pin)
    how = TRANSPLANT if passed or detour else MERGE
    with trial(node, pin, how) as merged:
        rows = db.diff_all(pin.upstream, merged)
        verdict = judge(rows, pin.org, upstream_facts(node, pin, rows), standing.check)
        for what in objects(db.diff_tables(pin.upstream, merged)):
            verdict.add("quarantine", "G-OBJECT", what)
        for what in passed:
            verdict.add(REVIEW, "G-HISTORY", f"only rows would land: a commit on the way carries more ({what})")
        if detour:
            verdict.add(AUTO, "G-DETOUR", f"only rows would land: commits on the way changed {detour} and took it back")
        if verdict.verdict in (AUTO, REVIEW):
            _signatures_hold(node, rows, merged, verdict)
    return Review(pin, rows, verdict, how=how)


def _conflicts(node: Node, pin: Pinned, bent: list[str]) -> list[RowConflict]:
    """Rows that conflict; a schema that does is one more thing that is not rows, noted in `bent`."""
    try:
        return node.db.conflicts(pin.upstream, pin.head)
    except MergeConflict as conflict:
        bent += [f"the schema of {table} conflicts with upstream's" for table in conflict.tables]
        return []


@contextlib.contextmanager
def trial(node: Node, pin: Pinned, how: str) -> Iterator[str]:
    """What upstream's main would be with the pinned commit: a commit on a branch that goes away again."""
    db = node.db
    if how == MERGE and db.is_ancestor(pin.upstream, pin.head):
        yield pin.head
        return
    if db.is_ancestor(pin.head, pin.upstream):
        yield pin.upstream
        return
    with db.locked():
        branch = f"trial/{pin.head[:12]}-{os.getpid()}"
        db.branch(branch, pin.upstream)
        view = db.at(branch)
        try:
            if how == MERGE:
                view.merge(pin.head, f"trial of {pin.head}")
            elif rows := db.diff_all(pin.base, pin.head):
                with view.change(f"trial of the rows of {pin.head}"):
                    apply(view, rows)
            yield db.hash_of(branch)
        finally:
            db.delete_branch(branch)


def _passed_through(node: Node, pin: Pinned) -> tuple[list[str], str]:
    """What single commits carry that the whole does not: more than rows; and rows that were changed and taken back.

    Landing such a commit would make main's history say that those rows have landed.
    Refused for more commits than anybody looks through.
    """
    db = node.db
    commits = db.log(pin.head, without=pin.base, limit=COMMITS + 1)
    if len(commits) > COMMITS:
        raise Refused(f"{show(pin.source)} is more than {COMMITS} commits", about=pin.source, hint="squash them")
    if len(commits) == 1:
        return [], ""
    whole = {(row.table, row.key) for row in db.diff_all(pin.base, pin.head)}
    found: list[str] = []
    back: set[str] = set()
    for commit in commits:
        parents = db.parents(commit.hash)
        if not parents:
            continue
        tables = db.diff_tables(parents[0], commit.hash)
        found += [one for one in objects(tables) if one not in found]
        if len(parents) == 1 and not objects(tables):  # what a merge brings is upstream's, or another commit's here
            rows = db.diff_all(parents[0], commit.hash)
            back |= {
                f"{row.table} {row.key}"
                for row in rows
                if (row.table, row.key) not in whole and not (row.table == LEASES and (ITEMS, row.key) in whole)
            }
    return found, ", ".join(sorted(back)[:3]) + ("…" if len(back) > 3 else "")


def _signatures_hold(node: Node, rows: Sequence[RowDiff], merged: str, verdict: Judgement) -> None:
    """Reject a signed stamp or completion that `wl verify` would call invalid once it has landed."""
    from wasteland.node import verifying

    view = node.db.at(merged)
    for row in rows:
        if row.table in ("stamps", "completions") and row.kind == "added" and row.row.get("block_hash"):
            report = verifying.verify(node, row.table.removesuffix("s"), row.key, view)
            if report.verdict.name == "INVALID":
                why = next(one.detail for one in report.checks if one.decides and one.ok is False)
                verdict.add("reject", "SIGNED", f"{row.key} is not what was signed: {why}")


def upstream_facts(node: Node, pin: Pinned, rows: Sequence[RowDiff]) -> Upstream:
    """What the rules read of upstream's main, as it was when the commit was pinned, to judge these rows."""
    db = node.db.at(pin.upstream)
    signed = signatures.supported(db)
    items = {row.key for row in rows if row.table == ITEMS}
    named = {str(row.row[NAMES[row.table]]) for row in rows if row.table in NAMES and row.row.get(NAMES[row.table])}
    of_items = in_parts(db, "SELECT * FROM completions", "wanted_id", items, OLDEST_FIRST["completions"])
    return Upstream(
        wasteland=standing.wasteland_id(node, db),
        rigs={str(r["handle"]): r for r in db.rows("SELECT * FROM rigs")},
        completions={str(r["id"]): r for r in of_items} | by_ids(db, "completions", named),
        roles=lambda handle: roles.roles_of(node, handle, db),
        key_events=lambda handle: signatures.key_events(db, handle) if signed else [],
        role_documents=signatures.roles(db) if signed else [],
        attestations=lambda handle, places: signatures.around(db, handle, places) if signed else [],
        stamp_authors={stamp: str(r["author"]) for stamp, r in by_ids(db, "stamps", named).items()},
        leases=leases.rows(db),
        leased=leases.items(db),
        now=node.clock(),
    )


def hopeless(node: Node, branch: str, item_id: str) -> list[Finding]:
    """Why no review could let through what `branch` holds of an item; empty where some could.

    Registrations, keys and roles of this rig may still be under way, so what
    depends on them is left to the review.
    """
    db, org = node.db, node.config.fork_org
    head, upstream = db.hash_of(branch), levelling.upstream_head(node)
    base = db.merge_base(head, upstream)
    main = db.at(upstream)
    rigs = {str(r["handle"]): r for r in main.rows("SELECT * FROM rigs WHERE dolthub_org = :org", org=org)}
    rigs.setdefault(node.handle, {"handle": node.handle, "dolthub_org": org})
    done = main.rows("SELECT * FROM completions WHERE wanted_id = :id ORDER BY completed_at, id", id=item_id)
    known = Upstream(
        wasteland="", rigs=rigs, completions={str(r["id"]): r for r in done},
        roles=lambda handle: roles.roles_of(node, handle, main), key_events=lambda _: (),
        leases=leases.rows(main, item_id), leased=leases.items(main, item_id), now=node.clock(),
    )  # fmt: skip
    rows = db.diff_all(str(base), head)
    found = judge(rows, org, known, standing.check).findings
    return [one for one in found if one.verdict == REJECT and one.rule not in NOT_YET]


def create_pull(node: Node, branch: str) -> Pull:
    """Open or refresh the pull request of a branch of this rig's fork."""
    from wasteland.commons import wanted
    from wasteland.node import carry

    hub = need_hub(node)
    if not node.db.is_branch(branch):
        raise NotFound(f"there is no branch {show(branch)} here", about=branch, hint="wl review lists them")
    if not branch.startswith("wl/"):
        raise Usage(f"{show(branch)} is not a wl/ branch")
    carry.push(node, "origin", branch)
    item = wanted.get(node.db.at(branch), branch.rpartition("/")[2])
    title = f"[wl] {item.title if item else branch}"
    return hub.open_pull(node.fork_branch(branch), node.upstream_main, title, summary(node, branch), node.handle)


def summary(node: Node, branch: str) -> str:
    """What a branch changes, as Markdown for a pull request: its lease, and its rows; strangers' text is code."""
    base = node.db.merge_base(branch, "main")
    rows = node.db.diff_all(str(base), node.db.hash_of(branch))
    held = [lease for row in rows if row.table == "wl_leases" and (lease := Lease.of(row.new)) is not None]
    leased = [f"The claim of {code(one.wanted_id)} is {sentence(one, node.clock())}.\n\n" for one in held]
    return "".join(leased) + markdown(branch, rows)


def markdown(title: str, rows: Sequence[RowDiff]) -> str:
    """A row diff as Markdown."""
    lines = [f"## wl review: {code(title)}", ""]
    for row in rows:
        lines += [f"- {code(row.table)} {row.kind}: {code(row.key)}"]
        lines += [f"  - {code(column)}: {code(_cell(old))} → {code(_cell(new))}" for column, old, new in cells(row)]
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


def code(text: str) -> str:
    """A stranger's text inside Markdown: one line of code, cut, that nothing can end early."""
    return "`" + show(text).replace("`", "'")[:400] + "`"


def _plain(row: Any) -> dict[str, Any]:
    return {k: jsonable(v) for k, v in (row or {}).items() if v is not None}
