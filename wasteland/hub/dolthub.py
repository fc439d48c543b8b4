"""DoltHub, DoltLab, or a hub of one's own, over REST: the `Hub` that needs an account."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from wasteland.errors import Conflict, NotFound, Refused, Unauthenticated, Unreachable, WastelandError
from wasteland.hub import CLOSED, OPEN, Branch, Comment, Operation, Pull
from wasteland.hub.known import Detail, Known
from wasteland.hub.rest.operations import MAIN, Operations, literal
from wasteland.hub.rest.session import FIRST_PAUSE, PATIENCE, Session
from wasteland.hub.rest.shapes import EPOCH, Summary
from wasteland.hub.rest.v1 import no_token
from wasteland.hub.rest.v2 import Rest2
from wasteland.hub.site import Site, discover
from wasteland.local import config as configuration
from wasteland.text import name

__all__ = ["DolthubHub", "Site", "discover"]

TITLE, BODY = 255, 60_000  # characters; longer texts are cut
NOWHERE = 999_999_999  # the number of no pull request
RECENT = 5.0  # seconds for which a list is not asked for again to find a pull request of ours in it
BATCH = 500  # branches in one answer of SQL, which is cut at 1000


class DolthubHub:
    """One hub as one user sees it.  `calls` counts the requests."""

    kind = "dolthub"

    def __init__(
        self,
        site: Site,
        token: str | None,
        cache: Path,
        *,
        say: Callable[[str], None] | None = None,
        patience: float = PATIENCE,
        transport: Any = None,
    ) -> None:
        self._session = Session(site, token, cache, say=say, patience=patience, transport=transport)
        self._operations = Operations(self._session)
        self._user: str | None = None
        self._listed: tuple[str, float, list[Pull]] = ("", 0.0, [])

    @property
    def calls(self) -> int:
        """The requests that have been made."""
        return self._session.wire.calls

    @property
    def site(self) -> Site:
        """Where this hub is."""
        return self._session.site

    @property
    def takes_keys(self) -> bool:
        """Whether this hub takes Dolt's keys over its API."""
        return self.site.keys

    def finish(self) -> None:
        """End the connections."""
        self._session.close()

    def url(self, org: str, db: str) -> str:
        """The Dolt remote of a database."""
        return f"{self.site.remote}/{name(org, 'organisation')}/{name(db, 'database')}"

    def whoami(self) -> str | None:
        """The user whose token we have; Unauthenticated where there is none or the hub does not take it."""
        if not self._session.wire.has_token:
            raise no_token(self._session.wire)
        if self._user is None:
            self._user = self._session.ask(lambda rest: rest.user())
        return self._user

    def exists(self, org: str, db: str) -> bool:
        """Whether the database is there and may be seen."""
        return self._session.ask(lambda rest: rest.exists(_org(org), _db(db)))

    def create(self, org: str, db: str, *, private: bool = False, description: str = "") -> None:
        """Make an empty database; Conflict where it exists."""
        if self.exists(org, db):
            raise Conflict(
                f"{org}/{db} already exists at {self.site.host}", about=f"{org}/{db}",
                hint=f"if it is yours: wl join {org}/{db} --direct",
            )  # fmt: skip
        self._session.once(
            lambda: self._session.ask(lambda rest: rest.create(org, db, private, description)) or True,
            lambda: self.exists(org, db) or None,
        )
        self._session.made(org, db)

    def fork(self, org: str, db: str, owner: str) -> Operation:
        """Start a fork; an existing one is taken."""
        return self._operations.fork(_org(org), _db(db), _org(owner))

    def wait(self, operation: Operation, timeout: float = 120.0) -> None:
        """Until what the operation was to do is there; an error where it is not."""
        self._operations.wait(operation, timeout)

    def merge(self, org: str, db: str, number: int, author: str) -> Operation:
        """The hub's merge button; `wait` proves that it did something."""
        pull = self._session.ask(lambda rest: rest.pull(_org(org), _db(db), number))
        if pull is None:
            raise NotFound(f"{org}/{db} has no pull request {number}", about=str(number))
        if pull.state != OPEN:
            raise Refused(f"pull request {number} is {pull.state}", about=str(number))
        return self._operations.merge(org, db, number, pull)

    def read(self, org: str, db: str, ref: str, sql: str) -> list[dict[str, Any]]:
        """Rows of one SELECT at a branch or commit, every value a text or None; never a part of the rows."""
        return self._session.ask(lambda rest: rest.rows(_org(org), _db(db), ref, sql), (org, db))

    def write(self, org: str, db: str, base: str, branch: str, sql: str) -> str | None:
        """One statement as one commit on `branch`, made from `base` if it is missing; None where nothing changed."""
        return self._operations.write(_org(org), _db(db), base, branch, sql)

    def send(self, org: str, db: str, branch: str, sql: str, start: str) -> str | None:
        """One statement on a branch that is at `start`, sent once; its commit, None where nothing changed."""
        return self._operations.send(_org(org), _db(db), branch, sql, start)

    def pulled(self, source: Branch, target: Branch, title: str) -> bool:
        """One branch into another; whether the hub says so, which is no proof."""
        return self._operations.pulled(source, target, title)

    def branch_at(self, org: str, db: str, branch: str, commit: str) -> None:
        """Make a branch at a commit that the database has; Conflict where there is one of that name."""
        self._session.ask(lambda rest: rest.branch_at(_org(org), _db(db), branch, commit), (org, db))

    def branches(self, org: str, db: str) -> dict[str, str]:
        """The head of each branch by its name."""
        made: dict[str, str] = {}
        after = ""
        while True:
            sql = f"SELECT name, hash FROM dolt_branches WHERE name > {literal(after)} ORDER BY name LIMIT {BATCH}"
            found = self.read(org, db, MAIN, sql)
            made |= {str(row["name"]): str(row["hash"]) for row in found}
            if len(found) < BATCH:
                return made
            after = str(found[-1]["name"])

    def level(self, org: str, db: str, owner: str) -> str | None:
        """Merge upstream's main into the fork's by a pull request in the fork, and see that it is there."""
        upstream = self._head(org, db)
        if owner != org and self._operations.contains(_org(owner), _db(db), upstream) is not True:
            source, target = Branch(org, db, MAIN), Branch(owner, db, MAIN)
            pull = self.open_pull(source, target, f"Bring main level with {org}/{db}", "", owner)
            try:
                self.wait(self.merge(owner, db, pull.number, owner))
            except WastelandError:
                if self._operations.contains(owner, db, upstream) is not True:
                    self.close(owner, db, pull.number)
                    raise
                self.close(owner, db, pull.number)
        return self._head(owner, db)

    def _head(self, org: str, db: str) -> str:
        head = self._operations.head(_org(org), _db(db), MAIN)
        if head is None:
            raise NotFound(f"{org}/{db} is not there, or has no main", about=f"{org}/{db}")
        return head

    def register_key(self, public_key: str) -> bool:
        """Give the hub a public key of `dolt creds`; False where it takes keys on its web page only."""
        if not self.site.keys:
            return False
        rest = Rest2(self._session.wire)
        try:
            rest.add_key(public_key)
        except (Conflict, Refused):
            if public_key not in rest.public_keys():
                raise
        return True

    def knows_key(self, public_key: str) -> bool | None:
        """Whether the key of `dolt creds` is known as this user's; None where the hub does not tell."""
        if not self.site.keys:
            return None
        try:
            return public_key in Rest2(self._session.wire).public_keys()
        except (Refused, Unauthenticated, Unreachable):
            return None

    def may_write(self, org: str, db: str) -> bool | None:
        """Whether the token has rights to write; None where the hub did not tell.

        Asked with an empty comment under a pull request that cannot be there: nothing can come of it.
        """
        try:
            self._session.ask(lambda rest: rest.comment(_org(org), _db(db), NOWHERE, ""))
        except Unauthenticated:
            return False
        except (NotFound, Conflict, Refused):
            return True
        except WastelandError:
            return None
        return None

    @property
    def away(self) -> float | None:
        """By how many seconds this machine's clock is ahead of the hub's; None before an answer told."""
        return self._session.wire.away

    def pulls(self, org: str, db: str, *, state: str | None = OPEN) -> list[Pull]:
        """Pull requests by number; what is not known of them yet costs one request each."""
        found = self._session.ask(lambda rest: rest.pulls(_org(org), _db(db), state), (org, db))
        wanted = {one.number: one for one in found if state is None or one.state == state}
        known = self._known(org, db)
        details = known.all()
        new = {n: _detail(one, org, db) for n, one in wanted.items() if one.source}
        missing = [
            one for n, one in sorted(wanted.items())
            if n not in new and (n not in details or not details[n].fits(one.created_at))
        ]  # fmt: skip
        looked = self._session.wire.each(lambda one: self._look(org, db, one.number), missing)
        for one, seen in zip(missing, looked, strict=True):
            if seen is None or state not in (None, seen.state):
                del wanted[one.number]  # gone or changed since the list was made
                continue
            new[one.number] = _detail(seen, org, db)
            wanted[one.number] = seen
        known.add({number: detail for number, detail in new.items() if details.get(number) != detail})
        made = [self._pull(org, db, one, (details | new)[number]) for number, one in sorted(wanted.items())]
        if state == OPEN:
            self._listed = (f"{org}/{db}", time.monotonic(), made)
        return made

    def _recent(self, target: Branch) -> list[Pull] | None:
        """The open pull requests, where this command has just asked for them."""
        place, at, found = self._listed
        return found if place == f"{target.org}/{target.db}" and time.monotonic() - at < RECENT else None

    def pull(self, org: str, db: str, number: int) -> Pull | None:
        """One pull request, or None."""
        seen = self._look(_org(org), _db(db), number)
        if seen is None:
            return None
        detail = _detail(seen, org, db)
        if self._known(org, db).all().get(number) != detail:
            self._known(org, db).add({number: detail})
        return self._pull(org, db, seen, detail)

    def pull_from(self, source: Branch, target: Branch, *, recent: bool = False) -> Pull | None:
        """The open pull request of two branches, the oldest of several; None where there is none.

        A list may be older than what we have opened ourselves, so the latest
        that is known here is looked at even where the list has it not.
        """
        listed = (self._recent(target) if recent else None) or self.pulls(target.org, target.db)
        numbers = {one.number for one in listed if (one.source, one.target) == (source, target)}
        details = self._known(target.org, target.db).all()
        ours = [number for number, one in details.items() if (one.source, one.target) == (source, target)]
        for number in sorted({*numbers, *sorted(ours)[-1:]}):
            found = self.pull(target.org, target.db, number)
            if found and found.state == OPEN and (found.source, found.target) == (source, target):
                return found
        return None

    def open_pull(self, source: Branch, target: Branch, title: str, body: str, author: str) -> Pull:
        """Open a pull request, or refresh the text of the open one; never a second one of the same branches."""
        title, body = _cut(title, TITLE), _cut(body, BODY)
        with configuration.locked(
            self._session.cache / f"open-{hashlib.sha256(f'{source} {target}'.encode()).hexdigest()[:20]}.lock"
        ):
            found = self.pull_from(source, target, recent=True)
            if found is None:
                found = self._opened(source, target, title, body)
            changes = {"title": title} if found.title != title else {}
            if found.body != body:
                changes["description"] = body
            if changes:
                self.edit(target.org, target.db, found.number, changes)
            return replace(found, title=title, body=body)

    def _opened(self, source: Branch, target: Branch, title: str, body: str) -> Pull:
        """Open one; where an answer was lost and two came of it, the later ones are closed."""

        def look() -> int | None:
            found = self.pull_from(source, target)
            return found.number if found else None

        places = ((source.org, source.db), (target.org, target.db))
        try:
            number, sent = self._session.once(
                lambda: self._session.ask(lambda rest: rest.open(source, target, title, body), *places) or look(), look
            )
        except Conflict:
            number, sent = look(), 1
            if number is None:
                raise
        if number is None:
            raise WastelandError(f"{self.site.host} does not tell the number of the new pull request")
        found = self._appeared(target, number)
        return self._without_twins(found) if sent > 1 else found

    def _appeared(self, target: Branch, number: int) -> Pull:
        """The pull request that was just opened, which may not show at once."""
        deadline = time.monotonic() + self._session.patience
        while (found := self.pull(target.org, target.db, number)) is None:
            if time.monotonic() > deadline:
                raise NotFound(f"{target.org}/{target.db} has no pull request {number}", about=str(number))
            time.sleep(FIRST_PAUSE * 5)
        return found

    def _without_twins(self, pull: Pull) -> Pull:
        """The oldest open pull request of the same branches, after closing the others."""
        same = [
            one for one in self.pulls(pull.target.org, pull.target.db)
            if (one.source, one.target) == (pull.source, pull.target)
        ]  # fmt: skip
        first, *later = sorted({one.number: one for one in (*same, pull)}.values(), key=lambda one: one.number)
        for twin in later:
            self.close(pull.target.org, pull.target.db, twin.number)
        return first

    def comment(self, org: str, db: str, number: int, author: str, text: str) -> None:
        """Add a comment as the token's holder; never twice."""

        def look() -> bool | None:
            said = self.comments(org, db, number)
            if said is None:
                return None
            return any(one.text == text and one.author == self.whoami() for one in said) or None

        def send() -> bool:
            self._session.ask(lambda rest: rest.comment(_org(org), _db(db), number, text))
            return True

        if self._session.rest().can_tell_comments:
            self._session.once(send, look)
        else:
            send()

    def comments(self, org: str, db: str, number: int) -> list[Comment] | None:
        """The comments of a pull request, oldest first; None where this generation of the API cannot tell them."""
        found = self._session.ask(lambda rest: rest.comments(_org(org), _db(db), number))
        return None if found is None else sorted(found, key=lambda one: one.at or EPOCH)

    def close(self, org: str, db: str, number: int, *, landed: str | None = None) -> None:
        """Close a pull request; one that is not open stays as it is."""
        try:
            self.edit(_org(org), _db(db), number, {"state": CLOSED})
        except (Conflict, Refused):
            found = self._look(org, db, number)
            if found is None:
                raise NotFound(f"{org}/{db} has no pull request {number}", about=str(number)) from None
            if found.state == OPEN:
                raise

    def edit(self, org: str, db: str, number: int, changes: dict[str, str]) -> None:
        """Change title, description or state; where the answer is lost, a look says whether it has changed."""

        def send() -> bool:
            self._session.ask(lambda rest: rest.edit(org, db, number, changes))
            return True

        def look() -> bool | None:
            seen = self._look(org, db, number)
            now = {"title": seen.title, "description": seen.body, "state": seen.state} if seen else {}
            return changes.items() <= now.items() or None

        self._session.once(send, look)

    def _look(self, org: str, db: str, number: int) -> Summary | None:
        return self._session.ask(lambda rest: rest.pull(org, db, number), (org, db))

    def _known(self, org: str, db: str) -> Known:
        return Known(self._session.cache, name(org, "organisation"), name(db, "database"))

    def _pull(self, org: str, db: str, one: Summary, detail: Detail) -> Pull:
        return Pull(
            number=one.number, title=one.title or "", body=one.body or "", state=one.state, author=detail.author,
            source=detail.source, target=detail.target, created_at=detail.created_at,
            url=f"{self.site.page}/repositories/{org}/{db}/pulls/{one.number}",
        )  # fmt: skip


def _detail(one: Summary, org: str, db: str) -> Detail:
    """The lasting part of a pull request; the names are empty where its branch or fork was deleted."""
    return Detail(one.source or Branch("", "", ""), one.target or Branch(org, db, MAIN), one.author, one.created_at)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _org(value: str) -> str:
    return name(value, "organisation")


def _db(value: str) -> str:
    return name(value, "database")
