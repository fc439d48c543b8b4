"""Wait until something is true of one item: its change has landed, changes were asked for, it was stamped."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from wasteland.commons import completions, stamps, wanted
from wasteland.errors import Conflict, TimeUp, WastelandError
from wasteland.hub import CLOSED
from wasteland.node import landing, levelling, sync
from wasteland.node.node import Node
from wasteland.node.verdicts import CHANGES, REJECT
from wasteland.review.respond import verdicts
from wasteland.text import show

LANDED, STAMP = "landed", "stamp"
UNTIL = (LANDED, "changes", STAMP)


def wait_until(
    opened: Callable[[], Node],
    text: str,
    until: str,
    *,
    every: float,
    lasting: float | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """What was seen, as soon as it is true; at once where it is so already.

    TimeUp after `lasting` seconds; Conflict where it cannot come true any more.
    A hub or upstream that does not answer is waited for, and said once.
    """
    deadline = time.monotonic() + lasting if lasting is not None else float("inf")
    silent = False
    while True:
        node = opened()
        try:
            item, found = _look(node, text, until)
            if found is not None:
                return {"schema_version": 1, "item": item, "until": until, **found}
        except WastelandError as error:
            if not error.retryable or isinstance(error, Conflict):
                raise
            if not silent:
                say(f"waiting until this passes: {error.message}")
            silent = True
        finally:
            node.close()
        if time.monotonic() >= deadline:
            raise TimeUp(f"{text}: time is up, and {until} was not seen", about=text, hint=f"wl status {text}")
        time.sleep(max(0.0, min(every, deadline - time.monotonic())))


def _look(node: Node, text: str, until: str) -> tuple[str, dict[str, Any] | None]:
    """The item's id, and what is to be told where it is true now."""
    branch = sync.item_branch(node, text)
    # The pull request first: it is closed after its rows have landed, so what is closed by now shows on main below.
    own = node.db.is_branch(branch)
    pull = node.hub.pull_from(node.fork_branch(branch), node.upstream_main) if own and node.hub else None
    levelling.refresh(node)
    main = node.db.at("main")
    item = text if own else wanted.resolve(main, text)
    if until == STAMP:
        done = completions.of_item(main, item)
        stamp = stamps.get(main, done.stamp_id) if done and done.stamp_id else None
        return item, {"stamp": stamp.to_json()} if stamp else None
    landed = not own or landing.landed(node, branch)
    if until == LANDED:
        row = wanted.get(main, item)
        if landed and row is not None:
            return item, {"status": row.status, "commit": levelling.upstream_head(node)}
        if pull is None and node.config.mode == "pr":
            _need_offered(node, item, branch)
        return item, None
    if landed:
        raise Conflict(f"nothing that this rig proposes of {item} is in review", about=item, hint=f"wl status {item}")
    if pull is None:
        _need_offered(node, item, branch)
        return item, None
    head = node.db.hash_of(branch)
    said = [one for one in verdicts(node, pull) if one.head == head]
    if rejected := next((one for one in said if one.kind == REJECT), None):
        why = f": {show(rejected.text)}" if rejected.text else ""
        raise Conflict(
            f"pull request #{pull.number} of {item} was rejected by {show(rejected.by)}{why}",
            about=item, hint=f"wl withdraw {item} takes it back; wl done {item} proposes other work",
        )  # fmt: skip
    asked = [one for one in said if one.kind == CHANGES]
    return item, {"pull": pull.number, "verdict": max(asked, key=lambda one: one.at).to_json()} if asked else None


def _need_offered(node: Node, item: str, branch: str) -> None:
    """Conflict where a pull request was opened for the branch and closed; one that never was may yet be.

    The last one may have been merged, with what the branch held then.
    """
    number = node.config.node.get(sync.OFFERED, {}).get(branch)
    pull = node.hub.pull(node.config.org, node.config.db, int(number)) if node.hub and number is not None else None
    if pull is None or pull.state != CLOSED:
        return
    raise Conflict(
        f"the pull request of {item} is closed, and it has not landed", about=item,
        hint=f"wl status {item} says why, where somebody has; wl withdraw {item} takes it back",
    )  # fmt: skip
