"""Answer a proposal: comment, approve, ask for changes, reject, close.

A verdict is about one exact commit.  It is written down on this machine and,
where there is a pull request, under it; see `verdicts` for who is believed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from wasteland.errors import Conflict, Refused, Usage, WastelandError
from wasteland.hub import CLOSED, OPEN, Pull
from wasteland.node import current, roles, sync
from wasteland.node.forks import Pinned, as_reviewed, book, named, numbered, pinned
from wasteland.node.node import Node, need_hub
from wasteland.node.verdicts import (
    APPROVE,
    CHANGES,
    REJECT,
    WORDS,
    Verdict,
    heard,
    objections,
    with_objection,
    without_objections,
    written,
)
from wasteland.review import land
from wasteland.review.judge import examine
from wasteland.text import checked
from wasteland.values import dataclass


@dataclass(frozen=True)
class Answer:
    """What was said to a proposal, as Markdown, and the verdict, where it was one."""

    what: str
    said: str
    pull: Pull | None
    verdict: Verdict | None = None
    closed: bool = False

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "schema_version": 1, "what": self.what, "said": self.said, "closed": self.closed,
            "pull": self.pull.number if self.pull else None, "url": self.pull.url if self.pull else None,
            "verdict": self.verdict.to_json() if self.verdict else None,
        }  # fmt: skip


def comment(node: Node, what: str, text: str) -> Answer:
    """Write under a pull request.  Usage where there is nothing to say, NotFound where there is no such one."""
    text = checked(text, "message")
    if not text.strip():
        raise Usage("there is nothing to say: the comment is empty")
    pull = numbered(node, what)
    need_hub(node).comment(node.config.org, node.config.db, pull.number, node.handle, text)
    return Answer(what, text, pull)


def approve(node: Node, what: str, text: str = "", *, head: str | None = None) -> Answer:
    """Say that exactly this commit may land.  Refused where the rules forbid it, Conflict where it conflicts."""
    land.need_maintainer(node)
    found = _pinned(node, what, head)
    land.refuse(examine(node, found))
    return _say(node, what, found, APPROVE, text)


def request_changes(node: Node, what: str, text: str, *, head: str | None = None) -> Answer:
    """Say what must change before this can land; the pull request stays open."""
    if not text.strip():
        raise Usage("say what must change", hint="-m 'the evidence does not open'")
    current.judged(node, lambda: _need_reviewer(node))
    return _say(node, what, _pinned(node, what, head), CHANGES, text)


def reject(node: Node, what: str, text: str = "", *, head: str | None = None) -> Answer:
    """Say that this commit will not land, and why; the pull request is closed."""
    land.need_maintainer(node)
    answer = _say(node, what, _pinned(node, what, head), REJECT, text)
    return _closed(node, answer)


def close(node: Node, what: str, text: str = "") -> Answer:
    """Close a pull request without a verdict: one's own, or as who may merge here."""
    pull = numbered(node, what)
    if pull.source.org != node.config.fork_org:
        land.need_maintainer(node)
    if text:
        comment(node, what, text)
    return _closed(node, Answer(what, text, pull))


def _closed(node: Node, answer: Answer) -> Answer:
    if answer.pull is None:
        return answer
    if answer.pull.state != OPEN:
        raise Conflict(f"pull request {answer.pull.number} is {answer.pull.state} already", about=answer.what)
    need_hub(node).close(node.config.org, node.config.db, answer.pull.number)
    book(node).forget(str(answer.pull.source))
    return Answer(answer.what, answer.said, answer.pull, answer.verdict, closed=True)


def _pinned(node: Node, what: str, head: str | None) -> Pinned:
    found = pinned(node, what)
    as_reviewed(node, what, found, head)
    if found.pull is not None and found.pull.state != OPEN:
        raise Conflict(f"pull request {found.pull.number} is {found.pull.state}", about=what)
    return found


def _need_reviewer(node: Node) -> None:
    if "validator" not in roles.roles_of(node, node.handle):
        try:
            land.maintainer_here(node)
        except Refused as error:
            raise Refused("only a maintainer or a validator may ask for changes", hint="wl comment says it") from error


def _say(node: Node, what: str, found: Pinned, kind: str, text: str) -> Answer:
    text = checked(text, "message")
    at = node.clock().strftime("%Y-%m-%dT%H:%M:%SZ")
    number = found.pull.number if found.pull else None
    verdict = Verdict(kind, named(node, found), found.head, node.handle, at, text, number)
    if found.pull is not None:
        _write(node, found.pull, verdict)
    book(node).add(verdict)
    return Answer(what, verdict.markdown(), found.pull, verdict)


def _write(node: Node, pull: Pull, verdict: Verdict) -> None:
    """Write a verdict under a pull request, unless a command that was killed did.

    Where the hub cannot tell comments, an objection stands in the text as well, for the author's program to read,
    until its reviewer approves.
    """
    hub: Any = need_hub(node)
    place, words = (node.config.org, node.config.db, pull.number), verdict.markdown()
    us = node.handle if hub.kind == "file" else hub.whoami()
    said = hub.comments(*place)
    if said is None:
        now = numbered(node, str(pull.number)).body  # a list need not tell the text
        if verdict.kind == APPROVE:
            text, why = without_objections(now, us), "your earlier objection still stands in its text"
        else:
            said, why = objections(now), "it stands in a comment only, which its author's program cannot read"
            there = (us, words) in [(one.author, one.text) for one in said]
            text = now if there else with_objection(now, verdict, us)
        if text != now:
            try:
                hub.edit(*place, {"description": text})
            except WastelandError as error:
                node.notice(f"{why}: {error.message}")
    if not said or (said[-1].author, said[-1].text.strip()) != (us, words):
        hub.comment(*place, node.handle, words)


def verdicts(node: Node, pull: Pull) -> list[Verdict]:
    """What each reviewer said last of a proposal, at any of its heads: on this machine, or under the pull request.

    Approvals count from who may merge, and not for one's own; objections from validators too.
    """
    hub, source = need_hub(node), str(pull.source)
    noted, said = book(node).of(source), written(hub, node.config.org, node.config.db, pull.number)
    if not noted and not said:
        return []
    us = node.handle if hub.kind == "file" else hub.whoami()
    here = [replace(one, by=us or one.by) for one in noted]
    found = [*heard(source, pull.number, said, reviewers(node) | {us or ""}), *here]
    last = {one.by: one for one in sorted(found, key=lambda one: one.at)}
    mergers, own = _users(node, "maintainer"), {pull.author, pull.source.org}
    return [
        one for one in last.values()
        if one.kind != APPROVE or ((one.by in mergers or one.by == us) and one.by not in own)
    ]  # fmt: skip


@dataclass(frozen=True)
class Said:
    """What was said of the commit that a branch of this rig holds: `kind` is request-changes, reject or closed."""

    kind: str
    by: str
    text: str
    pull: Pull

    @property
    def sentence(self) -> str:
        """What happened, in a sentence without its end."""
        did = {CHANGES: "asks for changes in", REJECT: "rejected"}.get(self.kind)
        pull = f"pull request #{self.pull.number}"
        told = f"{self.by} {did} {pull}" if did else f"{pull} was closed"
        return f"{told}: {self.text}" if self.text else told

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {"kind": self.kind, "by": self.by, "text": self.text, "pull": self.pull.number, "url": self.pull.url}


def said_of(node: Node, branch: str, offered: Iterable[Pull] | None = None) -> Said | None:
    """What reviewers said last of this rig's branch as it is; None where they said nothing that asks for an answer.

    `offered` are the open pull requests, where they were asked for already.  One that was closed is known by
    the number that was noted when it was opened.
    """
    hub = node.hub
    if hub is None or node.config.mode != "pr" or not node.db.is_branch(branch):
        return None
    if offered is None:
        offered = hub.pulls(node.config.org, node.config.db)
    pull = next((one for one in offered if one.source == node.fork_branch(branch)), None)
    number = node.config.node.get(sync.OFFERED, {}).get(branch)
    if pull is None and number is not None:
        pull = hub.pull(node.config.org, node.config.db, int(number))
    if pull is None or pull.source != node.fork_branch(branch):
        return None
    head = node.db.hash_of(branch)
    found = [one for one in verdicts(node, pull) if one.head == head and one.kind in (CHANGES, REJECT)]
    if found:
        last = found[-1]
        told = last.text.removeprefix(f"{WORDS[last.kind]} by {last.by}.").strip()
        kind = last.kind if last.kind == REJECT or pull.state == OPEN else CLOSED
        return Said(kind, last.by, told, pull)
    return Said(CLOSED, "", "", pull) if pull.state == CLOSED else None


def own_said(node: Node) -> dict[str, Said]:
    """What waits for an answer, by item, of all branches of this rig; a notice where the hub does not tell."""
    found: dict[str, Said] = {}
    branches = node.db.branches(f"wl/{node.handle}/")
    if node.hub is None or not branches:
        return found
    try:
        offered = node.hub.pulls(node.config.org, node.config.db)
        for branch in branches:
            if said := said_of(node, branch, offered):
                found[branch.rpartition("/")[2]] = said
    except WastelandError as error:
        node.notice(f"what reviewers said is not known: {error.message}")
    return found


def reviewers(node: Node) -> frozenset[str]:
    """The users of the hub whose verdicts are heard."""
    return _users(node, "maintainer") | _users(node, "validator")


def _users(node: Node, role: str) -> frozenset[str]:
    """The users of the hub that hold a role: owners of the holders' forks, and for maintainers upstream's owner.

    A hub that knows no users takes the handle that a client says; only there handles count.
    """
    handles = roles.holders(node, role)
    rows = node.db.at("main").rows("SELECT handle, dolthub_org FROM rigs")
    owners = {str(row["dolthub_org"]) for row in rows if row["handle"] in handles and row["dolthub_org"]}
    owners |= {node.config.org} if role == "maintainer" else set()
    return frozenset(owners | handles) if need_hub(node).kind == "file" else frozenset(owners)
