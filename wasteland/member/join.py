"""Join a wasteland: fork it, clone the fork, and ask upstream to register this rig and its key."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from wasteland.dolt import binary
from wasteland.errors import Conflict, NotFound, Refused, Unreachable, Usage
from wasteland.hub import Pull
from wasteland.local import config as configuration
from wasteland.local.config import Config, Paths
from wasteland.member.anew import HISTORY, IDENTITY, start_anew
from wasteland.member.making import Place, alone, clear_leftover, config_for, fresh, place, undo
from wasteland.member.registration import Person, Say, introduce, make_known, person
from wasteland.node import standing
from wasteland.node.node import Node
from wasteland.text import name, org_db, show
from wasteland.values import dataclass

FORK_PATIENCE = 30.0  # seconds that a fork may need until it can be cloned


@dataclass(frozen=True)
class Joined:
    """What joining did."""

    node: Node
    pull: Pull | None
    already: bool = False

    def to_json(self) -> dict[str, Any]:
        """As `wl join --json` prints it."""
        config = self.node.config
        return {
            "schema_version": 1, "upstream": config.upstream, "handle": config.rig_handle,
            "fork": f"{config.fork_org}/{config.fork_db}", "local_dir": config.local_dir, "already": self.already,
            "pull": self.pull.number if self.pull else None,
        }  # fmt: skip


def join(
    where: Paths,
    upstream: str,
    *,
    handle: str | None,
    display_name: str | None,
    email: str | None,
    fork_org: str | None,
    remote_base: str | None,
    hub: str | None = None,
    direct: bool = False,
    signed: bool = False,
    anew: bool = False,
    say: Say = lambda _: None,
) -> Joined:
    """Fork, clone, make a key, and ask upstream to register this rig and its key.

    With `anew`, a wasteland that was made anew under its name is taken for the
    one that is meant: what was pinned of the old one is forgotten.
    """
    org, _ = org_db(upstream)
    known = _known(where, upstream)
    if known is not None and (known.clone / ".dolt").is_dir():
        return Joined(Node(known, where), None, already=True)
    if known is not None:  # as a peer leaves it that works without a clone
        handle, fork_org = known.rig_handle, known.fork_org
    binary.find()
    home = binary.dolt_home(where.data)
    owner = org if direct else fork_org or configuration.setting("DOLTHUB_ORG")
    spot = None
    if owner is None:
        spot = place(where, upstream, remote_base, hub)
        owner = _user(where, upstream, spot)
    name(owner, "organisation")
    who = person(handle or owner, display_name, email, home)
    if spot is None:
        spot = place(where, upstream, remote_base, hub)
        if not direct:
            _say_owner(where, upstream, spot, owner, say)
    with alone(where, upstream):
        known = _known(where, upstream)
        if known is not None and (known.clone / ".dolt").is_dir():
            return Joined(Node(known, where), None, already=True)
        clone = where.clone(upstream)
        clear_leftover(clone)
        node = Node(config_for(where, upstream, who, spot, owner, clone), where)
        node.config.signing = signed
        try:
            if (clone / ".dolt").is_dir():
                _take_up(node, spot)
                if anew:
                    start_anew(node, say)
            else:
                if anew:
                    node.config.forget(HISTORY + IDENTITY)
                _fork_and_clone(node, spot, fresh(where, upstream), direct=direct, say=say)
            pull = introduce(node, who, direct=direct, say=say)
            standing.pin(node, node.db.at("main"))
            node.config.save()
            node.db.server.made()
        except BaseException:
            undo(node, known)
            raise
    return Joined(node, pull)


def _known(where: Paths, upstream: str) -> Config | None:
    """The configuration of a wasteland that was joined before, or None."""
    return configuration.read(where, upstream) if upstream in configuration.joined(where) else None


def _user(where: Paths, upstream: str, spot: Place) -> str:
    """The hub's user whose token we have: who owns the fork unless another was named; Usage where users are unknown."""
    node = Node(config_for(where, upstream, Person("", ""), spot, "", where.clone(upstream)), where)
    user = node.hub.whoami() if node.hub else None
    node.close()
    if user is None:
        raise Usage("name the organisation that owns your fork with --fork-org (or DOLTHUB_ORG)")
    return user


def _say_owner(where: Paths, upstream: str, spot: Place, owner: str, say: Say) -> None:
    """Say where the fork is to belong to somebody else than the token's holder: it fails if he has no rights there."""
    node = Node(config_for(where, upstream, Person("", ""), spot, owner, where.clone(upstream)), where)
    try:
        user = node.hub.whoami() if node.hub else None
    except NotFound:
        user = None  # a hub that does not tell
    finally:
        node.close()
    if user is not None and user.lower() != owner.lower():
        say(f"The fork is to belong to {owner}, and the token is {user}'s: {user} must be a member of {owner}")


def _fork_and_clone(node: Node, spot: Place, clone: Path, *, direct: bool, say: Say) -> None:
    config, hub = node.config, node.hub
    if hub is None:
        raise Refused(f"provider {spot.provider!r} cannot be joined by this version")
    make_known(node, pushing=False)
    if not hub.exists(config.org, config.db):
        raise NotFound(f"there is no wasteland {config.upstream} at {spot.name}", about=config.upstream)
    if not direct:
        say("Forking commons...")
        hub.wait(hub.fork(config.org, config.db, config.fork_org))
    say("Cloning fork locally...")
    node.db.server.prepare()
    scratch = Path(tempfile.mkdtemp(prefix=".wl-clone-", dir=clone.parent))
    try:
        _clone(node, scratch, hub.url(config.fork_org, config.fork_db))
        if clone.exists():
            clone.rmdir()
        os.rename(scratch / "clone", clone)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if config.fork_org != config.org:
        say("Adding upstream remote...")
        node.db.add_remote("upstream", spot.url)


def _clone(node: Node, scratch: Path, url: str) -> None:
    """Clone into `scratch`/clone; a fork that was just made may take a while to be there."""
    deadline = time.monotonic() + (0 if node.config.provider_type == "file" else FORK_PATIENCE)
    pause = 0.5
    while True:
        try:
            binary.run(["clone", url, "clone"], cwd=scratch, env=binary.environment(node.home), timeout=600)
            return
        except Unreachable:
            if time.monotonic() > deadline:
                raise
        shutil.rmtree(scratch / "clone", ignore_errors=True)
        time.sleep(pause)
        pause = min(pause * 2, 8.0)


def _take_up(node: Node, spot: Place) -> None:
    """Go on with the clone of a wasteland that was left; Conflict when it is of another fork."""
    remotes = node.db.remotes()
    hub = node.hub
    expected = hub.url(node.config.fork_org, node.config.fork_db) if hub else None
    if remotes.get("origin") != expected or remotes.get("upstream", spot.url) != spot.url:
        raise Conflict(
            f"{node.config.local_dir} is a clone of {show(remotes.get('origin'))}, not of {show(expected)}",
            about=node.config.local_dir,
            hint="move it away, then join again",
        )
