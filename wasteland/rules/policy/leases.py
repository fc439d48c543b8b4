"""Rows of `wl_leases`: a lease goes with the step of its item, or is renewed by its holder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wasteland.models import RowDiff
from wasteland.rules.lease import Lease, bad_times
from wasteland.rules.lifecycle import BY_VERB, LEASE_ENDS, LEASE_GIVEN, Item, Transition, forbidden
from wasteland.rules.policy.findings import AUTO, REJECT, Judgement, Upstream


def judge_leases(
    rows: Sequence[RowDiff], actor: str, wanted: Sequence[RowDiff], upstream: Upstream, verdict: Judgement
) -> None:
    """Whether these leases go with the steps of their items, or are renewals; the items are judged before."""
    changed = {str(row.row.get("wanted_id")) for row in rows}
    for item_id, steps in verdict.steps.items():
        if steps[-1].verb == "takeover" and item_id not in changed:
            verdict.add(REJECT, "LEASE", f"{item_id} is taken over, but its lease is not")
    items = {str(row.row.get("id")): row.row for row in wanted}
    for row in rows:
        item_id = str(row.row.get("wanted_id"))
        steps = verdict.steps.get(item_id, [])
        if steps:
            why = _bad_lease(row, actor, steps[-1], items[item_id], upstream)
        else:
            why = _bad_renewal(row, actor, item_id, upstream)
        verdict.add(REJECT if why else AUTO, "LEASE", why or f"the lease of {item_id} is {row.kind} by {actor}")


def _bad_lease(row: RowDiff, actor: str, step: Transition, item: Mapping[str, Any], upstream: Upstream) -> str | None:
    """Why a lease may not be what it is after `step`, the last one of its item; None where it may."""
    what = f"the lease of {item.get('id')}"
    if row.new is None:
        return None if step.rows & LEASE_ENDS else f"{what} is removed, which {step.words} does not do"
    if not step.rows & LEASE_GIVEN:
        return f"{what} is {row.kind}, which {step.words} does not do"
    made = Lease.of(row.new)
    if made is None or made.rig != item.get("claimed_by"):
        return f"{what} is not one of its claimer"
    wrong = bad_times(made, item.get("effort_level"), upstream.now)
    if wrong is None and actor != made.rig and made.expires_at <= upstream.now:
        wrong = "it has ended already, and is given to another"
    return f"{what} cannot be true: {wrong}" if wrong else None


def _bad_renewal(row: RowDiff, actor: str, item_id: str, upstream: Upstream) -> str | None:
    """Why a lease may not be changed while its item stays as it is upstream; None where its holder renews it."""
    what = f"the lease of {item_id}"
    item, before = upstream.leased.get(item_id), Lease.of(upstream.leases.get(item_id))
    made = Lease.of(row.new)
    if item is None or before is None or made is None:
        return f"{what} is {row.kind} without a step of the item"
    why = forbidden(BY_VERB["renew"], actor, (), Item.of(item, None, before, upstream.now))
    if why:
        return why
    if not row.columns <= {"renewed_at", "expires_at"} or made.renewed_at < before.renewed_at:
        return f"{what} may only be renewed"
    wrong = bad_times(made, item.get("effort_level"), upstream.now)
    return f"{what} cannot be true: {wrong}" if wrong else None
