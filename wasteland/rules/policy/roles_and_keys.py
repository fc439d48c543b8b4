"""Rows of `wl_key_events` and `wl_roles`: logs that only their own signatures continue."""

from __future__ import annotations

from collections.abc import Sequence

from wasteland.errors import BadSignature
from wasteland.models import RowDiff
from wasteland.rules.policy.findings import AUTO, REJECT, REVIEW, Judgement, Upstream
from wasteland.rules.policy.signed import index
from wasteland.trust.envelope import Check, Envelope, parse
from wasteland.trust.registry import read_key_log, read_roles
from wasteland.trust.statements import key_event_row


def judge_key_events(rows: Sequence[RowDiff], actor: str, upstream: Upstream, check: Check, verdict: Judgement) -> None:
    """Whether these events continue the key log of `actor`."""
    for row in rows:
        handle = str(row.row.get("handle"))
        why = None
        try:
            envelope = Envelope.from_columns(row.row["payload"], row.row["signatures"])
            if row.kind != "added" or handle != actor:
                why = f"{actor} may not change the keys of {handle}"
            else:
                read_key_log([*upstream.key_events(handle), envelope], handle, upstream.wasteland, check)
                why = index(row.row, key_event_row(envelope, parse(envelope.payload), row.row["created_at"]))
        except BadSignature as error:
            why = error.message
        verdict.add(REJECT if why else AUTO, "KEYS", why or f"publishes a key of {handle}")


def judge_roles(rows: Sequence[RowDiff], upstream: Upstream, check: Check, verdict: Judgement) -> None:
    """Whether these versions of the roles continue upstream's."""
    if not rows:
        return
    try:
        if any(row.kind != "added" for row in rows):
            raise BadSignature("a version of the roles was changed")
        if not upstream.role_documents:
            raise BadSignature("upstream has no roles; only its creator can found them")
        added = [Envelope.from_columns(r.row["payload"], r.row["signatures"]) for r in rows]
        read_roles([*upstream.role_documents, *added], upstream.wasteland, check)
        versions = [parse(envelope.payload)["predicate"]["version"] for envelope in added]
        if versions != [row.row.get("version") for row in rows]:
            raise BadSignature("a version of the roles stands under another number")
    except BadSignature as error:
        verdict.add(REJECT, "ROLES", error.message)
    else:
        verdict.add(REVIEW, "ROLES", "a new version of the roles, signed by a root")
