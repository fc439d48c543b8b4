"""Refuse on what is true now: who would say no by what the clone holds looks at upstream first, once a command."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from wasteland.dolt.changes import NothingChanged
from wasteland.errors import NotFound, Refused, Unauthenticated, Unreachable, WastelandError
from wasteland.node.node import Node

if TYPE_CHECKING:
    from wasteland.node.proposals import Proposal

Result = TypeVar("Result")
Silent = (Unreachable, Unauthenticated)


def judged(node: Node, act: Callable[[], Result]) -> Result:
    """What `act` gives; where it refuses by what the clone holds, upstream is looked at and `act` asked again.

    `act` leaves nothing behind when it refuses.  What upstream told this
    command already is not asked for again; where upstream does not answer,
    the refusal says by which state it was made.
    """
    from wasteland.node import levelling

    try:
        return act()
    except (NotFound, Refused, NothingChanged) as error:
        if node.saw_upstream or not node.has_remotes:
            raise
        before = levelling.upstream_head(node)
        try:
            levelling.refresh(node)
        except Silent as silent:
            raise dated(node, error, silent) from silent
        if levelling.upstream_head(node) == before:
            raise
    return act()


def dated(node: Node, error: WastelandError, silent: WastelandError) -> WastelandError:
    """The refusal `error`, with the time of what it was judged by, because upstream is `silent`."""
    from wasteland.rules.lease import moment

    seen = node.upstream_seen_at
    when = f"of {moment(seen)}" if seen else "that this clone holds"
    error.message += f" (judged by the state {when}: upstream does not answer)"
    error.args = (error.message,)
    if error.hint is None:
        error.hint = f"{silent.message}; try again when it answers"
    return error


def help_out(node: Node, error: WastelandError, item_id: str, needed: str | None, *, ask: bool = True) -> None:
    """Name, in the hint of a refusal, the open pull requests that bring an item to the status that is `needed`.

    Where none is needed, those that post an item whose id is or begins with `item_id`.

    With `ask` the hub is asked for its list first; one that is silent changes nothing of the refusal.
    """
    from wasteland.node import proposals

    if node.config.mode != "pr":
        return
    if ask and node.hub is not None:
        with contextlib.suppress(WastelandError):
            proposals.inbox(node, fetch=False)
    found = list(_bringing(node, item_id, needed))
    if found:
        told = "; ".join(f"#{one.number} proposes {', '.join(one.verbs)}: wl review {one.number}" for one in found[:3])
        error.hint = f"{error.hint}; {told}" if error.hint and needed is not None else told


def _bringing(node: Node, item_id: str, needed: str | None) -> Iterable[Proposal]:
    """The open pull requests that leave an item as it is needed, or begin it (None): as last seen."""
    from wasteland.node import proposals

    for one in proposals.cached(node):
        if one.state not in (proposals.READY, proposals.CONFLICTS):
            continue
        for change in one.changes:
            if needed is None:
                if change.before == "" and item_id and change.item.startswith(item_id):
                    yield one
            elif change.item == item_id and change.after == needed and change.before != needed:
                yield one
