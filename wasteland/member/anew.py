"""Upstream was made anew, or its history was rewritten: take what is there now, and keep all that was here.

What was pinned when this rig joined tells another upstream from the one that
was trusted, so it is forgotten on request only.
"""

from __future__ import annotations

from wasteland.errors import WastelandError
from wasteland.member.registration import Person, Say, introduce
from wasteland.node import levelling, standing, sync
from wasteland.node.levelling import MAIN
from wasteland.node.node import Node
from wasteland.values import dataclass

HISTORY = ("seen_upstream", "cleaned_upstream", "leveled_at", "schema_taken", "merging")
GONE = "Withdrawn: upstream's history was made anew, and this has nothing in common with it."
IDENTITY = ("wasteland_id", "roles_sha256", "roles_version", "parents", "seen_parent")


@dataclass(frozen=True)
class Anew:
    """What was set aside on the way to another history: branches by their names, and the new pull request's number."""

    kept: tuple[str, ...] = ()
    pull: int | None = None


def start_anew(node: Node, say: Say = lambda _: None) -> Anew:
    """Take upstream's present history for this clone's, and ask to be registered there, where this rig is not.

    Main as it was, and each branch of this rig that has nothing in common with
    the new history, is kept under another name.  Where upstream's history
    contains what was seen of it, nothing is done.
    """
    db = node.db
    db.close()
    db.server.stop()  # a server goes on answering from what it knows of a folder that was removed and made again
    with db.locked():
        db.fetch(node.upstream_remote)
        theirs = db.hash_of(f"{node.upstream_remote}/{MAIN}")
        other = standing.id_of(db.at(theirs)) != node.config.node.get("wasteland_id", standing.id_of(db.at(MAIN)))
        seen = node.config.node.get("seen_upstream") or db.hash_of(MAIN)
        if not other and (db.find(seen) is None or db.is_ancestor(seen, theirs)):
            return Anew()
        kept = _set_aside(node, theirs)
        node.config.forget(HISTORY + IDENTITY if other else HISTORY)
        levelling.integrate(node)
    _level_fork(node, kept[0])
    config = node.config
    pull = introduce(node, _person(node, kept[0]), direct=config.fork_org == config.org, say=say)
    standing.pin(node, db.at(MAIN))
    return Anew(tuple(kept), pull.number if pull else None)


def _set_aside(node: Node, theirs: str) -> list[str]:
    """Keep main, and the branches that no merge could bring onto the new history; their new names, main's first."""
    db = node.db
    levelling.refuse_more_than_rows(node, theirs)
    db.refuse_dirty()
    ours = db.hash_of(MAIN)
    kept = [f"aside/{node.clock():%Y%m%d-%H%M%S}-{ours[:8]}"]
    db.branch(kept[0], ours)
    for branch, head in db.branches("wl/").items():
        if db.merge_base(head, theirs) is None:
            _close_pull(node, branch)
            kept.append(sync.set_aside(node, branch, GONE, push=False))
    db.at(MAIN).reset(theirs)
    return kept


def _close_pull(node: Node, branch: str) -> None:
    """Close what is proposed from a branch, where the hub still knows of it; the fork keeps its copy."""
    try:
        sync.close_pull(node, branch, GONE)
    except WastelandError as error:
        node.notice(f"the pull request of {branch} was not closed: {error.message}")


def _level_fork(node: Node, kept: str) -> None:
    """Bring the fork's main to the new history, where all that it holds is kept here; the fork itself where it went."""
    db, config = node.db, node.config
    if node.upstream_remote == "origin" or node.hub is None:
        return
    try:
        if not node.hub.exists(config.fork_org, config.fork_db):
            node.hub.wait(node.hub.fork(config.org, config.db, config.fork_org))
        db.fetch("origin")
        theirs = db.find(f"origin/{MAIN}")
        if theirs is not None and theirs != db.hash_of(MAIN) and db.is_ancestor(theirs, db.hash_of(kept)):
            db.push("origin", MAIN, force=True)
    except WastelandError as error:
        node.notice(f"the fork's main was not brought level: {error.message}")


def _person(node: Node, kept: str) -> Person:
    """This rig's words about itself, as they were in the old registry."""
    from wasteland.commons import rigs

    known = rigs.get(node.db.at(node.db.hash_of(kept)), node.handle)
    if known is None:
        return Person(node.handle, node.handle)
    return Person(node.handle, known.display_name or node.handle, known.owner_email or "")
