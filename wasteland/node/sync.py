"""Bring a clone level with upstream, and this rig's branches with it.

A branch `wl/<rig>/<item>` holds a rig's work on one item until it has landed;
then it is deleted.  One that lost against what landed instead is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wasteland.commons import wanted
from wasteland.dolt.history import MergeConflict
from wasteland.errors import NotFound, WastelandError
from wasteland.models import RowDiff
from wasteland.node.landing import landed_as, taken_over, undone
from wasteland.node.levelling import MAIN, integrate, level_fork, upstream_head
from wasteland.node.node import Node, kept_name
from wasteland.rules.lifecycle import WITHDRAWN

if TYPE_CHECKING:
    from wasteland.hub import Pull


def sync(node: Node, *, dry_run: bool = False, upgrade: bool = False, level: bool = False) -> dict[str, object]:
    """Bring everything level: main, the fork's main, landed branches, and say what changed.

    With `dry_run`, only fetch and count the rows that would come; with
    `upgrade`, take a new major version of the schema over; with `level`, the
    fork's main does not lag even for minutes.
    """
    db = node.db
    with db.locked():
        before = db.hash_of(MAIN)
        db.fetch(node.upstream_remote)
        node.upstream_answered()
        theirs = db.find(f"{node.upstream_remote}/{MAIN}")
        if theirs is None:
            raise NotFound(f"upstream {node.config.upstream} has no branch main", about=node.config.upstream)
        incoming = _incoming(node, before, theirs)
        if dry_run:
            return {"dry_run": True, "head": before, "upstream": theirs, "incoming": incoming}
        integrate(node, upgrade=upgrade)
        cleaned = _clean(node)
        level_fork(node, lazy=not level)
    node.config.last_sync_at = node.clock().strftime("%Y-%m-%dT%H:%M:%SZ")
    node.config.save()
    counts = wanted.counts(db)
    return {"dry_run": False, "head": db.hash_of(MAIN), "incoming": incoming, "cleaned": cleaned, **counts}


def _incoming(node: Node, old: str, new: str) -> dict[str, dict[str, int]]:
    if node.db.is_ancestor(new, old):
        return {}
    return node.db.tally(node.db.merge_base(old, new) or old, new)


def _clean(node: Node) -> list[str]:
    """Delete this rig's branches that have landed, and set aside those that lost; the names of the landed."""
    gone = []
    main = upstream_head(node)
    ours = node.db.branches(f"wl/{node.handle}/") | node.db.branches(f"wl/register/{node.handle}")
    touched = _since(node, main, {_subject(branch) for branch in ours})
    for branch, head in ours.items():
        if _subject(branch) not in touched:
            continue
        if _ended(node, branch, push=node.hub is not None):
            gone.append(branch)
        elif node.db.went_through(main, head):
            if _passed(node, branch, main, push=node.hub is not None):
                gone.append(branch)
        elif node.db.merge_base(head, main) != main and node.db.conflicts(main, head):
            _lose(node, branch, push=node.hub is not None)
    if node.config.node.get("cleaned_upstream") != main:
        node.config.node["cleaned_upstream"] = main
        node.config.save_node()
    return gone


# Where the rows of a table name the item or the rig that they are about; else the rig that they are by.
SUBJECTS = {"wanted": "id", "completions": "wanted_id", "wl_leases": "wanted_id", "rigs": "handle"}
AUTHORS = {"stamps": "author", "wl_attestations": "signer", "wl_key_events": "handle"}


def _subject(branch: str) -> str:
    """The item or the rig that a branch of a rig is about."""
    return branch.rpartition("/")[2]


def _since(node: Node, main: str, subjects: set[str]) -> set[str]:
    """Those of `subjects` that upstream has changed since branches were looked at last: all where that is not known.

    A row that this rig signed names no item, and may be the last that a branch waited for: any may be its branch.
    """
    before = node.config.node.get("cleaned_upstream")
    if not subjects or not before or node.db.find(before) is None or not node.db.is_ancestor(before, main):
        return subjects
    found = node.db.mentioned(before, main, SUBJECTS | AUTHORS, {*subjects, node.handle})
    return subjects if node.handle in found else found


OFFERED = "offered"  # in this node's own file: the number of the pull request that was opened for each branch


def note_offered(node: Node, branch: str, number: int) -> None:
    """Remember the pull request of a branch, to find it when it is closed; what is gone is forgotten."""
    known = node.config.node.get(OFFERED, {})
    if known.get(branch) != number:
        here = node.db.branches("wl/")
        node.config.node[OFFERED] = {name: n for name, n in known.items() if name in here} | {branch: number}
        node.config.save_node()


def _forget_offered(node: Node, branch: str) -> None:
    if node.config.node.get(OFFERED, {}).pop(branch, None) is not None:
        node.config.save_node()


def item_branch(node: Node, wanted_id: str) -> str:
    """The branch for this rig's work on an item."""
    return f"wl/{node.handle}/{wanted_id}"


def _ended(node: Node, branch: str, *, push: bool) -> bool:
    """Drop a branch whose rows upstream's main holds; whether it does."""
    head = node.db.hash_of(branch)
    if landed_as(node, head) is not None:
        drop(node, branch, push=push)
    elif (main := taken_over(node, head)) is not None:
        _let_go(node, branch, main, push=push)
    else:
        return False
    return True


def _let_go(node: Node, branch: str, main: str, *, push: bool) -> None:
    """Drop a branch whose rows came upstream by other ways, and close its pull request where nobody has done so."""
    told = f"upstream's main has what {branch} proposes, though not by its pull request: the branch was dropped"
    try:
        if push and (pull := close_pull(node, branch, "Upstream's main has these rows already.", landed=main)):
            node.notice(f"{told}, and pull request #{pull.number} closed")
    except WastelandError as error:
        node.notice(f"{told} here, but its pull request is still open: {error.message}")
        push = False  # with its branch it can still be looked at
    drop(node, branch, push=push)


def _passed(node: Node, branch: str, main: str, *, push: bool) -> bool:
    """End a branch whose rows upstream's main once held; whether it is dropped: what was undone there is kept."""
    if not undone(node, node.db.hash_of(branch)):
        _let_go(node, branch, main, push=push)
        return True
    kept = set_aside(node, branch, "Upstream's main once held these rows, and has changed since.", push=push)
    node.notice(f"upstream's main once held what {branch} proposes, and has changed since; it is kept as {kept}")
    return False


def drop(node: Node, branch: str, *, push: bool) -> None:
    """Delete a branch whose work is upstream or is nothing: on the fork first, so that a kill leaves ours to tell."""
    if push:
        _drop_remote(node, branch)
    node.db.delete_branch(branch)
    _forget_offered(node, branch)


def _drop_remote(node: Node, branch: str) -> None:
    from wasteland.node import carry

    if node.db.find(f"origin/{branch}") is None or carry.by_rows(node):
        return  # without a Dolt key there is no way to delete a branch; what is left there is ours, and is taken up
    try:
        node.db.push("origin", f":{branch}")
    except Exception as error:
        node.notice(f"branch {branch} could not be deleted on the fork: {error}")


def settle(node: Node, wanted_id: str, *, push: bool) -> str | None:
    """The live branch of this rig for an item, level with upstream's word on it, or None.

    A landed branch is deleted.  One that conflicts with what landed instead is
    kept under `lost/` and its pull request closed: it never answers for the item.
    """
    db, branch = node.db, item_branch(node, wanted_id)
    if not db.is_branch(branch):
        theirs = db.find(f"origin/{branch}") if push else None
        if theirs is None or db.is_branch(kept_name(branch, theirs)):
            return None
        db.branch(branch, theirs)  # pushed by a command that was killed, or from this rig's other machine
    if _ended(node, branch, push=push):
        return None
    head, main = db.hash_of(branch), upstream_head(node)
    base = db.merge_base(head, main)
    if base in (main, None) or not db.mentioned(str(base), main, SUBJECTS, [wanted_id]):
        return branch
    try:
        db.at(branch).merge(main, f"Merge branch 'main' into {branch}")
    except MergeConflict:
        if node.db.went_through(main, head):
            _passed(node, branch, main, push=push)
        else:
            _lose(node, branch, push=push)
        return None
    if not net_change(node, branch):
        drop(node, branch, push=push)
        return None
    return branch


def set_aside(node: Node, branch: str, why: str, *, push: bool) -> str:
    """Take a branch out of what this rig proposes, its pull request closed with `why`; the name that keeps the work."""
    kept = kept_name(branch, node.db.hash_of(branch))
    if push:
        close_pull(node, branch, why)
        _drop_remote(node, branch)
    if node.db.is_branch(kept):
        node.db.delete_branch(branch)
    else:
        node.db.rename_branch(branch, kept)
    _forget_offered(node, branch)
    return kept


def _lose(node: Node, branch: str, *, push: bool) -> None:
    kept = set_aside(node, branch, "Superseded: another change of this item landed first.", push=push)
    node.notice(f"{branch} conflicts with what landed upstream; it is kept as {kept}")


def close_pull(node: Node, branch: str, text: str, *, landed: str | None = None) -> Pull | None:
    """Close this rig's open pull request from `branch`, if there is one, with a comment; the one that was closed.

    `landed` is the commit of upstream's main that holds its rows, where one does.  The hub's list may be older than
    what was opened a moment ago, so it does not decide whether there is one.
    """
    pull = node.hub.pull_from(node.fork_branch(branch), node.upstream_main) if node.hub else None
    if pull is not None and node.hub is not None:
        node.hub.comment(node.config.org, node.config.db, pull.number, node.handle, text)
        node.hub.close(node.config.org, node.config.db, pull.number, landed=landed)
    return pull


def find_pull(node: Node, branch: str) -> Pull | None:
    """The open pull request from a branch of this rig's fork, or None."""
    if node.hub is None:
        return None
    source = node.fork_branch(branch)
    return next((pull for pull in node.hub.pulls(node.config.org, node.config.db) if pull.source == source), None)


def net_change(node: Node, branch: str) -> bool:
    """Whether `branch` differs from `main` in more than times, signatures and items withdrawn before they landed."""
    db = node.db
    base = db.merge_base(branch, MAIN)
    return any(
        row.more_than_times
        for row in db.diff_all(str(base), db.hash_of(branch))
        if row.table != "wl_attestations" and not _taken_back(row)
    )


def _taken_back(row: RowDiff) -> bool:
    """Whether a row is an item that its poster withdrew before upstream ever had it."""
    return row.table == "wanted" and row.kind == "added" and row.row.get("status") == WITHDRAWN
