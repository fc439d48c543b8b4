"""Rows of the commons, one class a table; the fields are the columns.

A column that we do not know is kept in `extra`: peers add columns, and a row
that is read and shown must not lose them.  Nothing here does I/O.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from typing import Any, Self

from wasteland.values import dataclass


@dataclass(frozen=True)
class Row:
    """What all rows share: made from a query's row, unknown columns kept."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The row as an object; columns that the class does not name go to `extra`."""
        names = _columns(cls)
        known = {name: value for name, value in row.items() if name in names}
        rest = {name: value for name, value in row.items() if name not in names}
        for name in JSON_COLUMNS & known.keys():
            known[name] = loaded(known[name])
        for name in TIMES & known.keys():
            if not isinstance(known[name], datetime):
                known[name] = None  # Dolt keeps times that there are not, and gives them as text
        made = cls(**known)
        object.__setattr__(made, "extra", rest)
        return made

    def to_json(self) -> dict[str, Any]:
        """The row as `--json` prints it: columns, without those that are NULL."""
        shown = {name: getattr(self, name) for name in _columns(type(self))}
        shown |= getattr(self, "extra", {})
        return {name: jsonable(value) for name, value in shown.items() if value is not None}


@functools.cache
def _named(cls: Any) -> tuple[str, ...]:
    return tuple(name for name in cls.__dataclass_fields__ if name != "extra")


def _columns(cls: type[Row]) -> tuple[str, ...]:
    """The columns that a class names, in order; a board has many rows."""
    named: Any = cls
    return _named(named)


JSON_COLUMNS = frozenset({"tags", "skill_tags", "valence", "sandbox_scope"})
TIMES = frozenset({
    "created_at", "updated_at", "completed_at", "validated_at", "registered_at", "last_seen", "awarded_at",
    "claimed_at", "renewed_at", "expires_at", "revoked_at",
})  # fmt: skip
DEPTH = 20  # of lists and objects within each other, in a JSON column
KEYS = {
    "rigs": "handle", "_meta": "key", "boot_blocks": "handle", "chain_meta": "chain_id",
    "wl_attestations": "payload_sha256", "wl_key_events": "event_sha256", "wl_roles": "version",
    "wl_leases": "wanted_id", "wl_log": "idx",
}  # fmt: skip
CONTENT = ("title", "description", "project", "type", "priority", "effort_level", "tags")


@dataclass(frozen=True)
class Wanted(Row):
    """An item of the Wanted Board."""

    id: str
    title: str = ""
    description: str | None = None
    project: str | None = None
    type: str | None = None
    priority: int | None = 2
    tags: list[Any] | None = None
    posted_by: str | None = None
    claimed_by: str | None = None
    status: str | None = "open"
    effort_level: str | None = "medium"
    evidence_url: str | None = None
    sandbox_required: int | None = 0
    sandbox_scope: Any = None
    sandbox_min_tier: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Completion(Row):
    """A worker's word that an item is done, with its evidence."""

    id: str
    wanted_id: str | None = None
    completed_by: str | None = None
    evidence: str | None = None
    validated_by: str | None = None
    stamp_id: str | None = None
    parent_completion_id: str | None = None
    block_hash: str | None = None
    hop_uri: str | None = None
    completed_at: datetime | None = None
    validated_at: datetime | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stamp(Row):
    """One rig's judgement of another rig's work.

    A dimension of `valence` that we do not know is kept as it is.
    """

    id: str
    author: str = ""
    subject: str = ""
    valence: dict[str, Any] = field(default_factory=dict)
    confidence: float | None = 1.0
    severity: str | None = "leaf"
    context_id: str | None = None
    context_type: str | None = None
    skill_tags: list[Any] | None = None
    message: str | None = None
    prev_stamp_hash: str | None = None
    block_hash: str | None = None
    hop_uri: str | None = None
    created_at: datetime | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rig(Row):
    """A member of the Wasteland."""

    handle: str
    display_name: str | None = None
    dolthub_org: str | None = None
    hop_uri: str | None = None
    owner_email: str | None = None
    gt_version: str | None = None
    trust_level: int | None = 0
    registered_at: datetime | None = None
    last_seen: datetime | None = None
    rig_type: str | None = "human"
    parent_rig: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


VOLATILE = frozenset({"updated_at", "last_seen"})  # columns that every change sets: two of them are no disagreement


@dataclass(frozen=True)
class RowDiff:
    """One row that differs between two commits: `old` is None for an added row, `new` for a removed one."""

    table: str
    old: Mapping[str, Any] | None
    new: Mapping[str, Any] | None

    @property
    def kind(self) -> str:
        """`added`, `removed` or `modified`."""
        return "added" if self.old is None else "removed" if self.new is None else "modified"

    @property
    def columns(self) -> frozenset[str]:
        """The columns whose values differ."""
        old, new = self.old or {}, self.new or {}
        return frozenset(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))

    @property
    def more_than_times(self) -> bool:
        """Whether more differs than times that every change sets."""
        return bool(self.columns - VOLATILE)

    def held_by(self, there: Mapping[str, Any] | None) -> bool:
        """Whether the row `there`, the one of this key somewhere else (None: no such row), has all that changed here.

        A removed row is held where it is absent; times that every change sets do not count.
        """
        if not self.more_than_times or self.new is None:
            return self.new is not None or there is None
        return there is not None and all(there.get(name) == self.new.get(name) for name in self.columns - VOLATILE)

    @property
    def key(self) -> str:
        """The primary key of the row, as text."""
        return str(self.row.get(KEYS.get(self.table, "id"), "?"))

    @property
    def row(self) -> Mapping[str, Any]:
        """The newer side that exists."""
        return self.new if self.new is not None else self.old or {}


@dataclass(frozen=True)
class RowConflict:
    """One row that two histories changed since their merge base; a side is None where it has no such row."""

    table: str
    base: Mapping[str, Any] | None
    ours: Mapping[str, Any] | None
    theirs: Mapping[str, Any] | None

    @property
    def key(self) -> str:
        """The primary key of the row, as text."""
        return str((self.ours or self.theirs or {}).get(KEYS.get(self.table, "id"), "?"))

    @property
    def columns(self) -> list[str]:
        """The columns that both changed to different values; times that every change sets do not count."""
        ours, theirs = self.ours or {}, self.theirs or {}
        if self.ours is None or self.theirs is None or KEYS.get(self.table, "id") not in ours:
            return sorted(ours.keys() | theirs.keys())
        base = self.base or {}
        return sorted(
            name
            for name in ours.keys() - VOLATILE
            if ours[name] != theirs.get(name) and ours[name] != base.get(name) and theirs.get(name) != base.get(name)
        )

    @property
    def merged(self) -> dict[str, Any]:
        """Our row with what only they changed, cell by cell; of a volatile time, the later one."""
        ours, theirs, base = dict(self.ours or {}), self.theirs or {}, self.base or {}
        for name, value in theirs.items():
            if name in VOLATILE:
                ours[name] = max((one for one in (ours.get(name), value) if one is not None), default=None)
            elif ours.get(name) == base.get(name):
                ours[name] = value
        return ours


@dataclass(frozen=True)
class TableDiff:
    """What differs in one table: its data, its schema, or that it came or went."""

    table: str
    kind: str
    data: bool
    schema: bool
    before: str = ""  # its name before, where it was renamed


def loaded(value: Any) -> Any:
    """A JSON column, which arrives as text, as a value; text that is not JSON stays text."""
    if not isinstance(value, (str, bytes)):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def unsound(row: Mapping[str, Any]) -> list[str]:
    """The columns of a row whose value no reader can be expected to take: a time that is none, JSON too deep."""
    bad = [name for name in TIMES & row.keys() if row[name] is not None and not isinstance(row[name], datetime)]
    for name in JSON_COLUMNS & row.keys():
        value = loaded(row[name])
        if value is not None and (isinstance(value, str | bytes) or _deep(value, DEPTH)):
            bad.append(name)
    return sorted(bad)


def _deep(value: Any, left: int) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return left == 0 or any(_deep(one, left - 1) for one in inside)


def jsonable(value: Any) -> Any:
    """A value as JSON has it; times are RFC 3339 in UTC, whole seconds."""
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else value
