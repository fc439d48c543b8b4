"""Which status follows which, by whose hand, and what is written.  One table, no I/O.

The table below is the only place that knows it: verbs ask `judge` before they
write, the review of a pull request asks `path` about what it finds written.

            post                claim            done             accept, close
    (none) ──────▶  open  ◀──────────▶ claimed ──────▶ in_review ──────▶ completed
                     │        unclaim     ▲  reject  │
                     ▼ delete             └──────────┘
                 withdrawn

It knows the actor, the actor's roles, from, to and columns.  Limits, trust
levels and rules about text belong to the policy.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from wasteland.errors import NotOpen, Refused
from wasteland.models import CONTENT

OPEN, CLAIMED, IN_REVIEW, COMPLETED, WITHDRAWN = "open", "claimed", "in_review", "completed", "withdrawn"
NONE = ""  # the status of an item that does not exist yet

# Who may do it.
ANYONE, POSTER, CLAIMER, VALIDATOR = "anyone", "the poster", "the claimer", "a validator"

STATE = frozenset({"status", "updated_at"})
POSTED = frozenset({"id", "posted_by", "created_at", "updated_at", "status", *CONTENT})
# Columns with a default that a new row has without anybody having set them.
DEFAULTED = frozenset({"sandbox_required", "sandbox_scope", "sandbox_min_tier"})


@dataclass(frozen=True)
class Transition:
    """One step of an item.

    `who` is any of the parties that may take it; `worker_may` is False where
    the one whose work is judged may not.  `writes` are the columns of `wanted`
    that may change, `claimed_by` the value it gets (None: none, "actor", or
    "" for unchanged); `rows` are the rows of other tables that come (+), go
    (-) or change (~) with it.
    """

    verb: str
    frm: str
    to: str
    who: frozenset[str]
    writes: frozenset[str]
    claimed_by: str | None = ""
    worker_may: bool = True
    rows: frozenset[str] = frozenset()


TRANSITIONS = (
    Transition("post", NONE, OPEN, frozenset({ANYONE}), POSTED),
    Transition("update", OPEN, OPEN, frozenset({POSTER}), frozenset({"updated_at", *CONTENT})),
    Transition("claim", OPEN, CLAIMED, frozenset({ANYONE}), STATE | {"claimed_by"}, claimed_by="actor"),
    Transition(
        "unclaim", CLAIMED, OPEN, frozenset({CLAIMER, POSTER}), STATE | {"claimed_by", "evidence_url"}, claimed_by=None
    ),
    Transition(
        "done", CLAIMED, IN_REVIEW, frozenset({CLAIMER}), STATE | {"evidence_url"}, rows=frozenset({"+completions"})
    ),
    Transition(
        "accept", IN_REVIEW, COMPLETED, frozenset({POSTER, VALIDATOR}), STATE,
        worker_may=False, rows=frozenset({"+stamps", "~completions"}),
    ),
    Transition(
        "reject", IN_REVIEW, CLAIMED, frozenset({POSTER}), STATE | {"evidence_url"}, rows=frozenset({"-completions"})
    ),
    Transition("close", IN_REVIEW, COMPLETED, frozenset({POSTER}), STATE, worker_may=False),
    Transition("delete", OPEN, WITHDRAWN, frozenset({POSTER}), STATE),
)  # fmt: skip
BY_VERB = {step.verb: step for step in TRANSITIONS}
# A pull request may hold several steps of one rig on one item; a step that ends an item ends the path.
PASSED_THROUGH = frozenset({NONE, OPEN, CLAIMED, IN_REVIEW})


@dataclass(frozen=True)
class Item:
    """What the rules need to know of a wanted item; `worker` completed it, if anybody has."""

    id: str
    status: str
    posted_by: str | None
    claimed_by: str | None
    worker: str | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any], worker: str | None = None) -> Item:
        """From a row of `wanted`."""
        return cls(str(row["id"]), str(row.get("status") or OPEN), row.get("posted_by"), row.get("claimed_by"), worker)


def handle_key(handle: str | None) -> str:
    """What two spellings of one handle have in common: compatibility form, case and `._-` folded.

    Two handles with one key are one person to the rule that nobody judges
    their own work.
    """
    folded = unicodedata.normalize("NFKC", handle or "").casefold()
    return "".join(char for char in folded if char not in "._- ")


def same_person(one: str | None, other: str | None) -> bool:
    """Whether two handles must be taken for one person."""
    return bool(one) and bool(other) and handle_key(one) == handle_key(other)


def parties(actor: str, roles: Iterable[str], item: Item) -> set[str]:
    """What `actor` is to `item`.  Authority is exact: only the very handle is the poster or claimer."""
    found = {ANYONE}
    if actor and actor == item.posted_by:
        found.add(POSTER)
    if actor and actor == item.claimed_by:
        found.add(CLAIMER)
    if "validator" in roles:
        found.add(VALIDATOR)
    return found


def is_worker(actor: str, item: Item) -> bool:
    """Whether `actor` must be taken for the one whose work `item` holds."""
    return same_person(actor, item.worker) or same_person(actor, item.claimed_by)


def judge(verb: str, actor: str, roles: Iterable[str], item: Item) -> Transition:
    """The step that `verb` is for `item`, if `actor` may take it now.

    Raises NotOpen when the item is in another state, Refused when it is not
    for this actor.
    """
    step = BY_VERB[verb]
    if item.status != step.frm:
        whose = f" (claimed by {item.claimed_by})" if item.claimed_by and item.status != OPEN else ""
        raise NotOpen(f"cannot {verb} {item.id}: it is {item.status}{whose}, not {step.frm}", about=item.id)
    why = forbidden(step, actor, roles, item)
    if why:
        raise Refused(why, about=item.id)
    return step


def forbidden(step: Transition, actor: str, roles: Iterable[str], item: Item) -> str | None:
    """Why `actor` may not take `step`, in a sentence; None when it may."""
    if not step.worker_may and is_worker(actor, item):
        return f"cannot {step.verb} {item.id}: nobody judges their own work"
    if not step.who & parties(actor, roles, item):
        names = " or ".join(sorted(step.who, reverse=True))
        return f"cannot {step.verb} {item.id}: only {names} may, and {actor} is not"
    return None


def allowed(actor: str, roles: Iterable[str], item: Item) -> list[str]:
    """The verbs that `actor` may use on `item` as it is, in the table's order."""
    roles = list(roles)
    return [s.verb for s in TRANSITIONS if s.frm == item.status and forbidden(s, actor, roles, item) is None]


def path(
    old: Mapping[str, Any] | None,
    new: Mapping[str, Any],
    actor: str,
    roles: Iterable[str],
    worker: str | None = None,
) -> list[Transition]:
    """The steps by `actor` that lead from the row `old` (None: no row) to `new`.

    Every step must be allowed to the actor, every changed column be written
    by one of them, and no status come twice (`update` alone stays where it is).
    Raises Refused, with the reason, when no such path exists.
    """
    roles = list(roles)
    start = Item(str(new["id"]), NONE, actor, None) if old is None else Item.of(old, worker)
    changed = {name for name in new if (old or {}).get(name) != new.get(name)}
    target = str(new.get("status") or OPEN)
    mismatches: list[str] = []
    reasons: list[str] = []
    queue: list[tuple[Item, list[Transition]]] = [(start, [])]
    while queue:
        item, steps = queue.pop(0)
        if steps and item.status == target:
            why = _mismatch(item, steps, old, new, changed)
            if why is None:
                return steps
            mismatches.append(why)
        if item.status in PASSED_THROUGH:
            queue += _next(item, steps, actor, roles, reasons)
    direct = [
        f for s in TRANSITIONS if (s.frm, s.to) == (start.status, target) and (f := forbidden(s, actor, roles, start))
    ]
    told = mismatches + direct + reasons
    why = (
        told[0]
        if told and (mismatches or direct or target in PASSED_THROUGH)
        else f"no verb leads from {start.status or 'nothing'} to {target}"
    )
    raise Refused(why, about=start.id)


def _next(
    item: Item, steps: list[Transition], actor: str, roles: list[str], reasons: list[str]
) -> list[tuple[Item, list[Transition]]]:
    found = []
    for step in TRANSITIONS:
        seen = {NONE, item.status, *(s.frm for s in steps)}
        if step.frm != item.status or (step.to in seen and (step.frm != step.to or steps)):
            continue
        why = forbidden(step, actor, roles, item)
        if why:
            reasons.append(why)
            continue
        found.append((_after(item, step, actor), [*steps, step]))
    return found


def _after(item: Item, step: Transition, actor: str) -> Item:
    claimed_by = {"": item.claimed_by, "actor": actor, None: None}[step.claimed_by]
    worker = actor if "+completions" in step.rows else None if "-completions" in step.rows else item.worker
    return Item(item.id, step.to, item.posted_by, claimed_by, worker)


def _mismatch(
    item: Item,
    steps: list[Transition],
    old: Mapping[str, Any] | None,
    new: Mapping[str, Any],
    changed: set[str],
) -> str | None:
    verbs = ", ".join(step.verb for step in steps)
    extra = changed - frozenset().union(*(step.writes for step in steps))
    if old is None:
        extra = {name for name in extra - DEFAULTED if new.get(name) is not None}
    if extra:
        return f"{verbs} of {item.id} may not change {', '.join(sorted(extra))}"
    if (new.get("claimed_by") or None) != (item.claimed_by or None):
        return f"{verbs} of {item.id} must leave claimed_by {item.claimed_by or 'empty'}"
    if old is None and new.get("posted_by") != item.posted_by:
        return f"{verbs} of {item.id} must be posted by {item.posted_by}"
    return None
