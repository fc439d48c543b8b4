"""Which status follows which, by whose hand, and what is written.  One table, no I/O.

The table below is the only place that knows it: verbs ask `judge` before they
write, the review of a pull request asks `path` about what it finds written.

            post                claim            done             accept, close
    (none) ──────▶  open  ◀──────────▶ claimed ──────▶ in_review ──────▶ completed
                     │        unclaim     ▲  reject  │
                     ▼ delete             └──────────┘
                 withdrawn

Three steps stay where they are: `renew` goes on with a claim, `takeover` takes
one whose lease has ended, and `revise`, a second `done`, hands in other
evidence for what is still in review.  The table knows the actor, the actor's roles, from,
to, columns, and the lease of the claim.  Limits, trust levels and rules about
text belong to the policy.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from wasteland.errors import NotOpen, Refused
from wasteland.models import CONTENT
from wasteland.rules import lease as terms
from wasteland.rules.lease import Lease
from wasteland.values import dataclass

OPEN, CLAIMED, IN_REVIEW, COMPLETED, WITHDRAWN = "open", "claimed", "in_review", "completed", "withdrawn"
NONE = ""  # the status of an item that does not exist yet

# Who may do it.
ANYONE, POSTER, CLAIMER, VALIDATOR = "anyone", "the poster", "the claimer", "a validator"

STATE = frozenset({"status", "updated_at"})
POSTED = frozenset({"id", "posted_by", "created_at", "updated_at", "status", *CONTENT})
# Columns with a default that a new row has without anybody having set them.
DEFAULTED = frozenset({"sandbox_required", "sandbox_scope", "sandbox_min_tier"})
# The lease that a step needs: one to go on with, or one that has ended.
HELD, ENDED = "held", "ended"
# What a step may do to the lease; in a commons that keeps none, or by a peer that knows none, it does nothing.
LEASE_GIVEN, LEASE_ENDS = frozenset({"+wl_leases", "~wl_leases"}), frozenset({"-wl_leases"})


@dataclass(frozen=True)
class Transition:
    """One step of an item.

    `who` is any of the parties that may take it; `worker_may` is False where
    the one whose work is judged may not.  `writes` are the columns of `wanted`
    that may change, `claimed_by` the value it gets (None: none, "actor", or
    "" for unchanged); `rows` are the rows of other tables that come (+), go
    (-) or change (~) with it; `lease` is what must be true of the claim's.
    """

    verb: str
    frm: str
    to: str
    who: frozenset[str]
    writes: frozenset[str]
    claimed_by: str | None = ""
    worker_may: bool = True
    rows: frozenset[str] = frozenset()
    lease: str = ""

    @property
    def words(self) -> str:
        """The verb as a sentence has it."""
        return {"takeover": "take over", "revise": "hand in again"}.get(self.verb, self.verb)

    @property
    def command(self) -> str:
        """The command that takes the step."""
        return "done" if self.verb == "revise" else self.verb


TRANSITIONS = (
    Transition("post", NONE, OPEN, frozenset({ANYONE}), POSTED),
    Transition("update", OPEN, OPEN, frozenset({POSTER}), frozenset({"updated_at", *CONTENT})),
    Transition(
        "claim", OPEN, CLAIMED, frozenset({ANYONE}), STATE | {"claimed_by"}, claimed_by="actor",
        rows=frozenset({"+wl_leases"}),
    ),
    # It writes nothing of the item: a row of its own merges with whatever else lands meanwhile.
    Transition(
        "renew", CLAIMED, CLAIMED, frozenset({CLAIMER}), frozenset(), rows=frozenset({"~wl_leases"}), lease=HELD
    ),
    Transition(
        "takeover", CLAIMED, CLAIMED, frozenset({ANYONE}), frozenset({"claimed_by", "updated_at"}), claimed_by="actor",
        rows=frozenset({"~wl_leases"}), lease=ENDED,
    ),
    Transition(
        "unclaim", CLAIMED, OPEN, frozenset({CLAIMER, POSTER}), STATE | {"claimed_by", "evidence_url"}, claimed_by=None,
        rows=frozenset({"-wl_leases"}),
    ),
    Transition(
        "done", CLAIMED, IN_REVIEW, frozenset({CLAIMER}), STATE | {"evidence_url"},
        rows=frozenset({"+completions", "-wl_leases"}),
    ),
    Transition(
        "accept", IN_REVIEW, COMPLETED, frozenset({POSTER, VALIDATOR}), STATE,
        worker_may=False, rows=frozenset({"+stamps", "~completions", "-wl_leases"}),
    ),
    Transition(
        "reject", IN_REVIEW, CLAIMED, frozenset({POSTER}), STATE | {"evidence_url"},
        rows=frozenset({"-completions", "+wl_leases"}),
    ),
    Transition(
        "close", IN_REVIEW, COMPLETED, frozenset({POSTER}), STATE, worker_may=False, rows=frozenset({"-wl_leases"})
    ),
    Transition("delete", OPEN, WITHDRAWN, frozenset({POSTER}), STATE, rows=frozenset({"-wl_leases"})),
    Transition(
        "revise", IN_REVIEW, IN_REVIEW, frozenset({CLAIMER}), frozenset({"updated_at", "evidence_url"}),
        rows=frozenset({"+completions", "-completions"}),
    ),
)  # fmt: skip
BY_VERB = {step.verb: step for step in TRANSITIONS}
# Those that a row of `wanted` shows.
SHOWN = tuple(step for step in TRANSITIONS if step.writes)
# A pull request may hold several steps of one rig on one item; a step that ends an item ends the path.
PASSED_THROUGH = frozenset({NONE, OPEN, CLAIMED, IN_REVIEW})


@dataclass(frozen=True)
class Item:
    """What the rules need to know of a wanted item; `worker` completed it, if anybody has.

    `lease` is the row that it has in `wl_leases`, and `now` the time to judge
    that by; without either, no claim is taken over.
    """

    id: str
    status: str
    posted_by: str | None
    claimed_by: str | None
    worker: str | None = None
    lease: Lease | None = None
    now: datetime | None = None
    changed: datetime | None = None

    @classmethod
    def of(
        cls,
        row: Mapping[str, Any],
        worker: str | None = None,
        lease: Lease | None = None,
        now: datetime | None = None,
    ) -> Item:
        """From a row of `wanted`."""
        status, poster = str(row.get("status") or OPEN), row.get("posted_by")
        changed = row.get("updated_at")
        changed = changed.replace(tzinfo=changed.tzinfo or UTC) if isinstance(changed, datetime) else None
        return cls(str(row["id"]), status, poster, row.get("claimed_by"), worker, lease, now, changed)

    @property
    def leased(self) -> str | None:
        """How the lease of the claim stands, in words; None where the claim has none."""
        held = claim_lease(self)
        return terms.sentence(held, self.now) if held and self.now else None


def claim_lease(item: Item) -> Lease | None:
    """The lease of the claim that `item` is under.

    A row of another rig or status is left over by a peer that knows no leases,
    and so is one that had ended before the item changed last: it means nothing.
    """
    held = item.lease
    if held is None or item.status != CLAIMED or held.rig != item.claimed_by:
        return None
    return None if item.changed is not None and held.expires_at < item.changed else held


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
    """The step that `verb` is for `item`, if `actor` may take it now; `done` once more is `revise`.

    Raises NotOpen when the item is in another state, Refused when it is not
    for this actor.
    """
    step = BY_VERB[verb]
    if verb == "done" and item.status == IN_REVIEW and CLAIMER in parties(actor, (), item):
        step = BY_VERB["revise"]
    if item.status != step.frm:
        whose = ", ".join([f"claimed by {item.claimed_by}", *filter(None, [item.leased])])
        told = f" ({whose})" if item.claimed_by and item.status != OPEN else ""
        raise NotOpen(
            f"cannot {step.words} {item.id}: it is {item.status}{told}, not {step.frm}",
            about=item.id, hint=_way_on(verb, actor, item),
        )  # fmt: skip
    why = forbidden(step, actor, roles, item)
    if why:
        raise Refused(why, about=item.id)
    return step


def _way_on(verb: str, actor: str, item: Item) -> str | None:
    """The command for who wants to claim what somebody let lapse."""
    if verb == "claim" and forbidden(BY_VERB["takeover"], actor, (), item) is None:
        return f"wl claim {item.id} --take-over"
    return None


def forbidden(step: Transition, actor: str, roles: Iterable[str], item: Item) -> str | None:
    """Why `actor` may not take `step`, in a sentence; None when it may."""
    if not step.worker_may and is_worker(actor, item):
        return f"cannot {step.words} {item.id}: nobody judges their own work"
    if not step.who & parties(actor, roles, item):
        names = " or ".join(sorted(step.who, reverse=True))
        return f"cannot {step.words} {item.id}: only {names} may, and {actor} is not"
    if step.lease:
        why = _lease_forbids(step, actor, item)
        return f"cannot {step.words} {item.id}: {why}" if why else None
    return None


def _lease_forbids(step: Transition, actor: str, item: Item) -> str | None:
    held = claim_lease(item)
    if held is None or item.now is None:
        return f"the claim by {item.claimed_by} has no lease"
    if step.lease == HELD:
        return None
    if actor == held.rig:
        return f"{actor} holds it already"
    if terms.state(held, item.now) != terms.OVER:
        told = terms.sentence(held, item.now)
        return f"{held.rig} holds it, {told}; others may take it over 1 h after the end of the lease"
    return None


def allowed(actor: str, roles: Iterable[str], item: Item) -> list[str]:
    """The verbs that `actor` may use on `item` as it is, in the table's order."""
    roles = list(roles)
    return [s.command for s in TRANSITIONS if s.frm == item.status and forbidden(s, actor, roles, item) is None]


def path(
    old: Mapping[str, Any] | None,
    new: Mapping[str, Any],
    actor: str,
    roles: Iterable[str],
    worker: str | None = None,
    lease: Lease | None = None,
    now: datetime | None = None,
) -> list[Transition]:
    """The steps by `actor` that lead from the row `old` (None: no row) to `new`.

    Every step must be allowed to the actor, every changed column be written
    by one of them, and no status come twice (a step that stays where it is
    comes first).  `lease` is upstream's row, and `now` the time of judgement.
    Raises Refused, with the reason, when no such path exists.
    """
    roles = list(roles)
    start = Item(str(new["id"]), NONE, actor, None) if old is None else Item.of(old, worker, lease, now)
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
    direct = [f for s in SHOWN if (s.frm, s.to) == (start.status, target) and (f := forbidden(s, actor, roles, start))]
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
    for step in SHOWN:
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
    return replace(item, status=step.to, claimed_by=claimed_by, worker=worker)


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
