"""Rows of `wanted`: each must be a way of steps that the actor may take."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from wasteland.errors import Refused
from wasteland.models import RowDiff
from wasteland.rules.lease import Lease
from wasteland.rules.lifecycle import (
    BY_VERB,
    CLAIMED,
    COMPLETED,
    IN_REVIEW,
    OPEN,
    WITHDRAWN,
    Item,
    Transition,
    forbidden,
    path,
)
from wasteland.rules.policy.findings import AUTO, REJECT, Judgement, Upstream

ITEM_ID = re.compile(r"w-[A-Za-z0-9][A-Za-z0-9-]{0,61}\Z")
STATUSES = frozenset({OPEN, CLAIMED, IN_REVIEW, COMPLETED, WITHDRAWN})


def odd_id(item_id: str) -> str | None:
    """Why no change of an item with this id is let through; None where its shape is one that items have."""
    return None if ITEM_ID.match(item_id) else f"{item_id} is no id of an item"


def judge_items(
    rows: Sequence[RowDiff],
    rest: Mapping[str, list[RowDiff]],
    actor: str,
    upstream: Upstream,
    verdict: Judgement,
) -> None:
    """Which steps of `lifecycle` these rows of `wanted` hold, and whether their rows of other tables come with them."""
    roles = upstream.roles(actor)
    for row in rows:
        item_id = str(row.row.get("id"))
        if row.new is None:
            verdict.add(REJECT, "WANT-GONE", f"{item_id} is deleted; items are withdrawn, not removed")
            continue
        if row.new.get("status") not in STATUSES or odd_id(item_id):
            verdict.add(REJECT, "WANT-STEP", f"{item_id} is no id of an item, or its status is none that items have")
            continue
        done = [c for c in upstream.completions.values() if c.get("wanted_id") == item_id]
        worker = str(done[-1]["completed_by"]) if done else None
        try:
            lease = Lease.of(upstream.leases.get(item_id))
            steps = path(row.old, row.new, actor, roles, worker, lease, upstream.now)
        except Refused as error:
            verdict.add(REJECT, "WANT-STEP", error.message)
            continue
        stamped = any(_about(r, item_id) for r in rest.get("completions", []) if r.kind == "modified")
        if steps[-1].verb == "accept" and not stamped:
            steps = [*steps[:-1], BY_VERB["close"]]
            why = forbidden(steps[-1], actor, roles, Item.of(row.old or row.new, worker))
            if why:
                verdict.add(REJECT, "WANT-STEP", why)
                continue
        verdict.steps[item_id] = steps
        missing = _missing_rows(item_id, steps, rest)
        verbs = ", ".join(step.verb for step in steps)
        verdict.add(REJECT if missing else AUTO, "WANT-STEP", missing or f"{actor}: {verbs} {item_id}")


def _about(row: RowDiff, item_id: str) -> bool:
    return row.row.get("wanted_id") == item_id


def _missing_rows(item_id: str, steps: list[Transition], rest: Mapping[str, list[RowDiff]]) -> str | None:
    """Why the rows that must come with the steps are not there; None where they are."""
    found = sorted(row.kind for row in rest.get("completions", []) if _about(row, item_id))
    wanted_rows: frozenset[str] = frozenset().union(*(step.rows for step in steps))
    expected = sorted(
        kind
        for mark, kind in (("+completions", "added"), ("~completions", "modified"), ("-completions", "removed"))
        if mark in wanted_rows
    )
    if found != expected:
        return f"{item_id} must come with one completion that is {' and '.join(expected) or 'left as it is'}"
    if "+stamps" in wanted_rows and not rest.get("stamps"):
        return f"{item_id} is completed without a stamp by a rig that may only accept"
    return None
