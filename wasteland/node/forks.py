"""Where a commit under review comes from: a branch here, a pull request, a branch of somebody's fork.

What is reviewed is a commit, never a branch: its hash is pinned when it is
looked up, together with upstream's head and the merge base of the two.
"""

from __future__ import annotations

import re

from wasteland.errors import Conflict, NotFound, Refused, Unreachable
from wasteland.hub import Branch, Pull
from wasteland.node import levelling, sync
from wasteland.node.node import Node, need_hub
from wasteland.node.verdicts import Book
from wasteland.text import name, show
from wasteland.values import dataclass

NUMBER = re.compile(r"#?([0-9]{1,9})\Z")


@dataclass(frozen=True)
class Pinned:
    """One exact commit under review: where it came from, its hash, and the merge base with upstream's main."""

    source: str
    org: str
    head: str
    base: str
    upstream: str
    pull: Pull | None = None


def names_proposal(what: str) -> bool:
    """Whether `what` is a pull request's number or a fork's branch, and not an item."""
    return bool(NUMBER.match(what)) or ":" in what


def pinned(node: Node, what: str) -> Pinned:
    """The commit that `what` names now: a branch here, a pull request's number, or `org:branch` of a fork.

    Upstream and, where needed, the fork are fetched.  NotFound where there is no such thing.
    """
    upstream = levelling.refresh(node)
    if NUMBER.match(what):
        pull = numbered(node, what)
        if pull.target != node.upstream_main:
            raise Refused(f"pull request {pull.number} is offered to {show(pull.target)}, not to main", about=what)
        return pin(node, str(pull.source), pull.source.org, fetched(node, pull.source), upstream, pull)
    org, colon, branch = what.partition(":")
    if colon:
        source = Branch(name(org, "organisation"), node.config.db, branch)
        offered = need_hub(node).pulls(node.config.org, node.config.db)
        about = next((p for p in offered if (p.source, p.target) == (source, node.upstream_main)), None)
        return pin(node, what, org, fetched(node, source), upstream, about)
    head = node.db.branches(what).get(what)
    if head is None:
        raise NotFound(f"there is no branch {show(what)} here", about=what, hint="wl review lists them")
    return pin(node, what, node.config.fork_org or node.config.org, head, upstream, sync.find_pull(node, what))


def numbered(node: Node, what: str) -> Pull:
    """The pull request of a number, with or without `#`; NotFound where upstream has none."""
    found = NUMBER.match(what)
    pull = need_hub(node).pull(node.config.org, node.config.db, int(found[1])) if found else None
    if pull is None:
        raise NotFound(f"{node.config.upstream} has no pull request {show(what)}", about=what)
    return pull


def pin(node: Node, source: str, org: str, head: str, upstream: str, pull: Pull | None) -> Pinned:
    """A commit pinned against upstream's head; Refused where the two have no history in common."""
    base = node.db.merge_base(head, upstream)
    if base is None:
        raise Refused(f"{show(source)} has no history in common with upstream", about=source)
    return Pinned(source, org, head, base, upstream, pull)


def book(node: Node) -> Book:
    """What was said and looked at on this machine, of proposals to this wasteland."""
    return Book(node.db.server.folder / "verdicts.json")


def named(node: Node, found: Pinned) -> str:
    """The branch of a proposal as the hub names it, also where it was named by its place in our clone."""
    if found.pull is not None:
        return str(found.pull.source)
    return found.source if ":" in found.source else str(node.fork_branch(found.source))


def as_reviewed(node: Node, what: str, found: Pinned, head: str | None) -> None:
    """Conflict where a branch is not at the commit that was reviewed: the one named, else the last seen here."""
    seen = head or book(node).seen(named(node, found))
    if seen is not None and seen != found.head:
        raise Conflict(
            f"{show(what)} is at {found.head} now, not at {show(seen)}",
            about=what,
            hint=f"review it again: wl review {show(what)}",
        )


def remote_of(node: Node, source: Branch) -> str:
    """The name of the remote that is a fork, added at the first need.

    Refused where a remote of that name points somewhere else.
    """
    hub = need_hub(node)
    if source.org == node.config.fork_org and source.db == node.config.fork_db:
        return "origin"
    if source.org == node.config.org and source.db == node.config.db:
        return node.upstream_remote
    remote = f"fork-{len(source.org)}-{source.org}-{source.db}"  # the length tells a-b/c from a/b-c
    known = node.db.remotes().get(remote)
    if known not in (None, hub.url(source.org, source.db)):
        raise Refused(f"the remote {remote} points somewhere else", about=remote, hint="remove it with dolt remote")
    if known is None:
        name(source.org, "organisation")
        name(source.db, "database")
        node.db.add_remote(remote, hub.url(source.org, source.db))
    return remote


def fetched(node: Node, source: Branch) -> str:
    """Fetch a fork's branch; its head.  NotFound where the fork or the branch is gone."""
    remote = remote_of(node, source)
    try:
        node.db.fetch(remote)
    except (NotFound, Unreachable) as error:
        if isinstance(error, NotFound) or not need_hub(node).exists(source.org, source.db):
            raise NotFound(
                f"there is no fork {source.org}/{source.db}, or it is private", about=f"{source.org}/{source.db}",
                hint="wl close N takes its pull request off the list",
            ) from error  # fmt: skip
        raise
    head = node.db.find(f"{remote}/{source.name}")
    if head is None:
        raise NotFound(
            f"the branch {show(source)} is gone", about=str(source),
            hint="its author's next command pushes it again; wl close N takes its pull request off the list",
        )  # fmt: skip
    return head
