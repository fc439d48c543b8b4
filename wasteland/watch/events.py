"""What has happened between two looks at a wasteland.  Pure; the caller brings rows, proposals and the clock."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, field, replace
from datetime import datetime, timedelta
from typing import Any, Self

from wasteland.hub import Comment
from wasteland.models import RowDiff, Wanted
from wasteland.node.proposals import CONFLICTS, GONE, LANDED, NOTHING, READY, Proposal
from wasteland.node.verdicts import LINE, heard
from wasteland.rules.lease import Lease, sentence
from wasteland.text import show
from wasteland.values import dataclass

SOON = timedelta(hours=24)  # a lease that ends within this time is worth a word
WIDTH = 120  # characters of a stranger's text in a line; `--json` has all of it
TIME = "%Y-%m-%dT%H:%M:%SZ"
ORDER = ("item", "pull", "title", "rig", "does", "state", "status", "verdict", "head", "text", "stamp", "expires_at")


@dataclass(frozen=True)
class Event:
    """Something that has happened; `fields` name it: item, pull, title, rig, head and the like."""

    event: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""
    at: str = ""
    wasteland: str = ""

    def to_json(self) -> dict[str, Any]:
        """As `wl watch --json` prints it."""
        head = {"schema_version": 1, "event": self.event, "id": self.id, "at": self.at, "wasteland": self.wasteland}
        return head | {name: value for name, value in self.fields.items() if value not in (None, "", [], ())}

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Self:
        """The event that `to_json` made this of."""
        own = ("event", "id", "at", "wasteland")
        rest = {name: value for name, value in found.items() if name not in (*own, "schema_version")}
        return cls(fields=rest, **{name: str(found[name]) for name in own})

    def line(self) -> str:
        """The event for people, on one line whatever strangers wrote."""
        told = [f"#{value}" if name == "pull" else _short(value) for name, value in self._told()]
        return f"{self.at}  {self.event:<15} {'  '.join(told)}".rstrip()

    def _told(self) -> list[tuple[str, Any]]:
        fields = self.to_json()
        return [(name, fields[name]) for name in ORDER if name in fields]


def _short(value: object) -> str:
    text = show(", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value)
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"


@dataclass(frozen=True)
class Search:
    """Which open items are worth a word: all, or those that are as every given filter says."""

    project: str | None = None
    type: str | None = None
    priority: int | None = None
    priority_at_most: int | None = None
    search: str | None = None
    tag: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The filters that were given."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def matches(self, item: Wanted) -> bool:
        """Whether an item is one of these; a case of letters counts in nothing but the words of the title."""
        priority = item.priority
        return (
            self.project in (None, item.project)
            and self.type in (None, item.type)
            and self.priority in (None, priority)
            and (self.priority_at_most is None or (priority is not None and priority <= self.priority_at_most))
            and (self.search is None or self.search.lower() in str(item.title).lower())
            and (self.tag is None or (isinstance(item.tags, list) and self.tag in item.tags))
        )


def board_events(rows: Iterable[RowDiff], me: str, search: Search) -> list[Event]:
    """What the rows that differ between two states of main mean to the rig `me`, in the order of items."""
    found = list(rows)
    by = {
        str(row.row.get("wanted_id")): str(row.row["validated_by"])
        for row in found
        if row.table == "completions" and row.row.get("validated_by")
    }
    made: list[Event] = []
    items = {row.key: row for row in found if row.table == "wanted"}
    for _, row in sorted(items.items()):
        made += _item(row, me, search, by.get(row.key))
    done = {row.key: str(row.row.get("wanted_id")) for row in found if row.table == "completions"}
    for row in found:
        if row.table == "stamps" and row.kind == "added":
            made += _stamp(row.row, me, done, items)
    return made


def _item(row: RowDiff, me: str, search: Search, by: str | None) -> list[Event]:
    """At most one event: an item that is open now and matches, or one of mine that another has moved."""
    old, new = (Wanted.of(side) if side is not None else None for side in (row.old, row.new))
    if new is None:
        return []
    if new.status == "open":
        if not search.matches(new) or (old and old.status == "open" and search.matches(old)):
            return []
        return [Event("item-open" if old else "item-new", _about(new) | {"rig": new.posted_by})]
    if old and (old.status, old.claimed_by) == (new.status, new.claimed_by):
        return []
    what, rig = _moved(old, new, me, by)
    return [Event(what, _about(new) | {"rig": rig})] if what and rig != me else []


def _moved(old: Wanted | None, new: Wanted, me: str, by: str | None) -> tuple[str, str | None]:
    """What another did with an item that I posted or held; an empty word where it is not my affair."""
    held = old is not None and old.claimed_by == me
    if old and (old.status, new.status, old.claimed_by) == ("in_review", "claimed", new.claimed_by):
        return ("item-returned", new.posted_by) if held else ("", None)
    if new.posted_by != me and not held:
        return "", None
    if new.status == "claimed":
        return "item-claimed", new.claimed_by
    if new.status == "in_review":
        return "item-in-review", new.claimed_by
    if new.status == "completed":
        return "item-completed", by or new.posted_by
    return "", None


def _about(item: Wanted) -> dict[str, Any]:
    return {
        "item": item.id, "title": item.title, "status": item.status, "project": item.project, "type": item.type,
        "priority": item.priority, "posted_by": item.posted_by, "claimed_by": item.claimed_by,
    }  # fmt: skip


def _stamp(row: Mapping[str, Any], me: str, done: Mapping[str, str], items: Mapping[str, RowDiff]) -> list[Event]:
    """A stamp that another gave me, or gave for an item that I posted."""
    item = done.get(str(row.get("context_id")))
    mine = row.get("subject") == me or (item in items and items[str(item)].row.get("posted_by") == me)
    if not mine or row.get("author") == me:
        return []
    told = {"item": item, "stamp": row["id"], "rig": row.get("author"), "subject": row.get("subject")}
    return [Event("item-stamped", told | {"text": row.get("message")})]


def lease_events(
    held: Mapping[str, Lease], me: str, now: datetime, warned: Mapping[str, str]
) -> tuple[list[Event], dict[str, str]]:
    """My leases that end soon and were not spoken of, and those that have been spoken of by now."""
    soon = {
        item: lease for item, lease in sorted(held.items()) if lease.rig == me and lease.expires_at - now <= SOON
    }  # fmt: skip
    ends = {item: lease.expires_at.strftime(TIME) for item, lease in soon.items()}
    events = [
        Event("lease-ending", {"item": item, "text": sentence(soon[item], now), "expires_at": end})
        for item, end in ends.items()
        if warned.get(item) != end
    ]
    return events, ends


@dataclass(frozen=True)
class Seen:
    """An open pull request that concerns us as it was at the last look.

    `comments` are digests of those that have been told; None while they were
    never asked for, which makes the first answer the beginning.
    """

    head: str
    state: str
    mine: bool
    title: str
    url: str
    source: str
    comments: tuple[str, ...] | None = None


def pull_events(old: Mapping[int, Seen], proposals: Iterable[Proposal], mine: str) -> list[Event]:
    """What the open pull requests that concern us mean; `mine` is how the sources of our own begin."""
    made: list[Event] = []
    for one in proposals:
        before = old.get(one.number)
        if one.source.startswith(mine):
            made += _own(before, one)
        elif before is None and one.state != LANDED:
            made.append(Event("pull-new", _proposal(one)))
        elif before is not None and one.head and one.head != before.head:
            made.append(Event("pull-moved", _proposal(one)))
    return made


def _own(before: Seen | None, one: Proposal) -> list[Event]:
    words = {CONFLICTS: "pull-conflicts", LANDED: "pull-landed"}
    was = before.state if before else READY
    if one.state == NOTHING and before is not None and was not in (NOTHING, LANDED) and one.head == before.head:
        return [Event("pull-landed", _proposal(one))]  # the same rows, which upstream has come to hold by other ways
    return [Event(words[one.state], _proposal(one))] if one.state in words and one.state != was else []


def _proposal(one: Proposal) -> dict[str, Any]:
    return {
        "pull": one.number, "title": one.title, "rig": one.rig, "does": list(one.verbs), "state": one.state,
        "head": one.head, "url": one.url, "source": one.source, "items": [change.item for change in one.changes],
        "detail": one.detail,
    }  # fmt: skip


def ended_event(number: int, seen: Seen, state: str, landed: str | None) -> Event:
    """How a pull request of mine ended: on main it is merged, whatever the hub calls it."""
    what = "pull-merged" if landed or state == "merged" else "pull-closed"
    told = {"pull": number, "title": seen.title, "state": state, "head": seen.head, "url": seen.url, "landed": landed}
    return Event(what, told)


def seen_now(before: Seen | None, one: Proposal, mine: str, comments: tuple[str, ...] | None) -> Seen:
    """What to remember of a pull request; one that cannot be fetched now stays what it was."""
    if one.state == GONE and before is not None:
        return replace(before, title=one.title, comments=comments)
    return Seen(one.head, one.state, one.source.startswith(mine), one.title, one.url, one.source, comments)


def digest(comment: Comment) -> str:
    """By what a comment is known again."""
    words = "\n".join((comment.author, comment.at.isoformat() if comment.at else "", comment.text))
    return hashlib.sha256(words.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def comment_events(
    number: int, seen: Seen, comments: Iterable[Comment], me: frozenset[str], reviewers: frozenset[str]
) -> list[Event]:
    """What others wrote under a pull request of mine since the last look; a verdict only from who may give one."""
    told = set(seen.comments or ())
    made = []
    for one in comments:
        if digest(one) in told or one.author in me:
            continue
        about = {
            "pull": number, "title": seen.title, "rig": one.author, "url": seen.url,
            "written_at": one.at.strftime(TIME) if one.at else None,
        }  # fmt: skip
        verdicts = heard(seen.source, number, [one], reviewers)
        if verdicts:
            last = verdicts[-1]
            text = LINE.sub("", one.text).strip()
            made.append(Event("verdict", about | {"verdict": last.kind, "head": last.head, "text": text}))
        else:
            made.append(Event("comment", about | {"text": one.text}))
    return made
