"""What stands between a rig and its hub, named with how to mend it: a part of `wl doctor`.

Requests to the hub: at most three to find it, one each for the token's
holder, its rights and the Dolt key, then the list of open pull requests (one
for each page, and in v1alpha1 one for each pull request that is new here).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from wasteland.care.findings import FAILURE, OK, WARNING, Finding
from wasteland.errors import Conflict, NotFound, Unauthenticated, Unreachable, WastelandError
from wasteland.hub import OPEN, Pull
from wasteland.hub.credentials import dolt_key, find_token, selected_key
from wasteland.market import propose
from wasteland.node import carry, landing, levelling, sync
from wasteland.node import proposals as inbox
from wasteland.node.node import Node, hub_base
from wasteland.text import masked, show

if TYPE_CHECKING:
    from wasteland.hub.dolthub import DolthubHub

SKEW = 20.0  # seconds; Dolt signs what it shows to a remote for thirty


def account(node: Node, fix: bool) -> list[Finding]:
    """Look at the hub, the token, the clock and the key that Dolt shows, where a hub has accounts."""
    base = hub_base(node.config)
    return [] if base is None or not node.has_remotes else list(_account(node, base, fix))


def commons(node: Node, fix: bool, *, reachable: bool) -> Iterator[Finding]:
    """Look at the remotes, the fork and what waits at the hub; the last finding says what it cost."""
    if not node.has_remotes:
        return
    hub: Any = node.hub if reachable else None
    yield from _remotes(node, hub)
    if reachable:
        yield _fork(node, fix)
    if hub is not None:
        yield from _waiting(node, fix)
    if hub is not None and hub.kind != "file":
        yield Finding(OK, "requests", f"this look cost {hub.calls} requests to {hub.site.host}")


def is_reached(found: list[Finding]) -> bool:
    """Whether the hub has answered, by what was found."""
    return not any(one.state == FAILURE for one in found if one.what == "hub")


def hint_of(error: WastelandError) -> str:
    """The error's hint, less what would send the reader here again."""
    parts = (error.hint or "").split("; ")
    return "; ".join(part for part in parts if not part.startswith("wl doctor") or "--fix" in part)


def _account(node: Node, base: str, fix: bool) -> Iterator[Finding]:
    """The hub, the token, the clock and the key that Dolt shows."""
    from wasteland.hub.dolthub import discover
    from wasteland.hub.site import cache_folder

    login = "wl login" if "dolthub.com" in base else f"wl login --hub {base}"
    try:
        site = discover(base, cache_folder(node.paths), fresh=True)
        hub: Any = node.hub
    except WastelandError as error:
        hint = hint_of(error) or "is the network up, and the address right? wl config set hub URL"
        yield Finding(FAILURE, "hub", f"{base}: {error.message}", hint)
        return
    token = find_token(base, node.paths)
    if token is None:
        yield Finding(OK, "hub", _spoken(site.api, site.versions))
        yield Finding(FAILURE, "token", f"there is none for {base}", login)
    else:
        seen = list(_token(node, hub, token.source, login))
        yield from seen
        if not is_reached(seen):
            return
    if hub.away is not None and abs(hub.away) > SKEW:
        ahead = "ahead of" if hub.away > 0 else "behind"
        yield Finding(
            FAILURE, "clock", f"this machine is {abs(hub.away):.0f} s {ahead} the hub: it takes no Dolt key then",
            "set the clock",
        )  # fmt: skip
    yield _dolt_key(node, hub, login, fix)


def _spoken(api: str, versions: tuple[str, ...]) -> str:
    return f"{api} speaks {', '.join(versions)}; {versions[0]} is used"


def _token(node: Node, hub: DolthubHub, source: str, login: str) -> Iterator[Finding]:
    """Whether the hub takes the token, whose it is, and whether it may write; never the token itself."""
    try:
        user: str | None = hub.whoami()
    except Unreachable as error:
        yield Finding(FAILURE, "hub", error.message, hint_of(error))
        return
    except Unauthenticated as error:
        yield Finding(OK, "hub", _spoken(hub.site.api, hub.site.versions))
        yield Finding(FAILURE, "token", f"the one of {source}: {error.message}", _renew(source, login))
        return
    except WastelandError:
        user = None
    yield Finding(OK, "hub", _spoken(hub.site.api, hub.site.versions))
    whose = f"{user}'s, from {source}" if user else f"from {source}; the hub does not tell whose"
    may = hub.may_write(node.config.org, node.config.db)
    if may is False:
        yield Finding(FAILURE, "token", f"{whose}: it may not write", _renew(source, login) + ", with rights to write")
    else:
        yield Finding(OK, "token", whose + ("; it may write" if may else ""))
    owner = node.config.fork_org
    if user and owner and user.lower() != owner.lower():
        yield Finding(
            WARNING, "owner", f"the fork belongs to {owner}, and the token is {user}'s",
            f"that works where {user} is a member of {owner}",
        )  # fmt: skip


def _renew(source: str, login: str) -> str:
    """Where a better token must go to be used."""
    return login if source in ("file", "keyring") else f"put another one into {source}, or unset it and: {login}"


def _dolt_key(node: Node, hub: DolthubHub, login: str, fix: bool) -> Finding:
    """Whether Dolt has a key to show, and the hub knows it; with `fix`, one is made and given to the hub."""
    key = selected_key(node.home)
    if carry.by_rows(node) and not (fix and hub.takes_keys):
        why = "Dolt has no key to show" if key is None else f"the hub has refused a push with {key}"
        state = OK if find_token(hub_base(node.config) or "", node.paths) else FAILURE
        return Finding(
            state, "way", f"rows travel through the hub's API with the token, a request and more each, because {why}",
            f"{login} makes a key, for pushes",
        )  # fmt: skip
    if key is None and not fix:
        return Finding(FAILURE, "Dolt key", "Dolt has none selected, so it pushes in nobody's name", login)
    if fix and hub.takes_keys:
        try:
            key = dolt_key(node.home)
            hub.register_key(key)
        except WastelandError as error:
            return Finding(FAILURE, "Dolt key", error.message, hint_of(error))
        return Finding(OK, "Dolt key", f"{key}, known to the hub")
    if key is None:
        return Finding(FAILURE, "Dolt key", "Dolt has none selected", login)
    known = hub.knows_key(key)
    if known is False:
        return Finding(FAILURE, "Dolt key", f"the hub does not know {key}", f"wl doctor --fix, or: {login}")
    where = f"if not, paste it at {hub.site.page}/settings/credentials" if not hub.takes_keys else ""
    said = "known to the hub" if known else "whether the hub knows it, only a push shows"
    return Finding(OK, "Dolt key", f"{key}; {said}", where)


def _remotes(node: Node, hub: DolthubHub | None) -> Iterator[Finding]:
    """Whether the clone's remotes are the databases that the configuration names."""
    config, remotes = node.config, node.db.remotes()
    place = config.upstream_url.rpartition("/")[0].rpartition("/")[0]
    fork = f"{place}/{config.fork_org}/{config.fork_db}" if config.fork_org != config.org else config.upstream_url
    wanted = {"origin": fork}
    if config.upstream_url and fork != config.upstream_url:
        wanted["upstream"] = config.upstream_url
    wrong = {name: url for name, url in wanted.items() if config.upstream_url and remotes.get(name) != url}
    for name, url in sorted(wrong.items()):
        now = masked(show(remotes.get(name, "nothing")))
        yield Finding(
            FAILURE, "remotes", f"{name} is {now}, and the configuration says {masked(show(url))}",
            f"if the configuration is right: dolt remote remove {name}; dolt remote add {name} URL",
        )  # fmt: skip
    if any("@" in url.partition("://")[2].partition("/")[0] for url in remotes.values()):
        yield Finding(
            WARNING, "remotes", "a remote's URL has a user or password in it, in clear", "take it out; wl login"
        )
    there = hub.url(config.org, config.db) if hub is not None else config.upstream_url
    if there != config.upstream_url:
        yield Finding(
            WARNING, "remotes", f"the hub's databases are at {there} now, the configuration says {config.upstream_url}",
            "wl leave; move the clone away; wl join",
        )  # fmt: skip
    if not wrong:
        yield Finding(OK, "remotes", ", ".join(f"{name} {masked(show(url))}" for name, url in sorted(remotes.items())))


def _fork(node: Node, fix: bool) -> Finding:
    """Whether the fork is there, descends from upstream, and has upstream's main."""
    if node.upstream_remote == "origin":
        return Finding(OK, "fork", "none: this rig pushes to upstream itself")
    db, name = node.db, f"{node.config.fork_org}/{node.config.fork_db}"
    try:
        db.fetch("origin")
    except NotFound as error:
        return _make_again(node) if fix else Finding(
            FAILURE, "fork", f"{name} is not there, or not shown to this rig: {error.message}",
            "wl doctor --fix makes it again and pushes this rig's branches",
        )  # fmt: skip
    except WastelandError as error:
        return Finding(FAILURE, "fork", error.message, hint_of(error) or reading(error))
    theirs, upstream = db.find("origin/main"), levelling.upstream_head(node)
    if theirs is None:
        return Finding(FAILURE, "fork", f"{name} has no branch main", "wl doctor --fix") if not fix else _leveled(node)
    if db.merge_base(theirs, upstream) is None:
        return Finding(
            FAILURE, "fork", f"{name} is no fork of {node.config.upstream}: they have no history in common",
            "rename it on the hub, then wl doctor --fix makes the fork",
        )  # fmt: skip
    if theirs == upstream:
        return Finding(OK, "fork", f"{name}, level with upstream")
    if not db.is_ancestor(theirs, upstream):
        return Finding(WARNING, "fork", f"the main of {name} has commits of its own", "nothing of ours needs them gone")
    if fix:
        return _leveled(node)
    lags = node.clock().timestamp() - node.config.node.get("leveled_at", 0) < levelling.LAG
    how = "it may lag for some minutes" if lags else "wl sync --level"
    return Finding(OK if lags else WARNING, "fork", f"{name}, behind upstream", how)


def reading(error: WastelandError) -> str:
    """What to do about a remote that cannot be read."""
    if isinstance(error, Unauthenticated):
        return "the hub must know the Dolt key: wl doctor --fix, or paste it on the hub's page"
    if isinstance(error, NotFound):
        return "it was deleted, renamed or made private: ask its owner; this clone has all that was fetched"
    return ""


def _make_again(node: Node) -> Finding:
    """Fork again, and push what this rig has under way."""
    config, hub = node.config, node.hub
    if hub is None:
        return Finding(FAILURE, "fork", "its provider has no forks that this program can make")
    try:
        hub.wait(hub.fork(config.org, config.db, config.fork_org))
        node.db.fetch("origin")
        pushed = [branch for branch in _own(node) if not landing.landed(node, branch)]
        for branch in pushed:
            carry.push(node, "origin", branch)
    except WastelandError as error:
        return Finding(FAILURE, "fork", f"could not be made again: {error.message}", hint_of(error))
    return Finding(OK, "fork", f"{config.fork_org}/{config.fork_db} was made again, with {len(pushed)} branches")


def _leveled(node: Node) -> Finding:
    """Bring the fork's main level."""
    before = len(node.notices)
    levelling.level_fork(node)
    if len(node.notices) > before:
        return Finding(WARNING, "fork", node.notices.pop(), "")
    return Finding(OK, "fork", f"{node.config.fork_org}/{node.config.fork_db}, brought level with upstream")


def _own(node: Node) -> list[str]:
    """This rig's branches for items and for its registration."""
    return sorted(node.db.branches(f"wl/{node.handle}/") | node.db.branches(f"wl/register/{node.handle}"))


def _waiting(node: Node, fix: bool) -> Iterator[Finding]:
    """The open pull requests: which have landed already, and which of this rig's branches has none."""
    try:
        proposals = inbox.inbox(node, fetch=False)
        lacking = [b for b in _own(node) if not landing.landed(node, b)]
        lacking = [b for b in lacking if str(node.fork_branch(b)) not in {p.source for p in proposals}]
        if lacking and fix and node.config.mode == "pr":
            lacking = [branch for branch in lacking if not _offered(node, branch)]
    except WastelandError as error:
        yield Finding(FAILURE, "pull requests", error.message, hint_of(error))
        return
    done = [f"#{p.number}" for p in proposals if p.state == inbox.LANDED]
    if done:
        yield Finding(WARNING, "pull requests", f"landed and still open: {', '.join(done)}", "wl queue closes them")
    same = [f"#{p.number}" for p in proposals if p.state == inbox.NOTHING]
    if same:
        yield Finding(WARNING, "pull requests", f"that change nothing: {', '.join(same)}", "wl merge N closes it")
    gone = [f"#{p.number}: {p.detail}" for p in proposals if p.state == inbox.GONE]
    if gone:
        yield Finding(WARNING, "pull requests", show("; ".join(gone)), "wl review N says what can be done")
    if not done and not same and not gone:
        yield Finding(OK, "pull requests", f"{len(proposals)} open")
    if lacking and node.config.mode == "pr":
        yield Finding(
            WARNING, "branches", f"without an open pull request: {', '.join(lacking)}",
            "wl doctor --fix opens one where there has been none; wl unclaim gives an item back",
        )  # fmt: skip


def _offered(node: Node, branch: str) -> bool:
    """Open the pull request of a branch that never had one; one that was closed stays closed."""
    hub, config = node.hub, node.config
    every: list[Pull] = hub.pulls(config.org, config.db, state=None) if hub else []
    if hub is None or any(one.source == node.fork_branch(branch) for one in every):
        return False
    if branch == f"wl/register/{node.handle}":
        carry.push(node, "origin", branch)
        title = f"Register rig: {node.handle}"
        text = f"Register rig **{node.handle}** in the commons."
        opened = hub.open_pull(node.fork_branch(branch), node.upstream_main, title, text, node.handle)
        return opened.state == OPEN
    try:
        propose.need_offered(node, branch.rpartition("/")[2])
    except (Conflict, Unreachable):
        return False
    return sync.find_pull(node, branch) is not None
