"""What a row's own attestation says of it, where it comes in the same pull request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wasteland.errors import BadSignature
from wasteland.models import RowDiff
from wasteland.trust.envelope import parse


def signed_as(row: RowDiff, everything: Sequence[RowDiff]) -> Mapping[str, Any] | None:
    """The statement added here that a row names as its own; its signature is judged with the attestations."""
    for one in everything:
        if (
            one.table == "wl_attestations"
            and one.kind == "added"
            and one.row.get("payload_sha256") == row.row.get("block_hash")
        ):
            try:
                return parse(str(one.row.get("payload")).encode())
            except (BadSignature, UnicodeEncodeError):
                return None
    return None


def unlike_signed(
    row: RowDiff, everything: Sequence[RowDiff], compare: Callable[[Any, Mapping[str, Any]], list[str]]
) -> list[str]:
    """The columns that differ from what the row's own attestation says; empty where they agree or there is none."""
    said = signed_as(row, everything)
    if said is None:
        return []
    try:
        return compare(said, row.row)
    except (KeyError, TypeError, AttributeError):
        return ["block_hash"]  # it names a statement of another kind


def index(row: Mapping[str, Any], expected: Mapping[str, Any]) -> str | None:
    """Columns that repeat the payload must repeat it."""
    wrong = sorted(name for name, value in expected.items() if row.get(name) != value)
    return f"columns {', '.join(wrong)} differ from the signed payload" if wrong else None
