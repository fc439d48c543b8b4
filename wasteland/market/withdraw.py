"""Take back what this rig proposes of an item, before anybody lands it."""

from __future__ import annotations

from wasteland.errors import NotFound, Refused
from wasteland.market.items import resolve
from wasteland.node import landing, levelling, sync
from wasteland.node.node import Node
from wasteland.text import show
from wasteland.values import dataclass


@dataclass(frozen=True)
class Withdrawn:
    """What was taken back: the item, the pull request that was closed, and the branch that keeps the work."""

    item: str
    pull: int | None
    kept: str

    def to_json(self) -> dict[str, object]:
        """As `wl withdraw --json` prints it."""
        return {"schema_version": 1, "item": self.item, "pull": self.pull, "kept": self.kept}


def withdraw(node: Node, text: str) -> Withdrawn:
    """Close this rig's pull request for an item and take its branch off the fork; the work stays here under `lost/`.

    Run again after a kill, it goes on.  NotFound where this rig proposes
    nothing of the item, Refused in wild-west mode, where rows land at once,
    and where the work has landed.
    """
    if node.config.mode != "pr":
        raise Refused("in wild-west mode rows land at once", hint="wl unclaim or wl delete takes a step back")
    with node.db.locked():
        if node.has_remotes:
            levelling.refresh(node)
        item_id = resolve(node, text)
        branch = sync.item_branch(node, item_id)
        if not node.db.is_branch(branch):
            raise NotFound(f"{node.handle} proposes nothing of {show(item_id)}", about=item_id, hint="wl me")
        if landing.landed(node, branch):
            raise Refused(f"what {node.handle} proposed of {item_id} has landed", about=item_id, hint="wl sync")
        pull = sync.find_pull(node, branch)
        kept = sync.set_aside(node, branch, "Withdrawn by its author.", push=node.has_remotes)
    return Withdrawn(item_id, pull.number if pull else None, kept)
