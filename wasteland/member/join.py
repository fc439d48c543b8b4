"""Make a wasteland, join one, leave one."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wasteland.commons import rigs, schema
from wasteland.dolt import binary
from wasteland.dolt.database import Database
from wasteland.dolt.server import Server
from wasteland.errors import Conflict, NotFound, Refused, Unauthenticated, Unreachable, Usage
from wasteland.hub import Pull
from wasteland.local import config as configuration
from wasteland.local.config import Config, Paths
from wasteland.models import Rig
from wasteland.node import carry, landing, levelling, roles, signing, standing
from wasteland.node.node import Node, utc_now
from wasteland.rules.auto_land import commented
from wasteland.rules.lifecycle import handle_key
from wasteland.rules.policy.rigs import unfit_rig
from wasteland.text import checked, name, org_db, show

FORK_PATIENCE = 30.0  # seconds that a fork may need until it can be cloned
VERSION = "dev"  # what peers write in gt_version, and what they expect to read
Say = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """Where a wasteland's databases are: the provider, the URL of upstream, and the hub's address, where it has one."""

    provider: str
    url: str
    hub: str | None = None

    @property
    def name(self) -> str:
        """The place in words."""
        return self.hub or self.url.removeprefix("file://").rpartition("/")[0].rpartition("/")[0]


@dataclass(frozen=True)
class Person:
    """What a rig says of itself.  The address is published to everybody, so it is empty unless given."""

    handle: str
    display_name: str
    email: str = ""

    @property
    def hop_uri(self) -> str:
        """The rig's URI, as peers build it."""
        return f"hop://{self.email}/{self.handle}/" if self.email else f"hop://{self.handle}/"


def place(where: Paths, upstream: str, remote_base: str | None, hub: str | None = None) -> Place:
    """Where `upstream` is: in a folder, at the hub named, at WL_HUB, or at DoltHub.

    Usage for an address that is none, Unreachable where a hub does not answer,
    Unauthenticated where there is no token for it.
    """
    org, db = org_db(upstream)
    if remote_base is not None:
        if hub is not None:
            raise Usage("--remote-base and --hub exclude each other")
        if "://" in remote_base:
            raise Usage("--remote-base is a folder, not an address", hint="--hub URL names a hub")
        return Place("file", f"file://{Path(remote_base).absolute()}/{org}/{db}")
    from wasteland.hub.credentials import find_token
    from wasteland.hub.site import DOLTHUB, base_url, cache_folder, discover

    base = base_url(hub or configuration.setting("WL_HUB") or DOLTHUB)
    if find_token(base, where) is None:
        hint = "wl login, or DOLTHUB_TOKEN; or --remote-base <folder>" if base == DOLTHUB else f"wl login --hub {base}"
        raise Unauthenticated(f"there is no token for {base}", hint=hint)
    return Place("dolthub", f"{discover(base, cache_folder(where)).remote}/{org}/{db}", base)


def person(handle: str, display_name: str | None, email: str | None, home: Path) -> Person:
    """A rig's words about itself, checked; the display name defaults to the user's Dolt identity."""
    known, _ = binary.identity(home)
    shown = checked(display_name or known or handle, "display_name")
    return Person(name(handle, "handle"), shown, checked(email, "owner_email") if email else "")


def _fresh(where: Paths, upstream: str) -> Path:
    """Where the clone goes; what an interrupted create or join left there is removed first.

    Conflict when a clone lies there that holds somebody's work.
    """
    clone = where.clone(upstream)
    _clear_leftover(clone)
    if clone.exists() and any(clone.iterdir()):
        raise Conflict(f"{clone} already exists", about=str(clone), hint="wl join takes it up again; or move it away")
    return clone


def _clear_leftover(clone: Path) -> None:
    """Remove a clone that was being made when its command was killed: nobody was told that it exists."""
    clone.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    server = Server(clone, clone)
    if server.being_made:
        server.stop()
        shutil.rmtree(clone, ignore_errors=True)
        shutil.rmtree(server.folder, ignore_errors=True)


def _alone(where: Paths, upstream: str) -> AbstractContextManager[None]:
    """One create or join of a wasteland at a time: what one begins, another must not take for a leftover."""
    org, db = org_db(upstream)
    return configuration.locked(where.data / "wasteland" / org / f".{db}.join.lock")


def _config(where: Paths, upstream: str, who: Person, spot: Place, fork_org: str, clone: Path) -> Config:
    return Config(
        path=where.wasteland(upstream), upstream=upstream, rig_handle=who.handle, provider_type=spot.provider,
        upstream_url=spot.url, fork_org=fork_org, fork_db=org_db(upstream)[1], local_dir=str(clone),
        hop_uri=who.hop_uri, joined_at=utc_now().strftime("%Y-%m-%dT%H:%M:%SZ"), mode="pr", backend="local",
        node_path=where.node(upstream), node=_pins(where, upstream) | ({"hub": spot.hub} if spot.hub else {}),
    )  # fmt: skip


def _pins(where: Paths, upstream: str) -> dict[str, Any]:
    """What was pinned when this user joined before: leaving a wasteland does not forget who it was."""
    path = where.node(upstream)
    return configuration.read_json(path) if path.exists() else {}


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
        checked(title, "title")
    spot = Place("file", "") if local_only and not (remote_base or hub) else place(where, upstream, remote_base, hub)
    with _alone(where, upstream):
        if upstream in configuration.joined(where):
            raise Conflict(f"{upstream} is already joined here", about=upstream, hint="wl list")
        node = Node(_config(where, upstream, who, spot, org, _fresh(where, upstream)), where)
        node.config.signing = signed
        if node.hub is not None and not local_only:
            make_known(node)
            node.hub.create(org, db, private=private, description=title or "")
        try:
            _make(node, who, title, None if local_only else spot.url, say)
        except BaseException:
            _undo(node)
            raise
    return node


def _make(node: Node, who: Person, title: str | None, url: str | None, say: Say) -> None:
    """The clone of a new commons, its first commits, and upstream at `url`, where it is to have one."""
    clone = node.config.clone
    node.db.server.prepare()
    clone.mkdir(mode=0o700, exist_ok=True)
    say("Initializing dolt database...")
    binary.run(["init"], cwd=clone, env=binary.environment(node.home))
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
            _register(node, db, who, node.config.org)
            signing.inception(node, db, now)
            roles.first_roles(node, db, now)


def _register(node: Node, view: Database, who: Person, org: str) -> None:
    rig = Rig(who.handle, who.display_name, org, who.hop_uri, who.email or None, VERSION)
    rigs.register(view, rig, node.clock())


def _undo(node: Node, known: Config | None = None) -> None:
    """Leave nothing of a failed create or join on this machine; a clone and a configuration from before stay."""
    node.close()
    _clear_leftover(node.config.clone)
    if known is None:
        node.config.path.unlink(missing_ok=True)


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
    say: Say = lambda _: None,
) -> Joined:
    """Fork, clone, make a key, and ask upstream to register this rig and its key."""
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
    with _alone(where, upstream):
        known = _known(where, upstream)
        if known is not None and (known.clone / ".dolt").is_dir():
            return Joined(Node(known, where), None, already=True)
        clone = where.clone(upstream)
        _clear_leftover(clone)
        node = Node(_config(where, upstream, who, spot, owner, clone), where)
        node.config.signing = signed
        try:
            if (clone / ".dolt").is_dir():
                _take_up(node, spot)
            else:
                _fork_and_clone(node, spot, _fresh(where, upstream), direct=direct, say=say)
            pull = _introduce(node, who, direct=direct, say=say)
            standing.pin(node, node.db.at("main"))
            node.config.save()
            node.db.server.made()
        except BaseException:
            _undo(node, known)
            raise
    return Joined(node, pull)


def _known(where: Paths, upstream: str) -> Config | None:
    """The configuration of a wasteland that was joined before, or None."""
    return configuration.read(where, upstream) if upstream in configuration.joined(where) else None


def _user(where: Paths, upstream: str, spot: Place) -> str:
    """The hub's user whose token we have: who owns the fork unless another was named; Usage where users are unknown."""
    node = Node(_config(where, upstream, Person("", ""), spot, "", where.clone(upstream)), where)
    user = node.hub.whoami() if node.hub else None
    node.close()
    if user is None:
        raise Usage("name the organisation that owns your fork with --fork-org (or DOLTHUB_ORG)")
    return user


def _say_owner(where: Paths, upstream: str, spot: Place, owner: str, say: Say) -> None:
    """Say where the fork is to belong to somebody else than the token's holder: it fails if he has no rights there."""
    node = Node(_config(where, upstream, Person("", ""), spot, owner, where.clone(upstream)), where)
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


def make_known(node: Node, *, pushing: bool = True) -> None:
    """See to it that the hub knows the key that Dolt shows to it; it pushes in nobody's name otherwise.

    Raises Unauthenticated where the user must do it on the hub's own page;
    not for who does without `pushing`, since rows may travel by a token too.
    """
    if node.hub is None or node.hub.kind == "file":
        return
    from wasteland.hub.credentials import dolt_key, selected_key

    if node.hub.takes_keys:
        node.hub.register_key(dolt_key(node.home))
        return
    if pushing and selected_key(node.home) is None:
        raise Unauthenticated(
            "Dolt has no key that the hub knows, so it could not push", about=node.config.upstream, hint="wl login"
        )


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


def _introduce(node: Node, who: Person, *, direct: bool, say: Say) -> Pull | None:
    """Register the rig and its key: on a branch with a pull request, or on main where that may be pushed."""
    db, config = node.db, node.config
    levelling.refresh(node)
    levelling.refuse_system_tables(node)
    known = rigs.get(db, who.handle)
    if known is not None and known.dolthub_org != config.fork_org:
        raise Conflict(f"the handle {who.handle} belongs to somebody else", about=who.handle, hint="--handle NAME")
    if known is not None and _key_known(node):
        return None
    if known is None:
        _refuse_unfit(node, who)
    say("Registering rig...")
    message = f"Register rig: {who.handle}"
    if direct:
        landing.landing(node, message, lambda: _register_on(node, db, who), push=True)
        return None
    branch = f"wl/register/{who.handle}"
    if not db.is_branch(branch):
        db.branch(branch, "main")
        view = db.at(branch)
        with view.change(message):
            _register_on(node, view, who)
    say("Pushing branch to fork...")
    # What an earlier try left there was this rig's own, and has not landed.
    carry.push(node, "origin", branch, force=True)
    return _ask(node, branch, who, say)


def _refuse_unfit(node: Node, who: Person) -> None:
    """Refused where no review could let this rig in: its handle can be taken for another's, or is none."""
    handles = [str(row["handle"]) for row in node.db.at("main").rows("SELECT handle FROM rigs ORDER BY handle")]
    row = {"handle": who.handle, "dolthub_org": node.config.fork_org}
    why = unfit_rig(row, node.config.fork_org, {}, {handle_key(handle): handle for handle in handles})
    if why:
        raise Refused(f"cannot register {who.handle}: {why} (RIG-ADD)", about=who.handle, hint="--handle NAME")


def _key_known(node: Node) -> bool:
    """Whether upstream has this rig's key; Refused when it has one that is not here."""
    from wasteland.commons import signatures

    view = node.db.at("main")
    return not signatures.supported(view) or signing.published(node, view)


def _register_on(node: Node, view: Database, who: Person) -> None:
    """The rig and its key, inside a change of `view`."""
    from wasteland.commons import signatures

    _register(node, view, who, node.config.fork_org)
    if signatures.supported(view):
        signing.inception(node, view, node.clock())


def _ask(node: Node, branch: str, who: Person, say: Say) -> Pull | None:
    if node.hub is None:
        return None
    say("Opening pull request...")
    return node.hub.open_pull(
        node.fork_branch(branch),
        node.upstream_main,
        f"Register rig: {who.handle}",
        f"Register rig **{who.handle}** in the commons.",
        who.handle,
    )


def leave(where: Paths, upstream: str | None) -> Config:
    """Forget a wasteland: its configuration goes, clone, key and history stay."""
    config = configuration.load(where, upstream)
    node = Node(config, where)
    if config.clone.exists():
        node.db.server.stop()
    config.path.unlink()
    return config
