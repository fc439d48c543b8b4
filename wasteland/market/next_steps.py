"""What this rig can do now, in the order in which it should: answer, renew, hand in, claim."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from wasteland.commons import leases
from wasteland.errors import WastelandError
from wasteland.market.browse import Listed, browse, status
from wasteland.node.node import Node
from wasteland.review.respond import said_of
from wasteland.rules.lease import OVER, Lease, sentence, state
from wasteland.rules.policy.wanted import odd_id
from wasteland.values import dataclass

ANSWER, RENEW, HAND_IN, CLAIM = "answer", "renew", "hand-in", "claim"
SOON = timedelta(hours=24)  # a lease that ends within this time is to be renewed
MOST = 10  # items to claim that are told
LOOKED = 10_000  # items of the board that are looked at


@dataclass(frozen=True)
class Step:
    """One thing to do: what, with which item, why, and the command; words in capitals are for the user to fill in."""

    do: str
    item: str
    title: str
    command: str
    why: str
    pull: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The step as `wl me --next --json` prints it."""
        return {name: value for name, value in vars(self).items() if value is not None}


def next_steps(node: Node) -> list[Step]:
    """What this rig can do now, the most urgent first; as of the last look at upstream, and of the hub's answer."""
    board = browse(node, {}, limit=LOOKED)
    held = [one for one in board if one.item.claimed_by == node.handle and one.item.status == "claimed"]
    answers = list(_answers(node, board))
    leased = [(one.item, lease) for one in held if (lease := _lease(node, one)) is not None]
    renewals = [
        Step(RENEW, item.id, item.title, f"wl renew {item.id}", sentence(lease, node.clock()))
        for item, lease in leased
        if lease.expires_at - node.clock() <= SOON
    ]
    answered = {one.item for one in answers}
    work = [
        Step(HAND_IN, one.item.id, one.item.title, f"wl done {one.item.id} --evidence EVIDENCE", "you claimed it")
        for one in held
        if one.item.id not in answered
    ]
    return [*answers, *renewals, *work, *list(_claims(node, board))[:MOST]]


def _lease(node: Node, one: Listed) -> Lease | None:
    """The lease of this rig's claim, as its branch has it while that has not landed."""
    found = leases.of_item(node.db.at(one.branch), one.item.id) if one.branch else one.lease
    return found if found and found.rig == node.handle else None


def _answers(node: Node, board: list[Listed]) -> Iterator[Step]:
    """Changes that were asked for of what this rig proposes as it is, and what of it was turned down."""
    if node.hub is None or node.config.mode != "pr":
        return
    own = [one for one in board if one.branch]
    try:
        offered = node.hub.pulls(node.config.org, node.config.db) if own else []
        for one in own:
            said = said_of(node, str(one.branch), offered)
            if said:
                item, may = one.item, "done" in status(node, one.item.id).actions
                command = f"wl done {item.id} --evidence EVIDENCE" if may else f"wl withdraw {item.id}"
                yield Step(ANSWER, item.id, item.title, command, said.sentence, said.pull.number)
    except WastelandError as error:
        node.notice(f"what reviewers said is not known: {error.message}")


def _claims(node: Node, board: list[Listed]) -> Iterator[Step]:
    """Items of others that nobody is on: open, or claimed under a lease that may be taken over."""
    free = [one for one in board if not one.pending and one.item.posted_by != node.handle and not odd_id(one.item.id)]
    for one in free:
        if one.item.status == "open" and one.branch is None:
            yield Step(CLAIM, one.item.id, one.item.title, f"wl claim {one.item.id}", "it is open")
    for one in free:
        lease = one.lease
        if lease is not None and lease.rig != node.handle and state(lease, node.clock()) == OVER:
            command = f"wl claim {one.item.id} --take-over"
            yield Step(CLAIM, one.item.id, one.item.title, command, f"{lease.rig}: {sentence(lease, node.clock())}")
