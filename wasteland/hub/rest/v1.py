"""DoltHub's API of the first generation, v1alpha1, which DoltLab and older peers speak too.

Each kind of operation has its own poll, a failure may come with any status and
sometimes as text alone: the few texts that decide something are in `TEXTS`.
With a token every read must name a ref.  Comments can be written, not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import quote

from wasteland.errors import Conflict, NotFound, Refused, Unauthenticated, Unreachable, WastelandError
from wasteland.hub import Branch, Comment
from wasteland.hub.rest.client import Answer, Job, NoRoute, Wire
from wasteland.hub.rest.shapes import Summary, columns_of, number_of, objects, plain, rows_of, summary_of, told
from wasteland.hub.site import is_dolthub

PAGES = 100
MISSING = "wl doctor says what is missing"
TEXTS = {
    "token": ("invalid authorization",),
    "scope": ("api token is not allowed",),
    "missing": (
        "no such repository",
        "branch not found",
        "no such ref",
        "repository not found",
        "no such pull",
        "no such operation",
    ),
    "exists": ("already exists",),
    "unchanged": ("sqlwrite.tocommitid",),
}
STATES = {"open": "Open", "closed": "Closed", "merged": "Merged"}
ENDED = ("completed", "succeeded", "success")
FAILED = ("error", "failed", "failure", "timeout")
UNDER_WAY = ("pending", "running", "in progress", "queued")


class Rest1:
    """The routes under `/api/v1alpha1`."""

    can_tell_comments = False
    version = "v1alpha1"

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    def user(self) -> str:
        """The name of the token's holder, under whichever key it comes."""
        found = self._get("user")
        name = told(found, ("username", "user_name", "name", "display_name", "user"))
        if name is None:
            raise WastelandError(f"{self.wire.host} does not tell the name of the token's holder")
        return name

    def exists(self, org: str, db: str) -> bool:
        """Whether the branches can be listed, or, where that route is unknown, main be read."""
        try:
            self._get(_path(org, db, "branches"))
        except NotFound:
            try:
                self.rows(org, db, "main", "SELECT 1 AS one")
            except NotFound:
                return False
        return True

    def create(self, org: str, db: str, private: bool, description: str) -> None:
        """Make a database; a refusal may come with status 200."""
        visibility = "private" if private else "public"
        self._post("database", {"ownerName": org, "repoName": db, "visibility": visibility, "description": description})

    def fork(self, org: str, db: str, owner: str) -> str:
        """Start a fork."""
        found = self._post("fork", {"ownerName": owner, "parentOwnerName": org, "parentDatabaseName": db})
        return told(found, ("operation_name",)) or ""

    def job(self, kind: str, org: str, db: str, number: str, ref: str) -> Job:
        """How far an operation is; `Lost` where its poll does not know it."""
        path = {
            "fork": "fork", "write": _path(org, db, "write"), "merge": _path(org, db, "pulls", number, "merge"),
        }[kind]  # fmt: skip
        answer = self._send("GET", path, {"operationName": ref})
        if answer.status == 404 or answer.status == 405:
            return Job("lost")
        found = answer.object
        words = _words(found, plain(found.get("res_details")))
        if _says("unchanged", words):
            return Job("succeeded")
        if _says("missing", words) and answer.status >= 400:
            return Job("lost")
        if _says("token", words) or answer.status in (401, 403):
            self._fail(answer)
        return self._job(answer.status, found, self.wire.shown(words))

    def _job(self, status: int, found: Mapping[str, Any], words: str) -> Job:
        details = plain(found.get("res_details"))
        word = (told(found, ("job_status",)) or told(details, ("query_execution_status",)) or "").lower()
        if status >= 400 or (told(found, ("status",)) or "").lower() in FAILED or word in FAILED:
            return Job("failed", words)
        if found.get("done") is False or word in UNDER_WAY:
            return Job("running")
        if found.get("done") or word in ENDED or told(found, ("database_name",)):
            before, after = (told(details, (name,)) for name in ("from_commit_id", "to_commit_id"))
            return Job("succeeded", before=before or None, after=after or None)
        return Job("running")

    def busy(self, org: str, db: str) -> bool:
        """Whether the latest jobs of the database include one that has not ended."""
        found = self._get(_path(org, db, "jobs"))
        jobs = [job for value in found.values() for job in objects(value)]
        return any((told(job, ("status", "job_status")) or "").lower() in UNDER_WAY for job in jobs)

    def pull(self, org: str, db: str, number: int) -> Summary | None:
        """One pull request; an unknown number may be answered with any error, so the list decides then."""
        try:
            return summary_of(self._get(_path(org, db, "pulls", str(number))), org, db, number)
        except NotFound:
            return None
        except Refused:
            if any(one.number == number for one in self.pulls(org, db, None)):
                raise
            return None

    def pulls(self, org: str, db: str, state: str | None) -> list[Summary]:
        """All pages of the list, which tells no branches; the filter is a wish that not every hub fulfils."""
        wish = {"filterByState": STATES[state]} if state in STATES else {}
        made: list[Summary] = []
        page = ""
        for _ in range(PAGES):
            found = self._get(_path(org, db, "pulls"), wish | ({"pageToken": page} if page else {}))
            made += [one for entry in objects(found.get("pulls")) if (one := summary_of(entry, org, db))]
            following = told(found, ("next_page_token",)) or ""
            if not following or following == page:
                return made
            page = following
        raise WastelandError(f"{org}/{db} has more pull requests than {PAGES} pages of {self.wire.host} tell")

    def open(self, source: Branch, target: Branch, title: str, body: str) -> int | None:
        """Open a pull request; its number, where the answer has one under any name."""
        found = self._post(
            _path(target.org, target.db, "pulls"),
            {
                "title": title, "description": body,
                "fromBranchOwnerName": source.org, "fromBranchRepoName": source.db, "fromBranchName": source.name,
                "toBranchOwnerName": target.org, "toBranchRepoName": target.db, "toBranchName": target.name,
            },
        )  # fmt: skip
        return number_of(found)

    def edit(self, org: str, db: str, number: int, changes: Mapping[str, str]) -> None:
        """Change a pull request."""
        self._done(self._send("PATCH", _path(org, db, "pulls", str(number)), None, changes))

    def comment(self, org: str, db: str, number: int, text: str) -> None:
        """Add a comment."""
        self._post(_path(org, db, "pulls", str(number), "comments"), {"comment": text})

    def comments(self, org: str, db: str, number: int) -> list[Comment] | None:
        """None: this generation has no route for it."""
        return None

    def merge(self, org: str, db: str, number: int) -> str:
        """Start a merge."""
        found = self._post(_path(org, db, "pulls", str(number), "merge"), {})
        return told(found, ("operation_name",)) or ""

    def rows(self, org: str, db: str, ref: str, sql: str) -> list[dict[str, Any]]:
        """Rows of one SELECT; an answer that was cut short is an error."""
        found = self._get(_path(org, db, ref), {"q": sql})
        status = (told(found, ("query_execution_status",)) or "").lower().replace("_", "")
        message = self.wire.shown(told(found, ("query_execution_message",)) or "")
        if status == "rowlimit":
            raise too_many(self.wire.host)
        if status == "timeout":
            raise Unreachable(f"{self.wire.host} stopped the query because it took too long", about=f"{org}/{db}")
        if status not in ("success", "successwithwarning"):
            raise WastelandError(f"{self.wire.host} did not answer the query: {message or status or 'no status'}")
        return rows_of(found.get("rows"), columns_of(found.get("schema") or found.get("schema_fragment")))

    def write(self, org: str, db: str, base: str, branch: str, sql: str) -> str:
        """Start a write; the statement goes in the body, where it may be long."""
        found = self._post(_path(org, db, "write", base, branch), {"query": sql})
        return told(found, ("operation_name",)) or ""

    def branch_at(self, org: str, db: str, name: str, commit: str) -> None:
        """Make a branch at a commit."""
        self._post(
            _path(org, db, "branches"),
            {"revisionType": "commit", "revisionName": commit, "newBranchName": name},
        )

    def _get(self, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        return self._done(self._send("GET", path, params))

    def _post(self, path: str, json: Mapping[str, Any]) -> dict[str, Any]:
        return self._done(self._send("POST", path, None, json))

    def _send(
        self, method: str, path: str, params: Mapping[str, str] | None = None, json: Mapping[str, Any] | None = None
    ) -> Answer:
        return self.wire.request(method, f"api/{self.version}/{path}", scheme="token", params=params, json=json)

    def _done(self, answer: Answer) -> dict[str, Any]:
        """The answer's object; the error that it is where it is one, also with status 200."""
        found = answer.object
        word = told(found, ("query_execution_status", "status")) or ""
        if answer.status >= 300 or word.lower() == "error":
            self._fail(answer)
        if not isinstance(answer.body, dict):
            raise not_json(self.wire)
        return found

    def _fail(self, answer: Answer) -> NoReturn:
        words = _words(answer.object)
        said = self.wire.shown(words) or f"HTTP {answer.status}"
        host = self.wire.host
        if answer.status == 401 or _says("token", words):
            raise no_token(self.wire)
        if _says("scope", words):
            raise scope(self.wire, said)
        if answer.status in (404, 405) and (answer.body is None or answer.status == 405):
            raise NoRoute(f"{host} has no such route in {self.version}", about=host)
        if answer.status == 404 or _says("missing", words):
            raise NotFound(f"{host} knows no such thing: {said}", about=host, hint=MISSING)
        if answer.status == 409 or _says("exists", words):
            raise Conflict(f"{host} refuses: {said}", about=host)
        raise Refused(f"{host} refuses: {said}", about=host)


def no_token(wire: Wire) -> Unauthenticated:
    """The error for a token that a hub does not take, or misses."""
    said = f"{wire.host} does not accept the token" if wire.has_token else f"there is no token for {wire.host}"
    again = "; wl doctor says where the one that was used comes from" if wire.has_token else ""
    return Unauthenticated(said, hint=f"wl login{named(wire)}{again}", about=wire.host)


def scope(wire: Wire, said: str) -> Unauthenticated:
    """The error for a token whose rights do not suffice."""
    return Unauthenticated(
        f"the token may not do this at {wire.host}: {said}", hint=f"wl login{named(wire)}, with a token that may write",
        about=wire.host,
    )  # fmt: skip


def named(wire: Wire) -> str:
    """How `wl login` names a hub; DoltHub needs no name."""
    return "" if is_dolthub(wire.api) else f" --hub {wire.api}"


def not_json(wire: Wire) -> Unreachable:
    """The error for an answer that no hub gives."""
    return Unreachable(
        f"{wire.host} does not answer in JSON", about=wire.host, hint=f"is {wire.api} the address of a hub's API?"
    )


def too_many(host: str) -> WastelandError:
    """The error for rows that a hub cut off."""
    return WastelandError(
        f"{host} gives only the first rows of this query, so the answer is not complete",
        hint="ask for fewer rows with LIMIT, or work with a clone", about=host,
    )  # fmt: skip


def _words(*found: Mapping[str, Any]) -> str:
    names = ("message", "query_execution_message", "error", "detail")
    return next((words for one in found if (words := told(one, names))), "")


def _says(kind: str, words: str) -> bool:
    return any(text in words.lower() for text in TEXTS[kind])


def _path(*parts: str) -> str:
    """A path whose parts are one segment each, slashes in them encoded."""
    return "/".join(quote(part, safe="") for part in parts)
