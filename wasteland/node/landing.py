"""Land commits on upstream's main, and tell whether something has landed.

A branch has landed when its head is an ancestor of upstream's main, or a
commit there names it in a trailer, and every cell that it changed is there;
or when somebody took its rows over by hand and main holds each of them now.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from wasteland.dolt.database import Database, PushRejected
from wasteland.dolt.history import Commit
from wasteland.errors import Conflict
from wasteland.models import RowDiff
from wasteland.node.levelling import MAIN, integrate, level_fork, upstream_head
from wasteland.node.node import Node
from wasteland.text import show

TRAILER = "Wasteland-Head: "
ATTEMPTS = 8
FEW = 3  # commits that a notice names

Result = TypeVar("Result")


def landing(node: Node, message: str, act: Callable[[], Result], *, push: bool) -> Result:
    """Wild-west: one commit on `main`, pushed; lost races are judged anew on what upstream holds.

    `act` judges and writes, and may run several times.  When it refuses or
    upstream cannot be reached, `main` is what it was.  What a killed command
    left on `main` lands first, so that nothing is refused as done which
    upstream does not have.
    """
    from wasteland.node import carry

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
                import random

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
    if db.is_ancestor(ours, upstream_head(node)) or set_aside_merge(node, ours):
        return
    from wasteland.node import carry

    try:
        carry.push(node, node.upstream_remote, MAIN)
    except PushRejected:
        integrate(node)


def set_aside_merge(node: Node, ours: str) -> bool:
    """Take a merge off main that was killed before its push, or kept back from it: it must be judged again.

    Upstream may have moved since, or the roles have changed.  Whether there was one.
    """
    merging = node.config.node.get("merging")
    if not merging or node.db.find(merging) is None or not _merged(node, merging, ours):
        return False
    kept = f"aside/{node.clock():%Y%m%d-%H%M%S}-{ours[:8]}"
    node.db.branch(kept, ours)
    others = [one for one in node.db.mainline(ours, without=upstream_head(node)) if not _lands(node, one)]
    node.db.at(MAIN).reset(upstream_head(node))
    node.notice(
        f"a merge that had not been pushed was set aside as branch {kept}; wl merge judges it anew{_with(others, kept)}"
    )
    return True


def _lands(node: Node, commit: Commit) -> bool:
    """Whether a commit of main's own brought what is elsewhere too: a proposal, by its trailer, or upstream's main."""
    if _is_landing(commit):
        return True
    brought = node.db.parents(commit.hash)[1:]
    return bool(brought) and all(node.db.is_ancestor(one, upstream_head(node)) for one in brought)


def _is_landing(commit: Commit) -> bool:
    return any(line.startswith(TRAILER) for line in commit.message.splitlines())


def _with(others: list[Commit], kept: str) -> str:
    """What was set aside with a merge and is on that branch only, in words; empty for nothing."""
    if not others:
        return ""
    some = "; ".join(show(one.message.partition("\n")[0]) for one in others[:FEW])
    more = f" and {len(others) - FEW} more" if len(others) > FEW else ""
    ending, them = ("s", "them") if len(others) > 1 else ("", "it")
    return (
        f"; with it went {len(others)} other unpushed change{ending} of main, now on {kept} only: {some}{more}; "
        f"do {them} again, or take {them} over with dolt cherry-pick"
    )


def _merged(node: Node, head: str, ours: str) -> bool:
    """Whether what upstream lacks of `ours` brings `head`: as an ancestor, or by the trailer of its rows."""
    db, upstream = node.db, upstream_head(node)
    if db.is_ancestor(head, ours):
        return not db.is_ancestor(head, upstream)
    return any(f"{TRAILER}{head}" in one.message.splitlines() for one in db.log(ours, without=upstream))


def landed(node: Node, branch: str) -> bool:
    """Whether upstream's main holds what `branch` holds: as a commit, by a trailer that names it, or row by row."""
    return arrived(node, node.db.hash_of(branch)) is not None


def arrived(node: Node, head: str) -> str | None:
    """The commit with which `head` landed, or the head of upstream's main where its rows are there by other ways."""
    return landed_as(node, head) or taken_over(node, head)


def taken_over(node: Node, head: str) -> str | None:
    """The head of upstream's main where it has moved and holds all that `head` changed, but not `head` itself.

    Of a commit that main contains, `landed_as` decides: its rows may have been taken back.
    """
    upstream = upstream_head(node)
    base = node.db.merge_base(head, upstream)
    if base in (None, upstream, head):
        return None
    return upstream if changes_nothing(node.db, str(base), head, upstream) else None


def undone(node: Node, head: str) -> bool:
    """Whether a row that `head` changed is on upstream's main as it was before, where main once held the change.

    A step onward leaves none so, but for a lease, which ends with its claim.
    """
    db, upstream = node.db, upstream_head(node)
    rows = [row for row in db.diff_all(str(db.merge_base(head, upstream)), head) if row.table != "wl_leases"]
    return any(row.more_than_times and db.holds(upstream, [RowDiff(row.table, row.new, row.old)]) for row in rows)


def changes_nothing(db: Database, base: str, head: str, upstream: str) -> bool:
    """Whether `upstream` holds each cell that `head` changed since the merge base `base`, or `head` changed none.

    What carries more than rows, or more of them than are looked through, is something.
    """
    from wasteland.rules.policy.shape import ROWS, objects

    tables = db.diff_tables(base, head)
    if objects(tables) or db.count_diff(base, head) > ROWS:
        return False
    names = sorted(one.table for one in tables if one.data)
    return db.holds(upstream, (row for name in names for row in db.diff(base, head, name)))


def contained(node: Node, head: str) -> str | None:
    """What `landed_as` says of the head of a pull request, but None for a landing that main itself made.

    A branch that is at one holds no commit of its own.  Any other commit that main went through is called contained:
    main cannot tell a branch that landed by fast-forward from one that was made of main and never moved, and says
    of both no more than that it has the commit.
    """
    commit = landed_as(node, head)
    return None if commit == head and _is_landing(node.db.log(head, limit=1)[0]) else commit


def landed_as(node: Node, head: str) -> str | None:
    """The commit of upstream's main with which what `head` changed arrived there, or None where it did not.

    It is one that main itself went through, which has `head` among its
    ancestors or names it in a trailer.  Neither is believed alone: a stranger
    can build on somebody's commit and take its rows back, and anybody can
    write a trailer.  So every cell that `head` changed must be in that commit.
    """
    db, upstream = node.db, upstream_head(node)
    if db.is_ancestor(head, upstream):
        named = _arrival(node, head, upstream)
        parent = db.log(f"{named[0]}^", limit=1)
        if named[0] == head or not parent:
            return named[0]  # main itself went through it
        base = db.merge_base(head, parent[0].hash)
    else:
        base = db.merge_base(head, upstream)
        line = db.mainline(upstream, without=base) if base else []
        named = [c.hash for c in line if f"{TRAILER}{head}" in c.message.splitlines()]
    return db.holding(base, head, named) if base and named else None


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
