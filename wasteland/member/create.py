"""Make a wasteland."""

from __future__ import annotations

import contextlib
import uuid

from wasteland.commons import schema
from wasteland.dolt import binary
from wasteland.errors import Conflict
from wasteland.local import config as configuration
from wasteland.local.config import Paths
from wasteland.member.making import Place, alone, config_for, fresh, place, undo
from wasteland.member.registration import Person, Say, make_known, person, register
from wasteland.node import roles, signing, standing
from wasteland.node.node import Node, author
from wasteland.rules.auto_land import commented
from wasteland.text import checked, org_db


def create(
    where: Paths,
    upstream: str,
    *,
    handle: str | None,
    display_name: str | None,
    email: str | None,
    title: str | None,
    remote_base: str | None,
    hub: str | None = None,
    private: bool = False,
    local_only: bool = False,
    signed: bool = False,
    say: Say = lambda _: None,
) -> Node:
    """Make a commons with this rig as its creator, who holds every role; publish it unless `local_only`."""
    org, db = org_db(upstream)
    if upstream in configuration.joined(where):
        raise Conflict(f"{upstream} is already joined here", about=upstream, hint="wl list")
    binary.find()
    home = binary.dolt_home(where.data)
    who = person(handle or org, display_name, email, home)
    if title is not None:
        title = checked(title, "title")
    spot = Place("file", "") if local_only and not (remote_base or hub) else place(where, upstream, remote_base, hub)
    with alone(where, upstream):
        if upstream in configuration.joined(where):
            raise Conflict(f"{upstream} is already joined here", about=upstream, hint="wl list")
        node = Node(config_for(where, upstream, who, spot, org, fresh(where, upstream)), where)
        node.config.signing = signed
        if node.hub is not None and not local_only:
            make_known(node)
            node.hub.create(org, db, private=private, description=title or "")
        try:
            _make(node, who, title, None if local_only else spot.url, say)
        except BaseException:
            undo(node)
            raise
    return node


def _make(node: Node, who: Person, title: str | None, url: str | None, say: Say) -> None:
    """The clone of a new commons, its first commits, and upstream at `url`, where it is to have one."""
    clone = node.config.clone
    node.db.server.prepare()
    clone.mkdir(mode=0o700, exist_ok=True)
    say("Initializing dolt database...")
    name, _, email = author(node.config, node.home).rstrip(">").rpartition(" <")
    binary.run(["init", "--name", name, "--email", email], cwd=clone, env=binary.environment(node.home))
    _found(node, who, title, say)
    if url is not None:
        say("Pushing to remote...")
        node.db.add_remote("origin", url)
        node.db.push("origin", "main")
    standing.pin(node)
    say("Saving config...")
    with contextlib.suppress(FileExistsError):
        configuration.write_rules(node.paths.house(node.config.upstream), commented(node.config.upstream))
    node.config.save()
    node.db.server.made()


def _found(node: Node, who: Person, title: str | None, say: Say) -> None:
    """Tables, the wasteland's identity, the creator, the creator's key and the first roles."""
    db, now = node.db, node.clock()
    say("Applying commons schema...")
    with db.locked():
        db.as_root(schema("commons.sql") + schema("attest.sql"))
        urn = f"urn:uuid:{uuid.uuid4()}"
        with db.founding("Initialize commons schema v1.0"):
            db.run("INSERT INTO _meta (`key`, value) VALUES ('wasteland_id', :urn)", urn=urn)
            if title:
                db.run("INSERT INTO _meta (`key`, value) VALUES ('wasteland_name', :name)", name=title)
        say("Registering rig...")
        with db.change(f"Register rig: {who.handle}"):
            register(node, db, who, node.config.org)
            signing.inception(node, db, now)
            roles.first_roles(node, db, now)
