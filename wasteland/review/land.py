"""Land a reviewed commit on upstream's main, and prove that it is there.

What lands is exactly what was judged: a two-parent merge of the pinned commit,
or, where a commit on its way carried more than rows, the judged rows alone,
with the commit named in a trailer.  Nothing is pushed by force, and a hub's
merge button is never used: it takes whatever the branch is by then.
"""

from __future__ import annotations

from typing import Any

from wasteland.dolt.database import PushRejected
from wasteland.dolt.history import MergeConflict, told
from wasteland.dolt.rows import apply
from wasteland.errors import Conflict, Refused, WastelandError
from wasteland.hub import OPEN
from wasteland.local.steps import step
from wasteland.node import carry, current, landing, levelling, roles, sync
from wasteland.node.forks import Pinned, as_reviewed, book, named, pin, pinned
from wasteland.node.node import Node, need_hub
from wasteland.review.judge import TRANSPLANT, Review, examine
from wasteland.rules.policy.findings import AUTO, NOTHING, REVIEW
from wasteland.text import show
from wasteland.values import dataclass

MOST = 20  # findings that are told
EARLIER, TAKEN_OVER, EMPTY = "landed", "taken over", "nothing"  # why an open pull request has nothing to land any more


@dataclass(frozen=True)
class Landed:
    """A pinned commit that is on upstream's main.

    `over` says why there was nothing to land: an earlier command had landed
    it, its rows were taken over by other ways, or it changes nothing; `commit`
    is upstream's then.
    """

    review: Review
    commit: str
    pushed: bool
    over: str = ""

    def to_json(self) -> dict[str, Any]:
        """As `wl merge --json` prints it."""
        return {
            "schema_version": 1, "merged": self.review.pinned.source, "head": self.review.pinned.head,
            "commit": self.commit, "pushed": self.pushed, "verdict": self.review.judgement.verdict,
            "landing": self.review.how, "already": bool(self.over), "nothing": self.over == EMPTY,
        }  # fmt: skip


def merge(node: Node, what: str, *, push: bool = True, keep_branch: bool = False, head: str | None = None) -> Landed:
    """Land a reviewed commit on upstream's main, and prove that it is there.

    `head` is the hash that was reviewed, where the caller has one, else the one
    that was looked at last on this machine; Conflict when the branch is another by now.  Raises Refused for who is no
    maintainer or where the rules say no, Conflict where rows conflict.
    """
    need_maintainer(node)
    with node.db.locked():
        found = pinned(node, what)
        if found.pull is not None and found.pull.state != OPEN:
            raise Refused(f"pull request {found.pull.number} is {found.pull.state}", about=what)
        as_reviewed(node, what, found, head)
        return land(node, found, push=push, keep_branch=keep_branch)


def land(node: Node, found: Pinned, *, push: bool = True, keep_branch: bool = False) -> Landed:
    """Land a pinned commit; a pull request that has nothing to land any more is closed instead.

    Without `push` the merge stays on our main, and is judged again before it goes out.
    """
    if push and (done := over(node, found)):
        _after(node, done, keep_branch=keep_branch)
        return done
    for _ in range(landing.ATTEMPTS):
        landed = _land(node, found, push=push)
        if landed is not None:
            if push:
                _after(node, landed, keep_branch=keep_branch)
            return landed
        found = pin(node, found.source, found.org, found.head, levelling.integrate(node), found.pull)
    raise Conflict(
        f"upstream moved {landing.ATTEMPTS} times while this command tried to land {show(found.source)}",
        about=found.source,
    )


def over(node: Node, found: Pinned) -> Landed | None:
    """What became of an open pull request that has nothing to land any more; None where it has.

    A kill left it open after its landing, somebody landed its commit without us or took its rows over by other ways (a
    merge by rows leaves no other trace either), or it never had any.
    """
    if found.pull is None:
        return None
    commit = landing.contained(node, found.head)
    if commit is not None:
        return Landed(examine(node, found), commit, pushed=True, over=EARLIER)
    if not landing.changes_nothing(node.db, found.base, found.head, found.upstream):
        return None
    carried = any(row.more_than_times for row in node.db.diff_all(found.base, found.head))
    return Landed(examine(node, found), found.upstream, pushed=True, over=TAKEN_OVER if carried else EMPTY)


def need_maintainer(node: Node) -> None:
    """Refused for who may not merge here: a maintainer by the roles, else the owner of upstream."""
    current.judged(node, lambda: maintainer_here(node))


def maintainer_here(node: Node) -> None:
    """Refused for who may not merge, by what the clone holds."""
    document = roles.roles_document(node)
    if document is not None:
        if "maintainer" not in roles.roles_of(node, node.handle):
            raise Refused(f"only a maintainer may merge, and {node.handle} is not")
    elif node.config.org not in (node.config.fork_org, node.handle):
        raise Refused(f"only the owner of {node.config.upstream} may merge: it has no roles document")


def _take_back(node: Node, ours: str) -> None:
    """Set aside a merge that has not been pushed; Refused where main holds other commits of ours."""
    if not landing.set_aside_merge(node, ours):
        raise Refused(
            "main has commits that upstream does not have, and they would land too", about="main",
            hint="wl sync pushes nothing; push them with dolt, or set them aside on a branch",
        )  # fmt: skip


def _land(node: Node, pin: Pinned, *, push: bool) -> Landed | None:
    """One attempt; None when upstream moved under it."""
    db = node.db.at("main")
    found = examine(node, pin)
    refuse(found)
    before = db.hash_of("main")
    if push and before != pin.upstream:
        _take_back(node, before)
        before = pin.upstream
    node.config.node["merging"] = pin.head
    node.config.save_node()
    commit = _commit(node, found)
    if db.diff_all(before, commit) != list(found.rows):
        db.reset(before)
        raise Conflict(f"what would land of {show(pin.source)} is not what was judged", about=pin.source)
    if push:
        try:
            commit = carry.push(node, node.upstream_remote, "main")
        except PushRejected:
            db.reset(before)
            return None
        except BaseException:
            db.reset(before)
            raise
        _prove(node, pin, commit)
        step("proved")
    return Landed(found, commit, push)


def refuse(found: Review) -> None:
    """Refused where the rules say no, Conflict where rows conflict: in a sentence that names them."""
    source = show(found.pinned.source)
    if found.judgement.verdict == NOTHING:
        pull = found.pinned.pull
        raise Refused(
            f"{source} changes nothing: upstream's main holds all of it", about=found.pinned.source,
            hint=f"wl merge {pull.number} closes it" if pull else "wl sync drops a branch that has landed",
        )  # fmt: skip
    if found.judgement.verdict not in (AUTO, REVIEW):
        reasons = [f.detail for f in found.judgement.findings if f.verdict not in (AUTO, REVIEW)]
        raise Refused(
            f"{source} may not land: {show('; '.join(reasons[:MOST]) or 'no rule lets it through')}",
            about=found.pinned.source, hint=f"wl review {source} shows the rows",
        )  # fmt: skip
    if found.conflicts:
        raise Conflict(
            f"{source} conflicts with upstream: {told(found.conflicts)}; another change landed first",
            about=found.pinned.source,
        )


def _commit(node: Node, found: Review) -> str:
    """The landing on our main: a merge of the very commit, or its judged rows with the commit in the trailer."""
    db, pin = node.db.at("main"), found.pinned
    number = f"#{pin.pull.number} " if pin.pull else ""
    message = (
        f"wl merge: {number}{pin.source}\n\n{landing.TRAILER}{pin.head}\n"
        f"Wasteland-Verdict: {found.judgement.verdict}, {len(found.rows)} rows"
    )
    try:
        if found.how == TRANSPLANT:
            with db.change(message):
                apply(db, found.rows)
            return db.hash_of("main")
        return db.merge(pin.head, message, no_ff=True)
    except MergeConflict as conflict:
        raise Conflict(
            f"{show(pin.source)} conflicts with upstream: {told(conflict.rows)}", about=pin.source
        ) from conflict


def _prove(node: Node, pin: Pinned, commit: str) -> None:
    """See that upstream's main contains the landing; that it holds just the judged rows was seen before the push."""
    node.db.fetch(node.upstream_remote)
    main = node.db.hash_of(f"{node.upstream_remote}/main")
    if not node.db.is_ancestor(commit, main):
        raise Conflict(f"{show(pin.source)} was pushed but upstream's main does not contain it", about=pin.source)


def _after(node: Node, landed: Landed, *, keep_branch: bool) -> None:
    pin = landed.review.pinned
    node.config.node.pop("merging", None)
    node.config.node["seen_upstream"] = node.db.find(f"{node.upstream_remote}/main")
    node.config.save_node()
    book(node).forget(named(node, pin))  # the next branch of that name is another
    if pin.pull is not None:
        _close(node, landed, pin.pull.number)
        step("closed")
    levelling.level_fork(node, lazy=True)
    if not keep_branch and node.db.is_branch(pin.source):
        sync.drop(node, pin.source, push=True)


def _close(node: Node, landed: Landed, number: int) -> None:
    """Say on the pull request what landed and by which verdict, and close it.

    Where something landed now, failing is a notice; where closing is all that there was to do, it is an error.
    """
    hub, config = need_hub(node), node.config
    try:
        hub.comment(config.org, config.db, number, node.handle, verdict_text(landed))
        hub.close(config.org, config.db, number, landed=landed.commit if landed.over != EMPTY else None)
    except WastelandError as error:
        if landed.over:
            raise
        node.notice(f"it landed, but pull request {number} is still open: {error.message}; wl queue closes it")


def verdict_text(landed: Landed) -> str:
    """What is written under a pull request that landed, as Markdown."""
    found = landed.review
    head = found.pinned.head
    if landed.over:
        return {
            EARLIER: f"Upstream's main contains {head} already; closed.",
            TAKEN_OVER: f"Upstream's main holds the rows of {head} already, by other ways; closed as merged.",
            EMPTY: f"{head} changes nothing of upstream's main; closed.",
        }[landed.over]
    how = "merged" if found.how != TRANSPLANT else "rows taken over without their history"
    lines = [
        f"Landed {head} as {landed.commit} ({how}).",
        "",
        f"Verdict: {found.judgement.verdict}, {len(found.rows)} rows, judged against {found.pinned.upstream}.",
        *(
            f"- {one.verdict} {one.rule}: `{show(one.detail).replace('`', chr(39))}`"
            for one in found.judgement.findings
        ),
    ]
    return "\n".join(lines)
