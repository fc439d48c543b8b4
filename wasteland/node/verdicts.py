"""What reviewers said of exact commits: kept on this machine, and written under the pull request for everybody.

A hub's pull request has comments and nothing more, so a verdict is a comment
with a line that programs read:

    wl-verdict: approve 8v1v4cs4a2bianbnmtt3bnovkai5arqm

It counts for that commit only, and only from somebody who may merge: the hub
has authenticated the comment's author.  Some hubs cannot tell the comments
back; there, a reviewer's own verdicts are those of this machine's book, and an
objection stands in the pull request's text too, for its author to find.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wasteland.errors import NotFound
from wasteland.hub import Comment, Hub
from wasteland.local.config import locked, read_json, write_json
from wasteland.text import show_lines
from wasteland.values import dataclass

APPROVE, CHANGES, REJECT = "approve", "request-changes", "reject"
WORDS = {APPROVE: "Approved", CHANGES: "Changes are asked for", REJECT: "Rejected"}
OBJECTION = "\n\n---\nwl-verdict-by: "  # begins one in the text of a pull request; the rest of its line is the user
REMEMBERED = 500  # branches whose reviewed commit is kept
LINE = re.compile(r"^wl-verdict: (approve|request-changes|reject) ([0-9a-v]{32})\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Verdict:
    """What `by` said of the commit `head` of a branch; `source` is `org/db:branch`."""

    kind: str
    source: str
    head: str
    by: str
    at: str
    text: str = ""
    pull: int | None = None

    def markdown(self) -> str:
        """As it is written under the pull request."""
        words = f"{WORDS[self.kind]} by {self.by}."
        return "\n\n".join(part for part in (words, self.text, f"wl-verdict: {self.kind} {self.head}") if part)

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "")}


def heard(source: str, number: int, comments: Iterable[Comment], authors: frozenset[str]) -> list[Verdict]:
    """The verdicts that comments hold, of those authors who may give one, oldest first."""
    return [
        Verdict(kind, source, head, comment.author, f"{comment.at:%Y-%m-%dT%H:%M:%SZ}" if comment.at else "",
                show_lines(LINE.sub("", comment.text).strip(), ""), number)
        for comment in comments
        if comment.author in authors
        for kind, head in LINE.findall(comment.text)
    ]  # fmt: skip


def written(hub: Hub, org: str, db: str, number: int) -> list[Comment]:
    """What stands under a pull request; where the hub cannot tell that, the objections that stand in its text."""
    said = hub.comments(org, db, number)
    if said is not None:
        return said
    pull = hub.pull(org, db, number)
    if pull is None:
        raise NotFound(f"{org}/{db} has no pull request {number}", about=str(number))
    return objections(pull.body)


def objections(body: str) -> list[Comment]:
    """The objections in the text of a pull request, as comments.

    Anybody who may change the text can have written them, its author above all: an approval counts for nothing there.
    """
    parts = [part.partition("\n") for part in body.replace("\r\n", "\n").split(OBJECTION)[1:]]
    found = [Comment(by.strip(), text.strip()) for by, _, text in parts]
    return [one for one in found if {kind for kind, _ in LINE.findall(one.text)} in ({CHANGES}, {REJECT})]


def with_objection(body: str, verdict: Verdict, user: str) -> str:
    """The text of a pull request with an objection of a user of the hub."""
    return f"{body.rstrip()}{OBJECTION}{user}\n\n{verdict.markdown()}"


def without_objections(body: str, user: str) -> str:
    """The text of a pull request less the objections of a user of the hub, who has approved it since."""
    text, *parts = body.replace("\r\n", "\n").split(OBJECTION)
    kept = [part for part in parts if part.partition("\n")[0].strip() != user]
    return body if len(kept) == len(parts) else OBJECTION.join([text, *kept])


class Book:
    """What was said on this machine, in one file: verdicts, and of which conflicts an author has been told."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def of(self, source: str) -> list[Verdict]:
        """The verdicts about one branch, oldest first."""
        return [Verdict(**one) for one in self._read()["verdicts"] if one["source"] == source]

    def add(self, verdict: Verdict) -> None:
        """Write a verdict down."""
        with self._alone():
            found = self._read()
            write_json(self.path, found | {"verdicts": [*found["verdicts"], asdict(verdict)]})

    def told(self, source: str, head: str) -> bool:
        """Whether the author of a branch was told already that this commit conflicts; from now on they were."""
        with self._alone():
            found = self._read()
            if found["told"].get(source) == head:
                return True
            write_json(self.path, found | {"told": found["told"] | {source: head}})
            return False

    def look(self, source: str, head: str) -> None:
        """Note that this commit of a branch was reviewed here."""
        with self._alone():
            found = self._read()
            seen = {**found["seen"], source: head}
            write_json(self.path, found | {"seen": dict(list(seen.items())[-REMEMBERED:])})

    def seen(self, source: str) -> str | None:
        """The commit of a branch that was reviewed here last."""
        found = self._read()["seen"].get(source)
        return str(found) if found else None

    def forget(self, source: str) -> None:
        """Drop what concerns a branch that has landed or was closed."""
        with self._alone():
            found = self._read()
            kept = [one for one in found["verdicts"] if one["source"] != source]
            rest = {part: {k: v for k, v in found[part].items() if k != source} for part in ("told", "seen")}
            write_json(self.path, {"verdicts": kept} | rest)

    def _read(self) -> dict[str, Any]:
        """The file; a damaged one counts as empty."""
        if self.path.exists():
            with contextlib.suppress(Exception):
                found = read_json(self.path)
                known = [one for one in found["verdicts"] if one["kind"] in WORDS and Verdict(**one)]
                return {"verdicts": known, "told": dict(found["told"]), "seen": dict(found.get("seen", {}))}
        return {"verdicts": [], "told": {}, "seen": {}}

    def _alone(self) -> AbstractContextManager[None]:
        return locked(self.path.with_suffix(".lock"))
