"""What is wrong with this installation or clone, and how to mend it without losing anything."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta

from wasteland.care import hub_check
from wasteland.care.findings import FAILURE, OK, WARNING, Finding
from wasteland.commons import leases, rigs, signatures, wanted
from wasteland.dolt import binary
from wasteland.dolt.changes import UNCOMMITTED
from wasteland.errors import WastelandError
from wasteland.local import config as configuration
from wasteland.local.config import Paths
from wasteland.node import levelling, roles
from wasteland.node.node import Node, open_node
from wasteland.node.upgrade import version
from wasteland.rules import lease
from wasteland.text import show

SCHEMA = 1  # the newest major version of a commons that this program knows
SOON = timedelta(days=1)  # from now on, a lease that ends is said


def examine(paths: Paths, upstream: str | None, *, fix: bool = False) -> list[Finding]:
    """Look at programs, configuration, clone, key, upstream, hub and fork; with `fix`, mend what can be."""
    found = list(_programs())
    known = configuration.joined(paths)
    if not known and upstream is None:
        return [*found, Finding(WARNING, "wasteland", "none is joined", "wl join <org/db>")]
    for name in [upstream] if upstream else known:
        found += _guarded(paths, name, fix=fix)
    return found


def _programs() -> Iterator[Finding]:
    try:
        yield Finding(OK, "dolt", str(binary.find()))
    except WastelandError as error:
        yield Finding(FAILURE, "dolt", error.message, error.hint or "")
    git = shutil.which("git")
    yield Finding(OK, "git", git) if git else Finding(WARNING, "git", "not found; gt needs it", "install git")


def _guarded(paths: Paths, upstream: str, *, fix: bool) -> list[Finding]:
    try:
        node = open_node(upstream, paths)
    except WastelandError as error:
        return [Finding(FAILURE, upstream, error.message, error.hint or "")]
    found: list[Finding] = []
    try:
        found += [_clone(node, fix), *_dirty(node, fix)]
        account = hub_check.account(node, fix)
        found += account
        for look in (_upstream, _registered, _key, _roles, _schema, _leases):
            found.append(look(node, fix))
        found += hub_check.commons(node, fix, reachable=hub_check.is_reached(account))
    except WastelandError as error:
        found.append(Finding(FAILURE, upstream, error.message, error.hint or ""))
    finally:
        node.close()
    return found


def _clone(node: Node, fix: bool) -> Finding:
    node.db.hash_of("main")
    server = node.db.server
    if before := node.config.moved_from:
        said = f"{server.clone}; it was {before} before it moved"
        if not fix:
            return Finding(WARNING, "clone", said, "wl doctor --fix writes it down for other programs")
        node.config.save()
        return Finding(OK, "clone", f"{said}; written down")
    if not server.ours:
        return Finding(
            WARNING, "clone", f"{server.clone} was made by another program",
            f"while our server runs (it stops after {server.idle:g} idle seconds) that program cannot switch branches",
        )  # fmt: skip
    return Finding(OK, "clone", str(server.clone))


def _dirty(node: Node, fix: bool) -> Iterator[Finding]:
    """What was never committed; with `fix` it is kept, a branch at a time."""
    dirty = node.db.dirty_branches()
    if not dirty:
        yield Finding(OK, "working set", "clean")
        return
    if not fix:
        said = f"there are changes that were never committed on {show(', '.join(dirty))}"
        yield Finding(FAILURE, "working set", said, UNCOMMITTED)
        return
    kept: list[str] = []
    for branch in dirty:
        try:
            kept.append(_keep(node, branch))
        except WastelandError as error:
            said = f"the uncommitted changes on {show(branch)} could not be kept: {error.message}"
            hint = error.hint or "wl server stop; then commit or reset them there with dolt"
            yield Finding(FAILURE, "working set", said, hint)
    if kept:
        yield Finding(OK, "working set", f"the uncommitted changes are kept on {', '.join(kept)}")


def _keep(node: Node, branch: str) -> str:
    """Move what lies uncommitted on a branch to a branch of its own; its name."""
    view = node.db.at(branch)
    with node.db.locked():
        before = view.hash_of(branch)
        aside = f"aside/{node.clock():%Y%m%d-%H%M%S}-uncommitted" + (f"/{branch}" if branch != "main" else "")
        with view.founding("wl doctor: changes that were never committed"):
            pass
        node.db.branch(aside, view.hash_of(branch))
        view.reset(before)
    return aside


def _registered(node: Node, fix: bool) -> Finding:
    rig = rigs.get(node.db.at("main"), node.handle)
    if rig is None:
        waits = node.db.is_branch(f"wl/register/{node.handle}")
        return Finding(
            WARNING, "registration", f"{node.handle} is not registered upstream yet",
            "a maintainer merges its pull request; wl sync" if waits else "wl leave, then wl join asks again",
        )  # fmt: skip
    return Finding(OK, "registration", f"{node.handle} of {rig.dolthub_org}")


def _key(node: Node, fix: bool) -> Finding:
    if node.key is None:
        return Finding(WARNING, "key", "this rig has no key here: what it writes is unsigned", "join with this program")
    view = node.db.at("main")
    if not signatures.supported(view):
        return Finding(WARNING, "key", "this commons has no tables for signatures: what you write is unsigned")
    if not signatures.key_events(view, node.handle):
        return Finding(
            WARNING, "key", f"{node.key.did} is not published upstream yet", "a maintainer merges it; wl sync"
        )
    return Finding(OK, "key", node.key.did)


def _roles(node: Node, fix: bool) -> Finding:
    document = roles.roles_document(node)
    if document is None:
        return Finding(WARNING, "roles", "this commons has none: only posters may accept")
    held = ", ".join(sorted(roles.roles_of(node, node.handle))) or "no role"
    return Finding(OK, "roles", f"version {document['version']}; {node.handle} holds {held}")


def _schema(node: Node, fix: bool) -> Finding:
    major, minor = version(node.db.at("main"))
    if (major, minor) == (0, 0):
        return Finding(WARNING, "schema", "this commons does not say its version")
    if major > SCHEMA:
        return Finding(
            FAILURE, "schema", f"version {major}.{minor}; this program knows {SCHEMA}.x", "install a newer wl"
        )
    return Finding(OK, "schema", f"version {major}.{minor}")


def _leases(node: Node, fix: bool) -> Finding:
    """Leases of this rig's claims that end soon or have ended."""
    main, now = node.db.at("main"), node.clock()
    held = {one.id for one in wanted.listing(main, {"claimed_by": node.handle, "status": "claimed"}, 1000)}
    mine = {item: one for item, one in leases.of_all(main).items() if one.rig == node.handle and item in held}
    soon = [f"{item}: {lease.sentence(one, now)}" for item, one in sorted(mine.items()) if one.expires_at - now < SOON]
    if soon:
        return Finding(WARNING, "leases", "; ".join(soon), "wl renew, or wl unclaim")
    return Finding(OK, "leases", f"{len(mine)} of this rig's claims, none ends within a day")


def _upstream(node: Node, fix: bool) -> Finding:
    if not node.has_remotes:
        return Finding(OK, "upstream", "none: this wasteland is on this machine only")
    try:
        head = levelling.refresh(node)
    except WastelandError as error:
        return Finding(FAILURE, "upstream", error.message, hub_check.hint_of(error) or hub_check.reading(error))
    return Finding(OK, "upstream", f"{node.config.upstream} at {head}")
