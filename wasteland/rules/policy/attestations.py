"""Rows of `wl_attestations`: signed by the actor, about rows of its own, in one chain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wasteland.errors import BadSignature
from wasteland.models import RowDiff
from wasteland.rules.policy.findings import AUTO, REJECT, Judgement, Upstream
from wasteland.rules.policy.signed import index
from wasteland.trust.binding import ChainState, Signed, check_chain, signed_link
from wasteland.trust.envelope import COMPLETION, STAMP, Check, Envelope, kind_of, parse, public_of, verify_envelope
from wasteland.trust.registry import read_key_log
from wasteland.trust.statements import attestation_row


def judge_attestations(
    rows: Sequence[RowDiff],
    actor: str,
    everything: Sequence[RowDiff],
    upstream: Upstream,
    check: Check,
    verdict: Judgement,
) -> None:
    """Whether these were signed by `actor`, name rows of its own and continue its chain."""
    links: list[Signed] = []
    for row in rows:
        why = _bad_attestation(row, actor, everything, upstream, check) or _foreign_row(
            row, actor, everything, upstream
        )
        verdict.add(REJECT if why else AUTO, "ATTEST", why or f"signed by {actor}: {row.row.get('subject_id')}")
        if not why:
            links.append(_link(Envelope.from_columns(row.row["payload"], row.row["signatures"])))
    known = upstream.attestations(actor, {link.seq for link in links}) if links else ()
    states = check_chain([*_known_links(known, actor), *links])
    if ChainState.EQUIVOCATION in {states[link.seq] for link in links}:
        verdict.add(
            REJECT, "ATTEST", f"{actor} signed another history before: two links stand in one place of the chain"
        )


def _known_links(envelopes: Iterable[Envelope], actor: str) -> list[Signed]:
    found = []
    for envelope in envelopes:
        try:
            if parse(envelope.payload)["predicate"]["author"]["handle"] == actor:
                found.append(_link(envelope))
        except (BadSignature, KeyError, TypeError):
            continue  # not a link; a reader of the chain passes over it too
    return found


def _link(envelope: Envelope) -> Signed:
    return signed_link(parse(envelope.payload), envelope.sha256)


def _foreign_row(row: RowDiff, actor: str, everything: Sequence[RowDiff], upstream: Upstream) -> str | None:
    """Why an attestation may not name its row: the row is somebody else's.  A row that is not here yet is no reason."""
    table, row_id = str(row.row.get("subject_table")), str(row.row.get("subject_id"))
    owners = {
        str(one.row.get("author" if table == "stamps" else "completed_by"))
        for one in everything
        if one.table == table and str(one.row.get("id")) == row_id
    }
    if table == "stamps" and row_id in upstream.stamp_authors:
        owners.add(upstream.stamp_authors[row_id])
    if table == "completions" and row_id in upstream.completions:
        owners.add(str(upstream.completions[row_id].get("completed_by")))
    if owners - {actor}:
        return f"an attestation by {actor} names {row_id}, which is {', '.join(sorted(owners - {actor}))}'s"
    return None


def _bad_attestation(
    row: RowDiff, actor: str, everything: Sequence[RowDiff], upstream: Upstream, check: Check
) -> str | None:
    if row.kind != "added":
        return f"an attestation was {row.kind}; they are never changed"
    if row.row.get("signer") != actor:
        return f"an attestation in the name of {row.row.get('signer')} comes from {actor}"
    try:
        envelope = Envelope.from_columns(row.row["payload"], row.row["signatures"])
        fresh = [
            Envelope.from_columns(r.row["payload"], r.row["signatures"])
            for r in everything
            if r.table == "wl_key_events" and r.kind == "added" and r.row.get("handle") == actor
        ]
        log = read_key_log([*upstream.key_events(actor), *fresh], actor, upstream.wasteland, check)
        statement = verify_envelope(envelope, [key.public for key in log.keys], check)
        if kind_of(statement) not in (STAMP, COMPLETION):
            return "an attestation is a signed document of another kind"
        said = statement["predicate"]
        if said["wasteland"] != upstream.wasteland or said["author"]["handle"] != actor:
            return "an attestation was signed for another wasteland or rig"
        public_of(said["author"]["did"])
        return index(row.row, attestation_row(envelope, statement, row.row["created_at"]))
    except BadSignature as error:
        return error.message
