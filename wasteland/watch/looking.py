"""Look at a wasteland once: main, this rig's leases, the open pull requests and what is said under our own.

Each look takes what was known and gives what is known now, with what has
happened in between.  What comes of one is kept before the next one is taken:
a hub that is silent holds up no news of the board.
"""

from __future__ import annotations

from dataclasses import replace

from wasteland.commons import leases
from wasteland.errors import Refused, Unauthenticated
from wasteland.hub import OPEN
from wasteland.models import RowDiff
from wasteland.node import landing, levelling, proposals
from wasteland.node.node import Node, need_hub
from wasteland.node.proposals import Proposal
from wasteland.node.verdicts import written
from wasteland.review import land
from wasteland.review.respond import reviewers
from wasteland.rules.lease import Lease
from wasteland.values import dataclass
from wasteland.watch.events import (
    Event,
    Search,
    Seen,
    board_events,
    comment_events,
    digest,
    ended_event,
    lease_events,
    pull_events,
    seen_now,
)
from wasteland.watch.memory import Memory

TABLES = ("completions", "stamps", "wanted")
ASKED = 10  # pull requests of ours whose comments one look asks for; with more, they take turns
THERE = "SELECT * FROM wanted WHERE status IN ('open', 'claimed', 'in_review') ORDER BY id"
POSTED = "SELECT id FROM wanted WHERE posted_by = :me"
CLAIMED = "SELECT id FROM wanted WHERE claimed_by = :me AND status = 'claimed'"


@dataclass(frozen=True)
class Eyes:
    """What a look is for.

    `everything` makes the first look tell what is there already.  With `deep`
    all forks are fetched, else only those of pull requests that are new.
    """

    search: Search
    everything: bool = False
    deep: bool = True


def board(node: Node, memory: Memory, eyes: Eyes) -> tuple[Memory, list[Event]]:
    """Main as upstream has it now, and the leases of this rig.

    A lease that ends soon is spoken of at the first look too: that is still to come.
    """
    head = levelling.refresh(node)
    ending, warned = lease_events(_held(node), node.handle, node.clock(), memory.warned)
    events = board_events(_rows(node, memory, head, eyes), node.handle, eyes.search)
    return replace(memory, head=head, warned=warned), events + ending


def _held(node: Node) -> dict[str, Lease]:
    """The leases of claims that this rig holds; one that a peer left behind counts for nothing."""
    main = node.db.at("main")
    claimed = {str(row["id"]) for row in main.rows(CLAIMED, me=node.handle)}
    return {item: lease for item, lease in leases.of_all(main).items() if item in claimed} if claimed else {}


def _rows(node: Node, memory: Memory, head: str, eyes: Eyes) -> list[RowDiff]:
    """The rows in which main differs from what was seen of it."""
    db = node.db
    if memory.head == head:
        return []
    if not memory.head:
        return [RowDiff("wanted", None, row) for row in db.at("main").rows(THERE)] if eyes.everything else []
    if db.find(memory.head) is None:
        node.notice("what was seen last is not in this clone any more; the watch of the board starts from now")
        return []
    differ = {one.table for one in db.diff_tables(memory.head, head) if one.data}
    return [row for table in TABLES if table in differ for row in db.diff(memory.head, head, table)]


def pulls(node: Node, memory: Memory, eyes: Eyes) -> tuple[Memory, list[Event]]:
    """The open pull requests that wait for this rig, and its own with what became of them and was said."""
    if node.hub is None:
        return memory, []
    old = memory.pulls or {}
    begun = memory.pulls is not None or eyes.everything
    mine = f"{node.config.fork_org or node.config.org}/{node.config.fork_db or node.config.db}:"
    concern = _concern(node, proposals.inbox(node, fetch=eyes.deep), mine)
    events = pull_events(old, concern, mine) if begun else []
    now: dict[int, Seen] = {}
    for one in concern:
        before = old.get(one.number)
        now[one.number] = seen_now(before, one, mine, before.comments if before else () if begun else None)
    gone = {number: seen for number, seen in old.items() if seen.mine and number not in now}
    asked = _turn(now, memory.turn)
    heard, said = _heard(node, {number: now[number] for number in asked} | gone)
    kept, ended = _ended(node, {number: heard[number] for number in gone})
    made = replace(memory, pulls=now | {n: heard[n] for n in asked} | kept, turn=asked[-1] if asked else 0)
    return made, [*events, *said, *ended]


def _concern(node: Node, found: list[Proposal], mine: str) -> list[Proposal]:
    """Our own; all others where we may merge; else those about items that we posted."""
    try:
        land.need_maintainer(node)
    except Refused:
        posted = {str(row["id"]) for row in node.db.at("main").rows(POSTED, me=node.handle)}
        return [p for p in found if p.source.startswith(mine) or any(change.item in posted for change in p.changes)]
    return found


def _turn(now: dict[int, Seen], last: int) -> list[int]:
    """The pull requests of ours whose comments are asked for this time: those after the last, and round."""
    own = sorted(number for number, seen in now.items() if seen.mine)
    return [*(number for number in own if number > last), *(number for number in own if number <= last)][:ASKED]


def _heard(node: Node, asked: dict[int, Seen]) -> tuple[dict[int, Seen], list[Event]]:
    """What was written under pull requests of ours."""
    found, events = dict(asked), []
    for number, seen in sorted(asked.items()):
        comments = written(need_hub(node), node.config.org, node.config.db, number)
        known = seen.comments
        if known is not None and any(digest(one) not in known for one in comments):
            events += comment_events(number, seen, comments, _me(node), reviewers(node))
        found[number] = replace(seen, comments=tuple(dict.fromkeys([*(known or ()), *map(digest, comments)])))
    return found, events


def _me(node: Node) -> frozenset[str]:
    """The names under which this rig's own comments stand."""
    try:
        user = need_hub(node).whoami()
    except Unauthenticated:
        user = node.config.fork_org
    return frozenset({user or node.handle})


def _ended(node: Node, gone: dict[int, Seen]) -> tuple[dict[int, Seen], list[Event]]:
    """How pull requests of ours ended; one that the hub calls open was missing from its list by chance and is kept."""
    kept, events = {}, []
    for number, seen in sorted(gone.items()):
        pull = need_hub(node).pull(node.config.org, node.config.db, number)
        if pull is not None and pull.state == OPEN:
            kept[number] = seen
            continue
        landed = landing.arrived(node, seen.head) if seen.head and node.db.find(seen.head) else None
        events.append(ended_event(number, seen, pull.state if pull else "gone", landed))
    return kept, events
