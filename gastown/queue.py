"""Which bead is next, what a person can do about it, and which paths are surprising.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gastown.models import Bead, Hold, Phase

MAX_LOSSES = 10
"""Runs that the machine may lose before a person has to look."""

CONTROL_FILES = frozenset(
    {".gitmodules", ".gitattributes", ".gitlab-ci.yml", ".pre-commit-config.yaml", ".envrc", ".travis.yml"}
)
CONTROL_FOLDERS = frozenset({".githooks", ".github", ".circleci", ".husky", ".git"})
KINDS = ("control", "symlink", "submodule")
"""Kinds of surprising path, as `gt rig add --allow` names them."""


@dataclass(frozen=True)
class Change:
    """One path that a merge would change on main; modes are git's, old and new."""

    path: str
    old_mode: str
    new_mode: str


def startable(beads: Iterable[Bead], live: int, cap: int) -> list[Bead]:
    """Beads to start now: oldest first, never more than `cap` runs at once."""
    ready = sorted((b for b in beads if b.phase is Phase.READY), key=lambda b: (b.created_at, b.id))
    return ready[: max(0, cap - live)]


def reviewable(beads: Iterable[Bead]) -> list[Bead]:
    """Beads whose commits wait for the Refinery: oldest first."""
    return sorted((b for b in beads if b.phase is Phase.REVIEW), key=lambda b: (b.created_at, b.id))


def after_failure(attempts: int, max_attempts: int) -> Phase:
    """Where a bead goes after its `attempts`-th spoiled run."""
    return Phase.STUCK if attempts >= max_attempts else Phase.READY


def after_loss(losses: int) -> Phase:
    """Where a bead goes after the machine lost its run: back, and no attempt is spent."""
    return Phase.STUCK if losses >= MAX_LOSSES else Phase.READY


def next_step(bead: Bead) -> str:
    """The command that a person can give about this bead now; empty when there is none."""
    if bead.phase is Phase.HELD:
        return f"gt approve {bead.id}" if bead.held_for is Hold.APPROVAL else f"gt sling {bead.id} --budget 20m"
    if bead.phase is Phase.STUCK:
        return f"gt sling {bead.id}"
    if bead.phase is Phase.LANDED:
        return "" if bead.wanted_id is None or bead.reported_at else "gt up --once"
    return "" if bead.phase is Phase.CANCELLED else "gt up --once"


def kind_of(change: Change) -> str | None:
    """The kind of surprise a path is, or None for ordinary content.

    Case does not matter: on some file systems `.GitModules` is `.gitmodules`.
    """
    if "120000" in (change.old_mode, change.new_mode):
        return "symlink"
    if "160000" in (change.old_mode, change.new_mode):
        return "submodule"
    parts = change.path.lower().split("/")
    if parts[-1] in CONTROL_FILES or any(part in CONTROL_FOLDERS for part in parts):
        return "control"
    return None


def surprises(changes: Sequence[Change], allow: Sequence[str]) -> list[str]:
    """`path (kind)` of every change that may not land on a rig that allows only `allow`."""
    found = [(change.path, kind_of(change)) for change in changes]
    return [f"{path} ({kind})" for path, kind in found if kind is not None and kind not in allow]
