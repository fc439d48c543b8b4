"""What a hub really does, asked of the hub itself: answers to what its documentation leaves open.

Without leave to write it only reads.  With leave it makes two branches and a
pull request between them in a database of one's own, closes and deletes what
it made, and says what it could not delete.  Its answers name status codes and
fields, never a token or what somebody wrote.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from wasteland.errors import Unauthenticated, Unreachable, WastelandError
from wasteland.hub.rest import Answer, Wire
from wasteland.hub.shapes import number_of, objects, plain, told

V1, V2 = "api/v1alpha1", "api/v2"
SAMPLE = "hop/wl-commons"  # a public database of DoltHub with pull requests
CACHING = ("etag", "last-modified", "cache-control", "age", "vary", "x-cache", "cf-cache-status", "expires")
LIMITING = re.compile(r"rate-?limit|retry-after", re.IGNORECASE)
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_:]{0,40}\Z")
POLLS, PAUSE = 40, 0.5
MISSING = 999_999_999


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
        self.limited = 0

    def ask(self, method: str, path: str, scheme: str = "", **words: Any) -> Answer:
        """One request; what cannot be asked is status 0."""
        try:
            found = self.wire.request(method, path, scheme=scheme, **words)
        except Unreachable as error:
            self.limited += "fewer requests" in error.message
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
        named = sorted(name for name in self.headers if LIMITING.search(name))
        seen = f"{self.limited} requests were refused for their number" if self.limited else "none was hit"
        yield Reply(
            "rate limits", f"{seen}; headers: {', '.join(named) or 'none'}", f"{self.wire.calls} requests in a row"
        )

    def _generations(self) -> Iterator[Reply]:
        one, two = self.ask("GET", f"{V1}/user"), self.ask("GET", f"{V2}/user")
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
        yield Reply("fields of GET /user in v1alpha1", _fields(one.object), _told(one))
        yield Reply("fields of GET /user in v2", _fields(two.object.get("data")), _told(two))

    def _lists(self) -> Iterator[Reply]:
        one = self.v1("GET", f"{self.path}/pulls")
        listed = objects(one.object.get("pulls"))
        more = "more follow" if told(one.object, ("next_page_token",)) else "that is all"
        yield Reply("page of pull requests in v1alpha1", f"{len(listed)} on the first page, {more}", _told(one))
        yield _branched("v1alpha1", listed, one)
        closed = self.v1("GET", f"{self.path}/pulls", params={"filterByState": "Closed"})
        states = sorted({(told(p, ("state",)) or "?").lower() for p in objects(closed.object.get("pulls"))})
        kept = "yes" if set(states) <= {"closed"} else "no"
        yield Reply("filterByState is kept to", kept if states else "no closed one to see", _states(states, closed))
        two = self.v2("GET", f"databases/{self.path}/pulls")
        listed = objects(two.object.get("data"))
        more = "more follow" if told(plain(two.object.get("meta")), ("next_page_token",)) else "that is all"
        yield Reply("page of pull requests in v2", f"{len(listed)} on the first page, {more}", _told(two))
        yield _branched("v2", listed, two)

    def _detail(self) -> Iterator[Reply]:
        number = self._some_pull()
        if number is None:
            yield Reply("fields of one pull request in v1alpha1", "there is none to look at", "an empty list")
            return
        one = self.v1("GET", f"{self.path}/pulls/{number}")
        yield Reply("fields of one pull request in v1alpha1", _fields(one.object), _told(one))

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
        yield Reply("fields of a read in v1alpha1", _fields(one.object), _told(one))
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
        yield Reply("fields of the list of forks in v1alpha1", _fields(one.object), _told(one))
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

    def writing(self) -> Iterator[Reply]:
        """What only writing shows: two branches and a pull request of ours, taken away again.

        Raises Unauthenticated where the database is not the token's holder's own.
        """
        self._need_own()
        mark = f"wl-probe-{secrets.token_hex(4)}"
        base, work = f"{mark}-base", mark
        number: int | None = None
        try:
            for name in (base, work):
                made = self.v1(
                    "POST", f"{self.path}/branches",
                    json={"revisionType": "branch", "revisionName": "main", "newBranchName": name},
                )  # fmt: skip
                yield Reply("a token may make a branch", _yes(made), _told(made))
            yield from self._written(work, mark)
            opened = self._open(work, base)
            number = number_of(opened.object)
            yield Reply("a token may open a pull request", _yes(opened), _told(opened))
            if number is not None:
                yield from self._answered(number)
                yield from self._procedures(work, base)
                yield from self._merged(number)
            yield from self._forked()
        finally:
            left = self._clean(number, (work, base))
            yield Reply("what this probe made is gone", "yes" if not left else f"no: {', '.join(left)}", self.path)

    def _need_own(self) -> None:
        user = told(self.v1("GET", "user").object, ("username", "user_name", "name")) or ""
        if user.lower() != self.org.lower():
            raise Unauthenticated(
                f"the database {self.path} is not that of the token's holder, so nothing is written to it",
                hint="--database OWNER/DB of your own, for example your fork",
            )

    def _written(self, branch: str, mark: str) -> Iterator[Reply]:
        sql = f"INSERT INTO _meta (`key`, value) VALUES ('{mark}', 'probe')"
        started, done = self._write(branch, sql)
        yield Reply("fields of a write's start in v1alpha1", _fields(started.object), _told(started))
        yield Reply("fields of a write's poll in v1alpha1", _fields(done.object), _told(done))

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
        yield Reply("fields of a comment in v2", _fields(entries[0] if entries else {}), _told(heard))

    def _procedures(self, work: str, base: str) -> Iterator[Reply]:
        """On the branch `base`, which is ours: whether Dolt's procedures go through the write API."""
        for name, sql in (
            ("DOLT_MERGE", f"CALL DOLT_MERGE('{base}')"), ("DOLT_BRANCH", f"CALL DOLT_BRANCH('{work}-2')"),
        ):  # fmt: skip
            started, done = self._write(work, sql)
            details = plain(done.object.get("res_details"))
            status = told(details, ("query_execution_status",)) or told(done.object, ("query_execution_status",)) or ""
            taken = "taken" if done.status == 200 and status.lower() == "success" else "refused"
            yield Reply(f"{name} through the write API", taken, f"start {_told(started)}; poll {_told(done)}")

    def _merged(self, number: int) -> Iterator[Reply]:
        started = self.v1("POST", f"{self.path}/pulls/{number}/merge", json={})
        yield Reply("a token may merge a pull request", _yes(started), _told(started))
        name = told(started.object, ("operation_name",))
        if name is not None:
            path = f"{self.path}/pulls/{number}/merge"
            done = self._poll(lambda: self.v1("GET", path, params={"operationName": name}))
            yield Reply("fields of a merge's poll in v1alpha1", _fields(done.object), _told(done))
        state = told(self.v1("GET", f"{self.path}/pulls/{number}").object, ("state",))
        yield Reply("the pull request is afterwards", _word(state or "unknown"), f"{self.path}, into a branch of ours")

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
            yield Reply("fields of a fork's poll while it is pending", _fields(poll.object), _told(poll))

    def _clean(self, number: int | None, branches: tuple[str, str]) -> list[str]:
        """Close the pull request, and delete the branches where SQL may; what is left."""
        left = []
        if number is not None:
            self.v1("PATCH", f"{self.path}/pulls/{number}", json={"state": "closed"}, repeat=True)
            state = (told(self.v1("GET", f"{self.path}/pulls/{number}").object, ("state",)) or "").lower()
            left += [f"pull request {number}"] if state not in ("closed", "merged") else []
        work, base = branches
        for name in (f"{work}-2", base, work):
            if name in self._branches():
                self._write(work if name != work else base, f"CALL DOLT_BRANCH('-D', '{name}')")
        return [*left, *(f"branch {name}" for name in sorted(self._branches()) if name.startswith(work))]

    def _branches(self) -> set[str]:
        listed = objects(self.v1("GET", f"{self.path}/branches").object.get("branches"))
        return {name for one in listed if (name := told(one, ("branch_name", "name")))}


def examine(wire: Wire, org: str, db: str, *, write: bool) -> list[Reply]:
    """All answers of the hub; with `write`, those too that only writing to `org/db` shows."""
    probe = Probe(wire, org, db)
    found = list(probe.reading())
    if write:
        try:
            found += probe.writing()
        except WastelandError as error:
            found.append(Reply("what only writing shows", f"not asked: {error.message}", ""))
    return found + list(probe.costs())


def _branched(version: str, listed: list[dict[str, Any]], seen: Answer) -> Reply:
    names = [name for name in (listed[0] if listed else {}) if "branch" in name]
    can = ("yes" if names else "no") if listed else "there is none to look at"
    return Reply(f"the list of {version} tells branches", can, _fields(listed[0]) if listed else _told(seen))


def _states(states: list[str], seen: Answer) -> str:
    return f"{', '.join(_word(one) for one in states) or 'none'}; {_told(seen)}"


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
