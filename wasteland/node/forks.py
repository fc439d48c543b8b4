"""Where a commit under review comes from: a branch here, a pull request, a branch of somebody's fork.

What is reviewed is a commit, never a branch: its hash is pinned when it is
looked up, together with upstream's head and the merge base of the two.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from wasteland.errors import Conflict, Misconfigured, NotFound, Refused, Unreachable, WastelandError
from wasteland.hub import Branch, Pull
from wasteland.local.config import read_json, write_json
from wasteland.node import levelling, sync
from wasteland.node.node import Node, need_hub
from wasteland.node.verdicts import Book
from wasteland.text import name, show
from wasteland.values import dataclass

MIB = 64  # by which a stranger's fork may let the clone grow, where no setting says otherwise
TRIED_AGAIN = timedelta(days=1)  # after which a fork that was too large is fetched again unasked
SLOW_AGAIN = timedelta(hours=1)  # the same for one that was too slow: that may have been the network
KEPT = timedelta(days=30)  # for which the remote of a fork is kept when nothing is asked of it
NUMBER = re.compile(r"#?([0-9]{1,9})\Z")
REMOTE = re.compile(r"fork-([0-9]{1,3})-(.+)\Z")  # what `_name_of` gives


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
    remote = _name_of(source)
    known = node.db.remotes().get(remote)
    if known not in (None, hub.url(source.org, source.db)):
        raise Refused(f"the remote {remote} points somewhere else", about=remote, hint="remove it with dolt remote")
    if known is None:
        name(source.org, "organisation")
        name(source.db, "database")
        node.db.add_remote(remote, hub.url(source.org, source.db))
    return remote


def _name_of(fork: Branch) -> str:
    return f"fork-{len(fork.org)}-{fork.org}-{fork.db}"  # the length tells a-b/c from a/b-c


def fetched(node: Node, source: Branch) -> str:
    """Fetch a fork's branch; its head.  NotFound where the fork or the branch is gone."""
    error = fetch(node, [source]).get(source)
    if error is not None:
        if isinstance(error, NotFound | Unreachable) and not need_hub(node).exists(source.org, source.db):
            raise NotFound(
                f"there is no fork {source.org}/{source.db}, or it is private", about=f"{source.org}/{source.db}",
                hint="wl close N takes its pull request off the list",
            ) from error  # fmt: skip
        raise error
    head = node.db.find(f"{remote_of(node, source)}/{source.name}")
    if head is None:
        raise NotFound(
            f"the branch {show(source)} is gone", about=str(source),
            hint="its author's next command pushes it again; wl close N takes its pull request off the list",
        )  # fmt: skip
    return head


def fetch(node: Node, sources: Iterable[Branch], *, again: bool = True) -> dict[Branch, WastelandError]:
    """Fetch these branches of forks, those of strangers within limits; what went wrong, by branch.

    Without `again`, a fork that met a limit not long ago is not asked.
    """
    from wasteland.dolt.fetching import branch_name

    failed: dict[Branch, WastelandError] = {}
    asked: dict[str, list[Branch]] = {}
    notes = _Notes(node)
    for source in dict.fromkeys(sources):
        try:
            remote = remote_of(node, source)
            if remote == _name_of(source):
                branch_name(source.name)
                if not again:
                    notes.refuse(source)
            asked.setdefault(remote, []).append(source)
        except WastelandError as error:
            failed[source] = error
    for remote, why in _fetch(node, asked, notes).items():
        failed |= dict.fromkeys(asked[remote], why)
    return failed


def _fetch(node: Node, asked: Mapping[str, Sequence[Branch]], notes: _Notes) -> dict[str, WastelandError]:
    """Fetch whole remotes that are ours or upstream's, and of others the branches that are asked for."""
    from wasteland.dolt.fetching import Limits, OverLimit, TooSlow, fetch_within

    failed: dict[str, WastelandError] = {}
    strangers: dict[str, Branch] = {}
    for remote, sources in asked.items():
        if remote == _name_of(sources[0]):
            strangers[remote] = sources[0]
            continue
        try:
            node.db.fetch(remote)
        except WastelandError as error:
            failed[remote] = error
    wanted = {remote: [source.name for source in asked[remote]] for remote in strangers}
    found = fetch_within(node.db, wanted, Limits(size=notes.limit << 20))
    for remote, source in strangers.items():
        if isinstance(found.get(remote), OverLimit):
            found[remote] = _too_large(source, notes.limit)
            notes.note(source, "large", notes.limit)
        elif isinstance(slow := found.get(remote), TooSlow):
            found[remote] = _too_slow(source, slow.message)
            notes.note(source, "slow", slow.message)
        else:
            notes.note(source)
    notes.save()
    return failed | found


def _too_large(fork: Branch, limit: int) -> Refused:
    name = f"{fork.org}/{fork.db}"
    return Refused(
        f"the fork {name} was not fetched: this clone would grow by more than {limit} MiB",
        about=name,
        hint="where you trust it: wl config set fork-limit MIB",
    )


def _too_slow(fork: Branch, said: str) -> Unreachable:
    name = f"{fork.org}/{fork.db}"
    return Unreachable(f"the fork {name} was not fetched: {said}", about=name, hint="wl review N asks for it again")


def forget_gone(node: Node, sources: Iterable[Branch]) -> None:
    """Remove the remotes of forks from which nothing was asked for a month, and nothing is now by `sources`.

    A remote that we did not make stays.
    """
    notes = _Notes(node)
    used = {_name_of(source) for source in sources}
    for remote, url in node.db.remotes().items():
        if remote not in used and _is_ours(node, remote, url) and notes.is_old(remote):
            with contextlib.suppress(WastelandError):  # another command may have removed it
                node.db.remove_remote(remote)
    notes.save()


def _is_ours(node: Node, remote: str, url: str) -> bool:
    """Whether `remote_of` made a remote, by its name and where it points."""
    found = REMOTE.match(remote)
    org, db = (found[2][: int(found[1])], found[2][int(found[1]) + 1 :]) if found else ("", "")
    return bool(org and db) and remote == _name_of(Branch(org, db, "")) and url == need_hub(node).url(org, db)


class _Notes:
    """When each fork was fetched last, and which met a limit; beside the clone, and no loss where it is gone."""

    def __init__(self, node: Node) -> None:
        self.limit = int(node.config.node.get("fork_limit") or MIB)
        self._file = node.db.server.folder / "forks.json"
        self._now = node.clock()
        try:
            self._was: dict[str, Any] = read_json(self._file)
        except Misconfigured:
            self._was = {}
        self._is = {remote: dict(note) for remote, note in self._was.items() if isinstance(note, dict)}

    def refuse(self, fork: Branch) -> None:
        """Refused where a fork was too large within a day, under a limit that was not lower.

        Unreachable where it was too slow within an hour.
        """
        found = self._is.get(_name_of(fork), {})
        if int(found.get("large") or 0) >= self.limit and self._since(found) < TRIED_AGAIN:
            raise _too_large(fork, self.limit)
        if found.get("slow") and self._since(found) < SLOW_AGAIN:
            raise _too_slow(fork, show(found["slow"]))

    def note(self, fork: Branch, met: str = "", limit: int | str = "") -> None:
        """A fork was fetched now, or has `met` a limit: it was `large` for one in MiB, or `slow`, in words."""
        found = self._is.get(_name_of(fork), {})
        if met or found.keys() != {"at"} or self._since(found) > TRIED_AGAIN:
            self._is[_name_of(fork)] = {"at": self._now.isoformat()} | ({met: limit} if met else {})

    def is_old(self, remote: str) -> bool:
        """Whether a remote was fetched last so long ago that it may go; one that was never noted is noted now."""
        if remote not in self._is:
            self._is[remote] = {"at": self._now.isoformat()}
        old = self._since(self._is[remote]) > KEPT
        if old:
            del self._is[remote]
        return old

    def save(self) -> None:
        """Write down what has changed, as far as the disk lets one."""
        if self._is != self._was:
            with contextlib.suppress(OSError):
                write_json(self._file, self._is)

    def _since(self, note: Mapping[str, Any]) -> timedelta:
        try:
            return self._now - datetime.fromisoformat(str(note.get("at")))
        except (ValueError, TypeError):
            return timedelta.max
