"""What a hub really does, asked of the hub itself: answers to what its documentation leaves open.

Without leave to write it only reads.  With leave it makes two branches and a
pull request between them in a database of one's own, closes and deletes what
it made, and says what it could not delete.  Its answers name status codes and
fields, never a token or what somebody wrote.
"""

from __future__ import annotations

import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from wasteland.dolt import binary
from wasteland.errors import Unauthenticated, Unreachable, WastelandError
from wasteland.hub.rest.client import Answer, Wire
from wasteland.hub.rest.shapes import number_of, objects, plain, told
from wasteland.hub.rest.v1 import TEXTS
from wasteland.values import dataclass

V1, V2 = "api/v1alpha1", "api/v2"
SAMPLE = "hop/wl-commons"  # a public database of DoltHub with pull requests
CACHING = ("etag", "last-modified", "cache-control", "age", "vary", "x-cache", "cf-cache-status", "expires")
LIMITING = re.compile(r"rate-?limit|retry-after", re.IGNORECASE)
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_:]{0,40}\Z")
POLLS, PAUSE = 40, 0.5
MISSING = 999_999_999
Delete = Callable[[list[str]], None]


@dataclass(frozen=True)
class Reply:
    """One question, what the hub's behaviour says to it, and the statuses and fields that say so."""

    question: str
    answer: str
    evidence: str

    def to_json(self) -> dict[str, str]:
        """As `wl doctor --probe --json` prints it."""
        return vars(self)


class Probe:
    """Questions to one hub with one token, about one database."""

    def __init__(self, wire: Wire, org: str, db: str) -> None:
        self.wire = wire
        self.org, self.db = org, db
        self.headers: set[str] = set()
        self.number: int | None = None

    def ask(self, method: str, path: str, scheme: str = "", **words: Any) -> Answer:
        """One request; what cannot be asked is status 0."""
        try:
            found = self.wire.request(method, path, scheme=scheme, **words)
        except Unreachable:
            return Answer(0, None)
        self.headers |= set(found.headers)
        return found

    def v1(self, method: str, path: str, **words: Any) -> Answer:
        """One request of the older generation."""
        return self.ask(method, f"{V1}/{path}", "token", **words)

    def v2(self, method: str, path: str, **words: Any) -> Answer:
        """One request of the newer generation."""
        return self.ask(method, f"{V2}/{path}", "Bearer", **words)

    @property
    def path(self) -> str:
        """The database, as the older generation names it."""
        return f"{self.org}/{self.db}"

    def reading(self) -> Iterator[Reply]:
        """What can be answered without writing anything."""
        for look in (self._generations, self._headers_of_tokens, self._user, self._lists, self._detail,
                     self._comments, self._read, self._forks, self._operations):  # fmt: skip
            yield from look()

    def costs(self) -> Iterator[Reply]:
        """What all the requests together showed of limits."""
        limits = self.wire.limits
        named = sorted(name for name in self.headers.union(*limits) if LIMITING.search(name))
        seen = f"{len(limits)} requests were refused for their number" if limits else "none was hit"
        yield Reply(
            "rate limits", f"{seen}; headers: {', '.join(named) or 'none'}", f"{self.wire.calls} requests in a row"
        )

    def _generations(self) -> Iterator[Reply]:
        one, two = self.wire.request("GET", f"{V1}/user"), self.ask("GET", f"{V2}/user")
        there = [name for name, seen in (("v1alpha1", one), ("v2", two)) if seen.object and seen.status < 404]
        yield Reply("generations of the API", ", ".join(there) or "neither", f"{_told(one)}; {_told(two)}")

    def _headers_of_tokens(self) -> Iterator[Reply]:
        for base, schemes in ((V1, ("token", "Token", "Bearer")), (V2, ("Bearer", "bearer", "token"))):
            seen = {scheme: self.ask("GET", f"{base}/user", scheme).status for scheme in schemes}
            good = [scheme for scheme, status in seen.items() if status == 200]
            version = base.rpartition("/")[2]
            said = ", ".join(f"{scheme} {status}" for scheme, status in seen.items())
            yield Reply(f"authorization schemes that {version} takes", ", ".join(good) or "none", said)

    def _user(self) -> Iterator[Reply]:
        one, two = self.v1("GET", "user"), self.v2("GET", "user")
        yield Reply("fields of GET /user in v1alpha1", _fields(one.object), f"HTTP {one.status}")
        yield Reply("fields of GET /user in v2", _fields(two.object.get("data")), f"HTTP {two.status}")

    def _lists(self) -> Iterator[Reply]:
        one = self.v1("GET", f"{self.path}/pulls")
        more = bool(told(one.object, ("next_page_token",)))
        yield from _paged("v1alpha1", objects(one.object.get("pulls")), one, more=more)
        closed = self.v1("GET", f"{self.path}/pulls", params={"filterByState": "Closed"})
        states = sorted({(told(p, ("state",)) or "?").lower() for p in objects(closed.object.get("pulls"))})
        kept = ("yes" if set(states) <= {"closed"} else "no") if states else "no closed one to see"
        yield Reply(
            "filterByState is kept to", kept, f"{', '.join(map(_word, states)) or 'none'}; HTTP {closed.status}"
        )
        two = self.v2("GET", f"databases/{self.path}/pulls")
        more = bool(told(plain(two.object.get("meta")), ("next_page_token",)))
        yield from _paged("v2", objects(two.object.get("data")), two, more=more)

    def _detail(self) -> Iterator[Reply]:
        number = self._some_pull()
        if number is None:
            yield Reply("fields of one pull request in v1alpha1", "there is none to look at", "an empty list")
            return
        one = self.v1("GET", f"{self.path}/pulls/{number}")
        yield Reply("fields of one pull request in v1alpha1", _fields(one.object), f"HTTP {one.status}")

    def _comments(self) -> Iterator[Reply]:
        number = self._some_pull() or 1
        one = self.v1("GET", f"{self.path}/pulls/{number}/comments")
        two = self.v2("GET", f"databases/{self.path}/pulls/{number}/comments")
        can = [name for name, seen in (("v1alpha1", one), ("v2", two)) if seen.status == 200]
        yield Reply("comments can be read", ", ".join(can) or "no", f"{_told(one)}; {_told(two)}")
        empty = self.v1("POST", f"{self.path}/pulls/{MISSING}/comments", json={"comment": ""})
        yield Reply("an empty comment under a pull request that is not there", f"HTTP {empty.status}", _told(empty))

    def _some_pull(self) -> int | None:
        listed = objects(self.v1("GET", f"{self.path}/pulls").object.get("pulls"))
        return number_of(listed[0]) if listed else None

    def _read(self) -> Iterator[Reply]:
        one = self.v1("GET", f"{self.path}/main", params={"q": "SELECT 1 AS one"})
        yield Reply("fields of a read in v1alpha1", _fields(one.object), f"HTTP {one.status}")
        caching = [name for name in CACHING if name in one.headers]
        kept = ", ".join(f"{name}: {one.headers[name][:60]}" for name in caching if name in ("cache-control", "vary"))
        yield Reply("headers for caching", ", ".join(caching) or "none", kept or _told(one))
        bare = self.v1("GET", self.path, params={"q": "SELECT 1 AS one"})
        yield Reply("a read with a token and no ref", f"HTTP {bare.status}", _told(bare))
        lost = self.v1("GET", f"{self.path}/wl-no-such-branch", params={"q": "SELECT 1 AS one"})
        status = told(lost.object, ("query_execution_status", "status")) or "no status"
        yield Reply("a read of a branch that is not there", f"HTTP {lost.status}, {_word(status)}", _told(lost))

    def _forks(self) -> Iterator[Reply]:
        one = self.v1("GET", f"{self.path}/forks")
        yield Reply("fields of the list of forks in v1alpha1", _fields(one.object), f"HTTP {one.status}")
        poll = self.v1("GET", "fork", params={"operationName": "operations/00000000-0000-0000-0000-000000000000"})
        yield Reply("poll of a fork that was never asked for", f"HTTP {poll.status}", _told(poll))

    def _operations(self) -> Iterator[Reply]:
        user = told(self.v1("GET", "user").object, ("username", "user_name", "name"))
        if user is None:
            yield Reply("list of one's operations in v1alpha1", "cannot be asked: no name of a user", "")
            return
        one = self.v1("GET", f"users/{quote(user, safe='')}/operations")
        entries = [entry for value in one.object.values() for entry in objects(value)]
        yield Reply("list of one's operations in v1alpha1", _fields(entries[0] if entries else {}), _told(one))

    def writing(self, delete: Delete) -> list[Reply]:
        """What only writing shows: branches and a pull request of ours, taken away again in any case.

        Raises Unauthenticated where the database is not the token's holder's own.
        """
        user = told(self.v1("GET", "user").object, ("username", "user_name", "name")) or ""
        if user.lower() != self.org.lower():
            raise Unauthenticated(
                "the database is not that of the token's holder, so nothing is written to it",
                hint="--database OWNER/DB of your own, for example your fork",
            )
        mark = f"wl-probe-{secrets.token_hex(4)}"
        found: list[Reply] = []
        try:
            for reply in self._trial(mark, f"{mark}-base"):
                found.append(reply)
        finally:
            left = self._clean(mark, delete)
            found.append(Reply("what this probe made is gone", f"no: {', '.join(left)}" if left else "yes", ""))
        return found

    def _trial(self, work: str, base: str) -> Iterator[Reply]:
        for name in (base, work):
            made = self.v1(
                "POST", f"{self.path}/branches",
                json={"revisionType": "branch", "revisionName": "main", "newBranchName": name},
            )  # fmt: skip
        yield Reply("a token may make a branch", _yes(made), _told(made))
        yield from self._written(work)
        opened = self._open(work, base)
        self.number = number_of(opened.object)
        yield Reply("a token may open a pull request", _yes(opened), _told(opened))
        yield from self._procedures(work, base)
        if self.number is not None:
            yield from self._answered(self.number)
            yield from self._merged(self.number)
        yield from self._forked()

    def _written(self, branch: str) -> Iterator[Reply]:
        sql = f"INSERT INTO _meta (`key`, value) VALUES ('{branch}', 'probe')"
        started, done = self._write(branch, sql)
        yield Reply("fields of a write's start in v1alpha1", _fields(started.object), f"HTTP {started.status}")
        yield Reply("fields of a write's poll in v1alpha1", _fields(done.object), f"HTTP {done.status}")

    def _write(self, branch: str, sql: str) -> tuple[Answer, Answer]:
        """A statement on a branch of ours: how it started, and the last poll."""
        at = quote(branch, safe="")
        started = self.v1("POST", f"{self.path}/write/{at}/{at}", json={"query": sql})
        name = told(started.object, ("operation_name",))
        if name is None:
            return started, started
        return started, self._poll(lambda: self.v1("GET", f"{self.path}/write", params={"operationName": name}))

    def _poll(self, look: Callable[[], Answer]) -> Answer:
        for _ in range(POLLS):
            found = look()
            state = (told(found.object, ("job_status",)) or "").lower()
            if found.status != 200 or found.object.get("done") or state in ("completed", "failed", "succeeded"):
                return found
            time.sleep(PAUSE)
        return found

    def _open(self, work: str, base: str) -> Answer:
        return self.v1("POST", f"{self.path}/pulls", json={
            "title": "A probe of wl doctor; it closes itself", "description": "",
            "fromBranchOwnerName": self.org, "fromBranchRepoName": self.db, "fromBranchName": work,
            "toBranchOwnerName": self.org, "toBranchRepoName": self.db, "toBranchName": base,
        })  # fmt: skip

    def _answered(self, number: int) -> Iterator[Reply]:
        said = self.v1("POST", f"{self.path}/pulls/{number}/comments", json={"comment": "A probe of wl doctor."})
        yield Reply("a token may comment", _yes(said), _told(said))
        heard = self.v2("GET", f"databases/{self.path}/pulls/{number}/comments")
        entries = objects(heard.object.get("data"))
        yield Reply("fields of a comment in v2", _fields(entries[0] if entries else {}), f"HTTP {heard.status}")

    def _procedures(self, work: str, base: str) -> Iterator[Reply]:
        """On the branch `base`, which is ours: whether Dolt's procedures go through the write API."""
        for name, sql in (
            ("DOLT_MERGE", f"CALL DOLT_MERGE('{base}')"), ("DOLT_BRANCH", f"CALL DOLT_BRANCH('{work}-2')"),
        ):  # fmt: skip
            started, done = self._write(work, sql)
            yield Reply(f"{name} through the write API", _taken(done), f"start {_told(started)}; poll {_told(done)}")

    def _merged(self, number: int) -> Iterator[Reply]:
        started = self.v1("POST", f"{self.path}/pulls/{number}/merge", json={})
        yield Reply("a token may merge a pull request", _yes(started), _told(started))
        name = told(started.object, ("operation_name",))
        if name is not None:
            path = f"{self.path}/pulls/{number}/merge"
            done = self._poll(lambda: self.v1("GET", path, params={"operationName": name}))
            yield Reply("fields of a merge's poll in v1alpha1", _fields(done.object), f"HTTP {done.status}")
        state = told(self.v1("GET", f"{self.path}/pulls/{number}").object, ("state",))
        yield Reply("the pull request is afterwards", _word(state or "unknown"), "merged into a branch of this probe")

    def _forked(self) -> Iterator[Reply]:
        """Fork again what this database is a fork of: it is there already, so nothing comes of it."""
        told_of = self.v1("GET", f"{self.path}/forks").object
        org, db = (told(told_of, (f"parent_{name}", f"parent_{name}_name")) for name in ("owner", "database"))
        if not org or not db or db != self.db:
            yield Reply("a fork that is there, asked for again", "cannot be asked: this is no fork", "")
            return
        wish = {"ownerName": self.org, "parentOwnerName": org, "parentDatabaseName": db}
        again = self.v1("POST", "fork", json=wish)
        yield Reply("a fork that is there, asked for again", f"HTTP {again.status}", _told(again))
        name = told(again.object, ("operation_name",))
        if name is not None:
            poll = self.v1("GET", "fork", params={"operationName": name})
            yield Reply("fields of a fork's poll while it is pending", _fields(poll.object), f"HTTP {poll.status}")

    def _clean(self, work: str, delete: Delete) -> list[str]:
        """Close the pull request, and delete the branches: over the API where it may, else by a push; what is left."""
        left = []
        if self.number is not None:
            self.v1("PATCH", f"{self.path}/pulls/{self.number}", json={"state": "closed"}, repeat=True)
            seen = self.v1("GET", f"{self.path}/pulls/{self.number}")
            state = (told(seen.object, ("state",)) or "").lower()
            left += [f"pull request {self.number}"] if state not in ("closed", "merged") else []
        try:
            delete(sorted(name for name in self._branches() if name.startswith(work)))
        except WastelandError as error:
            left.append(self.wire.shown(error.message))
        return [*left, *(f"branch {name}" for name in sorted(self._branches()) if name.startswith(work))]

    def _branches(self) -> set[str]:
        listed = objects(self.v1("GET", f"{self.path}/branches").object.get("branches"))
        return {name for one in listed if (name := told(one, ("branch_name", "name")))}


def examine(wire: Wire, org: str, db: str, delete: Delete | None = None) -> list[Reply]:
    """All answers of the hub; with `delete`, which takes branches away, those too that only writing to `org/db` shows.

    Raises Unreachable where nothing answers, Unauthenticated where it should write and `org/db` is not the token's
    holder's own.
    """
    probe = Probe(wire, org, db)
    found = list(probe.reading())
    if delete is not None:
        found += probe.writing(delete)
    return found + list(probe.costs())


def by_push(url: str, home: Path) -> Delete:
    """Take branches of a remote away by a push from an empty clone: the API has no way that is sure.

    Dolt fails there after it has deleted, so what the hub lists afterwards decides.
    """

    def delete(branches: list[str]) -> None:
        env = binary.environment(home)
        with tempfile.TemporaryDirectory(prefix="wl-probe-") as folder:
            binary.run(["init"], cwd=Path(folder), env=env)
            binary.run(["remote", "add", "origin", url], cwd=Path(folder), env=env)
            for branch in branches:
                binary.run(["push", "origin", f":{branch}"], cwd=Path(folder), env=env, check=False)

    return delete


def _paged(version: str, listed: list[dict[str, Any]], seen: Answer, *, more: bool) -> Iterator[Reply]:
    """What the first page of a list of pull requests shows."""
    page = f"{len(listed)} on the first page, {'more follow' if more else 'that is all'}"
    yield Reply(f"page of pull requests in {version}", page if seen.status == 200 else "not answered", _told(seen))
    can = ("yes" if any("branch" in name for name in listed[0]) else "no") if listed else "there is none to look at"
    yield Reply(f"the list of {version} tells branches", can, _fields(listed[0]) if listed else f"HTTP {seen.status}")


def _taken(done: Answer) -> str:
    """What came of a statement, by the last poll of it."""
    details = plain(done.object.get("res_details"))
    found = [told(one, ("query_execution_status", "status")) or "" for one in (details, done.object)]
    words = told(done.object, ("query_execution_message", "message")) or ""
    if any(text in words.lower() for text in TEXTS["unchanged"]):
        return "taken, without a commit"
    return "taken" if done.status == 200 and "success" in (one.lower() for one in found) else "refused"


def _yes(seen: Answer) -> str:
    status = (told(seen.object, ("status",)) or "").lower()
    return "yes" if 200 <= seen.status < 300 and status != "error" else "no"


def _told(seen: Answer) -> str:
    """A status and the names of the fields that came with it."""
    return f"HTTP {seen.status}, {_fields(seen.object)}" if seen.status else "no answer"


def _fields(found: object) -> str:
    """The names of an object's fields, and of the objects in it; what is no name of a field is not shown."""
    if not isinstance(found, Mapping) or not found:
        return "no fields"
    return " ".join(
        f"{_word(str(name))}{{{_fields(value)}}}" if isinstance(value, Mapping) and value else _word(str(name))
        for name, value in list(found.items())[:40]
    )


def _word(text: str) -> str:
    """A name that a program chose; anything else might be somebody's words."""
    return text if WORD.match(text) else "…"
