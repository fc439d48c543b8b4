"""A company's own wasteland, made out of another one: same history and rows, its own id, roles and place."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from wasteland.commons import parents, schema, signatures
from wasteland.commons.parents import Parent
from wasteland.dolt import binary
from wasteland.errors import Conflict, Misconfigured, NotFound, Refused, Unreachable, Usage
from wasteland.local import config as configuration
from wasteland.local.config import Paths
from wasteland.member import making, registration, send_up
from wasteland.member.making import Place
from wasteland.member.registration import Person, Say
from wasteland.node import levelling, roles, signing, standing
from wasteland.node.node import Node
from wasteland.rules.lifecycle import handle_key
from wasteland.text import org_db, reason, show

PARENT = "parent"  # the remote of the parent: fetched from, never pushed to
SCHEMES = (
    "file", "http", "https", "ssh", "git+file", "git+http", "git+https", "git+ssh", "s3", "gs", "oci", "oss", "az",
)  # fmt: skip
AWS = re.compile(r"aws://\[[A-Za-z0-9._-]{1,255}:[A-Za-z0-9._-]{1,255}\]/[A-Za-z0-9._/-]{1,255}\Z")
CREATES = re.compile(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)")
GIT_ENV = {
    "HOME": "/nonexistent", "LC_ALL": "C", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0", "GIT_AUTHOR_NAME": "wasteland", "GIT_AUTHOR_EMAIL": "node@wasteland.invalid",
    "GIT_COMMITTER_NAME": "wasteland", "GIT_COMMITTER_EMAIL": "node@wasteland.invalid",
}  # fmt: skip


def remote_url(text: str) -> str:
    """`text` if it is the URL of a Dolt remote, without a credential in it; else Usage.

    Dolt's own schemes, and those of a git repository that holds a database.
    What is secret belongs into `dolt login`, the cloud's own files, or ssh.
    """
    what = f"invalid remote {show(re.sub('//[^/]*@', '//…@', text))[:200]!r}"
    if not text.isascii() or not text.isprintable() or " " in text or len(text) > 500 or set(text) & set("\"'`\\<>"):
        raise Usage(f"{what}: a URL has at most 500 characters, and no spaces or quotes")
    if AWS.match(text):
        return text
    try:
        found = urlsplit(text)
        _ = found.port
    except ValueError:
        raise Usage(f"{what}: it is no URL") from None
    if found.scheme not in SCHEMES or text.startswith("-"):
        raise Usage(f"{what}: it must start with one of {', '.join(f'{one}://' for one in (*SCHEMES, 'aws'))}")
    if found.query or found.fragment or "?" in text or "#" in text:
        raise Usage(f"{what}: it may have no ? or #")
    if found.password is not None or (found.username is not None and not found.scheme.endswith("ssh")):
        raise Usage(f"{what}: it may hold no credential", hint="dolt login, ssh, or the cloud's own files hold it")
    if found.scheme.endswith("file"):
        if found.netloc or not found.path.startswith("/") or found.path == "/" or ".." in found.path.split("/"):
            raise Usage(f"{what}: a file URL names an absolute path, as {found.scheme}:///srv/acme/commons")
    elif not found.hostname or not found.path.strip("/"):
        raise Usage(f"{what}: it names no host or no database")
    return text


def is_git(url: str) -> bool:
    """Whether Dolt takes a remote for a git repository."""
    return url.startswith(("git+", "ssh://")) or url.endswith(".git")


def fork(
    where: Paths,
    upstream: str,
    ours: str,
    *,
    remote_base: str | None = None,
    remote: str | None = None,
    hub: str | None = None,
    handle: str | None = None,
    display_name: str | None = None,
    email: str | None = None,
    private: bool = False,
    signed: bool = False,
    say: Say = lambda _: None,
) -> Node:
    """Make the wasteland `ours` out of `upstream`, with this rig as its creator, who holds every role.

    The history is shared; the id, the roles and the place are its own.  Rows
    and the handles of rigs stay; what was signed in the parent is kept apart
    and goes on to verify as the parent's.
    """
    org, db = org_db(ours)
    org_db(upstream)
    if upstream == ours:
        raise Usage(f"{ours} cannot be made out of itself", about=ours)
    binary.find()
    home = binary.dolt_home(where.data)
    who = registration.person(handle or org, display_name, email, home)
    spot = _target(where, ours, remote_base, remote, hub, private=private)
    source, known = _source(where, upstream, remote_base, hub)
    if _same(source, spot.url):
        raise Usage(f"{spot.url} is the place of {upstream} itself", about=spot.url)
    with making.alone(where, ours):
        if ours in configuration.joined(where):
            raise Conflict(f"{ours} is already joined here", about=ours, hint="wl list")
        node = Node(making.config_for(where, ours, who, spot, org, making.fresh(where, ours)), where)
        # What was pinned of an earlier wasteland of this name says nothing of a new one.
        node.config.node = {"hub": spot.hub} if spot.hub else {}
        node.config.signing = signed
        registration.make_known(node)
        if node.hub is not None and node.hub.exists(org, db):
            raise Conflict(f"{ours} already exists", about=ours, hint=f"if it is yours: wl join {ours} --direct")
        try:
            _clone(node, source, say)
            _found(node, upstream, known, who, say)
            _publish(node, spot, private=private, say=say)
        except BaseException:
            making.undo(node)
            raise
    return node


def _target(
    where: Paths, ours: str, remote_base: str | None, remote: str | None, hub: str | None, *, private: bool
) -> Place:
    """The place of the fork: a hub, or any Dolt remote, which has no pull requests."""
    if sum(one is not None for one in (remote_base, remote, hub)) > 1:
        raise Usage("give one of --remote-base, --remote, --hub")
    if remote is None:
        return making.place(where, ours, remote_base, hub)
    if private:
        raise Usage("--private is for a hub: who may read a remote is decided where it is", about="private")
    url = remote_url(remote)
    return Place("git" if is_git(url) else "remote", url)


def _source(where: Paths, upstream: str, remote_base: str | None, hub: str | None) -> tuple[str, str | None]:
    """The URL of the parent, and its id where this user has joined it and so knows it."""
    if upstream in configuration.joined(where):
        joined = Node(configuration.read(where, upstream), where)
        url = send_up.upstream_url(joined)
        if not url:
            raise Refused(f"{upstream} has no remote to fork from", about=upstream)
        return url, joined.config.node.get("wasteland_id")
    return making.place(where, upstream, remote_base, hub).url, None


def _same(one: str, other: str) -> bool:
    def plain(url: str) -> str:
        url = url.removeprefix("git+").rstrip("/")
        path = url.removeprefix("file://")
        return os.path.realpath(path) if url != path else url.lower().removesuffix(".git")

    return plain(one) == plain(other)


def _clone(node: Node, source: str, say: Say) -> None:
    """The parent's clone, with the parent as a remote that no branch of ours follows."""
    say("Cloning the parent...")
    with _cloned(node, source) as scratch:
        environment = binary.environment(node.home)
        binary.run(["remote", "remove", "origin"], cwd=scratch, env=environment)
        binary.run(["remote", "add", PARENT, source], cwd=scratch, env=environment)
    node.db.fetch(PARENT)


@contextlib.contextmanager
def _cloned(node: Node, url: str) -> Iterator[Path]:
    """A clone of a remote in a scratch folder, which becomes the node's when the block has ended well."""
    clone = node.config.clone
    node.db.server.prepare()
    scratch = Path(tempfile.mkdtemp(prefix=".wl-clone-", dir=clone.parent))
    try:
        binary.run(["clone", url, "clone"], cwd=scratch, env=binary.environment(node.home), timeout=600)
        yield scratch / "clone"
        if clone.exists():
            clone.rmdir()
        os.rename(scratch / "clone", clone)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _found(node: Node, upstream: str, known: str | None, who: Person, say: Say) -> None:
    """Turn the clone into a wasteland of its own: id, parent, creator, key, first roles."""
    db, now = node.db, node.clock()
    base = db.find("main")
    if base is None:
        raise NotFound(f"{upstream} has no branch main", about=upstream)
    levelling.refuse_more_than_rows(node, node.db.hash_of("main"))
    urn = standing.wasteland_id(node)
    if known not in (None, urn):
        raise Refused(f"{upstream} now says it is {show(urn)}; it was {known} when this rig joined", about=upstream)
    _refuse_handle(node, who)
    say("Making it a wasteland of its own...")
    with db.locked():
        db.as_root(_missing_tables(node))
        with db.founding(f"Fork {upstream}"):
            parents.set_apart(db, urn, f"urn:uuid:{uuid.uuid4()}")
            parents.record(db, Parent(urn, upstream, base))
        with db.change(f"Register rig: {who.handle}"):
            db.run("DELETE FROM rigs WHERE handle = :handle", handle=who.handle)
            registration.register(node, db, who, node.config.org)
            signing.inception(node, db, now)
            roles.first_roles(node, db, now)


def _missing_tables(node: Node) -> list[str]:
    """The statements for those of our tables that the parent does not have."""
    found, there = [], parents.tables(node.db)
    for statement in schema("attest.sql") + schema("parent.sql"):
        made = CREATES.match(statement)
        if made is None or made[1] not in there:
            found.append(statement)
    return found


def _refuse_handle(node: Node, who: Person) -> None:
    """Conflict where the creator's handle is somebody else's in the parent: with it would come their stamps."""
    for row in node.db.rows("SELECT handle, dolthub_org FROM rigs"):
        if handle_key(str(row["handle"])) != handle_key(who.handle):
            continue
        with contextlib.suppress(Refused):
            mine = signatures.supported(node.db) and signing.published(node, node.db)
            if row["handle"] == who.handle and (mine or row["dolthub_org"] == node.config.org):
                continue
        raise Conflict(
            f"the handle {show(row['handle'])} belongs to a rig of the parent, and its key is not on this machine",
            about=who.handle, hint="--handle NAME",
        )  # fmt: skip


def join_remote(
    where: Paths,
    upstream: str,
    remote: str,
    *,
    handle: str | None = None,
    display_name: str | None = None,
    email: str | None = None,
    signed: bool = False,
    say: Say = lambda _: None,
) -> Node:
    """Join a wasteland at a Dolt remote that is no hub: clone it, and register this rig and its key on its main.

    Who may push there is a member; nobody reviews what a member pushes.
    """
    org, _ = org_db(upstream)
    binary.find()
    who = registration.person(handle or org, display_name, email, binary.dolt_home(where.data))
    url = remote_url(remote)
    spot = Place("git" if is_git(url) else "remote", url)
    with making.alone(where, upstream):
        if upstream in configuration.joined(where):
            raise Conflict(f"{upstream} is already joined here", about=upstream, hint="wl list")
        node = Node(making.config_for(where, upstream, who, spot, org, making.fresh(where, upstream)), where)
        node.config.signing, node.config.mode = signed, "wild-west"
        try:
            say("Cloning...")
            with _cloned(node, url):
                pass
            registration.introduce(node, who, direct=True, say=say)
            standing.pin(node, node.db.at("main"))
            node.config.save()
            node.db.server.made()
        except BaseException:
            making.undo(node)
            raise
    return node


def _publish(node: Node, spot: Place, *, private: bool, say: Say) -> None:
    """Push the fork to a place that is empty, and write down what this machine must know."""
    config, db = node.config, node.db
    if node.hub is not None:
        node.hub.create(config.org, config.db, private=private, description="")
    elif is_git(spot.url):
        prepare_git(spot.url)
    elif spot.url.startswith("file://"):
        Path(spot.url.removeprefix("file://")).mkdir(mode=0o700, parents=True, exist_ok=True)
    say("Pushing to its own place...")
    db.add_remote("origin", spot.url)
    if node.hub is None:
        db.fetch("origin")  # a push onto the parent, or a mirror of it, would be a fast-forward
        if db.find("origin/main") is not None:
            raise Conflict(f"{spot.url} holds a database already", about=spot.url, hint="name an empty place")
        config.mode = "wild-west"  # nobody can open a pull request there
    db.push("origin", "main")
    config.node_path.unlink(missing_ok=True)
    standing.pin(node)
    with contextlib.suppress(Conflict):
        send_up.write_rules(node.paths, config.upstream)
    say("Saving config...")
    config.save()
    db.server.made()


def prepare_git(url: str) -> None:
    """See to it that a bare git repository on this machine has the first commit that Dolt needs in it.

    A repository somewhere else is left as it is.  NotFound where there is none.
    """
    if not url.removeprefix("git+").startswith("file://"):
        return
    folder = Path(url.removeprefix("git+").removeprefix("file://"))
    if not folder.is_dir():
        raise NotFound(f"there is no git repository {folder}", about=str(folder), hint=f"git init --bare {folder}")
    if _git(folder, "for-each-ref", "--count=1", "refs/heads"):
        return
    tree = _git(folder, "mktree")
    commit = _git(folder, "commit-tree", tree, "-m", "An empty start: the database lies in refs/dolt")
    _git(folder, "update-ref", "refs/heads/main", commit)


def _git(folder: Path, *words: str) -> str:
    """One command of git in a repository, without hooks or anybody's settings; what it printed."""
    environment = GIT_ENV | {"PATH": configuration.setting("PATH") or os.defpath}
    argv = ["git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=", "--git-dir", str(folder), *words]
    try:
        done = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    except FileNotFoundError as error:
        raise Misconfigured("git is not installed", hint="install git") from error
    except subprocess.TimeoutExpired as error:
        raise Unreachable(f"git did not end within 60 s in {folder}", about=str(folder)) from error
    if done.returncode:
        said = reason(done.stderr.decode("utf-8", "replace"))
        raise Misconfigured(f"git refuses {folder}: {said}", about=str(folder))
    return done.stdout.decode("ascii", "replace").strip()
