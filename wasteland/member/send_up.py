"""The valve of a company's wasteland: its rules, and what goes up to the parent (`intake`: what comes in).

The company's clone holds the parent as a remote that is only fetched.  What
goes up leaves through the parent's own clone on this machine, as the ordinary
pull request of a member.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from wasteland.commons import parents, wanted
from wasteland.commons.parents import Parent
from wasteland.dolt.database import Database
from wasteland.errors import Conflict, NotFound, NotOpen, Refused
from wasteland.hub import Pull
from wasteland.local import config as configuration
from wasteland.local.config import Paths
from wasteland.market import board, propose
from wasteland.models import CONTENT, JSON_COLUMNS, loaded
from wasteland.node import levelling, standing, sync
from wasteland.node.node import Node
from wasteland.rules.leaks import Leak
from wasteland.rules.lifecycle import OPEN
from wasteland.rules.valve import Rules
from wasteland.text import org_db, show
from wasteland.values import dataclass

RULES_LIMIT = 1 << 20
AUTHOR = "commit author"
COMMENTED = """\
# The valve of {upstream}: what comes in from the wasteland it was forked from, and what goes up to it.
# Without this file nothing goes up, and the open items of all projects come in.

[in]
tables = ["wanted"]           # also: "rigs", "completions", "stamps" (with what was signed about them)
projects = ["*"]              # "*" is all of them, "" the items without a project
deny_projects = []
tags = ["*"]
deny_tags = []
statuses = ["open"]           # an item that is here already is followed whatever its status

[in.blank]                    # columns that are emptied on the way
wanted = []

[up]
projects = []                 # nothing goes up before a project is named here
deny_projects = []            # these are also never to be named in a text
tags = ["*"]                  # tags that are not listed are left out
deny_tags = ["internal"]

[up.columns]                  # what leaves of an item; the rest stays here
wanted = ["title", "description", "project", "type", "priority", "effort_level", "tags"]

[leaks]                       # looked for in what is left; keys, tokens and private addresses always are
words = []
patterns = []                 # regular expressions, as "ACME-[0-9]{{1,9}}"
private_projects = []
private_domains = []          # e-mail addresses, as "acme.example"
private_hosts = []            # names of machines under these domains
allowed = []                  # words that look like a leak and are none
"""


def rules_path(where: Paths, upstream: str) -> Path:
    """Where the rules of a wasteland's valve are."""
    org, db = org_db(upstream)
    return where.config / "wasteland" / "valve" / org / f"{db}.toml"


def write_rules(where: Paths, upstream: str) -> Path:
    """A file of rules with a comment for each; Conflict where there is one."""
    path = rules_path(where, upstream)
    try:
        configuration.write_rules(path, COMMENTED.format(upstream=upstream))
    except FileExistsError:
        raise Conflict(f"{path} already exists", about=str(path)) from None
    return path


def rules(where: Paths, upstream: str) -> Rules:
    """The rules of a wasteland's valve; those without a file where there is none, Misconfigured for a bad one."""
    return configuration.rules(rules_path(where, upstream), Rules.parse) or Rules()


def need_parent(node: Node) -> Parent:
    """The parent of the node's wasteland; Refused where it is nobody's fork."""
    found = parents.parent(node.db.at("main"))
    if found is None:
        raise Refused(f"{node.config.upstream} was not forked from another wasteland", hint="wl fork makes one that is")
    return found


def upstream_url(node: Node) -> str:
    """The Dolt remote of a joined wasteland; empty where it has none."""
    hub = node.hub
    return hub.url(node.config.org, node.config.db) if hub is not None else node.config.upstream_url


@dataclass(frozen=True)
class Checked:
    """What would leave of an item, what would not, and why it may not leave at all."""

    id: str
    passes: dict[str, Any]
    stopped: str | None
    blanked: tuple[str, ...]
    leaks: tuple[Leak, ...]

    @property
    def clean(self) -> bool:
        """Whether the item may leave."""
        return self.stopped is None and not self.leaks

    def to_json(self) -> dict[str, Any]:
        """As `wl valve check --json` prints it."""
        return {
            "id": self.id, "clean": self.clean, "stopped": self.stopped, "goes_up": self.passes,
            "stays": list(self.blanked), "leaks": [leak.to_json() for leak in self.leaks],
        }  # fmt: skip


def check(node: Node, texts: Sequence[str]) -> list[Checked]:
    """What would go up of items of our main, and what speaks against it; nothing leaves."""
    main = node.db.at("main")
    said = rules(node.paths, node.config.upstream)
    return [_checked(main, said, one) for one in dict.fromkeys(wanted.resolve(main, text) for text in texts)]


def _checked(main: Database, said: Rules, item_id: str) -> Checked:
    row = main.row(wanted.GET, id=item_id) or {}
    stopped = said.upward.stops("wanted", row)
    found = {
        name: loaded(value) if name in JSON_COLUMNS else value
        for name, value in (said.goes_up("wanted", row) or {}).items()
        if value is not None
    }
    stays = tuple(sorted(name for name in CONTENT if row.get(name) is not None and name not in found))
    return Checked(item_id, found, stopped, stays, tuple(said.leaks(found)))


@dataclass(frozen=True)
class Sent:
    """An item that went up: `done` is post, update or nothing, `pull` its pull request at the parent."""

    id: str
    parent: str
    done: str
    pull: Pull | None = None

    def to_json(self) -> dict[str, Any]:
        """As `wl valve up --json` prints it."""
        pull = {"number": self.pull.number, "url": self.pull.url} if self.pull else None
        return {"id": self.id, "parent": self.parent, "done": self.done, "pull": pull}


def up(node: Node, texts: Sequence[str], *, dry_run: bool = False) -> list[Sent]:
    """Offer items to the parent as pull requests of this user's rig there, one an item.

    Every item is checked before the first one leaves.  Raises Refused for an
    item that the rules stop or that leaks, with nothing pushed.  What went up
    before is brought up to date on the same pull request.
    """
    if node.has_remotes:
        levelling.refresh(node)
    known = need_parent(node)
    target = parent_node(node, known)
    try:
        found = check(node, texts)
        _refuse(found, rules(node.paths, node.config.upstream).leaks({AUTHOR: target.db.author}))
        for one in found:
            board.checked_fields(_fields(one), new=True)
        if dry_run:
            return [Sent(one.id, known.upstream, "nothing") for one in found]
        return [_send(target, one) for one in found]
    finally:
        node.notices += target.notices
        target.close()


def parent_node(node: Node, known: Parent) -> Node:
    """The parent as this user has joined it, always by pull request; NotFound where it is not joined."""
    try:
        config = configuration.load(node.paths, known.upstream)
    except NotFound as error:
        raise NotFound(
            f"{show(known.upstream)} is not joined on this machine, and what goes up leaves through a fork of it",
            about=known.upstream, hint=f"wl join {show(known.upstream)}",
        ) from error  # fmt: skip
    target = Node(replace(config, mode="pr"), node.paths, node.clock)
    said = standing.wasteland_id(target)
    if said != known.wasteland:
        target.close()
        raise Refused(
            f"the {known.upstream} that is joined here is {show(said)}, and not the parent, {show(known.wasteland)}",
            about=known.upstream,
        )
    return target


def _refuse(found: Sequence[Checked], author: Sequence[Leak]) -> None:
    """Refused, with every reason, where an item or the name that its commit would carry must not leave."""
    reasons = [f"{one.id}: {one.stopped}" for one in found if one.stopped]
    reasons += [f"{one.id}: {leak}" for one in found for leak in one.leaks]
    if reasons:
        names = " ".join(one.id for one in found if not one.clean)
        raise Refused(
            f"nothing was sent: {'; '.join(reasons)}", about=names,
            hint=f"wl update mends an item, wl valve check {names} looks again",
        )  # fmt: skip
    if author:
        raise Refused(
            f"nothing was sent: the commit would carry {'; '.join(map(str, author))}", about=AUTHOR,
            hint="set another user.name with dolt config, or another address: wl config set commit-email ADDRESS",
        )  # fmt: skip


def _fields(one: Checked) -> dict[str, Any]:
    return {name: one.passes[name] for name in CONTENT if name in one.passes}


def _send(target: Node, one: Checked) -> Sent:
    """Post or update one item at the parent, under the id that it has here."""
    name = target.config.upstream
    with target.db.locked():
        levelling.refresh(target)
        branch = sync.settle(target, one.id, push=True)
        there = wanted.get(target.db.at(branch or "main"), one.id)
        if there is None:
            outcome = _post(target, one)
            return Sent(one.id, name, "post", outcome.pull)
        if there.posted_by != target.handle:
            raise Refused(f"{one.id} is {show(there.posted_by)}'s in {name}, who alone may change it", about=one.id)
        fields = {n: v for n, v in _emptied(one, there).items() if v != getattr(there, n)}
        if fields:
            if there.status != OPEN:
                raise NotOpen(f"{one.id} is {show(there.status)} in {name}, so its words stay", about=one.id)
            return Sent(one.id, name, "update", board.update(target, one.id, fields).pull)
        if branch is None:
            return Sent(one.id, name, "nothing")
        propose.need_offered(target, one.id)
        return Sent(one.id, name, "nothing", sync.find_pull(target, branch))


def _post(target: Node, one: Checked) -> propose.Outcome:
    row = {"priority": 2, "effort_level": "medium", **_fields(one), "id": one.id, "posted_by": target.handle}
    now = target.clock()
    return propose.land(target, "post", one.id, f"wl post: {one.id}", lambda db: wanted.insert(db, row, now), push=True)


def _emptied(one: Checked, there: Any) -> dict[str, Any]:
    """The words of an item as they leave now; what left before and stays here now is emptied."""
    gone: dict[str, Any] = {"description": "", "project": "", "tags": []}
    return {n: v for n, v in gone.items() if getattr(there, n)} | _fields(one)
