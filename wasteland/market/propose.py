"""Carry a verb's commit to where others see it: onto upstream's main, or onto a branch with a pull request.

In wild-west mode the commit is on `main` and is pushed; in PR mode it is on
this rig's branch for the item, `wl/<rig>/<item>`, which is pushed to the fork
and carries one pull request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from wasteland.commons import completions, leases, stamps, wanted
from wasteland.dolt.changes import NothingChanged
from wasteland.dolt.database import Database, PushRejected
from wasteland.errors import Conflict, NotFound, NotOpen, Refused, Unauthenticated, Unreachable, WastelandError
from wasteland.local.steps import step
from wasteland.market.items import facts, resolve
from wasteland.models import Completion, Stamp, Wanted
from wasteland.node import current, landing, levelling, sync
from wasteland.node.node import Node
from wasteland.rules.lease import Lease
from wasteland.rules.lifecycle import BY_VERB, VALIDATOR, Item, Transition, judge
from wasteland.text import show
from wasteland.values import dataclass

if TYPE_CHECKING:
    from wasteland.hub import Pull


@dataclass
class Outcome:
    """What a verb did."""

    verb: str
    item: Wanted
    branch: str | None = None
    pull: Pull | None = None
    reverted: bool = False
    pushed: bool = True
    completion: Completion | None = None
    stamp: Stamp | None = None
    lease: Lease | None = None

    def to_json(self) -> dict[str, Any]:
        """The outcome as `--json` prints it."""
        found: dict[str, Any] = {"schema_version": 1, "verb": self.verb, "item": self.item.to_json()}
        if self.branch:
            found["branch"] = self.branch
        if self.pull:
            found["pull"] = {"number": self.pull.number, "url": self.pull.url}
        if self.completion:
            found["completion"] = self.completion.to_json()
        if self.stamp:
            found["stamp"] = self.stamp.to_json()
        if self.lease:
            found["lease"] = self.lease.to_json()
        return found | {"reverted": self.reverted, "pushed": self.pushed, "proposed": self.branch is not None}


SIGNED = ("done", "accept")
Act = Callable[[Database, Item], None]


def on_item(node: Node, verb: str, text: str, act: Act, *, push: bool, suffix: str = "") -> Outcome:
    """Do a verb to the item that `text` names: judged on what upstream holds now, then landed or offered."""
    push = push and node.has_remotes
    if verb == "claim" and node.config.mode == "pr" and push:
        look_ahead(node)  # before the lock: strangers' forks are fetched
    said = False

    def now() -> Outcome:
        nonlocal said
        item_id = resolve(node, text)
        if verb == "claim" and not said:
            say_ahead(node, item_id)
            said = True
        return land(
            node, verb, item_id, f"wl {verb}: {item_id}{suffix}", lambda db: act(db, facts(db, item_id)), push=push
        )

    with node.db.locked():
        if node.config.mode == "pr" and push:
            _level(node, verb, text)
        try:
            return current.judged(node, now)
        except (NotFound, Refused) as error:
            _help(node, verb, text, error, ask=push and verb != "claim")
            raise


def _level(node: Node, verb: str, text: str) -> None:
    """Bring the clone level; where upstream does not answer, what is refused by its last state is told as that."""
    try:
        levelling.refresh(node, fork=verb in SIGNED)
    except Unreachable as silent:
        try:
            item_id = resolve(node, text)
            branch = sync.item_branch(node, item_id)
            db = node.db.at(branch if node.db.is_branch(branch) else "main")
            permitted(node, db, facts(db, item_id), verb)
        except (NotFound, Refused) as error:
            _help(node, verb, text, error, ask=False)
            raise current.dated(node, error, silent) from silent
        raise


def permitted(node: Node, db: Database, item: Item, verb: str) -> Transition:
    """The step that `verb` is for an item as `db` has it; NotOpen or Refused where this rig may not take it."""
    from wasteland.node import roles

    matter = VALIDATOR in BY_VERB[verb].who
    held = roles.roles_of(node, node.handle) if matter else frozenset()
    return judge(verb, node.handle, held, replace(item, lease=leases.of_item(db, item.id), now=node.clock()))


def _help(node: Node, verb: str, text: str, error: WastelandError, *, ask: bool) -> None:
    """Name, in the hint of a refusal, the open pull request that would change it, where there is one."""
    if isinstance(error, NotOpen):
        current.help_out(node, error, str(error.about), BY_VERB[verb].frm, ask=ask)
    elif isinstance(error, NotFound):
        current.help_out(node, error, text, None, ask=ask)


def look_ahead(node: Node) -> None:
    """See which pull requests are open; a hub that does not answer is no reason not to claim, a bad token is."""
    from wasteland.node import proposals

    if node.hub is not None:
        try:
            proposals.inbox(node, fetch=False)
        except Unreachable as error:
            node.notice(f"whether somebody else claims it was not asked: {error.message}")


def say_ahead(node: Node, item_id: str) -> None:
    """Say, before a claim is made, whose open claim of the item upstream saw first."""
    from wasteland.node import proposals

    if node.config.mode == "pr" and (first := proposals.ahead(node, item_id)):
        one, waited = first[0], proposals.age(first[0].opened, node.clock())
        more = f" and {len(first) - 1} more" if len(first) > 1 else ""
        node.say(f"{one.rig} is ahead{more}: pull request #{one.number} claims {item_id} and has waited {waited}")


def land(node: Node, verb: str, item_id: str, message: str, act: Callable[[Database], None], *, push: bool) -> Outcome:
    """One commit by `act`, on main or on the item's branch, as the mode of the wasteland says."""
    push = push and node.has_remotes
    if node.config.mode == "wild-west":
        main = node.db.at("main")
        landing.landing(node, message, lambda: act(main), push=push)
        return _outcome(node, main, verb, item_id, pushed=push)
    return _propose(node, verb, item_id, message, act, push=push)


def _outcome(node: Node, db: Database, verb: str, item_id: str, **rest: Any) -> Outcome:
    item = wanted.get(db, item_id)
    if item is None:
        raise NotFound(f"{item_id} is gone", about=item_id)
    completion = completions.of_item(db, item_id) if verb in ("done", "accept", "close") else None
    stamp = stamps.get(db, completion.stamp_id) if completion and completion.stamp_id else None
    lease = leases.of_item(db, item_id) if verb in ("claim", "renew", "takeover") else None
    return Outcome(verb, item, completion=completion, stamp=stamp, lease=lease, **rest)


def as_it_is(node: Node, verb: str, text: str) -> Outcome:
    """The outcome of a verb that found everything as it should be: nothing was written."""
    item_id = resolve(node, text)
    branch: str | None = sync.item_branch(node, item_id)
    if node.config.mode != "pr" or not node.db.is_branch(str(branch)):
        branch = None
    pull = sync.find_pull(node, branch) if branch else None
    return _outcome(node, node.db.at(branch or "main"), verb, item_id, branch=branch, pull=pull)


def _propose(
    node: Node, verb: str, item_id: str, message: str, act: Callable[[Database], None], *, push: bool
) -> Outcome:
    """PR mode: one commit on the item's branch, pushed to the fork, and a pull request that says it."""
    from wasteland.rules.policy.wanted import odd_id

    if why := odd_id(item_id):
        raise Refused(f"the rules of review refuse this: {show(why)} (WANT-STEP)", about=item_id)
    db = node.db
    with db.locked():
        if push and verb == "post":
            levelling.refresh(node)
        branch = sync.settle(node, item_id, push=push)
        created = branch is None
        branch = sync.item_branch(node, item_id)
        if created:
            db.branch(branch, levelling.upstream_head(node))
        before = db.hash_of(branch)
        try:
            with db.at(branch).change(message):
                act(db.at(branch))
        except BaseException as error:
            node.unsettled()
            if created:
                db.delete_branch(branch)
            elif push and isinstance(error, (Refused, NothingChanged)):
                _offer_leftovers(node, branch, item_id)
            raise
        _refuse_hopeless(node, branch, item_id, before, created=created)
        outcome = _outcome(node, db.at(branch), verb, item_id, branch=branch, pushed=push)
        if push:
            _offer(node, outcome, branch, before, created=created)
        node.settled()
        return outcome


def _refuse_hopeless(node: Node, branch: str, item_id: str, before: str, *, created: bool) -> None:
    """Refused, and undone, where no review could let through what the branch now holds of an item."""
    from wasteland.review.judge import hopeless

    found = hopeless(node, branch, item_id) if sync.net_change(node, branch) else []
    if not found:
        return
    if created:
        node.db.delete_branch(branch)
    else:
        node.db.at(branch).reset(before)
    node.void()
    raise Refused(
        f"the rules of review refuse this: {show('; '.join(f'{one.detail} ({one.rule})' for one in found))}",
        about=item_id, hint="nothing was changed",
    )  # fmt: skip


def _offer(node: Node, outcome: Outcome, branch: str, before: str, *, created: bool) -> None:
    """Push the branch, or undo; then bring the pull request up to date, or take it back where nothing is left of it."""
    from wasteland.node import carry

    db = node.db
    try:
        _push_branch(node, branch)
    except BaseException as error:
        if not isinstance(error, (Conflict, NotFound, Unauthenticated)):
            node.settled()
        if isinstance(error, carry.HalfCarried):
            raise  # the branch here is what the next command goes on from
        if created:
            db.delete_branch(branch)
        else:
            db.at(branch).reset(before)
        node.void()
        raise
    if not sync.net_change(node, branch):
        sync.close_pull(node, branch, "Taken back by its author.")
        sync.drop(node, branch, push=True)
        outcome.reverted, outcome.branch = True, None
        return
    step("offering")
    try:
        outcome.pull = offer_pull(node, branch, outcome.item.title)
        if outcome.pull is not None:
            sync.note_offered(node, branch, outcome.pull.number)
    except (Refused, Conflict, Unauthenticated) as error:
        node.settled()  # the branch was on the fork, so the signature has left this machine
        if created:
            sync.drop(node, branch, push=True)
            raise
        hint = f"; {error.hint}" if error.hint else ""
        node.notice(f"{branch} is pushed, but its pull request was not refreshed: {error.message}{hint}")
    step("offered")


def _offer_leftovers(node: Node, branch: str, item_id: str) -> None:
    """Offer what a killed command left on a branch, so that nothing is refused as done which nobody else can see."""
    from wasteland.review.respond import said_of

    db = node.db
    try:
        if db.find(f"origin/{branch}") == db.hash_of(branch) and (node.hub is None or sync.find_pull(node, branch)):
            return
        if said := said_of(node, branch):  # what was turned down is not offered again by itself
            node.notice(f"{branch} is not offered again: {said.sentence}")
            return
        _push_branch(node, branch)
        item = wanted.get(db.at(branch), item_id)
        pull = offer_pull(node, branch, item.title if item else branch)
    except WastelandError as error:
        node.notice(f"what is on {branch} was not offered yet, and could not be now: {error.message}")
        return
    number = f" as pull request {pull.number}" if pull else ""
    node.notice(f"what an earlier command left on {branch} is offered now{number}")


def need_offered(node: Node, item_id: str) -> None:
    """See to it that this rig's work on an item is where others see it; Unreachable where it is not."""
    db, branch = node.db, sync.item_branch(node, item_id)
    with db.locked():
        if node.config.mode == "wild-west":
            landing.land_leftovers(node)
            there = db.is_ancestor(db.hash_of("main"), levelling.upstream_head(node))
        elif not db.is_branch(branch):
            return
        else:
            _offer_leftovers(node, branch, item_id)
            there = landing.landed(node, branch) or db.find(f"origin/{branch}") == db.hash_of(branch)
    if not there:
        raise Unreachable(
            f"the completion of {item_id} is on this machine only, so far", about=item_id, hint="try again"
        )


def _push_branch(node: Node, branch: str) -> None:
    """Push; a leftover of the same name on the fork is replaced only when everything in it is upstream or ours."""
    from wasteland.node import carry

    db = node.db
    try:
        carry.push(node, "origin", branch)
    except PushRejected:
        theirs = db.find(f"origin/{branch}")
        upstream = db.hash_of(f"{node.upstream_remote}/main")
        if theirs is not None and db.is_ancestor(theirs, upstream):
            carry.push(node, "origin", branch, force=True)
            return
        raise Conflict(
            f"the fork's {branch} holds commits that this clone does not have",
            about=branch, hint="wl sync, or finish on the machine that made them",
        ) from None  # fmt: skip


def offer_pull(node: Node, branch: str, title: str) -> Pull | None:
    """Open or refresh the pull request of a branch; a notice where the hub does not answer, since the work is pushed.

    Refused, Conflict or Unauthenticated where the hub does not want it.
    """
    from wasteland.review.judge import summary

    if node.hub is None:
        node.notice(f"no pull request: provider {node.config.provider_type!r} has none that this version can open")
        return None
    text = summary(node, branch)  # not in the `try`: that our own database is gone is no reason to go without
    try:
        return node.hub.open_pull(node.fork_branch(branch), node.upstream_main, f"[wl] {title}", text, node.handle)
    except (NotFound, Unreachable) as error:
        node.notice(f"no pull request was opened: {error.message}; wl doctor --fix opens it")
        return None
