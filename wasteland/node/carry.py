"""Bring a branch to the hub: by Dolt's push, or row by row through the hub's API where only a token is there.

The hub makes commits of its own out of the statements that it is sent.  What
it made is fetched and compared, table by table, with the branch here; only
where nothing differs does the branch here move to the hub's commit.  So what
a lost answer or a killed command came of is read from the rows: what is there
already is not sent again, and what is there and is not ours is refused.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from wasteland.dolt.database import PushRejected
from wasteland.errors import Conflict, NotFound, Refused, Unauthenticated, Unreachable, WastelandError
from wasteland.local.steps import step
from wasteland.models import RowDiff
from wasteland.node.node import Node, kept_name
from wasteland.text import show

if TYPE_CHECKING:
    from wasteland.hub import Branch

MAIN = "main"
ROUNDS = 4  # how often what is missing is sent, before it is given up
MOST = 60  # rows of one branch that are sent, a request and more each
DENIED = "push_denied_to"
Cells = dict[tuple[str, str], Any]


class HalfCarried(Unreachable):
    """Some of a branch's rows are on the hub and some are not; the next command sends the rest."""


def push(node: Node, remote: str, branch: str, *, force: bool = False) -> str:
    """Bring `branch` to where others see it, and be sure of it; the commit that stands for it now.

    Raises what `Database.push` raises, and HalfCarried.  Where rows travel
    through the API the branch is at another commit afterwards, of the same
    rows; upstream's main is only written by one merge that brings all of them.
    """
    if by_rows(node):
        return _carried(node, remote, branch, force)
    try:
        node.db.push(remote, branch, force=force)
    except Unauthenticated as denied:
        if not _has_api(node) or not _may_write(node, remote):
            raise
        node.config.node[DENIED] = _shown_key(node)
        node.config.save_node()
        try:
            return _carried(node, remote, branch, force)
        except Refused as error:  # neither way is open: it is not the key that is in the way
            del node.config.node[DENIED]
            node.config.save_node()
            raise denied from error
    return node.db.hash_of(branch)


def by_rows(node: Node) -> bool:
    """Whether rows travel through the hub's API: Dolt has no key to show, or the hub refused a push with this one."""
    if not _has_api(node):
        return False
    key = _shown_key(node)
    return not key or node.config.node.get(DENIED) == key


def _has_api(node: Node) -> bool:
    return node.hub is not None and node.hub.kind == "dolthub"


def _shown_key(node: Node) -> str:
    """Which keys Dolt could show, by the names of their files; empty where there is none."""
    return " ".join(sorted(path.stem for path in (node.home / ".dolt" / "creds").glob("*.jwk")))


def _place(node: Node, remote: str) -> tuple[str, str]:
    config = node.config
    if remote == node.upstream_remote:
        return config.org, config.db
    return config.fork_org, config.fork_db


def _may_write(node: Node, remote: str) -> bool:
    hub: Any = node.hub
    return hub.may_write(*_place(node, remote)) is not False


def _carried(node: Node, remote: str, branch: str, force: bool) -> str:
    return _onto_main(node, remote) if branch == MAIN else _rows_to(node, remote, branch, branch, force)


def _onto_main(node: Node, remote: str) -> str:
    """Upstream's main, by way of a branch beside it: one merge brings all rows or none; main's commit that has them.

    PushRejected where upstream has moved, so that what is to land is judged again.
    """
    import hashlib

    from wasteland.dolt.statements import statements
    from wasteland.hub import Branch

    db, (org, name) = node.db, _place(node, remote)
    db.fetch(remote, MAIN)
    theirs, ours = db.hash_of(f"{remote}/{MAIN}"), db.hash_of(MAIN)
    if not db.is_ancestor(theirs, ours):
        raise PushRejected(f"{remote} already has other commits on main", about=MAIN, hint="wl sync, then try again")
    if ours == theirs:
        return ours
    meant = db.diff_all(theirs, ours)
    # The name says what is on it, so that a command that was killed is gone on from.
    digest = hashlib.sha256("\n".join(statements(meant)).encode()).hexdigest()[:16]
    beside = f"wl-land/{node.handle}/{theirs[:8]}-{digest}"
    if db.is_branch(beside):
        db.delete_branch(beside)
    db.branch(beside, ours)
    try:
        _rows_to(node, remote, beside, beside, force=False)
    finally:
        db.delete_branch(beside)
    step("beside")
    _merge(node, Branch(org, name, beside), Branch(org, name, MAIN), f"Land {digest}")
    step("arrived")
    db.fetch(remote, MAIN)
    head = db.hash_of(f"{remote}/{MAIN}")
    if not db.is_ancestor(theirs, head) or missing(db.diff_all(theirs, head), meant):
        raise Conflict(f"the hub's main does not hold the rows that were to land on {org}/{name}", about=MAIN)
    db.at(MAIN).reset(head)
    return head


def missing(there: list[RowDiff], meant: list[RowDiff]) -> list[RowDiff]:
    """The rows of `meant` that are not among those `there`, with the very same cells."""
    found = _cells(there)
    return [row for row in meant if found.get((row.table, row.key), ...) != row.new]


def foreign(there: list[RowDiff], meant: list[RowDiff]) -> list[RowDiff]:
    """The rows of `there` that are not what was `meant`."""
    wanted = _cells(meant)
    return [row for row in there if wanted.get((row.table, row.key), ...) != row.new]


def _cells(rows: list[RowDiff]) -> Cells:
    return {(row.table, row.key): row.new for row in rows}


def _rows_to(node: Node, remote: str, branch: str, there: str, force: bool) -> str:
    """Make the hub's branch hold the rows of ours, and take the hub's commit for ours once it does."""
    db = node.db
    force = _bring_base(node, remote, branch, there) or force
    sent = False
    for _ in range(ROUNDS):
        theirs, ours = db.hash_of(f"{remote}/{there}"), db.hash_of(branch)
        rest = _rest(node, theirs, ours, there, force)
        if not rest:
            if theirs != ours:
                db.at(branch).reset(theirs)
            step("pushed")
            return theirs
        step("pushing")
        try:
            _send(node, remote, there, theirs, rest)
        except (Refused, Unauthenticated, NotFound) as error:
            if sent or not _untouched(node, remote, there, theirs):
                raise _half(there, error) from error
            raise
        except WastelandError as error:
            last: WastelandError = error
        else:
            last = WastelandError("the hub's branch is not what was sent")
        sent = True
        try:
            db.fetch(remote, there)
        except WastelandError as error:
            raise _half(there, error) from error
    if not _rest(node, db.hash_of(f"{remote}/{there}"), db.hash_of(branch), there, force):
        return _rows_to(node, remote, branch, there, force)
    raise _half(there, last) from last


def _half(there: str, error: WastelandError) -> HalfCarried:
    return HalfCarried(
        f"{there} is on the hub in part only: {error.message}", about=there,
        hint="the next command sends the rest; nothing is lost here",
    )  # fmt: skip


def _untouched(node: Node, remote: str, there: str, head: str) -> bool:
    with contextlib.suppress(WastelandError):
        node.db.fetch(remote, there)
    return node.db.find(f"{remote}/{there}") == head


def _rest(node: Node, theirs: str, ours: str, there: str, force: bool) -> list[RowDiff]:
    """What the hub's branch lacks; PushRejected where it holds what is not ours, Refused for more than rows."""
    db = node.db
    if theirs == ours:
        return []
    if any(one.schema or one.table.startswith("dolt_") for one in db.diff_tables(theirs, ours)):
        raise Refused(
            f"{there} differs from the hub's in more than rows, and only rows travel without a Dolt key",
            about=there, hint="wl login makes a key known to the hub",
        )  # fmt: skip
    if not force and (others := _others(node, theirs, ours)):
        names = ", ".join(show(f"{row.table} {row.key}") for row in others[:3])
        raise PushRejected(f"the hub's {there} has rows that are not ours: {names}", about=there, hint="wl sync")
    rest = db.diff_all(theirs, ours)
    if len(rest) > MOST:
        raise Refused(
            f"{there} has {len(rest)} rows to send; {MOST} are the most without a Dolt key", about=there,
            hint="wl login makes a key known to the hub",
        )  # fmt: skip
    return rest


def _others(node: Node, theirs: str, ours: str) -> list[RowDiff]:
    """The rows that the hub's branch has from somebody else: neither ours nor what upstream has as well."""
    db = node.db
    base = db.merge_base(theirs, ours)
    if base is None:
        raise Conflict("the hub's branch has no history in common with ours")
    found = foreign(db.diff_all(base, theirs), db.diff_all(base, ours))
    if not found:
        return []
    apart = {(row.table, row.key) for row in db.diff_all(db.hash_of(f"{node.upstream_remote}/{MAIN}"), theirs)}
    return [row for row in found if (row.table, row.key) in apart]


def _send(node: Node, remote: str, there: str, head: str, rows: list[RowDiff]) -> None:
    """One statement a call; each must have made a commit before the next is sent."""
    from wasteland.dolt.statements import statements

    hub: Any = node.hub
    org, db = _place(node, remote)
    for sql in statements(rows):
        made = hub.send(org, db, there, sql, head)
        if made is None:
            raise WastelandError("a statement changed nothing on the hub", about=there)
        head = made
        step("sent")


def _bring_base(node: Node, remote: str, branch: str, there: str) -> bool:
    """See to it that the hub's branch exists and contains what ours began from; whether what it held is spent."""
    from wasteland.hub import Branch

    db = node.db
    org, name = _place(node, remote)
    upstream = db.hash_of(f"{node.upstream_remote}/{MAIN}")
    base = db.merge_base(branch, upstream)
    if base is None:
        raise Conflict(f"{branch} has no history in common with upstream", about=branch)
    db.fetch(remote)
    if db.find(f"{remote}/{there}") is None:
        _make(node, org, name, there, base)
        db.fetch(remote, there)
        step("branched")
    theirs = db.hash_of(f"{remote}/{there}")
    spent = not db.is_ancestor(theirs, db.hash_of(branch)) and _spent(node, branch, theirs, upstream)
    if not db.is_ancestor(base, theirs):
        title = f"Bring {there} level with upstream"
        try:
            _merge(node, node.upstream_main, Branch(org, name, there), title)
        except Conflict:
            if not spent and _others(node, theirs, db.hash_of(branch)):
                raise
            _give_way(node, remote, there, upstream)
            _merge(node, node.upstream_main, Branch(org, name, there), title)
        db.fetch(remote, there)
        theirs = db.hash_of(f"{remote}/{there}")
        if not db.is_ancestor(base, theirs):
            raise Conflict(f"the hub did not bring {there} level with upstream", about=there, hint="try again")
        db.fetch(node.upstream_remote, MAIN)
        now = db.merge_base(theirs, db.hash_of(f"{node.upstream_remote}/{MAIN}"))
        if now is not None and not db.is_ancestor(now, db.hash_of(branch)):
            db.at(branch).merge(now, f"Merge branch 'main' into {branch}")
    return spent


def _spent(node: Node, branch: str, theirs: str, upstream: str) -> bool:
    """Whether what the hub's branch holds is done with, landed or set aside here: the API deletes no branch."""
    return node.db.is_branch(kept_name(branch, theirs)) or node.db.went_through(upstream, theirs)


def _give_way(node: Node, remote: str, there: str, upstream: str) -> None:
    """Make the rows that the hub's branch changed what upstream has, for the hub to merge: it knows no better.

    Two times of a row are a conflict to it, and what landed may have been written over since.
    """
    db = node.db
    theirs = db.hash_of(f"{remote}/{there}")
    base = db.merge_base(theirs, upstream)
    changed = {(row.table, row.key) for row in db.diff_all(str(base), theirs)}
    rows = [row for row in db.diff_all(theirs, upstream) if (row.table, row.key) in changed]
    _send(node, remote, there, theirs, rows)
    db.fetch(remote, there)


def _make(node: Node, org: str, name: str, there: str, base: str) -> None:
    """Make the hub's branch at a commit of upstream; the fork is brought level first where it lacks it."""
    from wasteland.hub import Branch

    hub: Any = node.hub
    own = (org, name) != (node.config.org, node.config.db)
    main = node.db.find(f"origin/{MAIN}")
    if own and (main is None or not node.db.is_ancestor(base, main)):
        _merge(node, node.upstream_main, Branch(org, name, MAIN), f"Bring main level with {node.config.upstream}")
    with contextlib.suppress(Conflict):  # it is there: this rig's other machine was first, or an answer was lost
        hub.branch_at(org, name, there, base)


def _merge(node: Node, source: Branch, target: Branch, title: str) -> None:
    """One branch into another by a pull request of ours; the caller looks at what is there afterwards.

    What does not merge at once is asked for again with every proof, and its pull request closed where that fails.
    """
    hub: Any = node.hub
    if hub.pulled(source, target, title):
        return
    pull = hub.open_pull(source, target, title, "", node.handle)
    try:
        hub.wait(hub.merge(target.org, target.db, pull.number, node.handle))
    except WastelandError:
        with contextlib.suppress(WastelandError):
            hub.close(target.org, target.db, pull.number)
        raise
