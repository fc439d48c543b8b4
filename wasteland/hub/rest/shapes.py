"""What a DoltHub answer means, whichever of its spellings it comes in.  Pure.

The documentation, the service and DoltLab do not agree on field names, the
printed specification has keys that end in a colon, and a list of pull requests
has no branches.  So a field is looked for under all its names, and what only
a look at the single pull request can tell is None here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from wasteland.hub import Branch, Comment
from wasteland.values import dataclass

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECONDS = 100_000_000_000  # a number above this counts milliseconds
NUMBER = ("pull_number", "pull_id", "_id", "pullId", "number", "id")
AUTHOR = ("author", "creator", "creator_name", "author_name")
CREATED = ("created_at", "createdAt")
USER = ("username", "user_name", "name", "display_name")
DATABASE = ("branch_database", "repository_name", "branch_repository", "database_name")
STAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d):(\d\d)(?:\.\d+)?)?\s*(Z|UTC|GMT|([+-])(\d\d):?(\d\d))?(?:\s+UTC)?\Z"
)


@dataclass(frozen=True)
class Summary:
    """A pull request as an answer told it; None is what this answer did not tell."""

    number: int
    state: str
    title: str | None
    body: str | None
    author: str
    created_at: datetime
    source: Branch | None
    target: Branch | None


def plain(value: object) -> dict[str, Any]:
    """A JSON object with the colons taken off its keys; empty for anything else."""
    if not isinstance(value, Mapping):
        return {}
    return {str(key).rstrip(":"): found for key, found in value.items()}


def objects(value: object) -> list[dict[str, Any]]:
    """The objects of a JSON list; empty for anything else."""
    return [plain(one) for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def told(found: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """The first of the names that has a value, as text; an object stands for the name of a user in it."""
    for name in names:
        value = found.get(name)
        if isinstance(value, Mapping):
            value = told(plain(value), USER)
        if isinstance(value, str | int) and not isinstance(value, bool):
            return str(value)
    return None


def number_of(found: Mapping[str, Any]) -> int | None:
    """The number of a pull request, also where it came as text or at the end of a path."""
    digits = re.search(r"(?:\A|/)(\d{1,15})\Z", told(found, NUMBER) or "")
    return int(digits[1]) if digits else None


def time_of(value: object) -> datetime:
    """A time in any of the ways it is written; 1970 where it is none."""
    try:
        return _time(value)
    except (ValueError, OverflowError, TypeError, OSError):
        return EPOCH


def _time(value: object) -> datetime:
    text = str(value).strip()
    if text.isdigit():
        number = int(text)
        return EPOCH + (timedelta(milliseconds=number) if number > MILLISECONDS else timedelta(seconds=number))
    found = STAMP.match(text)
    if not found:
        made = parsedate_to_datetime(text)
        return made.astimezone(UTC) if made.tzinfo else made.replace(tzinfo=UTC)
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    zone: timezone = UTC
    if found[8]:
        away = timedelta(hours=int(found[9]), minutes=int(found[10]))
        zone = timezone(away if found[8] == "+" else -away)
    return datetime(year, month, day, hour, minute, second, tzinfo=zone).astimezone(UTC)


def branch_of(found: Mapping[str, Any], side: str, org: str, db: str) -> Branch | None:
    """The branch on one side (`from` or `to`) of a pull request; `org/db` where its database is not named."""
    whole = found.get(f"{side}_branch")
    if isinstance(whole, Mapping):
        inner = plain(whole)
        where = plain(inner.get("database"))
        name = told(inner, ("branch_name", "name"))
        owner, database = told(where, ("owner", "owner_name")), told(where, ("name", "database"))
    else:
        name = told(found, (f"{side}_branch", f"{side}_branch_name"))
        owner = told(found, (f"{side}_branch_owner", f"{side}_owner_name", f"{side}_branch_owner_name"))
        database = told(
            found,
            (
                f"{side}_branch_database",
                f"{side}_repository_name",
                f"{side}_branch_repository",
                f"{side}_database_name",
            ),
        )
    return Branch(owner or org, database or db, name) if name else None


def summary_of(value: object, org: str, db: str, number: int | None = None) -> Summary | None:
    """A pull request of `org/db` from a list or from a look at it; None where it has no number."""
    found = plain(value)
    number = number_of(found) if number is None else number
    if number is None:
        return None
    return Summary(
        number=number,
        state=(told(found, ("state",)) or "").lower(),
        title=told(found, ("title",)),
        body=told(found, ("description", "body")),
        author=told(found, AUTHOR) or "",
        created_at=time_of(told(found, CREATED)),
        source=branch_of(found, "from", org, db),
        target=branch_of(found, "to", org, db),
    )


def comment_of(found: Mapping[str, Any]) -> Comment:
    """A comment under a pull request."""
    return Comment(
        told(found, AUTHOR) or "", told(found, ("body", "comment", "text")) or "", time_of(told(found, CREATED))
    )


def columns_of(schema: object) -> list[str]:
    """The names of the columns, in order, of either generation's schema."""
    return [name for one in objects(schema) if (name := told(one, ("columnName", "column_name", "name"))) is not None]


def rows_of(rows: object, columns: list[str]) -> list[dict[str, Any]]:
    """Rows as objects, whether they came as objects or as lists."""
    made: list[dict[str, Any]] = []
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, Mapping):
            made.append(dict.fromkeys(columns) | {str(key): value for key, value in row.items()})
        elif isinstance(row, list):
            made.append(dict(zip(columns, row, strict=False)))
    return made
