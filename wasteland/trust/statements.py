"""What is signed: the builders of statements, manifests and the digests they bind.  Pure.

Each builder gives an in-toto Statement v1 that `attest.checked_statement`
accepts, or raises BadSignature; nothing here knows a key's secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from wasteland.errors import BadSignature
from wasteland.trust.envelope import (
    COMPLETION,
    KEY_EVENT,
    ROLES,
    STAMP,
    STATEMENT_TYPE,
    ZERO,
    Envelope,
    Statement,
    canonical,
    checked_statement,
    did_key,
    kind_of,
    predicate_type,
    sha256,
    timestamp,
)

WANTED_FIELDS = (
    "id",
    "title",
    "description",
    "project",
    "type",
    "posted_by",
    "effort_level",
    "tags",
    "sandbox_required",
    "sandbox_scope",
)
COMPLETION_FIELDS = ("id", "wanted_id", "completed_by", "evidence")
SCOPES = ("stamp", "completion", "post", "claim")
URL = re.compile(r"https?://\S+\Z", re.IGNORECASE)


class Party(NamedTuple):
    """A rig as a statement names it; `did` is None for a rig that has no key."""

    handle: str
    did: str | None


class Link(NamedTuple):
    """A place in a signer's chain: its number, and the digest of the payload before it (ZERO at 0)."""

    seq: int
    prev: str = ZERO


def json_value(value: object) -> Any:
    """A JSON column as a value, whether the driver gives it parsed or as text; BadSignature if it is no JSON."""
    if not isinstance(value, str | bytes):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise BadSignature("a JSON column does not hold JSON") from error


def wanted_digest(row: Mapping[str, Any]) -> str:
    """The digest of what may not change in a wanted item after it was claimed.

    The other columns (status, claimed_by, times, evidence_url, priority) go on
    changing.  BadSignature where a JSON column cannot be canonical.
    """
    fields = {name: row.get(name) for name in WANTED_FIELDS}
    fields["tags"] = json_value(fields["tags"])
    fields["sandbox_scope"] = json_value(fields["sandbox_scope"])
    fields["sandbox_required"] = None if fields["sandbox_required"] is None else int(fields["sandbox_required"])
    return sha256(canonical(fields))


def completion_digest(row: Mapping[str, Any]) -> str:
    """The digest that stands for a completion nobody signed: who did what, with which evidence.

    The time is left out, since a peer writes it in its own time zone.
    """
    return sha256(canonical({name: row.get(name) for name in COMPLETION_FIELDS}))


def text_manifest(text: str) -> dict[str, Any]:
    """The evidence manifest of evidence that is only text: the digest of its UTF-8."""
    return {"v": 1, "kind": "text", "uri": text if URL.match(text) else "", "sha256": text_digest(text)}


def text_digest(text: str) -> str:
    """The digest of the UTF-8 of a text; BadSignature for a text that has none."""
    try:
        return sha256(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise BadSignature("the text is not Unicode") from error


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """The digest of an evidence manifest, which completion and stamp carry as their subject."""
    return sha256(canonical(dict(manifest)))


def _statement(kind: str, name: str, digest: dict[str, str], predicate: dict[str, Any]) -> Statement:
    return checked_statement(
        {
            "_type": STATEMENT_TYPE,
            "predicateType": predicate_type(kind),
            "subject": [{"name": name, "digest": digest}],
            "predicate": predicate,
        }
    )


def _digest(manifest_sha256: str, commit: str | None) -> dict[str, str]:
    return {"sha256": manifest_sha256} | ({"gitCommit": commit} if commit else {})


def completion_statement(
    *,
    wasteland: str,
    completion: str,
    author: Party,
    wanted: str,
    wanted_sha256: str,
    evidence: Mapping[str, Any],
    sandbox_level: str,
    sandbox_network: str,
    issued_at: datetime,
    chain: Link,
    supersedes: str | None = None,
) -> Statement:
    """The worker's word: this evidence is what I did for this wanted item.

    `evidence` is a manifest (`text_manifest`, or of kind git); `issued_at`
    must be the row's `completed_at`.  `supersedes` is the digest of the
    attestation of the completion that this one takes the place of.
    """
    predicate = {
        "wasteland": wasteland,
        "completion": completion,
        "author": author._asdict(),
        "wanted": wanted,
        "wanted_sha256": wanted_sha256,
        "evidence": dict(evidence),
        "sandbox": {"level": sandbox_level, "network": sandbox_network},
        "issued_at": timestamp(issued_at),
        "chain": chain._asdict(),
    }
    if supersedes is not None:
        predicate["supersedes"] = supersedes
    name = evidence.get("uri") or f"completion/{completion}"
    return _statement(COMPLETION, name, _digest(manifest_digest(evidence), evidence.get("head")), predicate)


def stamp_statement(
    *,
    wasteland: str,
    stamp_id: str,
    author: Party,
    rig: Party,
    scores: Mapping[str, tuple[int, int]],
    confidence: int,
    severity: str,
    completion: str,
    completion_sha256: str,
    wanted: str,
    wanted_sha256: str,
    evidence_sha256: str,
    commit: str | None,
    skill_tags: Sequence[str],
    message: str | None,
    issued_at: datetime,
    chain: Link,
    passbook_prev: str | None = None,
    context_type: str = "completion",
) -> Statement:
    """The author's judgement of a completion, as it is signed.

    `scores` maps a dimension to (score 0..5, confidence per mille);
    `confidence` is per mille too.  The row to write beside it has
    `valence_of(scores)`, the message itself, and `issued_at` as `created_at`.
    """
    predicate = {
        "wasteland": wasteland,
        "stamp_id": stamp_id,
        "author": author._asdict(),
        "rig": rig._asdict(),
        "scores": {dim: {"score": score, "confidence": sure} for dim, (score, sure) in scores.items()},
        "confidence": confidence,
        "severity": severity,
        "context": {
            "type": context_type,
            "completion": completion,
            "completion_sha256": completion_sha256,
            "wanted": wanted,
            "wanted_sha256": wanted_sha256,
        },
        "skill_tags": list(skill_tags),
        "message_sha256": None if message is None else text_digest(message),
        "passbook_prev": passbook_prev,
        "issued_at": timestamp(issued_at),
        "chain": chain._asdict(),
    }
    return _statement(STAMP, f"completion/{completion}", _digest(evidence_sha256, commit), predicate)


def valence_of(scores: Mapping[str, tuple[int, int]]) -> dict[str, int | float]:
    """The row's `valence` for `scores`: whole scores, and confidences from 0 to 1."""
    whole: dict[str, int | float] = {dim: score for dim, (score, _) in scores.items()}
    return whole | {f"{dim}_confidence": sure / 1000 for dim, (_, sure) in scores.items()}


def key_event_statement(
    *,
    wasteland: str,
    handle: str,
    public: bytes,
    next_sha256: str,
    dolthub_org: str,
    issued_at: datetime,
    kind: str = "inception",
    seq: int = 0,
    prev: str = ZERO,
    scopes: Sequence[str] = SCOPES,
    revokes: Sequence[Mapping[str, Any]] = (),
) -> Statement:
    """An event of a handle's key log; by default its inception, which key 0 signs itself.

    A `rotate` names the new key, is signed by it, and `revokes` lists
    {key, reason, last_good_chain_seq} of the keys that end with it.
    """
    did = did_key(public)
    predicate: dict[str, Any] = {
        "wasteland": wasteland,
        "handle": handle,
        "seq": seq,
        "prev": prev,
        "kind": kind,
        "key": did,
        "next_sha256": next_sha256,
        "scopes": list(scopes),
        "dolthub_org": dolthub_org,
        "issued_at": timestamp(issued_at),
    }
    if revokes:
        predicate["revokes"] = [dict(one) for one in revokes]
    return _statement(KEY_EVENT, did, {"sha256": sha256(public)}, predicate)


def roles_statement(
    *,
    wasteland: str,
    version: int,
    root: Sequence[Party],
    maintainer: Sequence[Party],
    validator: Sequence[Party],
    issued_at: datetime,
    prev: str = ZERO,
) -> Statement:
    """Who holds which role, from `version` on; signed by a root of the version before (version 1 by its own).

    `threshold` and `expires` have their place in the format and are 1 and null.
    """
    roles = {
        role: [one._asdict() for one in parties]
        for role, parties in (("root", root), ("maintainer", maintainer), ("validator", validator))
    }
    predicate = {
        "wasteland": wasteland,
        "version": version,
        "prev": prev,
        "roles": roles,
        "threshold": 1,
        "expires": None,
        "issued_at": timestamp(issued_at),
    }
    return _statement(ROLES, f"roles/{version}", {"sha256": sha256(canonical(roles))}, predicate)


def subject_of(statement: Statement) -> tuple[str, str]:
    """Table and id of the row that a stamp or completion statement is about; BadSignature for other kinds."""
    kind = kind_of(statement)
    if kind == STAMP:
        return "stamps", statement["predicate"]["stamp_id"]
    if kind == COMPLETION:
        return "completions", statement["predicate"]["completion"]
    raise BadSignature("only stamps and completions are links of a chain")


def attestation_row(envelope: Envelope, statement: Statement, created_at: datetime) -> dict[str, Any]:
    """The row of wl_attestations for a signed stamp or completion.

    All but payload and signatures is an index over the payload: a review
    rebuilds the row and refuses one that differs, a verifier reads the payload only.
    """
    said = statement["predicate"]
    table, row_id = subject_of(statement)
    return {
        "payload_sha256": envelope.sha256,
        "predicate_type": statement["predicateType"],
        "subject_table": table,
        "subject_id": row_id,
        "signer": said["author"]["handle"],
        "key_id": said["author"]["did"],
        "chain_seq": said["chain"]["seq"],
        "chain_prev": said["chain"]["prev"],
        **envelope.to_columns(),
        "created_at": created_at,
    }


def key_event_row(envelope: Envelope, statement: Statement, created_at: datetime) -> dict[str, Any]:
    """The row of wl_key_events for a signed key event; an index over its payload, as `attestation_row`."""
    said = statement["predicate"]
    return {
        "event_sha256": envelope.sha256,
        "handle": said["handle"],
        "seq": said["seq"],
        "prev": said["prev"],
        "kind": said["kind"],
        "key_id": said["key"],
        **envelope.to_columns(),
        "created_at": created_at,
    }
