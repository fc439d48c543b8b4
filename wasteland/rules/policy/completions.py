"""Rows of `completions`: handed in, validated and taken back with the steps of their items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wasteland.models import RowDiff
from wasteland.rules.policy.findings import AUTO, REJECT, Judgement
from wasteland.rules.policy.signed import unlike_signed
from wasteland.trust.binding import check_completion_row

VALIDATION = frozenset({"validated_by", "stamp_id", "validated_at"})


def judge_completions(rows: Sequence[RowDiff], actor: str, everything: Sequence[RowDiff], verdict: Judgement) -> None:
    """Whether these completions go with the steps of their items; the items are judged before."""
    for row in rows:
        said, item_id = row.row, str(row.row.get("wanted_id"))
        verbs = {step.verb for step in verdict.steps.get(item_id, [])}
        if row.kind == "added":
            honest = said.get("completed_by") == actor and not any(said.get(name) for name in VALIDATION)
            honest = honest and not unlike_signed(row, everything, check_completion_row)
            ok, rule = honest and bool(verbs & {"done", "revise"}), "COMP-ADD"
        elif row.kind == "modified":
            fresh = not (row.old or {}).get("stamp_id") and _stamped_here(said, everything)
            honest = row.columns <= VALIDATION and said.get("validated_by") == actor
            ok, rule = "accept" in verbs and honest and fresh, "COMP-VALIDATE"
        else:
            own = "revise" in verbs and said.get("completed_by") == actor
            ok, rule = ("reject" in verbs or own) and not said.get("stamp_id"), "COMP-REJECTED"
        verdict.add(AUTO if ok else REJECT, rule, f"completion {said.get('id')} of {item_id} {row.kind} by {actor}")


def _stamped_here(completion: Mapping[str, Any], everything: Sequence[RowDiff]) -> bool:
    """Whether the stamp that a completion names is added here and is about it."""
    return any(
        (row.row.get("id"), row.row.get("context_id")) == (completion.get("stamp_id"), completion.get("id"))
        for row in everything
        if row.table == "stamps" and row.kind == "added"
    )
