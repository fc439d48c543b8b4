"""Look at the board: items as main has them, with this rig's work that has not landed laid over."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

from wasteland.commons import leases, wanted
from wasteland.errors import NotFound, NotOpen, Unreachable, WastelandError
from wasteland.models import Wanted
from wasteland.node.node import Node
from wasteland.rules.lease import Lease
from wasteland.rules.lifecycle import BY_VERB, NONE, OPEN, Item, allowed, claim_lease
from wasteland.values import dataclass

if TYPE_CHECKING:
    from wasteland.dolt.database import Database
    from wasteland.dolt.history import Commit
    from wasteland.hub import Pull
    from wasteland.models import Completion, Stamp
    from wasteland.node.proposals import Proposal
    from wasteland.review.respond import Said


@dataclass(frozen=True)
class Listed:
    """An item as the board shows it: on main, or as this rig's branch has it."""

    item: Wanted
    branch: str | None = None
    pending: tuple[Proposal, ...] = ()
    lease: Lease | None = None

    def to_json(self) -> dict[str, Any]:
        """As `wl browse --json` prints it: the fields of peers, and our branch."""
        row = self.item.to_json()
        names = ("id", "title", "description", "project", "type", "priority", "posted_by", "claimed_by", "status",
                 "effort_level")  # fmt: skip
        found = {name: row[name] for name in names if name in row}
        found |= {"branch": self.branch} if self.branch else {}
        found |= {"pending": pending_json(self.pending)} if self.pending else {}
        return found | ({"lease": self.lease.to_json()} if self.lease else {})


def pending_json(found: Iterable[Proposal]) -> list[dict[str, Any]]:
    """Others' open pull requests about an item, as `--json` prints them; the first is ahead."""
    return [
        {"pull": p.number, "rig": p.rig, "verbs": list(p.verbs), "since": p.opened, "state": p.state, "url": p.url}
        for p in found
    ]


def pending(node: Node) -> dict[str, tuple[Proposal, ...]]:
    """Others' open pull requests as last seen, by the items that they change, in the order that upstream saw them."""
    from wasteland.node import proposals

    if node.config.mode != "pr":
        return {}
    found: dict[str, tuple[Proposal, ...]] = {}
    for one in proposals.waiting(node):
        for change in one.changes:
            found[change.item] = (*found.get(change.item, ()), one)
    return found


def browse(
    node: Node, filters: dict[str, Any], *, limit: int = 50, long: bool = False, view: str = "all"
) -> list[Listed]:
    """The board, with this rig's unlanded branches laid over it (`view` upstream: without)."""
    main = node.db.at("main")
    found = {item.id: Listed(item) for item in wanted.listing(main, filters, limit, long=long)}
    held, waiting = leases.of_all(main), {} if view == "upstream" else pending(node)
    if view != "upstream" and node.config.mode == "pr":
        _overlay(node, main, found, filters)
    return [
        replace(one, pending=waiting.get(one.item.id, ()), lease=_lease(held.get(one.item.id), one.item))
        for one in sorted(found.values(), key=_order)[:limit]
    ]


def _lease(found: Lease | None, item: Wanted) -> Lease | None:
    """A lease counts only while the item is claimed by its rig: a peer that knows none may leave its row behind."""
    row = {name: getattr(item, name) for name in ("id", "status", "posted_by", "claimed_by", "updated_at")}
    return claim_lease(Item.of(row, lease=found))


def _overlay(node: Node, main: Database, found: dict[str, Listed], filters: dict[str, Any]) -> None:
    """Lay this rig's branches that have not landed over the items of main."""
    from wasteland.node import landing

    for branch, head in node.db.branches(f"wl/{node.handle}/").items():
        if branch.startswith("wl/register/") or landing.landed_as(node, head) is not None:
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
    pending: tuple[Proposal, ...] = ()
    lease: Lease | None = None
    proposed: list[str] = field(default_factory=list)
    said: Said | None = None

    def to_json(self) -> dict[str, Any]:
        """As `wl status --json` prints it."""
        found: dict[str, Any] = {"schema_version": 1, "item": self.item.to_json(), "actions": self.actions}
        for name in ("completion", "stamp"):
            if value := getattr(self, name):
                found[name] = value.to_json()
        if self.evidence:
            found["evidence"] = self.evidence
        if self.branch:
            found |= {"branch": self.branch, "main_status": self.main_status, "proposed": self.proposed}
        if self.pull:
            found["pull"] = {"number": self.pull.number, "url": self.pull.url, "title": self.pull.title}
        found |= {"pending": pending_json(self.pending)} if self.pending else {}
        found |= {"lease": self.lease.to_json()} if self.lease else {}
        found |= {"said": self.said.to_json()} if self.said else {}
        return found | {"history": self.history}


def status(node: Node, text: str) -> Card:
    """One item: as this rig's branch has it while that has not landed, else as main has it."""
    from wasteland.node import current

    try:
        return current.judged(node, lambda: _status(node, text))
    except NotFound as error:
        current.help_out(node, error, text, None)
        raise


def _status(node: Node, text: str) -> Card:
    from wasteland.commons import completions, stamps
    from wasteland.market.items import resolve
    from wasteland.node import landing, roles, sync

    item_id = resolve(node, text)
    main = node.db.at("main")
    branch: str | None = sync.item_branch(node, item_id)
    if not node.db.is_branch(str(branch)) or landing.landed(node, str(branch)):
        branch = None
    db = node.db.at(branch) if branch else main
    row = db.row(wanted.GET, id=item_id)
    if row is None:
        raise NotFound(f'no wanted item matching "{text}"', about=text)
    item = Wanted.of(row)
    on_main = wanted.get(main, item_id) if branch else item
    completion = completions.of_item(db, item_id)
    stamp = stamps.get(db, completion.stamp_id) if completion and completion.stamp_id else None
    held = leases.of_item(db, item_id)
    known = Item.of(row, completion.completed_by if completion else None, held, node.clock())
    actions = allowed(node.handle, roles.roles_of(node, node.handle), known)
    pull = _pull(node, branch) if branch else None
    return Card(
        item,
        branch,
        on_main.status if on_main else None,
        completion,
        stamp,
        pull,
        _manifest(db, completion),
        actions,
        _history(node, branch or "main", item_id),
        pending(node).get(item_id, ()),
        _lease(held, item),
        _steps(on_main, item, stamped=stamp is not None) if branch else [],
        _said(node, branch, pull) if branch else None,
    )


def _said(node: Node, branch: str, pull: Pull | None) -> Said | None:
    from wasteland.review.respond import said_of

    try:
        return said_of(node, branch, [pull] if pull else [])
    except WastelandError as error:
        node.notice(f"what reviewers said is not known: {error.message}")
        return None


def _steps(before: Wanted | None, after: Wanted, *, stamped: bool) -> list[str]:
    """The verbs that lead from an item as main has it to what this rig's branch makes of it."""
    from wasteland.node import proposals

    if before is not None and before.status == after.status == "claimed":
        return ["renew"] if before.claimed_by == after.claimed_by else ["takeover"]
    return proposals.between(str(before.status) if before else NONE, str(after.status), stamped=stamped)


def _manifest(db: Database, completion: Completion | None) -> dict[str, Any] | None:
    """The evidence manifest that the worker signed for a completion, where there is one."""
    if completion is None or completion.block_hash is None:
        return None
    from wasteland.node import signing

    said = signing.signed_payload(db, completion.id, completion.block_hash)
    return dict(said["predicate"]["evidence"]) if said else None


def _pull(node: Node, branch: str) -> Pull | None:
    """The open pull request of a branch; None, with a notice, where the hub does not answer."""
    from wasteland.node import sync

    try:
        return sync.find_pull(node, branch)
    except Unreachable as error:
        node.notice(f"shown without its pull request: {error.message}")
        return None


def _history(node: Node, revision: str, item_id: str) -> list[dict[str, str]]:
    """The commits that name an item, oldest first: who did what, when, and with which words."""
    named = re.compile(rf"wl [a-z-]+: {re.escape(item_id)}( —.*)?\s*\Z", re.DOTALL)
    found = [c for c in node.db.log(revision) if named.match(c.message) and _changed(node, c.hash, item_id)]
    return [
        {"at": c.date.strftime("%Y-%m-%dT%H:%M:%SZ"), "by": c.author, "what": c.message, "commit": c.hash}
        for c in _as_landed(found[::-1])
    ]


def _as_landed(found: Iterable[Commit]) -> list[Commit]:
    """An item's commits in the order in which they took effect: a claim may wait while its poster changes the words.

    The update is the later commit then, and landed first: it is told before the claim.
    """
    told: list[Commit] = []
    for commit in found:
        at = len(told)
        if commit.message.startswith("wl update:"):
            while at and _leaves(told[at - 1]) != OPEN:
                at -= 1
        told.insert(at or len(told), commit)
    return told


def _leaves(commit: Commit) -> str | None:
    """The status in which a commit leaves its item; None for a verb that we do not know."""
    step = BY_VERB.get(commit.message.partition(":")[0].removeprefix("wl "))
    return step.to if step else None


def _changed(node: Node, commit: str, item_id: str) -> bool:
    """Whether a commit changed the item that its message names: anybody can write a message."""
    places = (("wanted", "id"), ("wl_leases", "wanted_id"), ("completions", "wanted_id"))
    return any(node.db.touches(commit, table, column, item_id) for table, column in places)


def mine(node: Node) -> dict[str, Any]:
    """What concerns this rig: claimed, on branches, to review, lately completed."""
    from wasteland.commons import completions
    from wasteland.node import roles, verifying
    from wasteland.review.respond import own_said

    main, me = node.db.at("main"), node.handle
    claimed, in_review = (
        wanted.listing(main, {"claimed_by": me, "status": state}, 200) for state in ("claimed", "in_review")
    )
    asked = wanted.listing(main, {"posted_by": me, "status": "in_review"}, 200)
    return {
        "schema_version": 1,
        "handle": me,
        "roles": sorted(roles.roles_of(node, me)),
        "claimed": [i.to_json() for i in claimed + in_review],
        "branches": [listed.to_json() for listed in browse(node, {}, limit=500) if listed.branch],
        "to_review": [i.to_json() for i in asked if i.claimed_by != me],
        "said": {item: said.to_json() | {"sentence": said.sentence} for item, said in own_said(node).items()},
        "completed": [c.to_json() for c in completions.by_rig(main, me)],
        "standing": verifying.standing(node, me),
    }


def _claimed(node: Node, wanted_id: str) -> Wanted:
    item = status(node, wanted_id).item
    if item.status != "claimed" or item.claimed_by != node.handle:
        raise NotOpen(f"{item.id} is not claimed by {node.handle}", about=item.id, hint=f"wl claim {item.id}")
    return item


def order(node: Node, wanted_id: str | None) -> list[dict[str, Any]]:
    """Work orders for the items that this rig has claimed, or for one of them.  NotOpen where it is not this rig's."""
    from wasteland.node import current
    from wasteland.orders import WorkOrder

    if wanted_id is not None:
        items = [current.judged(node, lambda: _claimed(node, wanted_id))]
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
