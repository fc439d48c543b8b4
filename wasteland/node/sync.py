"""Keep the clone level with upstream, and land what is ours; nothing unpushed is ever deleted.

`main` follows upstream's main.  A branch `wl/<rig>/<item>` holds a rig's work
on one item until it has landed: when its head is an ancestor of upstream's
main, or a commit there names it in a trailer.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from wasteland.commons import wanted
from wasteland.dolt.database import PushRejected
from wasteland.dolt.history import MergeConflict
from wasteland.errors import Conflict, NotFound, Refused, Unauthenticated, WastelandError
from wasteland.hub import Pull
from wasteland.models import VOLATILE, RowDiff
from wasteland.node import carry
from wasteland.node.node import Node
from wasteland.node.upgrade import check as check_schema
from wasteland.rules.lifecycle import WITHDRAWN

MAIN = "main"
TRAILER = "Wasteland-Head: "
ATTEMPTS = 8
LAG = 600  # seconds that the fork's main may be behind upstream's

Result = TypeVar("Result")


def refresh(node: Node) -> str:
    """Fetch upstream and bring `main` level with it; upstream's head.

    Raises Unreachable when upstream does not answer and Refused when its
    history was rewritten or carries something that is not rows; nothing is
    changed then.
    """
    with node.db.locked():
        node.db.fetch(node.upstream_remote)
        node.upstream_answered()
        return integrate(node)


def integrate(node: Node, *, upgrade: bool = False) -> str:
    """Bring `main` level with upstream as last fetched; upstream's head.

    Commits of ours that upstream lacks are kept: merged where they fit, else
    set aside on a branch of their own, and said so.
    """
    db = node.db
    theirs = db.find(f"{node.upstream_remote}/{MAIN}")
    if theirs is None:
        raise NotFound(f"upstream {node.config.upstream} has no branch main", about=node.config.upstream)
    ours = db.hash_of(MAIN)
    _refuse_rewritten(node, theirs)
    if ours != theirs and not db.is_ancestor(theirs, ours):
        check_schema(node, ours, theirs, upgrade=upgrade)
        db.refuse_dirty()
        if db.is_ancestor(ours, theirs):
            db.reset(theirs)
        else:
            _join(node, ours, theirs)
    if node.config.node.get("seen_upstream") != theirs:
        node.config.node["seen_upstream"] = theirs
        node.config.save_node()
    return theirs


def _refuse_rewritten(node: Node, theirs: str) -> None:
    seen = node.config.node.get("seen_upstream")
    if seen and seen != theirs and node.db.find(seen) and not node.db.is_ancestor(seen, theirs):
        raise Refused(
            f"upstream's history was rewritten: its main was {seen} and is now {theirs}, which does not contain it",
            about=node.config.upstream,
            hint="ask the maintainers; your clone was left as it was",
        )


def refuse_system_tables(node: Node) -> None:
    """Refused when upstream's main holds triggers, procedures, views or the like: seen at the first look, at join."""
    first, head = node.db.log(MAIN)[-1].hash, node.db.hash_of(MAIN)
    found = sorted(t.table for t in node.db.diff_tables(first, head) if t.table.startswith("dolt_"))
    if found:
        raise Refused(
            f"this wasteland's database carries more than rows: {', '.join(found)}",
            about=node.config.upstream,
            hint="ask its maintainers to remove it; nothing was joined",
        )


def _join(node: Node, ours: str, theirs: str) -> None:
    db = node.db
    url = db.remotes().get(node.upstream_remote, node.upstream_remote)
    try:
        db.merge(theirs, f"Merge branch 'main' of {url} into main")
    except MergeConflict as conflict:
        name = f"aside/{node.clock():%Y%m%d-%H%M%S}-{ours[:8]}"
        db.branch(name, ours)
        db.reset(theirs)
        node.notice(
            f"local commits on main conflict with upstream ({', '.join(conflict.tables)}) "
            f"and were set aside as branch {name}"
        )


def landing(node: Node, message: str, act: Callable[[], Result], *, push: bool) -> Result:
    """Wild-west: one commit on `main`, pushed; lost races are judged anew on what upstream holds.

    `act` judges and writes, and may run several times.  When it refuses or
    upstream cannot be reached, `main` is what it was.  What a killed command
    left on `main` lands first, so that nothing is refused as done which
    upstream does not have.
    """
    db = node.db
    with db.locked():
        if push:
            land_leftovers(node)
        for attempt in range(ATTEMPTS):
            before = db.hash_of(MAIN)
            try:
                with db.change(message):
                    result = act()
            except BaseException:
                node.unsettled()
                raise
            if not push:
                node.settled()
                return result
            try:
                carry.push(node, node.upstream_remote, MAIN)
            except PushRejected:
                node.upstream_answered()
                db.reset(before)
                node.void()
                integrate(node)
                time.sleep(random.uniform(0, 0.02 * attempt))  # noqa: S311
                continue
            except BaseException:
                node.settled()
                db.reset(before)
                raise
            node.settled()
            level_fork(node)
            return result
    raise Conflict(
        f"upstream moved {ATTEMPTS} times while this command tried to land", hint="nothing was changed; try again"
    )


def land_leftovers(node: Node) -> None:
    """Push the commits of `main` that upstream lacks, or take up what upstream has instead."""
    db = node.db
    ours = db.hash_of(MAIN)
    if not db.is_ancestor(ours, upstream_head(node)) and set_aside_merge(node, ours):
        return
    if not db.is_ancestor(ours, upstream_head(node)):
        try:
            carry.push(node, node.upstream_remote, MAIN)
        except PushRejected:
            integrate(node)


def set_aside_merge(node: Node, ours: str) -> bool:
    """Take a merge off main that was killed before its push: it must be judged again; whether there was one."""
    merging = node.config.node.get("merging")
    if not merging or node.db.find(merging) is None or not node.db.is_ancestor(merging, ours):
        return False
    kept = f"aside/{node.clock():%Y%m%d-%H%M%S}-{ours[:8]}"
    node.db.branch(kept, ours)
    node.db.at(MAIN).reset(upstream_head(node))
    node.notice(f"a merge that was interrupted before it landed was set aside as branch {kept}")
    return True


def upstream_head(node: Node) -> str:
    """Upstream's main as last fetched or pushed; of a wasteland without a remote, our own."""
    return node.db.find(f"{node.upstream_remote}/{MAIN}") or node.db.hash_of(MAIN)


def level_fork(node: Node, *, lazy: bool = False) -> None:
    """Bring the fork's main level with upstream's: by a push, or over the hub's API where pushing is not possible.

    Peers make branches from the fork's main; one that lags makes them work on
    items that are not there.  We do not, so with `lazy` it may lag for some
    minutes: the push costs three times what the fetch did.  Commits that the
    fork has of its own stay.
    """
    if node.upstream_remote == "origin":
        return
    theirs = upstream_head(node)
    if node.db.find(f"origin/{MAIN}") == theirs or node.db.hash_of(MAIN) != theirs:
        return
    now = int(node.clock().timestamp())
    if lazy and 0 <= now - node.config.node.get("leveled_at", 0) < LAG:
        return
    node.config.node["leveled_at"] = now
    node.config.save_node()
    if carry.by_rows(node):
        if not lazy:
            _level_by_hub(node, Unauthenticated("Dolt has no key that the hub knows"))
        return
    try:
        node.db.push("origin", MAIN)
    except Unauthenticated as error:
        _level_by_hub(node, error)
    except Conflict:
        node.notice(f"the fork {node.config.fork_org}/{node.config.fork_db} has commits of its own on main; not pushed")
    except WastelandError as error:
        node.notice(f"the fork's main was not brought level: {error.message}")


def _level_by_hub(node: Node, denied: WastelandError) -> None:
    config = node.config
    try:
        head = node.hub.level(config.org, config.db, config.fork_org) if node.hub else None
    except WastelandError as error:
        head, denied = None, error
    if head is None:
        node.notice(f"the fork's main was not brought level: {denied.message}")


def item_branch(node: Node, wanted_id: str) -> str:
    """The branch for this rig's work on an item."""
    return f"wl/{node.handle}/{wanted_id}"


def landed(node: Node, branch: str) -> bool:
    """Whether upstream's main holds what `branch` holds: by ancestry, or by a trailer that names its head."""
    return landed_as(node, node.db.hash_of(branch)) is not None


def landed_as(node: Node, head: str) -> str | None:
    """The commit of upstream's main with which what `head` changed arrived there, or None where it did not.

    It is one that main itself went through, which has `head` among its
    ancestors or names it in a trailer.  Neither is believed alone: a stranger
    can build on somebody's commit and take its rows back, and anybody can
    write a trailer.  So every cell that `head` changed must be in that commit.
    """
    db, upstream = node.db, upstream_head(node)
    if db.is_ancestor(head, upstream):
        arrived = _arrival(node, head, upstream)
        parent = db.log(f"{arrived[0]}^", limit=1)
        if arrived[0] == head or not parent:
            return arrived[0]  # main itself went through it
        base = db.merge_base(head, parent[0].hash)
    else:
        base = db.merge_base(head, upstream)
        named = db.mainline(upstream, without=base) if base else []
        arrived = [c.hash for c in named if f"{TRAILER}{head}" in c.message.splitlines()]
    if base is None or not arrived:
        return None
    ours = {(row.table, row.key): row.columns - VOLATILE for row in db.diff_all(base, head)}
    for commit in arrived:
        differ = {(row.table, row.key): row.columns for row in db.diff_all(head, commit)}
        if not any(columns & differ.get(key, frozenset()) for key, columns in ours.items()):
            return commit
    return None


def _arrival(node: Node, head: str, upstream: str) -> list[str]:
    """The first commit of main itself that has `head` among its ancestors, or is it."""
    line = [commit.hash for commit in node.db.mainline(upstream, without=head)]
    low, high = 0, len(line)  # those before `low` have it, those from `high` on have not
    while low < high:
        middle = (low + high) // 2
        if node.db.is_ancestor(head, line[middle]):
            low = middle + 1
        else:
            high = middle
    if low == len(line) and (not line or _parent_is(node, line[-1], head)):
        return [head]
    return [line[low - 1]]


def _parent_is(node: Node, commit: str, head: str) -> bool:
    parent = node.db.log(f"{commit}^", limit=1)
    return bool(parent) and parent[0].hash == head


def drop(node: Node, branch: str, *, push: bool) -> None:
    """Delete a branch whose work is upstream or is nothing: on the fork first, so that a kill leaves ours to tell."""
    if push:
        _drop_remote(node, branch)
    node.db.delete_branch(branch)


def _drop_remote(node: Node, branch: str) -> None:
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
        if theirs is None or db.is_branch(_kept(branch, theirs)):
            return None
        db.branch(branch, theirs)  # pushed by a command that was killed, or from this rig's other machine
    if landed(node, branch):
        drop(node, branch, push=push)
        return None
    head, main = db.hash_of(branch), upstream_head(node)
    base = db.merge_base(head, main)
    if base in (main, None) or not _touched(node, str(base), main, wanted_id):
        return branch
    try:
        db.at(branch).merge(main, f"Merge branch 'main' into {branch}")
    except MergeConflict:
        _lose(node, branch, head, push=push)
        return None
    if not net_change(node, branch):
        drop(node, branch, push=push)
        return None
    return branch


def _touched(node: Node, old: str, new: str, wanted_id: str) -> bool:
    changed = {table.table for table in node.db.diff_tables(old, new) if table.data}
    tables = sorted(changed & {"wanted", "completions", "wl_leases"})
    rows = [row for table in tables for row in node.db.diff(old, new, table)]
    return any(wanted_id in (row.row.get("id"), row.row.get("wanted_id")) for row in rows)


def _lose(node: Node, branch: str, head: str, *, push: bool) -> None:
    kept = _kept(branch, head)
    if push:
        close_pull(node, branch, "Superseded: another change of this item landed first.")
        _drop_remote(node, branch)
    if node.db.is_branch(kept):
        node.db.delete_branch(branch)
    else:
        node.db.rename_branch(branch, kept)
    node.notice(f"{branch} conflicts with what landed upstream; it is kept as {kept}")


def _kept(branch: str, head: str) -> str:
    """The name under which a branch that lost against upstream is kept."""
    return f"lost/{branch.removeprefix('wl/')}-{head[:8]}"


def close_pull(node: Node, branch: str, text: str) -> None:
    """Close this rig's open pull request from `branch`, if there is one, with a comment.

    The hub's list may be older than what was opened a moment ago, so it does not decide whether there is one.
    """
    pull = node.hub.pull_from(node.fork_branch(branch), node.upstream_main) if node.hub else None
    if pull is not None and node.hub is not None:
        node.hub.comment(node.config.org, node.config.db, pull.number, node.handle, text)
        node.hub.close(node.config.org, node.config.db, pull.number)


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
        row.kind != "modified" or row.columns - VOLATILE
        for row in db.diff_all(str(base), db.hash_of(branch))
        if row.table != "wl_attestations" and not _taken_back(row)
    )


def _taken_back(row: RowDiff) -> bool:
    """Whether a row is an item that its poster withdrew before upstream ever had it."""
    return row.table == "wanted" and row.kind == "added" and row.row.get("status") == WITHDRAWN


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
    found: dict[str, dict[str, int]] = {}
    base = node.db.merge_base(old, new) or old
    for row in node.db.diff_all(base, new):
        kinds = found.setdefault(row.table, {"added": 0, "modified": 0, "removed": 0})
        kinds[row.kind] += 1
    return found


def _clean(node: Node) -> list[str]:
    """Delete this rig's branches that have landed, and set aside those that lost; the names of the landed."""
    gone = []
    main = upstream_head(node)
    touched = _since(node, main)
    ours = node.db.branches(f"wl/{node.handle}/") | node.db.branches(f"wl/register/{node.handle}")
    for branch, head in ours.items():
        if touched is not None and branch.rpartition("/")[2] not in touched:
            continue
        if landed(node, branch):
            drop(node, branch, push=node.hub is not None)
            gone.append(branch)
        elif node.db.merge_base(head, main) != main and node.db.conflicts(main, head):
            _lose(node, branch, head, push=node.hub is not None)
    if node.config.node.get("cleaned_upstream") != main:
        node.config.node["cleaned_upstream"] = main
        node.config.save_node()
    return gone


def _since(node: Node, main: str) -> set[str] | None:
    """The items and rigs that upstream has changed since branches were looked at last; None where all are to be."""
    before = node.config.node.get("cleaned_upstream")
    if not before or node.db.find(before) is None or not node.db.is_ancestor(before, main):
        return None
    names = ("id", "wanted_id", "handle")
    return {str(row.row[name]) for row in node.db.diff_all(before, main) for name in names if row.row.get(name)}
