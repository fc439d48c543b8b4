"""What a rig says of itself, and how it gets into the registry: with its key, by a pull request or on main."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wasteland.commons import rigs
from wasteland.dolt import binary
from wasteland.dolt.database import Database
from wasteland.errors import Conflict, Refused, Unauthenticated
from wasteland.hub import Pull
from wasteland.models import Rig
from wasteland.node import carry, landing, levelling, signing
from wasteland.node.node import Node
from wasteland.rules.lifecycle import handle_key
from wasteland.rules.policy.rigs import unfit_rig
from wasteland.text import checked, name
from wasteland.values import dataclass

VERSION = "dev"  # what peers write in gt_version, and what they expect to read
Say = Callable[[str], None]


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


def person(handle: str, display_name: str | None, email: str | None, home: Path) -> Person:
    """A rig's words about itself, checked; the display name defaults to the user's Dolt identity."""
    shown = checked(display_name or binary.user_name(home) or handle, "display_name")
    return Person(name(handle, "handle"), shown, checked(email, "owner_email") if email else "")


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


def introduce(node: Node, who: Person, *, direct: bool, say: Say) -> Pull | None:
    """Register the rig and its key: on a branch with a pull request, or on main where that may be pushed."""
    db, config = node.db, node.config
    levelling.refresh(node)
    levelling.refuse_more_than_rows(node, db.hash_of(levelling.MAIN))
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
        landing.landing(node, message, lambda: register_on(node, db, who), push=True)
        return None
    branch = f"wl/register/{who.handle}"
    if not db.is_branch(branch):
        db.branch(branch, "main")
        view = db.at(branch)
        with view.change(message):
            register_on(node, view, who)
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


def register_on(node: Node, view: Database, who: Person) -> None:
    """The rig and its key, inside a change of `view`."""
    from wasteland.commons import signatures

    register(node, view, who, node.config.fork_org)
    if signatures.supported(view):
        signing.inception(node, view, node.clock())


def register(node: Node, view: Database, who: Person, org: str) -> None:
    """The row of a rig, inside a change of `view`."""
    rig = Rig(who.handle, who.display_name, org, who.hop_uri, who.email or None, VERSION)
    rigs.register(view, rig, node.clock())


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
