"""The open pull requests of a wasteland: what each would change, whose it is, whether it still merges.

The list costs one request of the hub, and one more for each pull request that
is new.  What they change is read from the commits themselves: the forks are
fetched, and each head is compared with its merge base with upstream's main.
What was found is kept beside the clone, by head, so that the board can show
who is ahead without asking anybody.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wasteland.dolt.history import MergeConflict, told
from wasteland.errors import WastelandError
from wasteland.local.config import write_json
from wasteland.node import landing, levelling
from wasteland.node.node import Node, need_hub
from wasteland.rules.lifecycle import NONE, TRANSITIONS
from wasteland.values import dataclass

if TYPE_CHECKING:
    from wasteland.hub import Branch, Pull

TIME = "%Y-%m-%dT%H:%M:%SZ"
READY, CONFLICTS, LANDED, NOTHING, BARRED, GONE = "ready", "conflicts", "landed", "nothing", "barred", "gone"


@dataclass(frozen=True)
class Change:
    """What a proposal makes of one item; the title is the proposer's word."""

    item: str
    title: str
    before: str
    after: str
    claimed_by: str | None


@dataclass(frozen=True)
class Proposal:
    """One open pull request with what its head holds.

    `state` is ready, conflicts, landed (upstream's main contains its commit),
    nothing (it changes nothing: main holds its rows by other ways, or it has
    none), barred (it carries more than rows) or gone (branch or fork cannot
    be fetched).  `detail` says which rows conflict, or why it is another.
    """

    number: int
    title: str
    author: str
    source: str
    opened: str
    url: str
    rig: str
    head: str = ""
    upstream: str = ""
    verbs: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    tables: dict[str, int] = field(default_factory=dict)
    state: str = READY
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """As `wl inbox --json` prints it."""
        return {name: value for name, value in asdict(self).items() if value not in ("", (), {})}

    @property
    def claims(self) -> dict[str, str]:
        """The items that this proposal takes, and for whom."""
        return {c.item: str(c.claimed_by) for c in self.changes if c.claimed_by and c.after in ("claimed", "in_review")}


def inbox(node: Node, *, fetch: bool = True) -> list[Proposal]:
    """All open pull requests, oldest first.

    With `fetch` every fork is asked for their branches; else only forks with
    pull requests that are new here.
    """
    hub = need_hub(node)
    known = {one.number: one for one in cached(node)}
    pulls = hub.pulls(node.config.org, node.config.db)
    failed: dict[Branch, WastelandError] = {}
    if asked := [p.source for p in pulls if fetch or p.number not in known]:
        from wasteland.node import forks

        failed = forks.fetch(node, asked, again=False)
    upstream, rigs = (levelling.upstream_head(node), _rigs(node)) if pulls else ("", {})
    found = []
    for pull in pulls:
        before = known.get(pull.number)
        one = _proposal(node, pull, upstream, rigs, failed.get(pull.source), before)
        if before and before.state == one.state == GONE and pull.source not in asked:
            one = replace(one, detail=before.detail)  # only who asks learns why
        found.append(one)
    if found != list(known.values()):
        write_json(_file(node), {"pulls": [asdict(one) for one in found]})
    if fetch:
        from wasteland.node import forks

        forks.forget_gone(node, [pull.source for pull in pulls])
    return found


def _rigs(node: Node) -> dict[str, list[str]]:
    """The handles that upstream knows, by the owner of their forks."""
    found: dict[str, list[str]] = {}
    for row in node.db.at("main").rows("SELECT handle, dolthub_org FROM rigs ORDER BY handle"):
        found.setdefault(str(row["dolthub_org"]), []).append(str(row["handle"]))
    return found


def _proposal(
    node: Node,
    pull: Pull,
    upstream: str,
    rigs: dict[str, list[str]],
    failed: WastelandError | None,
    before: Proposal | None,
) -> Proposal:
    base: dict[str, Any] = {
        "number": pull.number, "title": pull.title, "author": pull.author, "source": str(pull.source),
        "opened": pull.created_at.strftime(TIME), "url": pull.url,
    }  # fmt: skip
    own = rigs.get(pull.source.org, [])
    if pull.target != node.upstream_main:
        why = f"it is offered to {pull.target}, not to main"
        return Proposal(**base, rig=own[0] if own else pull.source.org, state=BARRED, detail=why)
    head = None if failed else _head(node, pull)
    if head is None:
        why = failed.message if failed else f"the branch {pull.source} is gone"
        return Proposal(**base, rig=own[0] if own else pull.source.org, state=GONE, detail=why)
    if before and (before.head, before.upstream) == (head, upstream) and before.state != GONE:
        return replace(before, **base)
    return _read(node, base, head, upstream, own or [pull.source.org])


def _head(node: Node, pull: Pull) -> str | None:
    from wasteland.node import forks

    try:
        return node.db.find(f"{forks.remote_of(node, pull.source)}/{pull.source.name}")
    except WastelandError:
        return None


def _read(node: Node, base: dict[str, Any], head: str, upstream: str, own: list[str]) -> Proposal:
    """What the commit `head` would change of upstream's main."""
    from wasteland.rules.policy.shape import ROWS, objects

    db = node.db
    merge_base = db.merge_base(head, upstream)
    if merge_base is None:
        return Proposal(**base, rig=own[0], head=head, upstream=upstream, state=BARRED, detail="unrelated history")
    tables = db.diff_tables(merge_base, head)
    count = db.count_diff(merge_base, head)
    if count > ROWS:
        why = f"it changes {count} rows; more than {ROWS} are not looked through"
        return Proposal(**base, rig=own[0], head=head, upstream=upstream, state=BARRED, detail=why)
    rows = db.diff(merge_base, head, "wanted") if any(t.table == "wanted" and t.data for t in tables) else []
    changes = tuple(
        Change(
            row.key,
            str(row.row.get("title") or ""),
            str((row.old or {}).get("status") or NONE),
            str((row.new or {}).get("status") or NONE),
            (row.new or {}).get("claimed_by"),
        )
        for row in rows
        if row.more_than_times
    )
    named = {str(row.row.get(column)) for row in rows for column in ("claimed_by", "posted_by")}
    kinds = {t.table: 1 for t in tables if t.data}
    state, detail = _state(node, merge_base, head, upstream, objects(tables))
    return Proposal(
        **base, rig=next((handle for handle in own if handle in named), own[0]), head=head, upstream=upstream,
        verbs=_verbs(changes, kinds), changes=changes, tables=kinds, state=state, detail=detail,
    )  # fmt: skip


def _state(node: Node, base: str, head: str, upstream: str, bent: list[str]) -> tuple[str, str]:
    if bent:
        return BARRED, "; ".join(bent)
    if landing.changes_nothing(node.db, base, head, upstream):
        if landing.contained(node, head) is not None:
            return LANDED, ""
        return NOTHING, "it changes no rows" if base == head else "upstream's main holds all that it would change"
    try:
        clash = node.db.conflicts(upstream, head)
    except MergeConflict as conflict:
        return BARRED, f"the schema conflicts: {', '.join(conflict.tables)}"
    return (CONFLICTS, told(clash)) if clash else (READY, "")


def _verbs(changes: Iterable[Change], tables: dict[str, int]) -> tuple[str, ...]:
    """What a proposal does, in the verbs of the board."""
    found: list[str] = ["register"] if "rigs" in tables else []
    for change in changes:
        found += between(change.before, change.after, stamped="stamps" in tables)
    return tuple(dict.fromkeys(found)) or ("other",)


def between(before: str, after: str, *, stamped: bool) -> list[str]:
    """The shortest way of verbs from one status of an item to another; `update` where it stays what it was."""
    if before == after:
        return ["update"]
    ways: list[tuple[str, list[str]]] = [(before, [])]
    seen = {before}
    while ways:
        status, verbs = ways.pop(0)
        for step in TRANSITIONS:
            if step.frm != status or step.to in seen or (step.verb == "accept" and not stamped):
                continue
            if step.to == after:
                return [*verbs, step.verb]
            seen.add(step.to)
            ways.append((step.to, [*verbs, step.verb]))
    return ["other"]


def _file(node: Node) -> Path:
    return node.db.server.folder / "pulls.json"


def cached(node: Node) -> list[Proposal]:
    """The open pull requests as last seen, without asking anybody; a damaged file counts as empty."""
    try:
        rows = json.loads(_file(node).read_text())["pulls"]
        return [
            Proposal(**row | {"changes": tuple(Change(**c) for c in row["changes"]), "verbs": tuple(row["verbs"])})
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def waiting(node: Node) -> list[Proposal]:
    """Others' pull requests that wait, as last seen, in the order that upstream saw them."""
    mine = f"{node.config.fork_org}/{node.config.fork_db}:"
    return [p for p in cached(node) if p.state in (READY, CONFLICTS) and not p.source.startswith(mine)]


def ahead(node: Node, wanted_id: str) -> list[Proposal]:
    """Others' open claims of an item, as last seen: the first is the one that upstream saw first."""
    return [p for p in waiting(node) if wanted_id in p.claims]


def age(since: str, now: datetime) -> str:
    """How long ago a time was, in words: `3 h`, `2 d`."""
    then = datetime.fromisoformat(since).replace(tzinfo=now.tzinfo)
    minutes = max(0, int((now - then).total_seconds() // 60))
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} d"
