"""The whole of a pull request: who acts in it, and its rows by subject."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wasteland.models import RowDiff, unsound
from wasteland.rules.policy.findings import NOTHING, REJECT, Judgement, Upstream
from wasteland.rules.policy.leases import judge_leases
from wasteland.rules.policy.rigs import judge_rigs
from wasteland.rules.policy.wanted import judge_items

if TYPE_CHECKING:
    from wasteland.trust.envelope import Check


def judge(rows: Sequence[RowDiff], org: str, upstream: Upstream, check: Check) -> Judgement:
    """The verdict on the net rows of a pull request from the fork of `org`: those that upstream does not hold."""
    verdict = Judgement()
    by_table: dict[str, list[RowDiff]] = {}
    for row in rows:
        by_table.setdefault(row.table, []).append(row)
    for row in rows:
        if row.new is not None and (bad := unsound(row.new)):
            verdict.add(REJECT, "G-CELL", f"{row.table} {row.key} has no sound {', '.join(bad)}")
    if verdict.findings:
        return verdict  # what is below reads these columns
    judge_rigs(by_table.pop("rigs", []), org, upstream, verdict)
    actor = _actor(rows, org, upstream)
    verdict.actor = actor
    if actor is None and by_table:
        verdict.add(REJECT, "OWNER", f"no rig of {org} is registered upstream, and this does not register one")
        return verdict
    if not rows:
        verdict.add(NOTHING, "G-NOTHING", "upstream's main holds all that this would change")
    who = actor or ""
    items = by_table.pop("wanted", [])
    judge_items(items, by_table, who, upstream, verdict)
    if completions := by_table.pop("completions", []):
        from wasteland.rules.policy.completions import judge_completions

        judge_completions(completions, who, rows, verdict)
    judge_leases(by_table.pop("wl_leases", []), who, items, upstream, verdict)
    if stamps := by_table.pop("stamps", []):
        from wasteland.rules.policy.stamps import judge_stamps

        judge_stamps(stamps, who, rows, upstream, verdict)
    _judge_signed(by_table, who, rows, upstream, check, verdict)
    for table in sorted(by_table):
        verdict.add(REJECT, "G-UNKNOWN", f"rows of {table} are not for pull requests")
    return verdict


def _judge_signed(
    by_table: dict[str, list[RowDiff]],
    actor: str,
    everything: Sequence[RowDiff],
    upstream: Upstream,
    check: Check,
    verdict: Judgement,
) -> None:
    """The tables whose rows are signed documents; most pull requests bring none of them."""
    events, attestations, roles = (by_table.pop(name, []) for name in ("wl_key_events", "wl_attestations", "wl_roles"))
    if attestations:
        from wasteland.rules.policy.attestations import judge_attestations
    if events or roles:
        from wasteland.rules.policy.roles_and_keys import judge_key_events, judge_roles
    if events:
        judge_key_events(events, actor, upstream, check, verdict)
    if attestations:
        judge_attestations(attestations, actor, everything, upstream, check, verdict)
    if roles:
        judge_roles(roles, upstream, check, verdict)


def _actor(rows: Sequence[RowDiff], org: str, upstream: Upstream) -> str | None:
    """The handle that acts: the fork owner's rig that the rows speak of, else its only or first one."""
    own = sorted(h for h, rig in upstream.rigs.items() if rig.get("dolthub_org") == org)
    own += [
        str(r.row["handle"])
        for r in rows
        if r.table == "rigs" and r.kind == "added" and r.row.get("dolthub_org") == org
    ]
    named = {
        str(value)
        for row in rows
        for column, value in row.row.items()
        if column in ("claimed_by", "posted_by", "completed_by", "author", "signer", "handle", "validated_by", "rig")
    }
    return next((handle for handle in own if handle in named), own[0] if own else None)
