"""Keep `main` of the clone, and of the fork, level with upstream's main; nothing unpushed is ever deleted."""

from __future__ import annotations

import contextlib

from wasteland.dolt.history import MergeConflict
from wasteland.errors import Conflict, NotFound, Refused, Unauthenticated, WastelandError
from wasteland.node.node import Node

MAIN = "main"
ANEW = "ask its maintainers, and to go on with what is there now: wl sync --anew (it keeps all that is here)"
LAG = 600  # seconds that the fork's main may be behind upstream's


def refresh(node: Node, *, fork: bool = False) -> str:
    """Fetch upstream and bring `main` level with it; upstream's head.

    With `fork`, this rig's own fork is fetched before, for what it signed on
    another machine; where the fork does not answer, nothing can be pushed there either.

    Raises Unreachable when upstream does not answer and Refused when its
    history was rewritten or carries something that is not rows; nothing is
    changed then.
    """
    with node.db.locked():
        if fork and node.upstream_remote != "origin":
            with contextlib.suppress(WastelandError):
                node.db.fetch("origin")
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
        from wasteland.node.upgrade import check as check_schema

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
    if not seen or seen == theirs or not node.db.find(seen) or node.db.is_ancestor(seen, theirs):
        return
    if node.db.merge_base(seen, theirs) is None:
        said = f"upstream was made anew: its main is now {theirs}, which has nothing in common with {seen}, seen before"
    else:
        said = f"upstream's history was rewritten: its main was {seen} and is now {theirs}, which does not contain it"
    raise Refused(said, about=node.config.upstream, hint=f"your clone was left as it was; {ANEW}")


def refuse_more_than_rows(node: Node, revision: str) -> None:
    """Refused when a history of upstream's holds triggers, procedures or the like: seen at the first look at it."""
    from wasteland.node.upgrade import more_than_rows

    found = more_than_rows(node.db, node.db.log(revision)[-1].hash, revision)
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
    from wasteland.node import carry

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
