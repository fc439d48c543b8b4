"""What a signed statement is tied to: its row, column by column, and its author's chain.  Pure.

Rows come as MySQL gives them: FLOAT as float or Decimal, JSON parsed or as
text, TIMESTAMP as a datetime without zone (UTC) or as text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, NamedTuple

from wasteland.errors import BadSignature
from wasteland.trust.envelope import ZERO, Statement, canonical, sha256
from wasteland.trust.statements import json_value, text_digest

Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row], bool]]

# The columns of a stamp that are bound; valence counts twice, for scores and for confidences.
STAMP_COLUMNS = 14
COMPLETION_COLUMNS = 6


def check_stamp_row(statement: Statement, row: Row) -> list[str]:
    """The columns of a row of `stamps` that differ from what was signed; empty where all 14 match.

    A message that is NULL while its digest was signed is redacted, not wrong.
    `hop_uri` and columns that only some peers have are not bound.
    """
    said = statement["predicate"]
    context, scores = said["context"], said["scores"]
    confidences = {f"{dim}_confidence": one["confidence"] for dim, one in scores.items()}
    columns: list[Column] = [
        ("id", _text("id", said["stamp_id"])),
        ("author", _text("author", said["author"]["handle"])),
        ("subject", _text("subject", said["rig"]["handle"])),
        ("valence", lambda r: _valence(r, 1, confidence=False) == {dim: one["score"] for dim, one in scores.items()}),
        ("valence confidence", lambda r: _valence(r, 1000, confidence=True) == confidences),
        ("confidence", lambda r: _scaled(r["confidence"], 1000) == said["confidence"]),
        ("severity", _text("severity", said["severity"])),
        ("context_type", _text("context_type", context["type"])),
        ("context_id", _text("context_id", context["completion"])),
        ("skill_tags", lambda r: (json_value(r["skill_tags"]) or []) == said["skill_tags"]),
        ("message", lambda r: r["message"] is None or text_digest(r["message"]) == said["message_sha256"]),
        ("prev_stamp_hash", lambda r: bool(r["prev_stamp_hash"] == said["passbook_prev"])),
        ("created_at", lambda r: _seconds(r["created_at"]) == said["issued_at"]),
        ("block_hash", _text("block_hash", sha256(canonical(statement)))),
    ]
    return _differing(columns, row)


def check_completion_row(statement: Statement, row: Row) -> list[str]:
    """The columns of a row of `completions` that differ from what the worker signed; empty where all 6 match.

    `validated_by`, `stamp_id` and `validated_at` are the acceptor's to write.
    """
    said = statement["predicate"]
    columns: list[Column] = [
        ("id", _text("id", said["completion"])),
        ("wanted_id", _text("wanted_id", said["wanted"])),
        ("completed_by", _text("completed_by", said["author"]["handle"])),
        ("evidence", lambda r: evidence_matches(said["evidence"], r["evidence"])),
        ("completed_at", lambda r: _seconds(r["completed_at"]) == said["issued_at"]),
        ("block_hash", _text("block_hash", sha256(canonical(statement)))),
    ]
    return _differing(columns, row)


def evidence_matches(manifest: Mapping[str, Any], text: object) -> bool:
    """Whether the evidence text of a row is the one that a manifest describes.

    By its digest where the manifest is of kind text, else by its URI.
    """
    if not isinstance(text, str):
        return False
    if manifest.get("kind") == "text":
        return text_digest(text) == manifest.get("sha256")
    return text == manifest.get("uri")


def redacted(statement: Statement, row: Row) -> bool:
    """Whether the stamp was signed with a message that the row no longer has."""
    return row.get("message") is None and statement["predicate"]["message_sha256"] is not None


def _differing(columns: list[Column], row: Row) -> list[str]:
    return [name for name, same in columns if not _holds(same, row)]


def _holds(same: Callable[[Row], bool], row: Row) -> bool:
    try:
        return same(row)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, BadSignature):
        return False  # a value of a kind that this column never has was not what was signed


def _text(column: str, expected: str) -> Callable[[Row], bool]:
    return lambda row: bool(row[column] == expected)


def _scaled(value: object, by: int) -> int | None:
    """`value` times `by` as a whole number; FLOAT's 32 bits are rounded away only where `by` scales."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        number = Decimal(str(value)) * by
        whole = round(number)
    except (InvalidOperation, ValueError, OverflowError):
        return None
    return whole if abs(number - whole) <= (Decimal("0.001") if by > 1 else 0) else None


def _valence(row: Row, by: int, *, confidence: bool) -> dict[str, int | None]:
    found = json_value(row["valence"])
    return {dim: _scaled(value, by) for dim, value in found.items() if dim.endswith("_confidence") is confidence}


def _seconds(value: object) -> str:
    """A TIMESTAMP as RFC 3339 UTC at whole seconds; ValueError for what is no time."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value.strip())
    if not isinstance(value, datetime):
        raise ValueError("not a time")
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    return aware.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class ChainState(Enum):
    """What a place in an author's chain looks like."""

    OK = "ok"
    MISSING = "missing predecessor"
    EQUIVOCATION = "equivocation"


class Signed(NamedTuple):
    """A link of a chain whose signature was verified before."""

    seq: int
    prev: str
    sha256: str


def signed_link(statement: Statement, payload_sha256: str) -> Signed:
    """The link that a verified stamp or completion is in its author's chain."""
    chain = statement["predicate"]["chain"]
    return Signed(chain["seq"], chain["prev"], payload_sha256)


def check_chain(links: Iterable[Signed]) -> dict[int, ChainState]:
    """What holds at each seq of one signer's chain in one wasteland, whatever the order of `links`.

    Two payloads with one seq, or a link whose `prev` is not the payload that
    stands before it, are an equivocation: the author signed two histories.
    After a gap nothing can be decided until the missing link is found.  Give
    only links whose signatures hold, or a stranger could accuse the author.
    """
    places: dict[int, dict[str, str]] = {}
    for link in links:
        places.setdefault(link.seq, {})[link.sha256] = link.prev
    states: dict[int, ChainState] = {}
    unbroken = True
    for seq in sorted(places):
        before = set(places.get(seq - 1, {})) if seq else {ZERO}
        unbroken = unbroken and bool(before)
        forked = before and not set(places[seq].values()) <= before
        if forked and seq:
            states[seq - 1] = ChainState.EQUIVOCATION
        if forked or len(places[seq]) > 1:
            states[seq] = ChainState.EQUIVOCATION
        else:
            states[seq] = ChainState.OK if unbroken else ChainState.MISSING
    return states
