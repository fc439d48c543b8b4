"""Rows of `stamps`: who may stamp whom, for what, and with which scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wasteland.errors import BadSignature
from wasteland.models import RowDiff, loaded
from wasteland.rules.lifecycle import same_person
from wasteland.rules.policy.findings import AUTO, REJECT, REVIEW, Judgement, Upstream
from wasteland.rules.policy.signed import signed_as, unlike_signed
from wasteland.trust.binding import check_stamp_row
from wasteland.trust.envelope import Envelope, parse

SEVERITIES = ("leaf", "branch", "root")


def judge_stamps(
    rows: Sequence[RowDiff], actor: str, everything: Sequence[RowDiff], upstream: Upstream, verdict: Judgement
) -> None:
    """Whether `actor` may write these stamps; the items are judged before."""
    for row in rows:
        said = row.row
        why = _bad_stamp(row, actor, everything, upstream, verdict)
        if why:
            verdict.add(REJECT, "STAMP-ADD", why)
            continue
        what = f"{actor} stamps {said.get('subject')} for {said.get('context_id')}"
        doubt = _doubt(row, actor, everything, upstream)
        verdict.add(REVIEW if doubt else AUTO, "STAMP-ADD", f"{what}: {doubt}" if doubt else what)


def _doubt(row: RowDiff, actor: str, everything: Sequence[RowDiff], upstream: Upstream) -> str | None:
    """Why a person should look at a stamp that breaks no rule; None where nothing speaks for it."""
    subject = str(row.row.get("subject"))
    near = akin(upstream.rigs.get(actor, {"handle": actor}), upstream.rigs.get(subject, {"handle": subject}))
    return near or ("it is not signed here" if signed_as(row, everything) is None else None)


def akin(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """Why a rig is too near another to judge its work, by their rows of `rigs`; None where it is not.

    The verb refuses such a stamp; a review of one that came all the same wants a person.
    """
    if one.get("dolthub_org") and one.get("dolthub_org") == other.get("dolthub_org"):
        return f"both rigs belong to {one.get('dolthub_org')}"
    if other.get("parent_rig") == one.get("handle") or one.get("parent_rig") == other.get("handle"):
        return "one of the rigs is the other's parent"
    return None


def one_key(one: Iterable[Envelope], other: Iterable[Envelope]) -> bool:
    """Whether two key logs name one key: two handles of one person, whatever else is said of them."""
    return bool(_keys(one) & _keys(other))


def _keys(events: Iterable[Envelope]) -> set[str]:
    """The public keys that a key log names, verified or not: who lends somebody's name gains nothing by it."""
    found = set()
    for envelope in events:
        try:
            found.add(str(parse(envelope.payload)["predicate"]["key"]))
        except (BadSignature, KeyError, TypeError):
            continue  # no event; a reader of the log refuses it
    return found


def _bad_stamp(
    row: RowDiff, actor: str, everything: Sequence[RowDiff], upstream: Upstream, verdict: Judgement
) -> str | None:
    said = row.row
    if row.kind != "added":
        return f"stamp {said.get('id')} was {row.kind}; stamps are never changed"
    if said.get("author") != actor:
        return f"stamp {said.get('id')} is in the name of {said.get('author')}, but {actor} wrote it"
    if same_person(actor, str(said.get("subject"))):
        return "nobody stamps their own work"
    if one_key(upstream.key_events(actor), upstream.key_events(str(said.get("subject")))):
        return f"{actor} and {said.get('subject')} have one key: nobody stamps their own work"
    if not str(said.get("subject")).isascii():
        return f"{said.get('subject')} is no handle: it may be made to look like another"
    if bad := _bad_scores(said):
        return f"stamp {said.get('id')} has {bad}"
    if wrong := unlike_signed(row, everything, check_stamp_row):
        return f"stamp {said.get('id')} differs from what was signed: {', '.join(wrong)}"
    about = upstream.completions.get(str(said.get("context_id")))
    if about is None or about.get("completed_by") != said.get("subject"):
        return f"stamp {said.get('id')} is not about a completion of {said.get('subject')}"
    if "accept" not in {step.verb for step in verdict.steps.get(str(about.get("wanted_id")), [])}:
        return f"stamp {said.get('id')} comes without accepting {about.get('wanted_id')}"
    named = (said.get("context_id"), said.get("id"))
    if not any(r.table == "completions" and (r.row.get("id"), r.row.get("stamp_id")) == named for r in everything):
        return f"stamp {said.get('id')} is not named by its completion"
    return None


def _bad_scores(said: Mapping[str, Any]) -> str | None:
    """What of a stamp's scores no stamp may say; dimensions that we do not know are taken as they are."""
    valence = loaded(said.get("valence"))
    if not isinstance(valence, dict) or not valence:
        return "no scores"
    for name, value in valence.items():
        top = 1 if name.endswith("_confidence") else 5
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= top:
            return f"a {name} that is not 0 to {top}"
    confidence = said.get("confidence")
    if confidence is not None and not 0 <= confidence <= 1:
        return "a confidence that is not 0 to 1"
    return None if said.get("severity") in (None, *SEVERITIES) else "a severity that is unknown"
