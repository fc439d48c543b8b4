"""The merge queue for data: approved pull requests land in order, each judged anew on what has landed before it.

What holds lands.  What conflicts stays open; both authors are told which rows
and columns, who was first, and what else is free.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from wasteland.commons import wanted
from wasteland.dolt.history import told
from wasteland.errors import NotFound, Refused, Unauthenticated, Unreachable, WastelandError
from wasteland.hub import Pull
from wasteland.local import config as configuration
from wasteland.node import levelling
from wasteland.node.forks import Pinned, book, fetched, pin
from wasteland.node.node import Node, need_hub
from wasteland.node.verdicts import APPROVE, Verdict
from wasteland.review import land, respond
from wasteland.review.judge import Review, code, examine
from wasteland.rules.auto_land import House, verbs_of
from wasteland.rules.lifecycle import OPEN
from wasteland.rules.policy.findings import AUTO, REVIEW
from wasteland.values import dataclass

LANDED, WOULD, NOTHING, WAITING, CONFLICT, REFUSED, MOVED, GONE = (
    "landed", "would land", "nothing", "waiting", "conflict", "refused", "moved", "gone"
)  # fmt: skip
FREE = 3  # items that are offered to somebody whose claim came second
LOOK_BACK = 1000  # commits in which the landing of a rival is looked for


@dataclass(frozen=True)
class Outcome:
    """What the queue made of one pull request, and why."""

    pull: int
    source: str
    state: str
    detail: str = ""
    head: str = ""
    commit: str = ""

    def to_json(self) -> dict[str, Any]:
        """As `wl queue --json` prints it."""
        return {name: value for name, value in vars(self).items() if value != ""}


def run(node: Node, *, auto: bool = False, dry_run: bool = False) -> Iterator[Outcome]:
    """Take the open pull requests in order, and land what is approved; with `auto`, also what needs no person.

    Both are as the rules of the house say.  Refused for who may not merge here.  Raises Unreachable where upstream does
    not answer any more; what was landed before stays landed.
    """
    land.need_maintainer(node)
    house = configuration.rules(node.paths.house(node.config.upstream), House.parse) or House()
    levelling.refresh(node)
    for pull in need_hub(node).pulls(node.config.org, node.config.db):
        with node.db.locked():  # one at a time, so that other commands of this clone get their turn between two
            found = _apart(node, pull, house, auto=auto, dry_run=dry_run)
        yield found


def _apart(node: Node, pull: Pull, house: House, *, auto: bool, dry_run: bool) -> Outcome:
    """One pull request; whatever a stranger put into it, the others get their turn."""
    try:
        return _one(node, pull, house, auto=auto, dry_run=dry_run)
    except Unreachable:
        raise
    except WastelandError as error:
        return Outcome(pull.number, str(pull.source), REFUSED, error.message)
    except Exception as error:
        return Outcome(pull.number, str(pull.source), REFUSED, f"it cannot be read: {type(error).__name__}")


def _one(node: Node, pull: Pull, house: House, *, auto: bool, dry_run: bool) -> Outcome:
    source = str(pull.source)
    if pull.target != node.upstream_main:
        return Outcome(pull.number, source, REFUSED, f"it is offered to {pull.target}, not to main")
    try:
        head = fetched(node, pull.source)
        found = pin(node, source, pull.source.org, head, levelling.upstream_head(node), pull)
    except (NotFound, Refused, Unauthenticated, Unreachable) as error:
        return Outcome(pull.number, source, GONE, error.message)
    if done := land.over(node, found):
        return _over(node, pull, done, dry_run=dry_run)
    said = respond.verdicts(node, pull)
    objected = [one for one in said if one.kind != APPROVE]
    if against := [one for one in objected if one.head == head]:
        return Outcome(pull.number, source, WAITING, f"{against[0].kind} by {against[0].by}", head)
    approvals = [one for one in said if one.kind == APPROVE and one.head == head]
    approved = len(approvals) >= house.approvals
    if not approved and not (auto and not objected):
        return _unapproved(said, pull, head, len(approvals), house)
    seen = examine(node, found)
    if seen.conflicts:
        if not dry_run:
            _tell(node, pull, seen)
        return Outcome(pull.number, source, CONFLICT, told(seen.conflicts), head)
    by_itself = not objected and bool(verbs := _verbs(seen)) and verbs <= house.auto
    lets_in = (AUTO, REVIEW) if approved else (AUTO,) if by_itself else ()
    if seen.judgement.verdict not in lets_in:
        reasons = [f.detail for f in seen.judgement.findings if f.verdict == seen.judgement.verdict]
        state = WAITING if seen.judgement.verdict in (AUTO, REVIEW) else REFUSED
        return Outcome(pull.number, source, state, "; ".join(reasons) or "no rule lets it through", head)
    return _land(node, pull, found, dry_run=dry_run)


def _over(node: Node, pull: Pull, done: land.Landed, *, dry_run: bool) -> Outcome:
    """Close what has nothing to land any more; what never had rows is left to its author, who may yet push some."""
    found = done.review.pinned
    if done.over == land.EARLIER:
        return _land(node, pull, found, dry_run=dry_run)
    source = str(pull.source)
    if done.over == land.EMPTY:
        why = f"it changes no rows; wl merge {pull.number} closes it"
        empty = Outcome(pull.number, source, NOTHING, why, found.head)
        return _moved(respond.verdicts(node, pull), pull, found.head) or empty
    ended = done if dry_run else land.land(node, found)
    return Outcome(pull.number, source, NOTHING, "upstream's main holds its rows", found.head, ended.commit)


def _unapproved(said: Sequence[Verdict], pull: Pull, head: str, approvals: int, house: House) -> Outcome:
    if not approvals and (moved := _moved(said, pull, head)):
        return moved
    why = f"{approvals} of {house.approvals} approvals" if house.approvals > 1 else "not approved"
    return Outcome(pull.number, str(pull.source), WAITING, why, head)


def _moved(said: Sequence[Verdict], pull: Pull, head: str) -> Outcome | None:
    """That what was said was about another commit than the one that is there now; None where nothing was."""
    older = [one for one in said if one.head != head]
    if not older:
        return None
    why = f"{older[-1].kind} by {older[-1].by} was about {older[-1].head}, which it is no more"
    return Outcome(pull.number, str(pull.source), MOVED, why, head)


def _verbs(seen: Review) -> frozenset[str]:
    steps = {step.verb for found in seen.judgement.steps.values() for step in found}
    return verbs_of(steps, {row.table for row in seen.rows})


def _land(node: Node, pull: Pull, found: Pinned, *, dry_run: bool) -> Outcome:
    source = str(pull.source)
    if dry_run:
        return Outcome(pull.number, source, WOULD, head=found.head)
    try:
        landed = land.land(node, found)
    except Unreachable:
        raise
    except WastelandError as error:
        return Outcome(pull.number, source, REFUSED, error.message, found.head)
    return Outcome(pull.number, source, LANDED, head=found.head, commit=landed.commit)


def _tell(node: Node, pull: Pull, seen: Review) -> None:
    """Tell both authors of a conflict, once for each commit: what, who was first, what is free."""
    if book(node).told(str(pull.source), seen.pinned.head):
        return
    hub, config = need_hub(node), node.config
    lines = [f"This does not merge any more: {code(told(seen.conflicts))}."]
    for item in sorted({c.key for c in seen.conflicts if c.table == "wanted"}):
        lines += _first(node, item)
        rival = _landing(node, item)
        if rival is not None and rival != pull.number:
            lines.append(f"It landed with pull request #{rival}.")
            _comment(node, rival, f"Pull request #{pull.number} also changes {code(item)}, and comes second.")
    lines += ["", _free(node)]
    hub.comment(config.org, config.db, pull.number, node.handle, "\n".join(lines))


def _comment(node: Node, number: int, text: str) -> None:
    try:
        need_hub(node).comment(node.config.org, node.config.db, number, node.handle, text)
    except WastelandError as error:
        node.notice(f"pull request {number} was not told: {error.message}")


def _first(node: Node, item_id: str) -> list[str]:
    found = wanted.get(node.db.at("main"), item_id)
    if found is None:
        return []
    held = f", held by {code(found.claimed_by)}" if found.claimed_by else ""
    return [f"{code(item_id)} is {code(str(found.status))} upstream{held}: that change was first."]


def _landing(node: Node, item_id: str) -> int | None:
    """The pull request with which the last change of an item landed, by the words of main's own commits."""
    landing = re.compile(rf"wl merge: #([0-9]+) \S+/{re.escape(item_id)}\Z")
    for commit in node.db.mainline("main", limit=LOOK_BACK):
        if found := landing.match(commit.message.partition("\n")[0]):
            return int(found[1])
    return None


def _free(node: Node) -> str:
    """A few open items, for somebody whose claim came second."""
    items = wanted.listing(node.db.at("main"), {"status": OPEN}, FREE)
    if not items:
        return "No other item is open now."
    return "\n".join(["Open now:", *(f"- {code(item.id)} {code(item.title)}" for item in items)])
